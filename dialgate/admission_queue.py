"""Those who wait for an answer, and which of them go together.

What a batch costs whatever its size is a good part of what it costs, so small ones are dear; and while all who are there wait for the
store or the disk the processor is idle. So a half of them goes together, and the other half is decided meanwhile. Where others of the
node's workers take the processor while one waits, nothing is gained by that, and all go together.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct

from dialgate.answers import Answer
from dialgate.model import Call
from dialgate.settings import Client

# Calls that are fewer than a half, and yet worth a batch; and as many as go together, whoever else is there.
_WORTH_A_BATCH: Final = 8
_AT_ONCE: Final = 16


class Awaited(Protocol):
    """Who waits for an answer, in the thread of the event loop; a future is one. Told once, unless it is `done` before."""

    def done(self) -> bool: ...

    def set_result(self, answer: Answer, /) -> None: ...


class Asked(Struct, gc=False):
    """A call that waits for its answer. `arrived` is on the monotonic clock, in seconds."""

    call: Call
    client: Client
    arrived: float
    answer: Awaited


class Waiting:
    """`most`: calls of one batch. `crowded`: there are as many workers on this machine as processors."""

    def __init__(self, most: int, *, crowded: bool) -> None:
        self.most = most
        self._crowded = crowded
        self._asked: list[Asked] = []
        self._in_batches = 0  # that are not answered yet

    def add(self, asked: Asked) -> None:
        self._asked.append(asked)

    @property
    def ready(self) -> bool:
        """As many wait as are worth a batch, or nobody else is waited for: a lone call never waits."""
        return len(self._asked) >= (self._together(_WORTH_A_BATCH) if self._in_batches else 1)

    async def taken(self) -> list[Asked]:
        """The next batch, of those who still wait; to be `answered`."""
        if self._crowded:
            await self._everybody()
        size = self._together(_AT_ONCE)
        batch = [each for each in self._asked[:size] if not each.answer.done()]
        self._asked = self._asked[size:]
        self._in_batches += len(batch)
        return batch

    def answered(self, batch: Sequence[Asked]) -> None:
        self._in_batches -= len(batch)

    def _together(self, least: int) -> int:
        there = len(self._asked) + self._in_batches
        return self.most if self._crowded else min(self.most, max(least, there // 2))

    async def _everybody(self) -> None:
        """Who is about to come is there: a turn of the event loop has brought nobody else."""
        there = 0
        while there < len(self._asked) < self.most:
            there = len(self._asked)
            await asyncio.sleep(0)


def reply(told: Iterator[tuple[Asked, Answer]], took: Callable[[str, float, str], None]) -> None:
    """`took` is told the interface, the seconds from arrival to answer, and the decision's id."""
    ended, whole = time.monotonic(), False
    try:
        for asked, answer in told:
            took(asked.call.interface, ended - asked.arrived, answer.decision_id)
            if not asked.answer.done():  # the client may have gone
                asked.answer.set_result(answer)
        whole = True
    finally:
        if not whole:  # who could not be told is no loss of the others
            asyncio.get_running_loop().call_soon(reply, told, took)
