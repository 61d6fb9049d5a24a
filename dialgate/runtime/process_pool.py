"""Parallel work in one process per core, with results in order."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from operator import call
from typing import Final, TypeVar

from dialgate.core.faults import Unavailable

_WORTH_A_PROCESS: Final = 32 << 20  # bytes; reading less is faster than starting processes
_AHEAD: Final = 2  # tasks per process that are queued or finished, which limits memory

R = TypeVar("R")


class WorkerLost(Unavailable):
    """Raised if a worker process was killed. The message is for the person who ran the command."""

    component = "worker"


def run_tasks(tasks: Sequence[Callable[[], R]], size: int) -> Iterator[R]:
    """Yield the results of the tasks in order, using all cores if that is faster. Tasks and results are pickled.

    `size` is the number of bytes that the tasks read. Raises `WorkerLost` and any exception of a task.
    """
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or len(tasks) == 1 or size < _WORTH_A_PROCESS:
        yield from map(call, tasks)
        return
    # fork() is unsafe in a process with threads.
    context = multiprocessing.get_context("spawn")
    try:
        yield from _run_in_pool(ProcessPoolExecutor(cores, context), cores * _AHEAD, tasks)
    except BrokenProcessPool:
        raise WorkerLost(
            "a worker process was killed, probably because memory ran out; free some memory and try again"
        ) from None


def _run_in_pool(executor: ProcessPoolExecutor, ahead: int, tasks: Sequence[Callable[[], R]]) -> Iterator[R]:
    with executor as pool:
        futures: deque[Future[R]] = deque()
        try:
            for task in tasks:
                if len(futures) >= ahead:
                    yield futures.popleft().result()
                futures.append(pool.submit(task))
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:  # the caller stopped iterating
                future.cancel()
