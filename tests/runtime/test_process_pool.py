"""Parallel work returns all results in order, or raises an exception at the chunk that failed."""

import os
from collections.abc import Iterator

import pytest

from dialgate.runtime.process_pool import WorkerLost, spread

MANY = 40


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


def yield_numbers(taken: list[int]) -> Iterator[int]:
    for number in range(MANY):
        taken.append(number)
        yield number


@pytest.mark.parametrize("pieces", [0, 1, 8, 9, MANY])
def test_results_are_in_the_order_of_the_chunks(pieces: int) -> None:
    assert [square for square, _ in spread(squared, range(pieces))] == [n * n for n in range(pieces)]


def test_large_work_is_done_by_other_processes_and_small_work_is_not() -> None:
    assert {process for _, process in spread(squared, range(8))} == {os.getpid()}
    if len(os.sched_getaffinity(0)) > 1:
        assert {process for _, process in spread(squared, range(MANY))} > {os.getpid()}
        assert os.getpid() not in {process for _, process in spread(squared, range(2), here=0)}


def test_an_exception_is_raised_at_the_position_of_its_chunk() -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match=str(MANY - 5)):
        done.extend(spread(refusing, range(MANY)))
    assert done == list(range(MANY - 5))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_a_killed_process_is_reported_with_a_message() -> None:
    with pytest.raises(WorkerLost, match="memory ran out"):
        list(spread(dying, range(MANY)))


def test_chunks_are_read_as_they_are_needed() -> None:
    """For a file of any size, the number of chunks in memory is limited."""
    taken: list[int] = []
    ahead = [len(taken) - at for at, _ in enumerate(spread(squared, yield_numbers(taken)))]
    assert len(ahead) == len(taken) > 0
    assert max(ahead) <= 2 + 2 * len(os.sched_getaffinity(0))
