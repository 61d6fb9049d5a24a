"""Counted attempts and remembered answers. Both are read and written for every call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Attempt, Instant, Result
from dialgate.store.subject_states import Reading, Remembered, SubjectStates


class Reservation(Struct, frozen=True, gc=False):
    """A call attempt that a commit counts for `subject`.

    `watch` contains `subject`, which is the number's subject for this controller, and the number's subject for all
    controllers. The decision depends on the state of both. The commit is rejected if one of them has changed since the
    gate read it.
    """

    subject: bytes
    attempt: Attempt
    watch: tuple[bytes, ...]


class Position(Struct, frozen=True):
    """The position of a decision log at a commit. Crash recovery reads the log from this position.

    A store may save the position from before the commit. If the log never records the commit, later decisions reuse
    the sequences of the commit. Recovery must read these later decisions, because the store may lack them.

    `first` and `seq` are the first and last sequences in the commit. If the commit is empty, `first` may be 0, which
    means `seq + 1`. `durable` is the last entry of the log that was on disk when the commit began.
    """

    log: str
    seq: int
    first: int = 0
    durable: int = 0


class Attempts(SubjectStates, Protocol):
    """Counted attempts, remembered answers and positions of decision logs."""

    def assume(self, subjects: Sequence[bytes], keys: Sequence[bytes] = ()) -> Reading | None:
        """Return a reading as if no subject were known and no answer remembered, without asking the store.

        `commit` compares the whole reading with the store. Return None if such commits would fail too often, or
        if a read is cheap.
        """

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        """Count the attempts, remember the answers and store the position, atomically.

        Return False and write nothing if a watched subject has changed since `reading`, or if `reading` comes
        from `assume` and anything in it is wrong. `reading` must contain all watched subjects. Reservations in
        the same commit do not make each other stale, because the batch has already taken them into account.

        Committing the same attempt twice counts it once. A later attempt with the same decision id replaces
        an earlier one that was never recorded. Of two answers with the same key, the one with the later `at`
        is kept.
        """

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        """Remove the attempts and answers for decisions that could not be recorded, and restore `position`.

        The log will reuse the sequences of these decisions. If this method raises, call `settle` before the log
        continues. Otherwise answers that were never recorded would be repeated.
        """

    async def positions(self) -> dict[str, int]:
        """Return, by log name, the last sequence that crash recovery does not have to read."""

    async def settle(
        self,
        log: str,
        head: int,
        attempts: Sequence[tuple[bytes, Attempt]],
        answers: Sequence[Remembered],
        complete: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        """Make the store agree with `log` after a crash. Idempotent; keeps recorded results.

        Drop the log's attempts and answers after `head`, restore missing ones, call `complete`, and then store `head`
        as the position. A decision id has the form LOG-SEQ. Return whether a shared store lacked attempts.
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

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Count the attempts older than `before`, and delete them if `drop` is set.

        An abandoned call is kept until a later call to the same subject is answered or abandoned. Until then,
        a frequency rule may permit only some call types to this subject.
        """

    def keep_attempts(self, span: Instant) -> None:
        """Keep attempts for at least `span` after their commit, unless `drop_attempts` deletes them."""

    async def maintain(self, before: Instant) -> None:
        """Drop remembered answers older than `before` and compact the store. Call this regularly."""
