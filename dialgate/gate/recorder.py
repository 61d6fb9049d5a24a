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
from dialgate.decision_log import DecisionLog, LogUnavailable, Written, syncing
from dialgate.decision_log.chains import Chains
from dialgate.observability.metrics import Metrics
from dialgate.runtime.thread_pool import ThreadPool

# Syncs that wait for the disk at once. Later callers share the next one.
_AT_ONCE = 64
_encode = msgspec.json.Encoder().encode


class _Sync(NamedTuple):
    """`begun` is on the monotonic clock, in seconds."""

    written: Written
    begun: float
    waiting: list[asyncio.Future[None]]


def _tell(waiting: list[asyncio.Future[None]], fault: LogUnavailable | None = None) -> None:
    for synced in waiting:
        if synced.done():  # whoever waited waits no more
            continue
        if fault is None:
            synced.set_result(None)
        else:
            synced.set_exception(fault)


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
        self._loop.add_reader(self._syncing.fileno(), self._synced)
        self._tickets = count()
        self._begun = 0.0
        self._awaited: dict[int, _Sync] = {}
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
        self._begun = self._steady()  # a disk that stalls holds up the write, not the sync that follows
        self.log.write(bodies)

    def sync(self) -> asyncio.Future[None]:
        """Done when everything written so far is on the disk; else it raises `LogUnavailable`."""
        synced: asyncio.Future[None] = self._loop.create_future()
        if len(self._awaited) < _AT_ONCE:
            self._begin_sync([synced])
        else:
            self._later.append(synced)
        return synced

    def _begin_sync(self, waiting: list[asyncio.Future[None]]) -> None:
        ticket = next(self._tickets)
        try:
            written = self.log.begin_sync(self._syncing, ticket)
        except LogUnavailable as fault:
            _tell(waiting, fault)
        else:
            # Where nothing was written since the last, it is this alone that is timed.
            self._awaited[ticket] = _Sync(written, self._begun or self._steady(), waiting)
            self._begun = 0.0

    def _synced(self) -> None:
        for ticket, error in self._syncing.done():
            sync = self._awaited.pop(ticket)
            try:
                self.log.end_sync(sync.written, error)
            except LogUnavailable as fault:
                _tell(sync.waiting, fault)
            else:
                self._metrics.sync.observe(self._steady() - sync.begun)
                _tell(sync.waiting)
        if self._later and len(self._awaited) < _AT_ONCE:
            waiting, self._later = self._later, []
            self._begin_sync(waiting)

    def _drain(self) -> None:
        """Block until every sync is done. Nothing is requested meanwhile, so this ends after as many as are under way."""
        done = select.poll()  # not `select`, which takes no descriptor above 1,023
        done.register(self._syncing.fileno(), select.POLLIN)
        while self._awaited:
            done.poll()
            self._synced()

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
        found = Chains(self._data).find(decision)
        if found is None:
            return None
        number = self._keys.month(found.record.at).unseal(found.record.sealed).split(" ", 1)[0]
        return found.record.facts.controller.id, number

    def close(self) -> None:
        self._drain()  # of a sync that failed the log must know before it is closed as whole
        self._loop.remove_reader(self._syncing.fileno())
        self._syncing.close()
        self._threads.close()
        self.log.close()
