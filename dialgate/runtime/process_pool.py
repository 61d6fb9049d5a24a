"""Parallel work in one process per core, with results in order."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from operator import call
from typing import Any, Final, TypeVar

from dialgate.core.faults import Unavailable

_HERE: Final = 8  # items that this process handles before it starts other processes
_WORTH_A_PROCESS: Final = 32 << 20  # bytes; reading less is faster than starting processes
_AHEAD: Final = 2  # items per process that are queued or finished, which limits memory

T = TypeVar("T")
R = TypeVar("R")


class WorkerLost(Unavailable):
    """Raised if a worker process was killed. The message is for the person who ran the command."""

    component = "worker"


def spread(work: Callable[[T], R], items: Iterable[T], here: int = _HERE) -> Iterator[R]:
    """Yield `work(item)` for each item, in order. Raises `WorkerLost` and any exception of `work`.

    `work` is pickled once per process, and each item and each result once. With only one core, or with at most
    `here` items, no other process is started.
    """
    rest = iter(items)
    cores = len(os.sched_getaffinity(0))
    yield from map(work, islice(rest, here) if cores > 1 else rest)
    first = next(rest, None)
    if first is None:
        return
    # fork() is unsafe in a process with threads.
    context = multiprocessing.get_context("spawn")
    try:
        yield from _run_in_pool(ProcessPoolExecutor(cores, context, _begin, (work,)), cores, first, rest)
    except BrokenProcessPool:
        raise WorkerLost(
            "a worker process was killed, probably because memory ran out; free some memory and try again"
        ) from None


def run_tasks(tasks: Sequence[Callable[[], R]], size: int) -> Iterator[R]:
    """Yield the results of the tasks in order, using all cores if that is faster.

    `size` is the number of bytes that the tasks read. Raises the same errors as `spread`.
    """
    return spread(call, tasks, len(tasks) if len(tasks) == 1 or size < _WORTH_A_PROCESS else 0)


def _run_in_pool(executor: ProcessPoolExecutor, cores: int, first: T, rest: Iterator[T]) -> Iterator[Any]:
    with executor as pool:
        futures: deque[Future[Any]] = deque([pool.submit(_do, first)])
        try:
            for item in rest:
                if len(futures) >= cores * _AHEAD:
                    yield futures.popleft().result()
                futures.append(pool.submit(_do, item))
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:  # the caller stopped iterating
                future.cancel()


_work: Callable[[Any], Any]  # set in the pool's processes


def _begin(work: Callable[[Any], Any]) -> None:
    global _work  # noqa: PLW0603 - the pool's initializer can only set globals
    _work = work


def _do(item: Any) -> Any:
    return _work(item)
