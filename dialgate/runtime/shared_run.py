"""Work that runs one at a time; callers that wait meanwhile share the next run."""

import asyncio
from collections.abc import Awaitable, Callable


class SharedRun:
    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None  # not begun yet: later callers may share it
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self) -> None:
        """Return when a run that began after this call has ended. Raises what the run raised."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._ended)
        await asyncio.shield(self._next)  # a caller that gives up does not end it for the others

    async def _run(self) -> None:
        async with self._turn:
            self._next = None
            await self._work()

    def _ended(self, run: asyncio.Task[None]) -> None:
        self._tasks.discard(run)
        if not run.cancelled():
            run.exception()  # retrieved, also where every caller gave up

    async def close(self) -> None:
        """Wait for the runs that have begun."""
        while self._tasks:
            await asyncio.wait(self._tasks)
