"""Exclusive access to the decision log, for batches of decisions and for call outcomes."""

import asyncio
import select
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec

from dialgate.core import local_time
from dialgate.core.model import Instant, OutcomeRecord, Result
from dialgate.crypto.keys import Keys
from dialgate.decision_log import DecisionLog, LogPosition, LogUnavailable, syncing
from dialgate.decision_log.chains import Chains
from dialgate.observability.metrics import Metrics
from dialgate.runtime.thread_pool import ThreadPool

# Syncs in flight at the same time. Later callers share the next one.
_MAX_SYNCS = 64
_encode = msgspec.json.Encoder().encode


class _Sync(NamedTuple):
    """A sync in flight. `start` is on the monotonic clock, in seconds."""

    written: LogPosition
    start: float
    futures: list[asyncio.Future[None]]


def _resolve(futures: list[asyncio.Future[None]], fault: LogUnavailable | None = None) -> None:
    for future in futures:
        if future.done():  # cancelled by its caller
            continue
        if fault is None:
            future.set_result(None)
        else:
            future.set_exception(fault)


class LogRecorder:
    """The writer of the decision log.

    Callers must acquire the lock `turn` before they read the log's next sequence number, and hold it until `write`
    returns. `sync` does not need the lock, so one batch can be decided while another is synced.
    """

    def __init__(
        self,
        data: Path,
        log: DecisionLog,
        keys: Keys,
        clock: Callable[[], Instant],
        metrics: Metrics,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.turn = asyncio.Lock()
        self.log = log
        self._segment = 0
        self._grounds: dict[bytes, int] = {}
        self._data, self._keys, self._clock, self._metrics = data, keys, clock, metrics
        self._steady = steady
        self._loop = asyncio.get_running_loop()
        self._syncing = syncing()
        self._loop.add_reader(self._syncing.fileno(), self._on_synced)
        self._tickets = count()
        self._write_start = 0.0
        self._syncs: dict[int, _Sync] = {}
        self._later: list[asyncio.Future[None]] = []
        self._threads = ThreadPool("recorder", 2)  # `about` reads the log for each reported stop

    def grounds(self, now: Instant) -> dict[bytes, int]:
        """Return the sequence number of each grounds entry in the newest log segment, by digest.

        If that segment is full, start a new segment first. Each segment repeats the grounds of its decisions, so that
        a segment can usually be read on its own. Raises `LogUnavailable`.
        """
        if self.log.is_full(now):
            self._drain()
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
        self._write_start = self._steady()  # on a stalled disk the write blocks, and not the sync after it
        self.log.write(bodies)

    def sync(self) -> asyncio.Future[None]:
        """Return a future that is done once everything written so far is on disk. It may raise `LogUnavailable`."""
        future: asyncio.Future[None] = self._loop.create_future()
        if len(self._syncs) < _MAX_SYNCS:
            self._begin_sync([future])
        else:
            self._later.append(future)
        return future

    def _begin_sync(self, futures: list[asyncio.Future[None]]) -> None:
        ticket = next(self._tickets)
        try:
            written = self.log.begin_sync(self._syncing, ticket)
        except LogUnavailable as fault:
            _resolve(futures, fault)
        else:
            # Without a write since the last sync, only the sync itself is timed.
            self._syncs[ticket] = _Sync(written, self._write_start or self._steady(), futures)
            self._write_start = 0.0

    def _on_synced(self) -> None:
        for ticket, error in self._syncing.done():
            sync = self._syncs.pop(ticket)
            try:
                self.log.end_sync(sync.written, error)
            except LogUnavailable as fault:
                _resolve(sync.futures, fault)
            else:
                self._metrics.sync.observe(self._steady() - sync.start)
                _resolve(sync.futures)
        if self._later and len(self._syncs) < _MAX_SYNCS:
            futures, self._later = self._later, []
            self._begin_sync(futures)

    def _drain(self) -> None:
        """Block the event loop until every sync is done."""
        poll = select.poll()  # `select` would not accept a descriptor above 1,023
        poll.register(self._syncing.fileno(), select.POLLIN)
        while self._syncs:
            poll.poll()
            self._on_synced()

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

    async def about(self, decision: str) -> tuple[str, str] | None:
        """Return a decision's controller and called number, or None if this node's logs lack its record."""
        return await self._threads.run(self._about, decision)

    def _about(self, decision: str) -> tuple[str, str] | None:
        entry = Chains(self._data).find(decision)
        if entry is None:
            return None
        number = self._keys.month(entry.record.at).called_number(entry.record.sealed)
        return entry.record.facts.controller.id, number

    def close(self) -> None:
        self._drain()  # the log must record a failed sync before it is closed as complete
        self._loop.remove_reader(self._syncing.fileno())
        self._syncing.close()
        self._threads.close()
        self.log.close()
