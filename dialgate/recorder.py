"""Access to the decision log, one at a time: for batches of decisions, and for what became of them."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
        self._syncer = ThreadPoolExecutor(1, "log-sync")

    async def sync(self) -> None:
        """Returns when everything written so far is on the disk. Raises `LogUnavailable`."""
        begun = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(self._syncer, self.log.sync)
        self._metrics.sync.observe(time.monotonic() - begun)

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

    async def called(self, decision: str) -> str:
        return await asyncio.to_thread(self._called, decision)

    def _called(self, decision: str) -> str:
        line = find(self._folder, int(decision.rpartition("-")[2]))
        record = _decode(line.body) if line else None
        if not isinstance(record, Record) or record.id != decision:
            raise LogUnavailable(f"the record of decision {decision} is not in this log")
        return self._keys.month(record.at).unseal(record.sealed).split(" ", 1)[0]

    def close(self) -> None:
        self._syncer.shutdown()
        self.log.close()
