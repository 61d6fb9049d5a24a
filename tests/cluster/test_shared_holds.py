"""Legal holds while the gate keeps copying them from the store."""

import asyncio
from pathlib import Path

from dialgate.audit.legal_holds import Holds
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.crypto.keys import Keys
from dialgate.store.sqlite import SqliteStore
from tests.support.world import NOW


async def test_a_sync_during_a_change_does_not_undo_it(tmp_path: Path) -> None:
    """A sync that read the store before a lift once placed the hold again."""
    store, keys = SqliteStore.open(tmp_path / "store.db"), Keys.open(tmp_path / "keys.json")
    holds = SharedHolds(Holds(tmp_path, keys), keys, store)
    changed = asyncio.Event()

    async def keep_syncing() -> None:
        while not changed.is_set():
            await holds.sync()

    syncing = asyncio.gather(keep_syncing(), keep_syncing())
    numbers = [f"+3906123456{at}" for at in range(10, 30)]
    for number in numbers:
        await holds.place(number, at=NOW, by="dpo", reason="case 4711")
        await holds.lift(number, at=NOW + 1, by="dpo", reason="closed")
    changed.set()
    await syncing
    found = await holds.list_holds()
    assert [(hold.id, hold.lifted_at) for hold in found] == [(at, NOW + 1) for at in range(1, 21)]
    await store.close()
