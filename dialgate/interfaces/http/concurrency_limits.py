"""Fairness between clients: few CPU-heavy requests at a time, one for each, and so many open streams for each."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Turns:
    def __init__(self, most: int = 1) -> None:
        """`most`: requests that are served at once, each of another client."""
        self._slots = asyncio.Semaphore(most)
        self._own: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn. Of each client only one request queues for it; its other requests wait behind that one."""
        async with self._own.setdefault(client, asyncio.Lock()), self._slots:
            yield


class Caps:
    """Counts of what each client, or each tenant, holds open."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, holder: str, most: int, fault: Exception) -> Iterator[None]:
        """Count one for the holder. Raises `fault` where it has `most` already."""
        if self._open[holder] >= most:
            raise fault
        self._open[holder] += 1
        try:
            yield
        finally:
            self._open[holder] -= 1
