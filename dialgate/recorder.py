"""Access to the decision log, one at a time: for batches of decisions, and for what became of them."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import msgspec

from dialgate import localtime
from dialgate.decision_log import DecisionLog, LogUnavailable, find
from dialgate.keys import Keys
from dialgate.metrics import Metrics
from dialgate.model import Instant, OutcomeRecord, Record, Result

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record | OutcomeRecord).decode


class LogRecorder:
    """Whoever holds `turn` alone may use the log's next sequence and write; `sync` needs no turn, so that one batch
    can be decided while another is brought to the disk."""

    def __init__(
        self, folder: Path, log: DecisionLog, keys: Keys, clock: Callable[[], Instant], metrics: Metrics
    ) -> None:
        self.turn = asyncio.Lock()
        self.log = log
        self._folder, self._keys, self._clock, self._metrics = folder, keys, clock, metrics
        self._loop = asyncio.get_running_loop()
        # A thread of our own: an executor costs twice as much a turn, and there is a turn in every batch.
        self._asked: SimpleQueue[asyncio.Future[None] | None] = SimpleQueue()
        self._syncer = Thread(target=self._sync, name="log-sync")
        self._syncer.start()

    async def sync(self) -> None:
        """Returns when everything written so far is on the disk. Raises `LogUnavailable`."""
        begun = time.monotonic()
        synced: asyncio.Future[None] = self._loop.create_future()
        self._asked.put(synced)
        await synced
        self._metrics.sync.observe(time.monotonic() - begun)

    def _sync(self) -> None:
        """One sync serves all who asked before it began."""
        while (asked := self._asked.get()) is not None:
            every: list[asyncio.Future[None] | None] = [asked]
            while not self._asked.empty():
                every.append(self._asked.get())
            try:
                self.log.sync()
            except LogUnavailable as fault:
                self._loop.call_soon_threadsafe(_tell, every, fault)
            else:
                self._loop.call_soon_threadsafe(_tell, every, None)
            if every[-1] is None:
                return

    async def result(self, decision: str, result: Result, client: str) -> None:
        async with self.turn:
            now = self._clock()
            record = OutcomeRecord(
                seq=self.log.next_seq,
                at=now,
                time=localtime.rfc3339(now),
                decision=decision,
                result=result,
                client=client,
            )
            self.log.write([_encode(record)], now)
        await self.sync()

    async def about(self, decision: str) -> tuple[str, str]:
        return await asyncio.to_thread(self._about, decision)

    def _about(self, decision: str) -> tuple[str, str]:
        line = find(self._folder, int(decision.rpartition("-")[2]))
        record = _decode(line.body) if line else None
        if not isinstance(record, Record) or record.id != decision:
            raise LogUnavailable(f"the record of decision {decision} is not in this log")
        number = self._keys.month(record.at).unseal(record.sealed).split(" ", 1)[0]
        return record.facts.controller.id, number

    def close(self) -> None:
        self._asked.put(None)
        self._syncer.join()
        self.log.close()


def _tell(every: list[asyncio.Future[None] | None], fault: LogUnavailable | None) -> None:
    for asked in every:
        if asked is None or asked.done():
            continue
        if fault is None:
            asked.set_result(None)
        else:
            asked.set_exception(fault)
