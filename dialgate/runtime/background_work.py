"""Repeated background work that may take longer than the interval between its runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class BackgroundWork(Generic[P]):
    """Repeated work with at most one active run.

    `problem` says why the last run failed, or is empty. Only exceptions in `faults` set it. Any other
    exception is raised again by the next `run` or `start`.
    """

    def __init__(self, work: Callable[P, Awaitable[None]], faults: tuple[type[Exception], ...]) -> None:
        self.problem = ""
        self._work, self._faults = work, faults
        self._task: asyncio.Task[None] | None = None

    async def run(self, patience: float | None, *args: P.args, **options: P.kwargs) -> None:
        """Start the work and wait up to `patience` seconds for it to end. None means no limit.

        If the previous run has not ended, do nothing.
        """
        task = self.start(*args, **options)
        if task is None:
            return
        done, _ = await asyncio.wait([task], timeout=patience)
        if done:
            if self._task is task:  # otherwise `start` has begun another run in the meantime
                self._task = None
            task.result()

    def start(self, *args: P.args, **options: P.kwargs) -> asyncio.Task[None] | None:
        """Start the work and return its task, or return None if the previous run has not ended."""
        if self._task is not None and not self._task.done():
            return None
        previous, self._task = self._task, asyncio.create_task(self._run(*args, **options))
        if previous is not None:
            previous.result()
        return self._task

    async def _run(self, *args: P.args, **options: P.kwargs) -> None:
        try:
            await self._work(*args, **options)
        except self._faults as error:
            self.problem = str(error)
        else:
            self.problem = ""

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
