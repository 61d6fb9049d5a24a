"""A whole store as rows, to be copied to another engine and compared there. Each engine has its own way to give and take them.

A copy is taken for a whole only at its end: until then no gate opens it. What is written twice is there once, so a copy that was
broken off is begun again where its ledger ends.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Entry
from dialgate.core.model import Attempt, Instant
from dialgate.store import CallerIdProof, CallList, Delivery, Position, Remembered

Kind: TypeAlias = Literal["ledger", "attempts", "answers", "positions", "lists", "proofs", "deliveries"]
KINDS: Final[tuple[Kind, ...]] = (
    "ledger",
    "attempts",
    "answers",
    "positions",
    "lists",
    "proofs",
    "deliveries",
)


class Counted(Struct, frozen=True):
    """An attempt, its subject, and the instant of its result; 0 without one."""

    subject: bytes
    attempt: Attempt
    result_at: Instant


Row: TypeAlias = Entry | Counted | Remembered | Position | CallList | CallerIdProof | Delivery


class CopyRefused(Unavailable):
    """The copy was not made, or is not the same. The text says why."""

    component = "store"


class End(Protocol):
    """One end of a copy."""

    async def newest(self) -> int:
        """The newest sequence that the ledger ever gave."""

    async def count(self) -> int:
        """About how many rows there are, for a progress bar."""

    def rows(self, kind: Kind, after: int = 0) -> AsyncGenerator[list[Row], None]:
        """All, some at a time; of the ledger those after a sequence, oldest first. A row may come twice."""

    async def begin(self) -> None:
        """No gate opens it from here on. Raises `CopyRefused` where one has it open."""

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None: ...

    async def finish(self, newest: int) -> None:
        """It is whole; the ledger goes on after `newest`."""

    async def close(self) -> None: ...


class _Sum:
    """Of rows in any order, each counted once: two stores with the same sum hold the same."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, rows: Sequence[Row]) -> None:
        self._seen.update(
            int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest(), "big") for row in rows
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sum) and self._seen == other._seen

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __len__(self) -> int:
        return len(self._seen)


async def copy(source: End, target: End, advance: Callable[[int], object]) -> dict[Kind, int]:
    """Returns how many rows of each kind there are. `advance` is told of rows that were written or compared. Raises
    `CopyRefused`, `StoreUnavailable`."""
    newest = await source.newest()
    await target.begin()
    begun = await _common(source, target)
    sums: dict[Kind, _Sum] = {}
    for kind in KINDS:
        total = sums[kind] = _Sum()
        async for rows in source.rows(kind):
            total.add(rows)
            new = [row for row in rows if not isinstance(row, Entry) or row.seq > begun]
            await target.write(kind, new)
            advance(len(rows))
    for kind in KINDS:
        found = _Sum()
        async for rows in target.rows(kind):
            found.add(rows)
            advance(len(rows))
        if found != sums[kind]:
            raise CopyRefused(
                f"the copy's {kind} are not those of the source ({len(found)} and {len(sums[kind])}): was the source"
                " written to meanwhile? Stop its gates and copy again, into an empty store"
            )
    if await source.newest() != newest:
        raise CopyRefused("the source was written to meanwhile: stop what writes to it, and copy again")
    await target.finish(newest)
    return {kind: len(total) for kind, total in sums.items()}


async def _common(source: End, target: End) -> int:
    """The sequence up to which the target has the source's ledger already, from a copy that was broken off."""
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
    raise CopyRefused("the target holds another ledger: name an empty store")
