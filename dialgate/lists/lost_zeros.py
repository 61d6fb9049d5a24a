"""Cells whose telephone number may have lost a zero or a plus, because Excel stores digits as a number.

Where a leading zero belongs to the number (`lost_digits`), a cell is doubtful in two cases:

- The spreadsheet stores it as a number, and it is not a complete international number.
- The column lost its zeros, and the cell would be another number with one. A column lost its zeros if no cell of digits
  begins with 0, and one is a number only with a zero or is an unusually short mobile number.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dialgate.core import lost_digits
from dialgate.lists.spreadsheet import NumericCell

Rows: TypeAlias = Iterable[tuple[int, list[str]]]

_PROBLEM: Final = (
    "may have lost a zero or a plus in Excel; format the column as text and enter the number again"
)


class DoubtfulCell(str):
    """The digits of a cell that may have lost a zero or a plus."""

    __slots__ = ()


class LostDigits(ValueError):
    """Raised for a doubtful cell. The message contains no digits."""

    def __init__(self) -> None:
        super().__init__(_PROBLEM)


def summary(cells: int) -> str:
    """Return the sentence for a report in which doubtful cells were skipped, or "" if there are none."""
    if not cells:
        return ""
    return f"Excel dropped the zero or the plus in {cells:,} cells: format the column as text, then enter these numbers again."


class LostZeros:
    """Finds the doubtful cells of a column, whose cells are added in order. `has_zeros` tells that it did not lose its zeros."""

    def __init__(self, home: str) -> None:
        self._home, self.has_zeros = home, not lost_digits.has_zero_numbers(home)
        self._lost, self._suspects = False, array("Q")

    def add(self, row: int, cell: str) -> bool:
        """Add a cell. Return whether it is doubtful in any column."""
        if isinstance(cell, NumericCell):
            return is_doubtful_number(cell, self._home)
        if not self.has_zeros and (digits := _text_digits(cell)):
            self.has_zeros = digits.startswith("0")
            if not self.has_zeros and lost_digits.with_zero(digits, self._home):
                self._suspects.append(row)
                self._lost = self._lost or lost_digits.surely_lost_zero(digits, self._home)
        return False

    def rows(self) -> NDArray[np.int64]:
        """Return the rows whose cells are doubtful because the column lost its zeros, in order."""
        is_lost = self._lost and not self.has_zeros
        return np.array(self._suspects if is_lost else [], np.int64)


def mark(open_rows: Callable[[], Rows], column: int, home: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows, with a `DoubtfulCell` in each doubtful cell of the column.

    `open_rows` begins the rows again, because the whole column decides.
    """
    zeros = LostZeros(home)
    for row, (_, cells) in enumerate(open_rows()):
        if column < len(cells):
            zeros.add(row, cells[column])
        if zeros.has_zeros:
            break
    suspects = frozenset(zeros.rows().tolist())
    for row, (line, cells) in enumerate(open_rows()):
        if row in suspects or (column < len(cells) and is_doubtful_number(cells[column], home)):
            cells[column] = DoubtfulCell(cells[column].strip())
        yield line, cells


def is_doubtful_number(cell: str, home: str) -> bool:
    """Return whether a spreadsheet stores a cell as a number that may be another one with a zero or a plus."""
    return (
        isinstance(cell, NumericCell)
        and lost_digits.has_zero_numbers(home)
        and not lost_digits.is_international(cell, home)
    )


def _text_digits(cell: str) -> str:
    """Return the text of a cell that has only digits, and "" for any other cell."""
    text = "" if isinstance(cell, NumericCell) else cell.strip()
    return text if text.isascii() and text.isdigit() else ""
