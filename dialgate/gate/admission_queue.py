"""Calls that wait for a decision, and which of them make the next batch.

Clients take turns: a batch has the same share of each client's calls, so that one with thousands waiting delays only its own.

Batches have a high fixed cost, so small ones are expensive; and while every call waits for the store or the disk, the processor
is idle. So one half of the calls makes a batch, and the other half is decided meanwhile. Where other workers of the node use the
processor meanwhile, nothing is gained by that, and all calls make one batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.core.model import Call
from dialgate.core.responses import Answer

# Fewer calls than a half that are still worth a batch; and the smallest batch while enough calls wait.
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


class AdmissionQueue:
    """A queue for each client. `most`: calls of one batch. `crowded`: this machine has as many workers as processors."""

    def __init__(self, most: int, *, crowded: bool) -> None:
        self.most = most
        self._crowded = crowded
        self._queues: dict[str, deque[Asked]] = {}  # by client
        self._turns: deque[deque[Asked]] = deque()  # the same; the first takes its turn next
        self._count = 0
        self._in_batches = 0  # that are not answered yet

    def add(self, asked: Asked) -> None:
        queue = self._queues.get(asked.client.name)
        if queue is None:
            queue = self._queues[asked.client.name] = deque()
            self._turns.append(queue)
        queue.append(asked)
        self._count += 1

    @property
    def ready(self) -> bool:
        """Whether enough calls wait for a batch, or no call is in a batch: a lone call never waits."""
        return self._count >= (self._together(_WORTH_A_BATCH) if self._in_batches else 1)

    async def take(self) -> list[Asked]:
        """Remove the next batch, without calls that were given up. `answered` must follow."""
        if self._crowded:
            await self._gather_all()
        batch = [asked for asked in self._next(self._together(_AT_ONCE)) if not asked.answer.done()]
        self._in_batches += len(batch)
        return batch

    def _next(self, size: int) -> list[Asked]:
        """Equal shares of all clients. Where there are more clients than places, the rest come first in the next batch."""
        taken: list[Asked] = []
        turns, left = self._turns, size
        while turns and left:
            share = max(1, left // len(turns))
            for _ in range(min(len(turns), left)):
                queue = turns.popleft()
                part = [queue.popleft() for _ in range(min(share, len(queue)))]
                taken += part
                left -= len(part)
                if queue:
                    turns.append(queue)
                else:
                    del self._queues[part[-1].client.name]
        self._count -= len(taken)
        return taken

    def answered(self, batch: Sequence[Asked]) -> None:
        self._in_batches -= len(batch)

    def _together(self, least: int) -> int:
        there = self._count + self._in_batches
        return self.most if self._crowded else min(self.most, max(least, there // 2))

    async def _gather_all(self) -> None:
        """Let calls that are about to arrive join: until a turn of the event loop brings no more."""
        there = 0
        while there < self._count < self.most:
            there = self._count
            await asyncio.sleep(0)


def reply(
    told: Iterator[tuple[Asked, Answer]], took: Callable[[str, float, str], None], ended: float
) -> None:
    """Give each call its answer. `took` gets the interface, the seconds from arrival to `ended`, and the decision's id."""
    whole = False
    try:
        for asked, answer in told:
            took(asked.call.interface, ended - asked.arrived, answer.decision_id)
            if not asked.answer.done():  # the client may have gone
                asked.answer.set_result(answer)
        whole = True
    finally:
        if not whole:  # who could not be told is no loss of the others
            asyncio.get_running_loop().call_soon(reply, told, took, ended)
