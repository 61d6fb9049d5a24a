"""Thread pools, each for one purpose, so that other work cannot use up all the threads."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import get_native_id
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_NICE = 10  # with a higher value, a thread that holds a lock could run too rarely and block others


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


def lower_priority() -> None:
    """Give this thread a lower priority than the thread that decides calls (Linux only)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
