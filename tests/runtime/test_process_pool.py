"""Parallel work returns all results in order, or raises an exception at the task that failed."""

import os
from functools import partial

import pytest

from dialgate.runtime.process_pool import WorkerLost, run_tasks

MANY = 40
LARGE = 1 << 30  # bytes
PARALLEL = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")


def squared(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refusing(number: int) -> int:
    if number == MANY - 5:
        raise ValueError(number)
    return number


def dying(number: int) -> int:
    if number == MANY - 5:
        os._exit(9)
    return number


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("pieces", [0, 1, 3, MANY])
def test_results_are_in_the_order_of_the_tasks(pieces: int, size: int) -> None:
    tasks = [partial(squared, number) for number in range(pieces)]
    assert [square for square, _ in run_tasks(tasks, size)] == [n * n for n in range(pieces)]


@PARALLEL
def test_large_work_is_done_by_other_processes_and_small_work_is_not() -> None:
    tasks = [partial(squared, number) for number in range(MANY)]
    assert {process for _, process in run_tasks(tasks, 0)} == {os.getpid()}
    assert {process for _, process in run_tasks(tasks[:1], LARGE)} == {os.getpid()}
    assert os.getpid() not in {process for _, process in run_tasks(tasks, LARGE)}


def test_an_exception_is_raised_at_the_position_of_its_task() -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match=str(MANY - 5)):
        done.extend(run_tasks([partial(refusing, number) for number in range(MANY)], LARGE))
    assert done == list(range(MANY - 5))


@PARALLEL
def test_a_killed_process_is_reported_with_a_message() -> None:
    with pytest.raises(WorkerLost, match="memory ran out"):
        list(run_tasks([partial(dying, number) for number in range(MANY)], LARGE))
