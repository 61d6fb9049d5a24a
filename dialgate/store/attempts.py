"""Counted attempts and remembered answers: what the path of a call reads and writes."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Attempt, Instant, Result
from dialgate.store.subject_states import Reading, Remembered, SubjectStates


class Reservation(Struct, frozen=True, gc=False):
    """An attempt to count for `subject`, provided that no subject in `watch` has changed since it was read. `watch`: every
    subject whose state the decision rests on (the controller's and the one for every controller)."""

    subject: bytes
    attempt: Attempt
    watch: tuple[bytes, ...]


class Position(Struct, frozen=True):
    """The sequence that a decision log reaches once it holds everything committed; crash recovery starts here. `first`: the first
    sequence of the commit; by default the one after `seq`. `durable`: the last sequence that was on the log's disk when the
    commit began."""

    log: str
    seq: int
    first: int = 0
    durable: int = 0


class Attempts(SubjectStates, Protocol):
    """The attempts that decisions counted, the answers remembered for them, and the positions of the decision logs."""

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        """Count every attempt, remember the answers and note the position in one atomic step, if the watched subjects
        are unchanged since `reading`, which contains them. Return False, with *nothing* written, if one has changed.

        Reservations of one commit do not make each other stale: the batch has already taken them into account. An
        attempt committed twice counts once. If a decision's id returns with another attempt, the later attempt
        replaces the earlier, which was never recorded. Of two answers under one key the later `at` is kept."""

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        """Uncount attempts whose decision could not be recorded, forget the answers remembered for them, and return to
        `position`, because the log will reuse their sequences. If this raises, `settle` must run before the log continues:
        the answers would be repeated."""

    async def positions(self) -> dict[str, int]:
        """Return the sequence that each decision log had reached at the newest commit."""

    async def settle(
        self, log: str, head: int, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> None:
        """Make the store agree with `log` after a crash. Drop its attempts and answers beyond `head` (a decision's id is
        LOG-SEQ), count and remember those that the store had lost, and note `head` as the position. Idempotent; keeps
        recorded results."""

    async def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        """Return the attempt that a decision counted, after its subject."""

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        """Record the result of an allowed call; of two results the later `at` is kept. Return False if no such attempt is
        counted."""

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        """Return how many attempts are older, and with `drop` delete them. An abandoned call is kept, however old, until a
        later call to its subject was answered or abandoned: a rule requires an agent until then."""

    async def maintain(self, before: Instant) -> None:
        """Drop remembered answers older than `before`, and keep the store small and quick. Call it on a regular tick."""
