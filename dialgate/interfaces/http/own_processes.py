"""Heavy work for requests: one task at a time, in a process of its own with a low priority."""

from collections.abc import Callable
from typing import Final, TypeVar

from aiohttp import web

from dialgate.config.clients import Client
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.runtime.own_process import run_apart

T = TypeVar("T")
HEAVY: Final = web.AppKey("heavy", Turns)


async def run_for(request: web.Request, client: Client, work: Callable[[], T]) -> T:
    """Return `work()` when it is the client's turn. Raises the same errors as `run_apart`."""
    async with request.app[HEAVY].hold(client.name):
        return await run_apart(work)
