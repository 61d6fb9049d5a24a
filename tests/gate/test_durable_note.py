"""A gate records in the shared store how much of its log is on disk.

It must do so shortly after the last batch, and not after each one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import Struct

from dialgate.decision_log import DecisionLog
from dialgate.gate.durable_note import NOTE_SECONDS, DurableNote
from dialgate.store.redis import RedisStore
from tests.store.test_shared_store import ask_server, at

LOG, NAME = "9f2c01ab", "notes"


async def elapse(seconds: float) -> None:
    """Let the timers of the event loop run for some time. The note uses the clock of the event loop."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


class Notes(Struct):
    """A log, and the note about it in a store on a separate Redis server."""

    server: Path
    log: DecisionLog
    note: DurableNote

    def sync_entries(self, count: int) -> None:
        self.log.write([b'{"type":"outcome"}'] * count)
        self.log.sync()

    def read_note(self) -> int:
        return int(ask_server(self.server, "HGET", f"{{{NAME}}}:recorded", LOG) or 0)

    def writes(self) -> int:
        """Return the number of notes that the server has received."""
        statistics = ask_server(self.server, "INFO", "commandstats")
        calls = [line for line in statistics.splitlines() if line.startswith("cmdstat_hset:")]
        return int(calls[0].partition("calls=")[2].partition(",")[0]) if calls else 0

    async def is_written(self, sequence: int) -> bool:
        for _ in range(500):
            if self.read_note() == sequence:
                return True
            await elapse(NOTE_SECONDS)
        return False


@pytest.fixture
async def notes(server: Path) -> AsyncIterator[Notes]:
    store = RedisStore(at(server), name=NAME, patience=5)
    with closing(DecisionLog.open(server / "log", log=LOG, now=0, gate={})) as log:
        note = DurableNote(store, log)
        yield Notes(server, log, note)
        await note.flush()
        await store.close()


async def test_it_is_not_written_after_each_of_several_batches(notes: Notes) -> None:
    begun = asyncio.get_running_loop().time()
    for _ in range(20):
        notes.sync_entries(1)
        notes.note.schedule()
        await elapse(NOTE_SECONDS / 10)
    assert await notes.is_written(20)
    assert notes.writes() <= (asyncio.get_running_loop().time() - begun) / NOTE_SECONDS + 1


async def test_it_is_not_written_again_without_a_new_entry(notes: Notes) -> None:
    notes.sync_entries(3)
    for _ in range(3):
        await notes.note.write(None)
    assert (notes.read_note(), notes.writes()) == (3, 1)


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_batch_during_a_write_is_written_after_it(notes: Notes, *, flushed: bool) -> None:
    notes.sync_entries(1)
    ask_server(notes.server, "CLIENT", "PAUSE", "300", "WRITE")
    first = asyncio.create_task(notes.note.write(None))
    for _ in range(5):  # until the write is on its way
        await asyncio.sleep(0)
    notes.sync_entries(1)
    notes.note.schedule()
    if flushed:
        await notes.note.flush()
        assert notes.read_note() == 2
    assert await notes.is_written(2)
    await first
