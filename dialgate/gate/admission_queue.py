"""The queue of calls that wait for a decision.

A batch takes an equal share of each client's calls, so a client with thousands of queued calls delays only itself.

A batch takes all calls that wait. The next batch starts when none is in flight, so that a lone call never waits for others.
A batch with its sync costs as much processor time as 20 calls, so while one is in flight, the next one starts only once enough
calls wait. The processor is then busy while the earlier batch waits for the store or disk.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.core.model import Call
from dialgate.core.responses import Answer

MIN_OVERLAP: Final = 32  # number of queued calls that starts a batch while other batches are in flight


class AnswerFuture(Protocol):
    """A future for an answer, used only in the event loop's thread. Call `set_result` only if `done` returns False."""

    def done(self) -> bool: ...

    def set_result(self, answer: Answer, /) -> None: ...


class QueuedCall(Struct, gc=False):
    """A call in the queue. `interface` is the protocol, such as `http`. `arrived` is its arrival time on the monotonic clock, in seconds."""

    call: Call
    client: Client
    interface: str
    arrived: float
    answer: AnswerFuture


class AdmissionQueue:
    """A fair queue with one lane for each client. `most` is the maximum size of a batch."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: dict[str, deque[QueuedCall]] = {}  # by client
        self._turns: deque[deque[QueuedCall]] = deque()  # the same queues; the first is served next
        self._count = 0
        self._in_batches = 0  # calls taken but not yet answered

    def resize(self, most: int) -> None:
        """Limit the next batches to `most` calls."""
        self._most = most

    def add(self, request: QueuedCall) -> None:
        queue = self._queues.get(request.client.name)
        if queue is None:
            queue = self._queues[request.client.name] = deque()
            self._turns.append(queue)
        queue.append(request)
        self._count += 1

    @property
    def ready(self) -> bool:
        """Whether a batch should start. One call is enough if no batch is in flight."""
        return self._count >= (min(self._most, MIN_OVERLAP) if self._in_batches else 1)

    def take(self) -> list[QueuedCall]:
        """Remove and return the next batch, without cancelled calls. Call `mark_answered` when it is done."""
        batch = [request for request in self._next(self._most) if not request.answer.done()]
        self._in_batches += len(batch)
        return batch

    def _next(self, size: int) -> list[QueuedCall]:
        """Take up to `size` calls, the same number from each client where possible.

        Clients left out of a full batch are first in the next batch.
        """
        batch: list[QueuedCall] = []
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

    def mark_answered(self, batch: Sequence[QueuedCall]) -> None:
        self._in_batches -= len(batch)


def reply(
    answers: Iterator[tuple[QueuedCall, Answer]], observe: Callable[[str, float, str], None], end: float
) -> None:
    """Set each call's answer.

    For each call, `observe` receives the interface, the seconds from arrival to `end`, and the decision id.
    """
    is_complete = False
    try:
        for request, answer in answers:
            observe(request.interface, end - request.arrived, answer.decision_id)
            if not request.answer.done():  # the client may have disconnected
                request.answer.set_result(answer)
        is_complete = True
    finally:
        if not is_complete:  # one call's failure must not block the answers of the others
            asyncio.get_running_loop().call_soon(reply, answers, observe, end)
