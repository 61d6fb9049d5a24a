"""Work that never runs twice at the same time. Waiting callers share one run."""

import asyncio
from collections.abc import Awaitable, Callable


class SharedRun:
    """A callable with at most one active run. Callers that arrive during a run share the next one."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None  # not started yet: later callers may share it
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self) -> None:
        """Wait for a run that starts after this call. Raises the exception from that run."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._discard)
        await asyncio.shield(self._next)  # a cancelled caller must not cancel it for the others

    async def _run(self) -> None:
        async with self._turn:
            self._next = None
            await self._work()

    def _discard(self, run: asyncio.Task[None]) -> None:
        self._tasks.discard(run)
        if not run.cancelled():
            run.exception()  # mark it as retrieved, even if every caller was cancelled

    async def close(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
