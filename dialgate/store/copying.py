"""A row-by-row copy of a whole store to another engine.

After the copy, both stores are compared. No gate opens an incomplete copy. Writing a row twice has no effect,
so an interrupted copy can continue after the last ledger entry in the target.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Final, Literal, Protocol, TypeAlias, get_args

from msgspec import Struct

from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Entry
from dialgate.core.model import Attempt, Instant
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    Delivery,
    HourCount,
    PauseLift,
    Remembered,
)

Kind: TypeAlias = Literal[
    "ledger", "attempts", "answers", "positions", "lists", "proofs", "deliveries", "counts", "lifts"
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)  # in the order in which they are copied


class CountedAttempt(Struct, frozen=True):
    """An attempt with its subject. `result_at` is the time of its result, or 0 if there is none."""

    subject: bytes
    attempt: Attempt
    result_at: Instant


Row: TypeAlias = (
    Entry
    | CountedAttempt
    | Remembered
    | AttemptPosition
    | CallList
    | CallerIdProof
    | Delivery
    | HourCount
    | PauseLift
)


class CopyRefused(Unavailable):
    """Raised if a store cannot be copied, or if the copy differs from the source."""

    component = "store"


class CopyEnd(Protocol):
    """A store that is the source or target of a copy."""

    async def newest(self) -> int:
        """Return the newest sequence that the ledger has ever assigned."""

    async def count(self) -> int:
        """Return the approximate number of rows, for a progress bar."""

    def rows(self, kind: Kind, after: int = 0) -> AsyncGenerator[list[Row], None]:
        """Yield all rows of a kind in batches. A row may be repeated.

        Ledger entries are yielded oldest first, starting after sequence `after`.
        """

    async def begin(self) -> None:
        """Prevent gates from opening the target. Raises `CopyRefused` if a gate has it open."""

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None: ...

    async def finish(self, newest: int) -> None:
        """Mark the copy as complete. The next ledger entry gets the sequence number `newest + 1`."""

    async def close(self) -> None: ...


def _hashes(rows: Sequence[Row]) -> set[int]:
    """Return a hash of each row, for comparing the content of two stores."""
    return {int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest(), "big") for row in rows}


async def copy(source: CopyEnd, target: CopyEnd, advance: Callable[[int], object]) -> dict[Kind, int]:
    """Copy all rows, compare both stores, and return the number of rows of each kind.

    Call `advance` with the number of rows after each batch that was written or compared. Raises `CopyRefused`
    and `StoreUnavailable`.
    """
    newest = await source.newest()
    await target.begin()
    present = await _present_up_to(source, target)
    expected: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
    for kind in KINDS:
        async for rows in source.rows(kind):
            expected[kind] |= _hashes(rows)
            new = [row for row in rows if not isinstance(row, Entry) or row.seq > present]
            await target.write(kind, new)
            advance(len(rows))
    for kind in KINDS:
        copied: set[int] = set()
        async for rows in target.rows(kind):
            copied |= _hashes(rows)
            advance(len(rows))
        if copied != expected[kind]:
            raise CopyRefused(
                f"the copy differs from the source in `{kind}` ({len(copied)} rows in the copy, {len(expected[kind])} in the source)."
                " A gate might have written to the source: stop its gates and copy again into an empty store"
            )
    if await source.newest() != newest:
        raise CopyRefused("the source was written to during the copy: stop its gates and copy again")
    await target.finish(newest)
    return {kind: len(hashes) for kind, hashes in expected.items()}


async def _present_up_to(source: CopyEnd, target: CopyEnd) -> int:
    """Return the last ledger sequence that an interrupted copy wrote to the target, or 0."""
    last: Row | None = None
    async for rows in target.rows("ledger"):
        last = rows[-1] if rows else last
    if not isinstance(last, Entry):
        return 0
    async with aclosing(source.rows("ledger", last.seq - 1)) as following:
        async for rows in following:
            if rows and rows[0] == last:
                return last.seq
            break
    raise CopyRefused("the target contains a different ledger: use an empty store")
