"""Fairness between clients: one CPU-heavy request at a time, and so many open streams for each."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Turns:
    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._own: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn. Of each client only one request queues for it; its other requests wait behind that one."""
        async with self._own.setdefault(client, asyncio.Lock()), self._one:
            yield


class Caps:
    """What each client holds open, counted."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, client: str, most: int, fault: Exception) -> Iterator[None]:
        """Count one for the client. Raises `fault` where it has `most` already."""
        if self._open[client] >= most:
            raise fault
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
