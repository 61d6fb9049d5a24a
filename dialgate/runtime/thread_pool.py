"""Thread pools, each for one purpose, so that other work cannot use up all the threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """A pool of up to `most` threads, started when needed.

    asyncio's default pool is shared by the whole process: eight uploads in it delayed upkeep and revocations
    by half a minute.
    """

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: work(*args, **options))

    def close(self) -> None:
        """Refuse new work. Work in progress runs to completion."""
        self._pool.shutdown(wait=False)
