"""The contents of number files in any format, and a function that matches an answer to its request."""

from typing import NamedTuple

import numpy as np

from dialgate.lists.number_set import distinct
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
    """The contents of a query or an answer. `numbers` contains E.164 numbers as integers, in file order.

    A status is 0 for clear, 1 for listed, and 2 if the registry has no data about the number. In a query, every status
    is 0. `first_line` is the line of the first number. `only_clear` is true if an answer has no statuses, because the
    registry returned only the clear numbers. `days` contains the registration days, if the file has them.
    """

    name: str
    sha256: str
    numbers: Numbers
    statuses: Bytes
    first_line: int = 1
    only_clear: bool = False
    days: Days | None = None


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
    answers = distinct(answer.numbers * np.uint64(4) + answer.statuses)
    numbers = answers >> np.uint64(2)
    twice = numbers[1:][numbers[1:] == numbers[:-1]]
    if len(twice):
        line = min(_lines_with(answer, number)[-1] for number in twice[:1000])
        raise FaultyFile(
            f"{answer.name}, line {line:,}: an earlier line has this number with a different status"
        )
    requested = distinct(request.numbers)
    if not np.array_equal(requested, numbers):
        _refuse_strays(
            answer, requested, "this number is not in the request. Is this the answer to another request?"
        )
        if answer.only_clear:
            return AnswerFile(requested, ~np.isin(requested, numbers), len(answer.numbers))
        _refuse_strays(
            request, numbers, f"this number has no answer in {answer.name}. Is the answer truncated?"
        )
    statuses = answers & np.uint64(3)
    known = statuses != WITHOUT_DATA
    return AnswerFile(numbers[known], statuses[known] == LISTED, len(answer.numbers))


def _lines_with(file: NumberFile, number: np.uint64) -> list[int]:
    return [int(at) + file.first_line for at in np.flatnonzero(file.numbers == number)]


def _refuse_strays(file: NumberFile, expected: Numbers, fault: str) -> None:
    """Raise FaultyFile if the file has a number that is not in the sorted array `expected`."""
    at = np.searchsorted(expected, file.numbers)
    strays = np.flatnonzero(expected[np.minimum(at, len(expected) - 1)] != file.numbers)
    if len(strays):
        others = f" ({len(strays) - 1:,} more lines like it)" if len(strays) > 1 else ""
        raise FaultyFile(f"{file.name}, line {strays[0] + file.first_line:,}: {fault}{others}")
