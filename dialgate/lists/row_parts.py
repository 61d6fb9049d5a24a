"""Rows in parts: as lines of text that need no parsing, or as cells."""

from collections.abc import Generator, Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import zip_longest
from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.lists.number_set import Numbers
from dialgate.runtime import csv_text

_CHARACTERS: Final = 1 << 22  # of a part
_LONGEST_PLAIN: Final = 1_000  # characters of a line, so neither its cells nor their number can be too many
_SEPARATORS: Final = ",;\t|"
_WIDE_SIGNS: Final = "\uff1d\uff20\uff0b\uff0d"  # may begin a formula, as those in ASCII: see `csv_text`
_SHORTEST, _LONGEST = 8, 16  # characters of a plain number
_BASE = 10
_LINE_END, _PLUS, _ZERO, _NOT_ASCII = b"\n+0?"
_SIGN: Final = np.isin(np.arange(256), list(b"=@-"))
_FILLED: Final = np.array([code == _PLUS or chr(code).isalnum() for code in range(256)])

Positions: TypeAlias = NDArray[np.int64]


class PlainLines:
    """Rows of a text file without quotation marks. Each ends with a line feed."""

    def __init__(self, text: str, separator: str) -> None:
        self._text, self._separator = text, separator
        self._codes, self._starts, self._ends = _lines_of(text)
        self._separators = np.flatnonzero(self._codes == ord(separator))
        firsts = np.searchsorted(self._separators, np.append(self._starts, len(text)))
        self._firsts, self._counts = firsts[:-1], np.diff(firsts)  # of the separators in each row

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def longest(self) -> int:
        return int((self._ends - self._starts).max())

    def after(self, rows: int) -> "PlainLines":
        """Return the rows after the first `rows`."""
        start = self._ends[rows - 1] + 1 if rows and len(self) else 0
        return PlainLines(self._text[start:], self._separator) if start else self

    def filled(self) -> "PlainLines":
        """Return the rows that are not empty."""
        firsts = self._codes[self._starts]
        may_be_empty = np.flatnonzero(~_FILLED[firsts] | (firsts == ord(self._separator))).tolist()
        empty = {at for at in may_be_empty if not self._line(at).replace(self._separator, "").strip()}
        if not empty:
            return self
        lines = (f"{line}\n" for at, line in enumerate(self._lines()) if at not in empty)
        return PlainLines("".join(lines), self._separator)

    def cell(self, row: int, at: int) -> str:
        """Return a cell, or "" if the row is shorter."""
        return (self._line(row).split(self._separator, at + 1) + [""] * (at + 1))[at]

    def columns(self) -> list[list[str]]:
        """Return all columns, with "" where a row is shorter."""
        if len(set(self._counts.tolist())) != 1:
            rows = [line.split(self._separator) for line in self._lines()]
            return ParsedRows(rows, self._separator).columns()
        width = int(self._counts[0]) + 1
        cells = self._text.replace("\n", self._separator).split(self._separator)
        return [cells[at:-1:width] for at in range(width)]

    def numbers(self, at: int) -> Numbers:
        """Return the plain number in each cell of a column: see `plain_numbers`."""
        separators = np.append(self._separators, 0)
        starts, ends = self._starts, self._ends
        if at:
            before = separators[np.minimum(self._firsts + at - 1, len(self._separators))]
            starts = np.where(self._counts >= at, before + 1, ends)
        after = separators[np.minimum(self._firsts + at, len(self._separators))]
        return plain_numbers(self._codes, starts, np.where(self._counts > at, after, ends))

    def csv(self, ends: Sequence[str], width: int, plain: NDArray[np.bool_]) -> str:
        """Return each row as `csv_text.line` writes it, padded to `width` cells, and what ends it.

        `plain` is true for each row with a plain number.
        """
        lines = self._lines()
        for row in np.flatnonzero((self._counts < width - 1) | self._must_change(plain)).tolist():
            lines[row] = _line(lines[row].split(self._separator), self._separator, width)
        both = [""] * (2 * len(lines))
        both[::2], both[1::2] = lines, ends
        return "".join(both)

    def _must_change(self, plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which rows have a cell that may be a formula, or that needs quotation marks."""
        rows = np.concatenate((np.arange(len(self)), np.repeat(np.arange(len(self)), self._counts)))
        firsts = self._codes[np.concatenate((self._starts, self._separators + 1))]
        signs = np.bincount(rows[firsts == _PLUS], minlength=len(self))
        must_change: NDArray[np.bool_] = signs != plain
        must_change[rows[_SIGN[firsts]]] = True
        if any(map(self._text.__contains__, _WIDE_SIGNS)):
            must_change[rows[firsts == _NOT_ASCII]] = True
        for separator in _SEPARATORS:
            if separator != self._separator and separator in self._text:
                at = np.flatnonzero(self._codes == ord(separator))
                must_change[np.searchsorted(self._ends, at)] = True
        return must_change

    def _lines(self) -> list[str]:
        return self._text.split("\n")[:-1]

    def _line(self, row: int) -> str:
        return self._text[self._starts[row] : self._ends[row]]


class ParsedRows(Struct, frozen=True):
    """Rows of any file."""

    rows: list[list[str]]
    separator: str

    def __len__(self) -> int:
        return len(self.rows)

    def cell(self, row: int, at: int) -> str:
        """Return a cell, or "" if the row is shorter."""
        cells = self.rows[row]
        return cells[at] if at < len(cells) else ""

    def columns(self) -> list[list[str]]:
        return [list(cells) for cells in zip_longest(*self.rows, fillvalue="")]

    def numbers(self, at: int) -> Numbers:
        """Return the plain number in each cell of a column: see `plain_numbers`."""
        cells = (self.cell(row, at).replace("\n", "?") for row in range(len(self)))
        return plain_numbers(*_lines_of("".join(f"{cell}\n" for cell in cells)))

    def csv(self, ends: Sequence[str], width: int, plain: NDArray[np.bool_]) -> str:  # noqa: ARG002 - as `PlainLines`
        """Return each row as `csv_text.line` writes it, padded to `width` cells, and what ends it."""
        lines = (_line(row, self.separator, width) for row in self.rows)
        return "".join(f"{line}{end}" for line, end in zip(lines, ends, strict=True))


def _line(row: list[str], separator: str, width: int) -> str:
    return csv_text.line((*row, *("",) * (width - len(row))), separator, keep_numbers=True)


def _lines_of(text: str) -> tuple[NDArray[np.uint8], Positions, Positions]:
    """Return a byte for each character of a text, and where each of its lines starts and ends."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    ends = np.flatnonzero(codes == _LINE_END)
    return codes, np.append(0, ends + 1)[:-1], ends


def plain_numbers(codes: NDArray[np.uint8], starts: Positions, ends: Positions) -> Numbers:
    """Return the number in each cell that consists of a plus sign and 7 to 15 digits, and 0 for other cells."""
    numbers, lengths = np.zeros(len(starts), np.uint64), ends - starts
    for length in range(_SHORTEST, _LONGEST + 1):
        rows = np.flatnonzero(lengths == length)
        if not len(rows):
            continue
        at = starts[rows]
        is_plain = (codes[at] == _PLUS) & (codes[at + 1] != _ZERO)
        value = np.zeros(len(rows), np.uint64)
        for _ in range(1, length):
            at += 1
            digits = codes[at] - np.uint8(_ZERO)  # smaller ones wrap
            is_plain &= digits < _BASE
            value *= np.uint64(_BASE)
            value += digits
        numbers[rows] = np.where(is_plain, value, 0)
    return numbers


def plain_lines(text: TextIOWrapper, separator: str) -> Generator[PlainLines | None, None, None]:
    """Yield the lines that are not empty, in parts. None is the last item if only `csv` can split the rest into cells."""
    rest, mark = "", "\ufeff"
    try:
        while block := text.read(_CHARACTERS):
            body, _, rest = (rest + block.removeprefix(mark)).rpartition("\n")
            mark = ""
            yield (lines := _plain(body, separator))
            if lines is None:
                return
            if len(rest) > _LONGEST_PLAIN:
                yield None
                return
        yield _plain(rest, separator)
    finally:
        with suppress(ValueError):  # the caller closes the file, and may have done so already
            text.detach()


def _plain(body: str, separator: str) -> PlainLines | None:
    text = f"{body}\n"
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if '"' in text or "\r" in text or not separator.isascii():
        return None
    lines = PlainLines(text, separator)
    return None if lines.longest > _LONGEST_PLAIN else lines.filled()
