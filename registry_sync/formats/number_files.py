"""The contents of number files in any format, and a function that matches an answer to its request."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from registry_sync.formats.text import Bytes, Days, FaultyFile, Mask, Numbers

CLEAR, LISTED, WITHOUT_DATA = range(3)  # the statuses of a number


class FullFile(NamedTuple):
    """The contents of a full file. `numbers` are sorted and distinct, and `lines` counts all lines.

    `days` contains each number's registration day, if the file has one. If a number has several lines, the latest day
    counts.
    """

    sha256: str
    lines: int
    numbers: Numbers
    days: Days | None = None


class NumberFile(NamedTuple):
    """The contents of a query or an answer: E.164 numbers as integers, sorted, and the status of each.

    A status is 0 for clear, 1 for listed, and 2 if the registry has no data about the number. In a query, every status
    is 0. A number occurs once for each of its statuses. `lines` counts all lines, and `first_line` is that of the first number.
    `read_again` returns the numbers in the order of the file. `only_clear` is true if an answer has no statuses, because the
    registry returned only the clear numbers.
    """

    name: str
    sha256: str
    numbers: Numbers
    statuses: Bytes
    lines: int
    first_line: int
    read_again: Callable[[], Numbers]
    only_clear: bool = False


class AnswerFile(NamedTuple):
    """The distinct numbers in an answer, sorted. Numbers about which the registry has no data are left out.

    `listed` marks the enrolled numbers. `lines` counts all lines.
    """

    numbers: Numbers
    listed: Mask
    lines: int


def match(request: NumberFile, answer: NumberFile) -> AnswerFile:
    """Match an answer to its request.

    If `answer.only_clear` is true, requested numbers that are missing from the answer are treated as listed.
    Raises FaultyFile if the numbers otherwise differ, or if a number has two different statuses.
    """
    numbers, requested = answer.numbers, request.numbers
    twice = numbers[1:][numbers[1:] == numbers[:-1]]
    if len(twice):
        in_order = answer.read_again()
        line = min(int(np.flatnonzero(in_order == number)[-1]) for number in twice[:1000])
        raise FaultyFile(
            f"{answer.name}, line {line + answer.first_line:,}: an earlier line has this number with a different status"
        )
    if not np.array_equal(requested, numbers):
        _refuse_strays(
            answer, requested, "this number is not in the request. Is this the answer to another request?"
        )
        if answer.only_clear:
            return AnswerFile(requested, ~np.isin(requested, numbers), answer.lines)
        _refuse_strays(
            request, numbers, f"this number has no answer in {answer.name}. Is the answer truncated?"
        )
    known = answer.statuses != WITHOUT_DATA
    if known.all():
        return AnswerFile(numbers, answer.statuses == LISTED, answer.lines)
    return AnswerFile(numbers[known], answer.statuses[known] == LISTED, answer.lines)


def without_repetitions(ordered: Numbers) -> Numbers:
    """Return the distinct numbers of a sorted array, or the array itself if it has no repetition."""
    first = np.append(np.True_, ordered[1:] != ordered[:-1])[: len(ordered)]
    return ordered if first.all() else ordered[first]


def _refuse_strays(file: NumberFile, expected: Numbers, fault: str) -> None:
    """Raise FaultyFile if the file has a number that is not in the sorted array `expected`."""
    if np.isin(file.numbers, expected).all():
        return
    in_order = file.read_again()
    strays = np.flatnonzero(~np.isin(in_order, expected))
    if len(strays):
        others = f" ({len(strays) - 1:,} more lines like it)" if len(strays) > 1 else ""
        raise FaultyFile(f"{file.name}, line {strays[0] + file.first_line:,}: {fault}{others}")
