"""The column of telephone numbers in a file, read as a whole."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.lists.call_list import number_of
from dialgate.lists.lost_zeros import LostZeros
from dialgate.lists.number_set import Numbers
from dialgate.lists.tabular import Table

_SHORTEST, _LONGEST = 8, 16  # characters of a plain cell
_BASE = 10
_LINE_END, _PLUS, _ZERO = b"\n+0"


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
        cells = part.cells(table.layout.number - 1)
        numbers = plain_numbers(cells)
        plains.append(numbers > 0)
        for at in np.flatnonzero(numbers == 0).tolist():
            if zeros.add(rows + at, cells[at]):
                doubtful.add(rows + at)
                continue
            try:
                number = number_of(cells[at], home)
            except ValueError:
                others[rows + at] = cells[at].strip()
                continue
            if number.startswith("+"):
                numbers[at] = int(number)
            else:
                others[rows + at] = number
        parts.append(numbers)
        rows += len(cells)
    numbers = np.concatenate((np.empty(0, np.uint64), *parts))
    doubtful.update(zeros.rows().tolist())
    numbers[[*doubtful]] = 0
    others.update(dict.fromkeys(doubtful, ""))
    return NumberColumn(numbers, np.concatenate((np.empty(0, np.bool_), *plains)), others, len(doubtful))


def plain_numbers(cells: Sequence[str]) -> Numbers:
    """Return the number in each cell that consists of a plus sign and 7 to 15 digits, and 0 for other cells."""
    text = "\n".join(cells)
    if text.count("\n") >= len(cells) > 0:  # a cell has a line break
        text = "\n".join(cell.replace("\n", "?") for cell in cells)
    codes = np.frombuffer(f"{text}\n".encode("ascii", "replace"), np.uint8)
    ends = np.flatnonzero(codes == _LINE_END)[: len(cells)]
    starts = np.concatenate(([0], ends[:-1] + 1))[: len(cells)]
    lengths = ends - starts
    numbers = np.zeros(len(cells), np.uint64)
    for length in range(_SHORTEST, _LONGEST + 1):
        rows = np.flatnonzero(lengths == length)
        if not len(rows):
            continue
        digits = codes[starts[rows, None] + np.arange(length)] - np.uint8(_ZERO)  # smaller ones wrap
        is_plain = (
            (digits[:, 0] == np.uint8(256 + _PLUS - _ZERO))
            & (digits[:, 1] > 0)
            & (digits[:, 1:].max(axis=1) < _BASE)
        )
        value = np.zeros(len(rows), np.uint64)
        for digit in digits[:, 1:].T:
            value = value * np.uint64(_BASE) + digit
        numbers[rows] = np.where(is_plain, value, 0)
    return numbers
