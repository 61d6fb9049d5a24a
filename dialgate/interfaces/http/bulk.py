"""Requests with many calls.

A few calls are parsed at a time, so that the event loop can serve other clients in between.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Final, TypeVar

from aiohttp import web

from dialgate.core.responses import Answer
from dialgate.interfaces.http.concurrency_limits import Caps, Turns
from dialgate.interfaces.http.errors import AGAIN, Fault

_T = TypeVar("_T")
_Out = TypeVar("_Out")

BULK: Final = web.AppKey("bulk", Turns)
CHECK_STREAMS: Final = web.AppKey("check_streams", Caps)
FOLLOWERS: Final = web.AppKey("followers", Caps)
_CHUNK: Final = 32  # calls parsed in one turn of the event loop, over all requests
_AHEAD: Final = 8  # maximum chunks of a request that wait for decisions


def too_many_streams(most: int) -> Fault:
    return Fault(
        429,
        "streams.too_many",
        f"This client has {most} streams or batches in progress, which is the maximum. Wait for one, or raise the setting `limits.streams`.",
        headers=AGAIN,
    )


async def answer_each(
    turns: Turns,
    client: str,
    items: Iterable[_T],
    submit: Callable[[_T], asyncio.Future[Answer] | _Out],
    finish: Callable[[Answer], _Out],
) -> AsyncIterator[list[_Out]]:
    """Submit each item and yield the results in order, a chunk at a time.

    `submit` returns a future for the answer or, if the item is not a valid call, the final result.
    """

    async def finished(chunk: list[asyncio.Future[Answer] | _Out]) -> list[_Out]:
        return [finish(await item) if isinstance(item, asyncio.Future) else item for item in chunk]

    left = iter(items)
    ahead: deque[list[asyncio.Future[Answer] | _Out]] = deque()
    while True:
        async with turns.hold(client):
            chunk = [submit(item) for item in islice(left, _CHUNK)]
            if len(chunk) == _CHUNK:
                await asyncio.sleep(0)
        if not chunk:
            break
        ahead.append(chunk)
        if len(ahead) >= _AHEAD:
            yield await finished(ahead.popleft())
    for chunk in ahead:
        yield await finished(chunk)
