"""Exclusive access to the decision log, for batches of decisions and for call outcomes."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

import msgspec

from dialgate.core import local_time
from dialgate.core.model import Instant, OutcomeRecord, Result
from dialgate.decision_log import DecisionLog, LogUnavailable
from dialgate.observability.metrics import Metrics

_encode = msgspec.json.Encoder().encode


class LogRecorder:
    """The writer of the decision log.

    Callers must acquire the lock `turn` before they read the log's next sequence number, and hold it until `write`
    returns. `sync` does not need the lock, so one batch can be decided while another is synced. One sync runs at a time, and
    callers that arrive meanwhile share the next one. So a slow disk gets no more syncs than it can handle.
    """

    def __init__(
        self,
        log: DecisionLog,
        clock: Callable[[], Instant],
        metrics: Metrics,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.turn = asyncio.Lock()
        self.log = log
        self._segment = 0
        self._grounds: dict[bytes, int] = {}
        self._clock, self._metrics = clock, metrics
        self._steady = steady
        self._loop = asyncio.get_running_loop()
        self._write_start = self._sync_start = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._is_syncing = False
        # Futures that wait for the next sync; None ends the thread. An executor costs a tenth of a check's processor time.
        self._syncs: SimpleQueue[list[asyncio.Future[None]] | None] = SimpleQueue()
        # A daemon, so that a process ends whose gate is refused at its start. `close` waits for the last sync.
        self._sync_thread = Thread(target=self._run_syncs, name="log-sync", daemon=True)
        self._sync_thread.start()

    def grounds(self, now: Instant) -> dict[bytes, int]:
        """Return the sequence number of each grounds entry in the newest log segment, by digest.

        If that segment is full, start a new segment first. Each segment repeats the grounds of its decisions, so that
        a segment can usually be read on its own. Raises `LogUnavailable`.
        """
        first = self.log.turn_over(now)
        if first != self._segment:
            self._segment, self._grounds = first, {}
        return self._grounds

    def write(self, bodies: Sequence[bytes], grounds: dict[bytes, int]) -> None:
        """Append bodies to the log.

        `grounds` maps the digest of each new grounds entry in `bodies` to the sequence number of that entry. If this
        raises `LogUnavailable`, the log contains none of the bodies.
        """
        self._write(bodies)
        self._grounds |= grounds

    def _write(self, bodies: Sequence[bytes]) -> None:
        start = self._steady()  # on a stalled disk the write blocks, and not the sync after it
        self.log.write(bodies)
        self._write_start = self._write_start or start

    def sync(self) -> asyncio.Future[None]:
        """Return a future that is done once everything written so far is on disk. It may raise `LogUnavailable`."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        if not self._is_syncing:
            self._begin_sync()
        return future

    def _begin_sync(self) -> None:
        self._is_syncing = True
        # Without a write since the last sync, only the sync itself is timed.
        self._sync_start, self._write_start = self._write_start or self._steady(), 0.0
        self._syncs.put(self._waiting)
        self._waiting = []

    def _run_syncs(self) -> None:
        """Sync in a thread until the queue yields None."""
        while (futures := self._syncs.get()) is not None:
            fault = None
            try:
                self.log.sync()
            except LogUnavailable as error:
                fault = error
            self._loop.call_soon_threadsafe(self._end_sync, futures, fault)

    def _end_sync(self, futures: list[asyncio.Future[None]], fault: LogUnavailable | None) -> None:
        self._is_syncing = False
        if fault is None:
            self._metrics.sync.observe(self._steady() - self._sync_start)
        for future in futures:
            if future.done():  # cancelled by its caller
                continue
            if fault is None:
                future.set_result(None)
            else:
                future.set_exception(fault)
        if self._waiting:
            self._begin_sync()

    async def result(self, decision: str, result: Result, client: str) -> None:
        async with self.turn:
            now = self._clock()
            record = OutcomeRecord(
                seq=self.log.next_seq,
                at=now,
                time=local_time.rfc3339(now),
                decision=decision,
                result=result,
                client=client,
            )
            self._write([_encode(record)])
        await self.sync()

    async def close(self) -> None:
        while self._is_syncing:
            with suppress(LogUnavailable):  # its callers get it
                await self.sync()
        self._syncs.put(None)
        self._sync_thread.join()
        self.log.close()
