"""The sequence number of the last log entry on disk, written to the store.

A gate whose log ends earlier does not start. Another gate on a shared store repeats an answer from this gate only if
the store shows that the answer's log entry is on disk (`Attempts.note_durable`).
"""

import asyncio
from typing import Final

from dialgate.decision_log import DecisionLog
from dialgate.runtime.background_work import BackgroundWork
from dialgate.store import Shared, Store, StoreUnavailable

NOTE_SECONDS: Final = 0.01


class DurableNote:
    """Background work that writes the sequence number of the last log entry on disk to the store.

    A shared store gets it soon after each batch, an embedded one in each round of upkeep and at the end.
    """

    def __init__(self, store: Store, log: DecisionLog) -> None:
        self._store, self._log = store, log
        self._is_shared = isinstance(store, Shared)
        self._written = 0
        self._work = BackgroundWork(self._write, (StoreUnavailable,))

    @property
    def problem(self) -> str:
        return self._work.problem

    def schedule(self) -> None:
        """Write the sequence number within `NOTE_SECONDS`. Call this after each batch that stored answers."""
        if self._is_shared:
            self._work.start(NOTE_SECONDS)

    async def write(self, patience: float | None) -> None:
        """Write the sequence number and wait up to `patience` seconds for the write to end. None means no limit.

        If a write is already in progress, do nothing.
        """
        await self._work.run(patience, 0)

    async def _write(self, delay: float) -> None:
        """Write until nothing new is on disk, after `delay` seconds each time."""
        while self._log.durable > self._written:
            await asyncio.sleep(delay)
            durable = self._log.durable
            await self._store.note_durable(self._log.name, durable)
            self._written = durable

    async def flush(self) -> None:
        """Write the latest sequence number, after any write in progress has ended."""
        await self._work.close()
        await self._work.run(None, 0)
