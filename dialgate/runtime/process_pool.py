"""Work spread over every core: pieces go to processes of their own, what they make of them comes back in order."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Final, TypeVar

from dialgate.core.faults import Unavailable

_HERE: Final = 8  # pieces that are done in this process, before others are worth their start
_AHEAD: Final = 2  # pieces for each process that wait for it, or for their turn: so much is held in memory

T = TypeVar("T")
R = TypeVar("R")


class WorkerLost(Unavailable):
    """The text is for whoever started the command."""

    component = "worker"


def spread(work: Callable[[T], R], pieces: Iterable[T], here: int = _HERE) -> Iterator[R]:
    """`work` of each piece. It is pickled once for each process, pieces and results each time. What it raises is raised in its
    piece's turn. Where there is one core only, or no more pieces than are done `here`, no process is started. Raises
    `WorkerLost`.
    """
    rest = iter(pieces)
    cores = len(os.sched_getaffinity(0))
    yield from map(work, islice(rest, here) if cores > 1 else rest)
    first = next(rest, None)
    if first is None:
        return
    # Not forked: a fork would have a half of whatever the threads of this process are about.
    context = multiprocessing.get_context("spawn")
    try:
        yield from _shared_out(ProcessPoolExecutor(cores, context, _begin, (work,)), cores, first, rest)
    except BrokenProcessPool:
        raise WorkerLost(
            "a process that shared the work was ended: was there memory for it? Try again"
        ) from None


def _shared_out(executor: ProcessPoolExecutor, cores: int, first: T, rest: Iterator[T]) -> Iterator[Any]:
    with executor as pool:
        futures: deque[Future[Any]] = deque([pool.submit(_do, first)])
        try:
            for piece in rest:
                if len(futures) >= cores * _AHEAD:
                    yield futures.popleft().result()
                futures.append(pool.submit(_do, piece))
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:  # nobody asks for them any more
                future.cancel()


_work: Callable[[Any], Any]  # of this process, where it is one of the pool's


def _begin(work: Callable[[Any], Any]) -> None:
    global _work  # noqa: PLW0603 - what the pool has for what a process begins with
    _work = work


def _do(piece: Any) -> Any:
    return _work(piece)
