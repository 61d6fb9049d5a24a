"""The column of telephone numbers in a file, read as a whole."""

from contextlib import suppress

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.core import phone
from dialgate.lists.call_list import number_of
from dialgate.lists.lost_zeros import LostZeros
from dialgate.lists.number_set import Numbers
from dialgate.lists.tabular import Table


class NumberColumn(Struct, frozen=True):
    """The numbers of all rows, as the digits of E.164.

    `others` has the cells without such a number by their rows, and "" for `doubtful` cells; their numbers are 0. Cells that are
    only a plus sign and digits are `plain`.
    """

    numbers: Numbers
    plain: NDArray[np.bool_]
    others: dict[int, str]
    doubtful: int


def read_column(table: Table, home: str) -> NumberColumn:
    """Read the number column of a table. Raises `Unreadable`."""
    parts, plains, others, rows = list[Numbers](), list[NDArray[np.bool_]](), dict[int, str](), 0
    zeros, doubtful = LostZeros(home), set[int]()
    for part in table.parts():
        numbers = part.numbers(table.layout.number - 1)
        plains.append(numbers > 0)
        for at in np.flatnonzero(numbers == 0).tolist():
            cell = part.cell(at, table.layout.number - 1)
            if zeros.add(rows + at, cell):
                doubtful.add(rows + at)
                continue
            try:
                number = number_of(cell, home)
            except ValueError:
                others[rows + at] = cell.strip()
                continue
            if number.startswith("+"):
                numbers[at] = int(number)
            else:
                others[rows + at] = number
        parts.append(numbers)
        rows += len(part)
    numbers = np.concatenate((np.empty(0, np.uint64), *parts))
    doubtful.update(zeros.rows().tolist())
    numbers[[*doubtful]] = 0
    others.update(dict.fromkeys(doubtful, ""))
    return NumberColumn(numbers, np.concatenate((np.empty(0, np.bool_), *plains)), others, len(doubtful))


def valid_numbers(numbers: Numbers) -> list[bool]:
    """Return which of the numbers exist. One parse serves for all numbers of a range."""
    order = np.argsort(numbers)
    ordered, is_valid = numbers[order], np.zeros(len(numbers), np.bool_)
    at = int(np.count_nonzero(numbers == 0))
    while at < len(ordered):
        end, exists = at + 1, False
        with suppress(phone.NotANumber):
            _, last, like = phone.find_range(f"+{ordered[at]}")
            end, exists = at + int(np.searchsorted(ordered[at:], last, "right")), like is not None
        is_valid[order[at:end]] = exists
        at = end
    return list(is_valid.tolist())
