"""The column of telephone numbers in a file, read as a whole."""

from collections.abc import Iterator
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
    parts, plains, others = list[Numbers](), list[NDArray[np.bool_]](), dict[int, str]()
    zeros, doubtful = LostZeros(home), list[int]()
    for first, numbers, cells, found in _parts(table, zeros):
        plains.append(numbers > 0)
        doubtful += found
        for row, cell in cells.items():
            try:
                number = number_of(cell, home)
            except ValueError:
                others[row] = cell.strip()
                continue
            if number.startswith("+"):
                numbers[row - first] = int(number)
            else:
                others[row] = number
        parts.append(numbers)
    numbers = np.concatenate((np.empty(0, np.uint64), *parts))
    doubtful += zeros.rows().tolist()
    numbers[doubtful] = 0
    others.update(dict.fromkeys(doubtful, ""))
    return NumberColumn(numbers, np.concatenate((np.empty(0, np.bool_), *plains)), others, len(doubtful))


def doubtful_rows(table: Table, home: str) -> list[int]:
    """Return the rows whose number may have lost a zero or a plus, in order."""
    zeros, doubtful = LostZeros(home), list[int]()
    for _, _, _, found in _parts(table, zeros):
        doubtful += found
        if zeros.has_zeros and table.layout.format == "text":
            break
    return sorted((*doubtful, *zeros.rows().tolist()))


def _parts(table: Table, zeros: LostZeros) -> Iterator[tuple[int, Numbers, dict[int, str], list[int]]]:
    """Yield the first row of each part, its plain numbers, and its other cells and the doubtful ones of them by their rows."""
    place, first = table.layout.number - 1, 0
    for part in table.parts():
        numbers = part.numbers(place)
        cells = {first + at: part.cell(at, place) for at in np.flatnonzero(numbers == 0).tolist()}
        yield first, numbers, cells, [row for row, cell in cells.items() if zeros.add(row, cell)]
        first += len(part)


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
