"""Cells whose telephone number may have lost a zero or a plus, because Excel stores digits as a number.

Where a leading zero belongs to the number (`lost_digits`), a cell is doubtful in two cases:

- The spreadsheet stores it as a number, and it is not a complete international number.
- The column lost its zeros, and the cell would be another number with one. A column lost its zeros if no cell of digits
  begins with 0, and one is a number only with a zero or is an unusually short mobile number.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

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


def mark(open_rows: Callable[[], Rows], column: int, home: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows, with a `DoubtfulCell` in each doubtful cell of the column.

    `open_rows` begins the rows again, because the whole column decides.
    """
    lost = _has_lost_zeros((cells[column] for _, cells in open_rows() if column < len(cells)), home)
    for line, cells in open_rows():
        if column < len(cells) and _is_doubtful(cells[column], home, lost=lost):
            cells[column] = DoubtfulCell(cells[column].strip())
        yield line, cells


def _has_lost_zeros(cells: Iterable[str], home: str) -> bool:
    lost = False
    for cell in cells:
        digits = _text_digits(cell)
        if digits.startswith("0"):
            return False
        lost = lost or (bool(digits) and lost_digits.surely_lost_zero(digits, home))
    return lost


def _is_doubtful(cell: str, home: str, *, lost: bool) -> bool:
    if isinstance(cell, NumericCell):
        return not lost_digits.is_international(cell, home)
    return lost and bool(digits := _text_digits(cell)) and bool(lost_digits.with_zero(digits, home))


def _text_digits(cell: str) -> str:
    """Return the text of a cell that has only digits, and "" for any other cell."""
    text = "" if isinstance(cell, NumericCell) else cell.strip()
    return text if text.isascii() and text.isdigit() else ""
