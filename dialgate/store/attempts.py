"""Counted attempts and remembered answers. Both are read and written for every call."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, Protocol, get_args

from msgspec import Struct

from dialgate.core.model import Attempt, Instant, Result
from dialgate.store.subject_states import Reading, Remembered, SubjectStates

# Stores keep the place of a result in this tuple, so new results go last in `Result`.
RESULTS: Final[tuple[Result, ...]] = get_args(Result)
_LONGEST_SPAN: Final = (1 << 32) - 1


class Reservation(Struct, frozen=True, gc=False):
    """A call attempt that a commit counts for `subject`, the called number's subject for one controller.

    The decision depends on the states of the subjects in `watch`: `subject`, and the number's subject for all
    controllers. The store rejects the commit if one of these states has changed since the gate read it.
    """

    subject: bytes
    attempt: Attempt
    watch: tuple[bytes, ...]


class CountedAttempt(Struct, frozen=True):
    """An attempt with its subject. `result_at` is the time of its result, or 0 if there is none."""

    subject: bytes
    attempt: Attempt
    result_at: Instant


def split_basis(basis: str) -> tuple[str, str]:
    """Return the kind of a legal basis, which many attempts share, and the name of a consent, contract or request."""
    kind, colon, name = basis.partition(":")
    return kind + colon, name


def span_to_result(attempt: Attempt, at: Instant) -> Instant:
    """Return the time from an attempt to its result as stores keep it: 0 to 49 days."""
    return min(max(at - attempt.at, 0), _LONGEST_SPAN)


class AttemptPosition(Struct, frozen=True):
    """The position of a decision log at a commit. Crash recovery reads the log entries after the stored position.

    `first` and `seq` are the sequence numbers of the first and last log entry in the commit. If the commit has no log
    entry, `first` can be 0, which means `seq + 1`. `durable` is the sequence number of the last log entry that was on
    disk when the commit began.

    A store can save `first - 1`, the position before the commit. If the log fails to record the commit, later log
    entries get the same sequence numbers. Crash recovery must read those later entries, because the store might lack
    their decisions.
    """

    log: str
    seq: int
    first: int = 0
    durable: int = 0


class Attempts(SubjectStates, Protocol):
    """Counted attempts, remembered answers and positions of decision logs."""

    def assume(self, subjects: Sequence[bytes], keys: Sequence[bytes] = ()) -> Reading | None:
        """Return an assumed reading, without a request to the store.

        The reading assumes that no subject is known and no answer is remembered. `commit` compares the whole reading
        with the store. Return None if a read is cheap, or if the commit would probably fail.
        """

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: AttemptPosition,
    ) -> bool:
        """Count the attempts, remember the answers and store the position, atomically.

        Return False and write nothing if anything in `reading` has changed: the state of a subject, or a remembered
        answer. `reading` must contain all watched subjects.
        Reservations in the same commit do not conflict, because the batch has already taken them into account.

        An attempt that is committed twice is counted once. A later attempt with the same decision id replaces an
        earlier attempt that was never recorded. If two answers have the same key, the store keeps the answer with
        the later `at`.
        """

    async def release(self, position: AttemptPosition) -> None:
        """Undo the log's newest commit, which could not be recorded, and restore the `position` before it.

        The log will give the sequence numbers of its decisions to later entries. If this method raises, call
        `settle` before the log continues. Otherwise the store might return an answer that was never recorded.
        """

    async def note_durable(self, log: str, seq: int) -> None:
        """Record that `log` is on disk up to entry `seq`.

        A log that ends before `seq` is an older copy. In a shared store, another gate may repeat an answer only if the
        answer's entry in this log is on disk.
        """

    async def recorded(self, log: str) -> int:
        """Return the last entry of `log` that is known to have been on disk, as a sequence number, or 0."""

    async def positions(self) -> dict[str, int]:
        """Return the stored position of each log as a sequence number, by log name.

        Crash recovery reads only the log entries after this position.
        """

    async def settle(
        self,
        log: str,
        head: int,
        attempts: Sequence[tuple[bytes, Attempt]],
        answers: Sequence[Remembered],
        complete: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make the store agree with `log` after a crash. Idempotent; keeps recorded results.

        Drop the log's attempts and answers after `head`, restore missing ones, call `complete`, and then store `head`
        as the position. A decision id has the form LOG-SEQ. If a shared store lacks attempts, this begins a generation.
        """

    async def attempt(self, decision: str, *, recovering: bool = False) -> tuple[bytes, Attempt] | None:
        """Return the subject and the attempt for a decision, or None if the store has no such attempt.

        Raises `StoreUnavailable` if the store is an older copy, because the attempt may be missing from it. With
        `recovering`, an older copy is accepted.
        """

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        """Record the result of an allowed call. Return False if the attempt is not in the store.

        Of two results, the one with the later `at` is kept.
        """

    def counted_attempts(self) -> AsyncGenerator[list[CountedAttempt]]:
        """Yield all counted attempts, for an export. An attempt may be repeated."""

    def remembered_answers(self) -> AsyncGenerator[list[Remembered]]:
        """Yield all remembered answers, for an export. An answer may be repeated."""

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Count the attempts older than `before`, and delete them if `drop` is set.

        An abandoned call is kept until a later call to the same subject is answered or abandoned. Until then,
        a frequency rule may permit only some call types to this subject.
        """

    def keep_attempts(self, span: Instant) -> None:
        """Keep attempts for `span` after the last commit for their subject, unless `drop_attempts` deletes them."""

    async def maintain(self, before: Instant) -> None:
        """Drop remembered answers older than `before` and compact the store. Call this regularly."""
