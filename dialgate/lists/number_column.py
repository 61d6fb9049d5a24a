"""The column of telephone numbers in a file, read as a whole."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

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
