"""Access to the decision log, one at a time: for batches of decisions, and for what became of them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import msgspec

from dialgate import localtime
from dialgate.chains import Chains
from dialgate.decision_log import DecisionLog, LogUnavailable, Written, syncing
from dialgate.keys import Keys
from dialgate.metrics import Metrics
from dialgate.model import Instant, OutcomeRecord, Result

_encode = msgspec.json.Encoder().encode


class LogRecorder:
    """Whoever holds `turn` alone may use the log's next sequence and write; `sync` needs no turn, so that one batch
    can be decided while another is brought to the disk."""

    def __init__(
        self, data: Path, log: DecisionLog, keys: Keys, clock: Callable[[], Instant], metrics: Metrics
    ) -> None:
        self.turn = asyncio.Lock()
        self.log = log
        self._segment = 0
        self._grounds: dict[bytes, int] = {}
        self._data, self._keys, self._clock, self._metrics = data, keys, clock, metrics
        self._loop = asyncio.get_running_loop()
        self._syncing = syncing()
        self._loop.add_reader(self._syncing.fileno(), self._synced)
        self._tickets = count()
        self._begun = 0.0
        self._awaited: dict[int, tuple[Written, float, asyncio.Future[None]]] = {}

    def grounds(self, now: Instant) -> dict[bytes, int]:
        """The sequence of each grounds that stand in the newest segment, by digest; begins a segment where the last is
        full. So a segment can nearly always be read alone. Raises `LogUnavailable`."""
        first = self.log.turn_over(now)
        if first != self._segment:
            self._segment, self._grounds = first, {}
        return self._grounds

    def write(self, bodies: Sequence[bytes], grounds: dict[bytes, int]) -> None:
        """`grounds`: those among the bodies. Raises `LogUnavailable`: then nothing of it is in the log."""
        self._write(bodies)
        self._grounds |= grounds

    def _write(self, bodies: Sequence[bytes]) -> None:
        self._begun = time.monotonic()  # a disk that stalls holds up the write, not the sync that follows
        self.log.write(bodies)

    def sync(self) -> asyncio.Future[None]:
        """Done when everything written so far is on the disk; else it raises `LogUnavailable`."""
        synced: asyncio.Future[None] = self._loop.create_future()
        ticket = next(self._tickets)
        try:
            written = self.log.begin_sync(self._syncing, ticket)
        except LogUnavailable as fault:
            synced.set_exception(fault)
        else:
            # Where nothing was written since the last, it is this alone that is timed.
            self._awaited[ticket] = written, self._begun or time.monotonic(), synced
            self._begun = 0.0
        return synced

    def _synced(self) -> None:
        for ticket, error in self._syncing.done():
            written, begun, synced = self._awaited.pop(ticket)
            fault = None
            try:
                self.log.end_sync(written, error)
            except LogUnavailable as broken:
                fault = broken
            else:
                self._metrics.sync.observe(time.monotonic() - begun)
            if synced.done():  # whoever waited waits no more
                continue
            if fault is None:
                synced.set_result(None)
            else:
                synced.set_exception(fault)

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
            self._write([_encode(record)])
        await self.sync()

    async def about(self, decision: str) -> tuple[str, str]:
        return await asyncio.to_thread(self._about, decision)

    def _about(self, decision: str) -> tuple[str, str]:
        found = Chains(self._data).find(decision)
        if found is None:
            raise LogUnavailable(
                f"the record of decision {decision} is not on this node; report it where it was decided"
            )
        number = self._keys.month(found.record.at).unseal(found.record.sealed).split(" ", 1)[0]
        return found.record.facts.controller.id, number

    def close(self) -> None:
        self._loop.remove_reader(self._syncing.fileno())
        self._syncing.close()
        self.log.close()
