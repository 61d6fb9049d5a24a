"""What takes a core for a while is done one at a time, and clients take turns: who asks for much waits for themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._own: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[None]:
        """Of each client one waits for all the others, and the rest for that one."""
        async with self._own.setdefault(client, asyncio.Lock()), self._one:
            yield
