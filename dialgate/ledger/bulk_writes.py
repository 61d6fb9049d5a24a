"""Many entries of the ledger, in parts: each binds as soon as it is on the disk. For a process of its own, beside a gate or in
its absence: to make a part ready takes a tenth of a second, in which nothing else is done.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dialgate.core.ledger_events import Draft
from dialgate.core.refusal import Refused
from dialgate.lists.call_list import RowProblem
from dialgate.store import Ledger

SUBJECT_BYTES: Final = 16
AHEAD: Final = 8  # parts under way: a shared store that syncs once a second has so many in it


def in_order(subjects: bytes | bytearray) -> NDArray[np.int64]:
    """The places of subjects, which stand one behind the other, in the order of the store's index: so neighbours are written
    together, and each page of the index once. In a file's own order ten million take three times as long. Of equal ones
    the first comes first.
    """
    return np.argsort(np.frombuffer(subjects, ">u8")[:: SUBJECT_BYTES // 8].astype(np.uint64), kind="stable")


async def write(
    store: Ledger, parts: AsyncIterator[tuple[Sequence[Draft], int]], done: Callable[[int], None]
) -> int:
    """How many entries were written. Of each part its entries, and of how many rows they are; `done` is told of rows as they
    are on the disk. While some parts are written, the next is made ready: no two parts may tell of the same number, but
    where it does no harm to enter the same twice. Raises `StoreUnavailable`: then what was written stands.
    """
    written = 0
    writing: deque[tuple[asyncio.Task[list[int]], int]] = deque()

    async def first() -> int:
        task, rows = writing[0]
        entered = len(await task)
        writing.popleft()
        done(rows)
        return entered

    try:
        async for drafts, rows in parts:
            if len(writing) >= AHEAD:
                written += await first()
            writing.append((asyncio.create_task(store.append(drafts)), rows))
            await asyncio.sleep(0)  # it begins now
        while writing:
            written += await first()
        await store.append(
            []
        )  # who was found to stand there already may have been written just now, by another
    finally:
        if writing:
            await asyncio.wait([task for task, _ in writing])
    return written


def unfit(fit: int, rows: int, problems: int, first: RowProblem | None) -> Refused:
    """Return the refusal of a file of which rows cannot be read, or none holds an entry."""
    which = f" Line {first.line:,}: {first.problem}." if first else ""
    text = (
        f"Of {rows:,} rows {problems:,} cannot be read, and nothing was written.{which} Correct them, or leave them out."
        if fit
        else f"No row of the file can be taken.{which}"
    )
    return Refused("list.unreadable", text, "file")
