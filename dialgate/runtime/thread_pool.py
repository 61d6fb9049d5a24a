"""Thread pools for one purpose each, so that no other work can keep it waiting for a thread."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import get_native_id
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_NICE = 10  # above it, a thread that holds a lock could run too rarely for those that wait for the lock


class ThreadPool:
    """At most `most` threads, which are started as they are needed. asyncio's default pool is shared by everything in the
    process: eight uploads in it kept upkeep and stops waiting for half a minute.
    """

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: work(*args, **options))

    def close(self) -> None:
        """Refuse new work. What runs ends by itself."""
        self._pool.shutdown(wait=False)


def lower_priority() -> None:
    """Let the thread that decides calls run before this one. Linux has a priority for each thread."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)
