"""A parser for the lines of a registry's text files: whole chunks as arrays if they are plain, and line by line otherwise."""

import csv
import re
from collections.abc import Iterator
from datetime import date, datetime
from io import StringIO
from typing import Final, NamedTuple

import numpy as np

from dialgate.core.numbering_plan import NumberingPlan
from registry_sync.formats import plain_cells
from registry_sync.formats.layout import Column, FileLayout
from registry_sync.formats.number_files import CLEAR, LISTED, WITHOUT_DATA
from registry_sync.formats.text import Bytes, Days, Integers, Mask, Numbers

SEPARATOR_OF: Final = {",": ",", ";": ";", "|": "|", "tab": "\t"}
_PUNCTUATION: Final = str.maketrans("", "", " -./()")
_DIGITS: Final = re.compile(r"\d+", re.ASCII)
_CODECS: Final = {"ascii": "ascii", "utf-8": "utf-8-sig", "latin-1": "latin-1"}
_UNREAD: Final = 255
_MOST_STATUSES: Final = 16
_POWERS: Final = np.uint64(10) ** np.arange(17, dtype=np.uint64)


class InvalidLine(Exception):
    """Raised for an invalid line. The message gives the reason."""


class _Columns(NamedTuple):
    """The indices of the columns in a file. `width` is the number of columns in each line."""

    number: int
    status: int | None
    date: int | None
    width: int


class _Row(NamedTuple):
    """The values in a line. `day` is the registration day as an ordinal, or 0."""

    number: int
    status: int
    day: int


class Rows(NamedTuple):
    """The values in some lines, as columns. `days` is empty if the layout has no date."""

    numbers: Numbers
    statuses: Bytes
    days: Days


def _begin_with(values: Numbers, lengths: Integers, digits: str) -> Mask:
    """Return whether each number of `lengths` digits begins with `digits`."""
    rest = lengths - len(digits)
    scale = _POWERS[np.maximum(rest, 0)]
    begin = int(digits) * scale
    mask: Mask = (rest >= 0) & (values >= begin) & (values - begin < scale)
    return mask


class LineReader:
    """A parser for a file's lines. `line` is the number of the last line that it read."""

    def __init__(self, layout: FileLayout, plan: NumberingPlan, version: date | None) -> None:
        self.line = 0
        self._layout, self._plan, self._version = layout, plan, version
        self._form = re.compile(layout.line, re.ASCII)
        self._columns: _Columns | None = None
        self._days: dict[str, int] = {}

    def read(self, chunk: bytes) -> Iterator[Rows]:
        """Yield the rows of a chunk of whole lines. Raises InvalidLine."""
        if self._columns is None:
            first, end, rest = chunk.partition(b"\n")
            if b'"' not in first:  # otherwise the first cells may have several lines
                yield self._read_singly(first + end)
                chunk = rest
        if chunk:
            rows = self._read_plain(chunk)
            yield self._read_singly(chunk) if rows is None else rows

    def _read_plain(self, chunk: bytes) -> Rows | None:
        """Return the rows if all lines have only what `plain_cells` reads and no fault, and otherwise None."""
        columns, layout = self._columns, self._layout
        if columns is None or columns.date is not None:
            return None
        cells = plain_cells.split(chunk, SEPARATOR_OF.get(layout.separator, ""), columns.width)
        values = None if cells is None else cells[columns.number].numbers()
        if cells is None or values is None or not self._have_form(chunk, len(values)):
            return None
        numbers = self._e164(values, cells[columns.number].lengths)
        statuses = (
            np.full(len(values), LISTED, np.uint8)
            if columns.status is None
            else self._statuses(cells[columns.status])
        )
        if numbers is None or statuses is None:
            return None
        self.line += len(values)
        return Rows(numbers, statuses, np.empty(0, np.int32))

    def _have_form(self, chunk: bytes, lines: int) -> bool:
        """Return whether each line matches `line`. As many matches as lines, each at the begin of one, are one for each."""
        form = self._layout.line
        if not form:
            return True
        if self._form.fullmatch(""):
            return False
        try:
            all_lines = re.compile(rf"(?:(?m:^)(?:{form})){{{lines}}}+", re.ASCII)
        except re.error:  # flags for the whole expression may only be at its begin
            return False
        return all_lines.fullmatch(chunk.decode("ascii")) is not None

    def _e164(self, values: Numbers, lengths: Integers) -> Numbers | None:
        """Return the E.164 numbers, as `_parse_number` does one by one, or None if one has a fault."""
        plan, code = self._plan, self._plan.country_code
        if self._layout.numbers == "international":
            lengths = lengths - 2 * _begin_with(values, lengths, "00")
            if not _begin_with(values, lengths, code).all():
                return None
            lengths = lengths - len(code)
            values = values - int(code) * _POWERS[lengths]
        is_possible = np.isin(np.arange(len(_POWERS)), list(plan.lengths))
        if plan.trunk:
            has_trunk = _begin_with(values, lengths, plan.trunk)
            if plan.trunk != "0":
                has_trunk &= (self._layout.numbers == "national") & ~is_possible[lengths]
            lengths = lengths - len(plan.trunk) * has_trunk
            values = values - int(plan.trunk) * _POWERS[lengths] * has_trunk
            if plan.trunk == "0" and _begin_with(values, lengths, "0").any():
                return None
        if not is_possible[lengths].all():
            return None
        numbers: Numbers = values + int(code) * _POWERS[lengths]
        return numbers

    def _statuses(self, cells: plain_cells.PlainCells) -> Bytes | None:
        """Return the statuses, or None if there are more different texts than a registry has."""
        words = cells.words()
        if words is None:
            return None
        statuses = np.full(len(words), _UNREAD, np.uint8)
        for _ in range(_MOST_STATUSES):
            unread = int(np.argmax(statuses == _UNREAD))
            if statuses[unread] != _UNREAD:
                return statuses
            same = (words == words[unread]) & (cells.lengths == cells.lengths[unread])
            try:
                statuses[same] = self._status(cells.one(unread).strip())
            except InvalidLine:
                return None
        return None

    def _read_singly(self, chunk: bytes) -> Rows:
        rows = self._read_lines(chunk)
        return Rows(
            np.fromiter((row.number for row in rows), np.uint64, len(rows)),
            np.fromiter((row.status for row in rows), np.uint8, len(rows)),
            np.fromiter((row.day for row in rows if self._layout.date is not None), np.int32),
        )

    def _read_lines(self, chunk: bytes) -> list[_Row]:
        first, rows = self.line, []
        lines = list(StringIO(self._decode(chunk), newline="\n"))
        for cells in self._cells([line.removesuffix("\n").removesuffix("\r") for line in lines]):
            if self._columns is None:
                self._columns = self._find_columns(cells)
                if self._layout.header:
                    self._require_names(cells[self._columns.number])
                    continue
            rows.append(self._row(cells, self._columns))
        if self._layout.line:
            self._check_form(lines, first)
        return rows

    def _check_form(self, lines: list[str], first: int) -> None:
        """Raise InvalidLine for a line that does not match `line`. Other faults have clearer messages, so they come first."""
        for number, line in enumerate(lines, first + 1):
            if not self._form.fullmatch(line) and not (number == 1 and self._layout.header):
                self.line = number
                raise InvalidLine(
                    "the line does not have the form that the registry publishes (`line` in the layout). Is the file truncated,"
                    " damaged, or from another source?"
                )

    def _cells(self, lines: list[str]) -> Iterator[list[str]]:
        first = self.line
        if self._layout.separator == "none":
            for line in lines:
                self.line += 1
                yield [line]
            return
        # Strict: otherwise an unclosed quotation mark would join the lines after it.
        reader = csv.reader(lines, delimiter=SEPARATOR_OF[self._layout.separator], strict=True)
        try:
            for cells in reader:
                self.line = first + reader.line_num
                yield cells
        except csv.Error as error:
            self.line = first + reader.line_num
            raise InvalidLine(
                f"the line is not CSV ({error}). Is there an unclosed quotation mark?"
            ) from None

    def _decode(self, chunk: bytes) -> str:
        codec = _CODECS[self._layout.encoding] if self.line == 0 else self._layout.encoding
        try:
            decoded = chunk.decode(codec)
        except UnicodeDecodeError as error:
            self.line += chunk.count(b"\n", 0, error.start) + 1
            raise InvalidLine(
                f"the line is not {self._layout.encoding} text. Check `encoding` in the layout"
            ) from None
        if self.line == 0 and decoded.startswith("ï»¿"):
            self.line += 1
            raise InvalidLine("the file begins with a byte order mark. Set `encoding: utf-8` in the layout")
        return decoded

    def _find_columns(self, cells: list[str]) -> _Columns:
        layout = self._layout
        names = [cell.strip() for cell in cells]
        return _Columns(
            number=self._find_column(layout.number, names),
            status=None if layout.status is None else self._find_column(layout.status, names),
            date=None
            if layout.date is None or self._version is None
            else self._find_column(layout.date, names),
            width=len(cells),
        )

    def _find_column(self, column: Column, names: list[str]) -> int:
        if isinstance(column, str):
            if names.count(column) > 1:
                raise InvalidLine(
                    f"the header has several columns named {column!r}. Use a position in the layout"
                )
            if column in names:
                return names.index(column)
            raise InvalidLine(f"the header has no column {column!r}")
        if column <= len(names):
            return column - 1
        raise InvalidLine(
            f"the line has no column {column}, only {len(names)}. Check `separator` in the layout"
        )

    def _require_names(self, cell: str) -> None:
        if _DIGITS.fullmatch(cell.translate(_PUNCTUATION).removeprefix("+")):
            raise InvalidLine(
                "the first line contains a number instead of the column names. Check `header` in the layout"
            )

    def _row(self, cells: list[str], columns: _Columns) -> _Row:
        if len(cells) != columns.width:
            if not any(cells):
                raise InvalidLine("the line is empty")
            raise InvalidLine(
                f"the line has {len(cells)} columns, not {columns.width}. Is the file truncated?"
            )
        number = self._parse_number(cells[columns.number])
        day = 0 if columns.date is None else self._parse_day(cells[columns.date].strip())
        status = LISTED if columns.status is None else self._status(cells[columns.status].strip())
        return _Row(number, status, day)

    def _parse_number(self, cell: str) -> int:
        plan, digits = self._plan, cell.translate(_PUNCTUATION)
        if self._layout.numbers == "international":
            digits = digits.removeprefix("+") if digits.startswith("+") else digits.removeprefix("00")
            if not digits.startswith(plan.country_code):
                self._require_digits(digits)
                raise InvalidLine(f"the number does not begin with the country code {plan.country_code}")
            digits = digits[len(plan.country_code) :]
        # A trunk prefix 0 never begins a number, not even in `+49 (0)30 ...`; a prefix such as the Russian 8 may.
        has_trunk = plan.trunk == "0" or (
            self._layout.numbers == "national" and len(digits) not in plan.lengths
        )
        significant = digits.removeprefix(plan.trunk) if has_trunk else digits
        self._require_digits(significant)
        if plan.trunk == "0" and significant.startswith("0"):
            raise InvalidLine("the number begins with two zeros. Is it written with a country code?")
        if len(significant) not in plan.lengths:
            raise InvalidLine(f"no number in {self._layout.country} has {len(significant)} digits")
        return int(plan.country_code + significant)

    def _require_digits(self, digits: str) -> None:
        if not digits:
            raise InvalidLine("the line is empty")
        if not _DIGITS.fullmatch(digits):
            raise InvalidLine("the number contains something other than digits, spaces and - . / ( )")

    def _status(self, cell: str) -> int:
        layout = self._layout
        if cell in layout.clear:
            return CLEAR
        if cell in layout.unknown:
            return WITHOUT_DATA
        if layout.listed and cell not in layout.listed:
            known = ", ".join((*layout.clear, *layout.listed, *layout.unknown))
            raise InvalidLine(f"the status is none of {known}")
        return LISTED

    def _parse_day(self, cell: str) -> int:
        known = self._days.get(cell)
        if known is not None:  # a list has few distinct dates
            return known
        try:
            day = datetime.strptime(cell, self._layout.date_format).date()  # noqa: DTZ007 - a date only
        except ValueError:
            raise InvalidLine(f"the date does not have the format {self._layout.date_format}") from None
        if self._version is not None and day > self._version:
            raise InvalidLine(
                "the date is after the version in the file name. Is this an older file with a new name?"
            )
        return self._days.setdefault(cell, day.toordinal())
