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


class AnswerFuture(Protocol):
    """A future for an answer, used in the thread of the event loop. Its result is set once, unless it is `done` before."""

    def done(self) -> bool: ...

    def set_result(self, answer: Answer, /) -> None: ...


class CallRequest(Struct, gc=False):
    """A call that waits for its answer. `arrived` is on the monotonic clock, in seconds."""

    call: Call
    client: Client
    arrived: float
    answer: AnswerFuture


class AdmissionQueue:
    """A queue for each client. `most`: calls of one batch. `crowded`: this machine has as many workers as processors."""

    def __init__(self, most: int, *, crowded: bool) -> None:
        self.most = most
        self._crowded = crowded
        self._queues: dict[str, deque[CallRequest]] = {}  # by client
        self._turns: deque[deque[CallRequest]] = deque()  # the same; the first takes its turn next
        self._count = 0
        self._in_batches = 0  # that are not answered yet

    def add(self, request: CallRequest) -> None:
        queue = self._queues.get(request.client.name)
        if queue is None:
            queue = self._queues[request.client.name] = deque()
            self._turns.append(queue)
        queue.append(request)
        self._count += 1

    @property
    def ready(self) -> bool:
        """Whether enough calls wait for a batch, or no call is in a batch: a lone call never waits."""
        return self._count >= (self._batch_size(_WORTH_A_BATCH) if self._in_batches else 1)

    async def take(self) -> list[CallRequest]:
        """Remove the next batch, without calls that were given up. `mark_answered` must follow."""
        if self._crowded:
            await self._gather_all()
        batch = [request for request in self._next(self._batch_size(_AT_ONCE)) if not request.answer.done()]
        self._in_batches += len(batch)
        return batch

    def _next(self, size: int) -> list[CallRequest]:
        """Equal shares of all clients. Where there are more clients than places, the rest come first in the next batch."""
        batch: list[CallRequest] = []
        turns, places = self._turns, size
        while turns and places:
            share = max(1, places // len(turns))
            for _ in range(min(len(turns), places)):
                queue = turns.popleft()
                part = [queue.popleft() for _ in range(min(share, len(queue)))]
                batch += part
                places -= len(part)
                if queue:
                    turns.append(queue)
                else:
                    del self._queues[part[-1].client.name]
        self._count -= len(batch)
        return batch

    def mark_answered(self, batch: Sequence[CallRequest]) -> None:
        self._in_batches -= len(batch)

    def _batch_size(self, least: int) -> int:
        calls = self._count + self._in_batches
        return self.most if self._crowded else min(self.most, max(least, calls // 2))

    async def _gather_all(self) -> None:
        """Let calls that are about to arrive join: until a turn of the event loop brings no more."""
        previous = 0
        while previous < self._count < self.most:
            previous = self._count
            await asyncio.sleep(0)


def reply(
    answers: Iterator[tuple[CallRequest, Answer]], observe: Callable[[str, float, str], None], end: float
) -> None:
    """Give each call its answer. `observe` gets the interface, the seconds from arrival to `end`, and the decision's id."""
    is_complete = False
    try:
        for request, answer in answers:
            observe(request.call.interface, end - request.arrived, answer.decision_id)
            if not request.answer.done():  # the client may have gone
                request.answer.set_result(answer)
        is_complete = True
    finally:
        if not is_complete:  # one call's failure must not cost the others their answers
            asyncio.get_running_loop().call_soon(reply, answers, observe, end)
