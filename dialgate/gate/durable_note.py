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
# uvloop's clock and timers have a resolution of 1 ms. A shorter wait would end at once, again and again.
_TICK: Final = 0.001


class DurableNote:
    """Background work that writes the sequence number of the last log entry on disk to the store.

    A shared store gets it soon after each batch, an embedded one in each round of upkeep and at the end.
    """

    def __init__(self, store: Store, log: DecisionLog) -> None:
        self._store, self._log = store, log
        self._is_shared = isinstance(store, Shared)
        self._written = 0
        self._work = BackgroundWork(self._write, (StoreUnavailable,))
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # on the event loop's clock

    @property
    def problem(self) -> str:
        return self._work.problem

    def schedule(self) -> None:
        """Schedule a write of the sequence number, `NOTE_SECONDS` after the last call of this method.

        Call this after each batch that stored answers for repeated requests. Under load, new calls keep postponing the
        write, but each commit writes the sequence number too.
        """
        self._due = self._loop.time() + NOTE_SECONDS
        if self._timer is None and self._is_shared:
            self._timer = self._loop.call_at(self._due, self._write_if_due)

    def _write_if_due(self) -> None:
        self._timer = None
        if self._due - self._loop.time() > _TICK:
            self._timer = self._loop.call_at(self._due, self._write_if_due)
        elif self._work.start() is None:  # the previous write has not ended, and may be of an older sequence
            self.schedule()

    async def write(self, patience: float | None) -> None:
        """Write the sequence number and wait up to `patience` seconds for the write to end. None means no limit.

        If a write is already in progress, do nothing.
        """
        await self._work.run(patience)

    async def _write(self) -> None:
        if (durable := self._log.durable) > self._written:
            await self._store.note_durable(self._log.name, durable)
            self._written = durable

    async def flush(self) -> None:
        """Write the latest sequence number, after any write in progress has ended.

        The write in progress might contain an earlier sequence number.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._work.close()
        await self._work.run(None)
