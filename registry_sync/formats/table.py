"""Text files with a configured layout: full lists, queries to registries and their answers.

A file is accepted as a whole or not at all. Errors name the file, the line, and the reason, but never a
telephone number.
"""

import csv
import re
from collections.abc import Iterator
from datetime import date, datetime
from functools import cached_property
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from dialgate.core.numbering_plan import NumberingPlan, is_valid, numbering_plan
from dialgate.lists.number_set import distinct
from registry_sync.formats import text
from registry_sync.formats.layout import Column, FileLayout
from registry_sync.formats.number_files import CLEAR, LISTED, WITHOUT_DATA, FullFile, NumberFile
from registry_sync.formats.text import Days, FaultyFile, Mask, Numbers

_SEPARATOR_OF: Final = {",": ",", ";": ";", "|": "|", "tab": "\t"}
_PUNCTUATION: Final = str.maketrans("", "", " -./()")
_DIGITS: Final = re.compile(r"\d+", re.ASCII)
_CODECS: Final = {"ascii": "ascii", "utf-8": "utf-8-sig", "latin-1": "latin-1"}
# A file for another country, or a wrong column, contains few valid numbers. A registry may list some numbers that are not in use.
_SAMPLE: Final = 100
_LEAST_VALID: Final = 0.5


class _Fault(Exception):
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


class TableFormat:
    """A reader and writer for files with a given layout."""

    def __init__(self, layout: FileLayout) -> None:
        self._layout = layout
        plan = numbering_plan(layout.country)
        assert plan is not None, "`layout.find_problems` checks the country"
        self._plan: NumberingPlan = plan

    # ---- full lists --------------------------------------------------------------------------------------------------

    def read_list(self, path: Path, version: date, progress: text.Progress = text.no_progress) -> FullFile:
        """Read a full list with the version date `version`. Raises FaultyFile and OSError."""
        file = self._read(path, progress, self._layout, version)
        listed = file.statuses == LISTED
        numbers = file.numbers[listed]
        if file.days is None:
            return FullFile(file.sha256, len(file.numbers), distinct(numbers))
        order = np.lexsort((file.days[listed], numbers))
        numbers, days = numbers[order], file.days[listed][order]
        is_last = np.append(numbers[1:] != numbers[:-1], np.True_)[: len(numbers)]
        return FullFile(file.sha256, len(file.numbers), numbers[is_last], days[is_last])

    # ---- queries and answers -----------------------------------------------------------------------------------------

    def is_queryable(self, numbers: Numbers) -> Mask:
        """Return, for each E.164 number, whether the registry covers it.

        A covered number has the country code of the layout's country, a length that is valid in that country, and no
        excluded beginning.
        """
        mask = np.zeros(len(numbers), np.bool_)
        for length in self._plan.lengths:
            mask |= numbers // np.uint64(10**length) == int(self._plan.country_code)
        for beginning in self._layout.excluded:
            prefix = self._plan.country_code + beginning
            for length in range(len(beginning), max(self._plan.lengths) + 1):
                mask &= numbers // np.uint64(10 ** (length - len(beginning))) != int(prefix)
        return mask

    def request_text(self, numbers: Numbers, since: date | None = None, /) -> bytes:
        """Return the text of a query about E.164 numbers.

        If `since` is given, the query asks which numbers were disconnected on or after that day.
        """
        names, layout = self._layout.request, self._layout
        day = since.strftime(layout.date_format) if since else ""
        rows = [self._format_number(number) for number in numbers.tolist()]
        if names:
            rows = [
                _SEPARATOR_OF[self._layout.separator].join(
                    number if name == layout.number else day if name == layout.date else str(at)
                    for name in names
                )
                for at, number in enumerate(rows, 1)
            ]
            rows.insert(0, _SEPARATOR_OF[self._layout.separator].join(names))
        return "".join(f"{row}\r\n" for row in rows).encode(self._layout.encoding)

    def read_request(self, path: Path, progress: text.Progress = text.no_progress) -> NumberFile:
        """Read a query file. Raises FaultyFile and OSError.

        A query has no statuses, so every status in the result is 0.
        """
        file = self._read(path, progress, self._request_layout)
        return file._replace(statuses=np.zeros_like(file.statuses))

    def read_answer(self, path: Path, progress: text.Progress = text.no_progress) -> NumberFile:
        """Read an answer file. Raises FaultyFile and OSError."""
        file = self._read(path, progress, self._layout)
        if self._layout.status is not None:
            return file
        return file._replace(statuses=np.zeros_like(file.statuses), only_clear=True)

    @cached_property
    def _request_layout(self) -> FileLayout:
        layout = self._layout
        separator = layout.separator if layout.request else "none"
        number: Column = layout.number if layout.request else 1
        return FileLayout(
            country=layout.country,
            numbers=layout.numbers,
            encoding=layout.encoding,
            separator=separator,
            header=bool(layout.request),
            number=number,
        )

    def _format_number(self, number: int) -> str:
        digits = str(number)
        if self._layout.numbers == "international":
            return digits
        return self._plan.written + digits[len(self._plan.country_code) :]

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read(
        self, path: Path, progress: text.Progress, layout: FileLayout, version: date | None = None
    ) -> NumberFile:
        total, parts = sha256(), _Parts()
        reader = _Reader(layout, self._plan, version)
        for chunk in text.read_chunks(path, total.update, progress):
            try:
                parts.add(reader.read(chunk))
            except _Fault as fault:
                raise FaultyFile(f"{path.name}, line {reader.line:,}: {fault}") from None
        numbers, statuses, days = parts.concatenate()
        if not len(numbers):
            raise FaultyFile(f"{path.name}: the file is empty")
        sample = numbers[:_SAMPLE].tolist()
        if sum(map(is_valid, sample)) < _LEAST_VALID * len(sample):
            raise FaultyFile(
                f"{path.name}: most of its first {len(sample)} numbers are not valid. Check `country`, `number` and"
                " `numbers` in the layout"
            )
        first_line = 2 if layout.header else 1
        known_days = None if layout.date is None else days
        return NumberFile(path.name, total.hexdigest(), numbers, statuses, first_line, days=known_days)


class _Parts:
    def __init__(self) -> None:
        self._numbers: list[Numbers] = []
        self._statuses: list[text.Bytes] = []
        self._days: list[Days] = []

    def add(self, rows: list[_Row]) -> None:
        self._numbers.append(np.fromiter((row.number for row in rows), np.uint64, len(rows)))
        self._statuses.append(np.fromiter((row.status for row in rows), np.uint8, len(rows)))
        self._days.append(np.fromiter((row.day for row in rows), np.int32, len(rows)))

    def concatenate(self) -> tuple[Numbers, text.Bytes, Days]:
        return np.concatenate(self._numbers), np.concatenate(self._statuses), np.concatenate(self._days)


class _Reader:
    """A parser for a file's lines. `line` is the number of the last line that it read."""

    def __init__(self, layout: FileLayout, plan: NumberingPlan, version: date | None) -> None:
        self.line = 0
        self._layout, self._plan, self._version = layout, plan, version
        self._form = re.compile(layout.line, re.ASCII)
        self._columns: _Columns | None = None
        self._days: dict[str, int] = {}

    def read(self, chunk: bytes) -> list[_Row]:
        """Return the rows of the lines that are complete so far. Raises _Fault."""
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
        """Raise _Fault for a line that does not match `line`. Other faults have clearer messages, so they come first."""
        for number, line in enumerate(lines, first + 1):
            if not self._form.fullmatch(line) and not (number == 1 and self._layout.header):
                self.line = number
                raise _Fault(
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
        reader = csv.reader(lines, delimiter=_SEPARATOR_OF[self._layout.separator], strict=True)
        try:
            for cells in reader:
                self.line = first + reader.line_num
                yield cells
        except csv.Error as error:
            self.line = first + reader.line_num
            raise _Fault(f"the line is not CSV ({error}). Is there an unclosed quotation mark?") from None

    def _decode(self, chunk: bytes) -> str:
        codec = _CODECS[self._layout.encoding] if self.line == 0 else self._layout.encoding
        try:
            decoded = chunk.decode(codec)
        except UnicodeDecodeError as error:
            self.line += chunk.count(b"\n", 0, error.start) + 1
            raise _Fault(
                f"the line is not {self._layout.encoding} text. Check `encoding` in the layout"
            ) from None
        if self.line == 0 and decoded.startswith("ï»¿"):
            self.line += 1
            raise _Fault("the file begins with a byte order mark. Set `encoding: utf-8` in the layout")
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
                raise _Fault(f"the header has several columns named {column!r}. Use a position in the layout")
            if column in names:
                return names.index(column)
            raise _Fault(f"the header has no column {column!r}")
        if column <= len(names):
            return column - 1
        raise _Fault(f"the line has no column {column}, only {len(names)}. Check `separator` in the layout")

    def _require_names(self, cell: str) -> None:
        if _DIGITS.fullmatch(cell.translate(_PUNCTUATION).removeprefix("+")):
            raise _Fault(
                "the first line contains a number instead of the column names. Check `header` in the layout"
            )

    def _row(self, cells: list[str], columns: _Columns) -> _Row:
        if len(cells) != columns.width:
            if not any(cells):
                raise _Fault("the line is empty")
            raise _Fault(f"the line has {len(cells)} columns, not {columns.width}. Is the file truncated?")
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
                raise _Fault(f"the number does not begin with the country code {plan.country_code}")
            digits = digits[len(plan.country_code) :]
        # A trunk prefix 0 never begins a number, not even in `+49 (0)30 ...`; a prefix such as the Russian 8 may.
        has_trunk = plan.trunk == "0" or (
            self._layout.numbers == "national" and len(digits) not in plan.lengths
        )
        significant = digits.removeprefix(plan.trunk) if has_trunk else digits
        self._require_digits(significant)
        if plan.trunk == "0" and significant.startswith("0"):
            raise _Fault("the number begins with two zeros. Is it written with a country code?")
        if len(significant) not in plan.lengths:
            raise _Fault(f"no number in {self._layout.country} has {len(significant)} digits")
        return int(plan.country_code + significant)

    def _require_digits(self, digits: str) -> None:
        if not digits:
            raise _Fault("the line is empty")
        if not _DIGITS.fullmatch(digits):
            raise _Fault("the number contains something other than digits, spaces and - . / ( )")

    def _status(self, cell: str) -> int:
        layout = self._layout
        if cell in layout.clear:
            return CLEAR
        if cell in layout.unknown:
            return WITHOUT_DATA
        if layout.listed and cell not in layout.listed:
            known = ", ".join((*layout.clear, *layout.listed, *layout.unknown))
            raise _Fault(f"the status is none of {known}")
        return LISTED

    def _parse_day(self, cell: str) -> int:
        known = self._days.get(cell)
        if known is not None:  # a list has few distinct dates
            return known
        try:
            day = datetime.strptime(cell, self._layout.date_format).date()  # noqa: DTZ007 - a date only
        except ValueError:
            raise _Fault(f"the date does not have the format {self._layout.date_format}") from None
        if self._version is not None and day > self._version:
            raise _Fault(
                "the date is after the version in the file name. Is this an older file with a new name?"
            )
        return self._days.setdefault(cell, day.toordinal())
