"""Fairness between clients: limits on CPU-heavy requests and on open streams."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Turns:
    """A limit on the number of requests served at the same time, with at most one per client."""

    def __init__(self, most: int = 1) -> None:
        self._slots = asyncio.Semaphore(most)
        self._own: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def hold(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn. Each client has at most one request in the queue, so no client can crowd out the others."""
        async with self._own.setdefault(client, asyncio.Lock()), self._slots:
            yield


class Caps:
    """Limits on the open streams or pages of each holder. A holder is a client or a controller."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, holder: str, most: int, fault: Exception) -> Iterator[None]:
        """Count a stream or page while it is open. Raises `fault` if the holder already has `most` open."""
        if self._open[holder] >= most:
            raise fault
        self._open[holder] += 1
        try:
            yield
        finally:
            self._open[holder] -= 1
