"""Access to the decision log, one at a time: for batches of decisions, and for what became of them."""

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

# Syncs that wait for the disk at once. Later callers share the next one.
_AT_ONCE = 64
_encode = msgspec.json.Encoder().encode


class _Sync(NamedTuple):
    """A sync under way. `start` is on the monotonic clock, in seconds."""

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
    """Whoever holds `turn` alone may use the log's next sequence and write; `sync` needs no turn, so that one batch
    can be decided while another is brought to the disk."""

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
        self._threads = ThreadPool("recorder", 2)  # a stop looks its call up in the log

    def grounds(self, now: Instant) -> dict[bytes, int]:
        """The sequence of each grounds that stand in the newest segment, by digest; begins a segment where the last is
        full. So a segment can nearly always be read alone. Raises `LogUnavailable`."""
        if self.log.is_full(now):
            self._drain()
        first = self.log.turn_over(now)
        if first != self._segment:
            self._segment, self._grounds = first, {}
        return self._grounds

    def write(self, bodies: Sequence[bytes], grounds: dict[bytes, int]) -> None:
        """`grounds`: those among the bodies. Raises `LogUnavailable`: then nothing of it is in the log."""
        self._write(bodies)
        self._grounds |= grounds

    def _write(self, bodies: Sequence[bytes]) -> None:
        self._write_start = self._steady()  # a disk that stalls holds up the write, not the sync that follows
        self.log.write(bodies)

    def sync(self) -> asyncio.Future[None]:
        """Done when everything written so far is on the disk; else it raises `LogUnavailable`."""
        future: asyncio.Future[None] = self._loop.create_future()
        if len(self._syncs) < _AT_ONCE:
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
            # Where nothing was written since the last, it is this alone that is timed.
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
        if self._later and len(self._syncs) < _AT_ONCE:
            futures, self._later = self._later, []
            self._begin_sync(futures)

    def _drain(self) -> None:
        """Block until every sync is done. Nothing is requested meanwhile, so this ends after as many as are under way."""
        poll = select.poll()  # not `select`, which takes no descriptor above 1,023
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
        """Its controller, and the number that was to be called; None where its record is not in this node's logs."""
        return await self._threads.run(self._about, decision)

    def _about(self, decision: str) -> tuple[str, str] | None:
        entry = Chains(self._data).find(decision)
        if entry is None:
            return None
        number = self._keys.month(entry.record.at).unseal(entry.record.sealed).split(" ", 1)[0]
        return entry.record.facts.controller.id, number

    def close(self) -> None:
        self._drain()  # of a sync that failed the log must know before it is closed as whole
        self._loop.remove_reader(self._syncing.fileno())
        self._syncing.close()
        self._threads.close()
        self.log.close()
