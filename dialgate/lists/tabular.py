"""Rows of cells from a file that somebody else made: text, CSV or XLSX, as exports and spreadsheets write them.

How the file is laid out is found from its beginning and told, so that a person can confirm it. Then it is read row by row:
what it may make us hold in memory has an end, whatever its size. A formula is text, and is never worked out. The messages
name lines and never repeat a cell, which may hold a number.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import SEEK_END, BytesIO, TextIOWrapper
from itertools import chain, islice
from typing import IO, Final, Literal

from msgspec import Struct

from dialgate.core import phone
from dialgate.lists import spreadsheet

NUMBER_NAMES: Final = frozenset(
    {"number", "numero", "numero_telefono", "numero_di_telefono", "phone", "phone_number", "telefono", "telephone",
     "tel", "msisdn", "cellulare", "mobile"}
)  # fmt: skip
SEPARATORS: Final = ",;\t|"
_SAMPLE_BYTES: Final = 1 << 16
_SAMPLE_ROWS: Final = 50
_MOST_BYTES: Final = 2 << 30
# Characters. A cell of a spreadsheet has at most 32,767; csv itself ends at 131,072.
LONGEST_CELL: Final = 32_767
_LONGEST_LINE: Final = 1 << 21
_MOST_HELD: Final = 1 << 23
_OF_A_CELL: Final = 16  # characters' worth of memory, though it be empty
_MOST_COLUMNS: Final = 1_024
_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_FOREIGN: Final = (
    (b"\xd0\xcf\x11\xe0", "an old or protected Excel file"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "packed with gzip"),
    (b"Rar!", "packed with RAR"),
    (b"7z\xbc\xaf", "packed with 7-Zip"),
)
_DIGIT: Final = re.compile(r"\d")


class Unreadable(ValueError):
    """The file as a whole cannot be read as rows. The text is a sentence that says why, and never holds a number."""


class Hints(Struct, frozen=True, kw_only=True):
    """What a person knows better than the survey. `column`: the number's, by its name or its place, from 1."""

    encoding: str = ""
    separator: str = ""
    column: str = ""


NO_HINTS: Final = Hints()


class Layout(Struct, frozen=True, kw_only=True):
    """`header`: the names of the columns, empty where the file has none; `number`: the place of the number's, from 1."""

    format: Literal["text", "xlsx"]
    encoding: str
    separator: str
    sheet: str
    header: tuple[str, ...]
    number: int


class Table(Struct, frozen=True):
    """`rows`: line (from 1, the header included) and cells of each row that is not empty; to be gone through once, and
    raises `Unreadable` where the damage shows.
    """

    layout: Layout
    rows: Iterator[tuple[int, list[str]]]

    def pieces(self, rows: int) -> Iterator[list[tuple[int, list[str]]]]:
        """Of so many rows, and fewer where they are long or wide: all of a piece are held in memory."""
        some: list[tuple[int, list[str]]] = []
        length = 0
        for row in self.rows:
            some.append(row)
            length += len(row[1]) * _OF_A_CELL + sum(map(len, row[1]))
            if len(some) >= rows or length >= _MOST_HELD:
                yield some
                some, length = [], 0
        if some:
            yield some

    def column(self, names: frozenset[str]) -> int:
        """The place, from 0, of the first column with one of these names; -1 where there is none."""
        return _named(self.layout.header, names)


def of_lines(lines: Iterable[str]) -> IO[bytes]:
    """As a file: a row each, as a client sends them in JSON. Raises `Unreadable`."""
    rows = [line.rstrip("\r\n") for line in lines]
    for count, row in enumerate(rows, 1):
        if "\n" in row or "\r" in row:
            raise Unreadable(f"Line {count} is no CSV (it has a line end in it); send each row by itself.")
    return BytesIO("\n".join(rows).encode("utf-8", "replace"))


def read(file: IO[bytes], home: str, hints: Hints = NO_HINTS) -> Table:
    """`file` can be sought in; `home`: the country in which a bare number is national. Raises `Unreadable`."""
    if file.seek(0, SEEK_END) > _MOST_BYTES:
        raise Unreadable(f"The file has more than {_MOST_BYTES >> 30} GiB; split it.")
    file.seek(0)
    head = file.read(_SAMPLE_BYTES)
    file.seek(0)
    for mark, what in _FOREIGN:
        if head.startswith(mark):
            raise Unreadable(f"The file is {what}; save it as XLSX or CSV.")
    if head.startswith(b"PK\x03\x04"):
        sheet, every = _sheet(file)
        layout = Layout(format="xlsx", encoding="", separator="", sheet=sheet, header=(), number=0)
    else:
        encoding = hints.encoding or _encoding(head)
        lines = _lines(_decoding(file, encoding))
        first = next(lines, "")
        separator = hints.separator or max(SEPARATORS, key=first.count)
        every = _cells(chain([first], lines), separator)
        layout = Layout(format="text", encoding=encoding, separator=separator, sheet="", header=(), number=0)
    return _surveyed(layout, every, home, hints)


def _surveyed(layout: Layout, every: Iterator[tuple[int, list[str]]], home: str, hints: Hints) -> Table:
    filled = ((line, cells) for line, cells in every if any(map(str.strip, cells)))
    sample = list(islice(filled, _SAMPLE_ROWS))
    names = tuple(cell.strip() for cell in sample[0][1]) if sample else ()
    number = _number_column(names, [cells for _, cells in sample], home, hints)
    is_header = bool(sample) and (
        _named(names, NUMBER_NAMES) >= 0
        or _is_title(sample, number, home)
        or (bool(hints.column) and hints.column in names)
    )
    layout = Layout(
        format=layout.format,
        encoding=layout.encoding,
        separator=layout.separator,
        sheet=layout.sheet,
        header=names if is_header else (),
        number=number + 1,
    )
    return Table(layout, chain(sample[is_header:], filled))


def _number_column(names: tuple[str, ...], sample: list[list[str]], home: str, hints: Hints) -> int:
    if hints.column:
        if hints.column in names:
            return names.index(hints.column)
        if hints.column.isdecimal() and 1 <= int(hints.column) <= max(map(len, sample), default=0):
            return int(hints.column) - 1
        raise Unreadable("There is no such column; name one of its header, or give its place from 1.")
    column = _named(names, NUMBER_NAMES)
    if column >= 0:
        return column
    width = max(map(len, sample), default=0)
    counts = [sum(_is_number(_cell(cells, at), home) for cells in sample) for at in range(width)]
    return counts.index(max(counts)) if counts else 0


def _named(header: tuple[str, ...], names: frozenset[str]) -> int:
    plain = [re.sub(r"[\s.-]+", "_", name.strip().lower()) for name in header]
    return next((at for at, name in enumerate(plain) if name in names), -1)


def _is_title(sample: list[tuple[int, list[str]]], number: int, home: str) -> bool:
    """A first row of words above numbers."""
    title = _cell(sample[0][1], number)
    return not _DIGIT.search(title) and any(_is_number(_cell(cells, number), home) for _, cells in sample[1:])


def _is_number(text: str, home: str) -> bool:
    try:
        phone.parse(text.strip(), home)
    except phone.NotANumber:
        return False
    return True


def _cell(cells: list[str], at: int) -> str:
    return cells[at] if at < len(cells) else ""


# ---- text ------------------------------------------------------------------------------------------------------------


def _encoding(head: bytes) -> str:
    """By its mark; UTF-16 without one by its zeros; UTF-8 if it is that; else what Windows writes in the west."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    zeros = head.count(0)
    if zeros:
        for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if head[first::2].count(0) == zeros and zeros * 4 > len(head):
                return name
        raise Unreadable("The file is no text; save it as XLSX or CSV.")
    try:
        (head[: head.rfind(b"\n") + 1] or head).decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _decoding(file: IO[bytes], encoding: str) -> TextIOWrapper:
    """A letter that is not of the encoding is in a name, not in a number; the row is judged by its number."""
    try:
        return TextIOWrapper(file, encoding, errors="replace", newline="")
    except LookupError:
        raise Unreadable(
            "There is no such encoding; utf-8, utf-16 and windows-1252 are the usual ones."
        ) from None


def _lines(text: TextIOWrapper) -> Iterator[str]:
    count = 0
    try:
        while line := text.readline(_LONGEST_LINE):
            count += 1
            if len(line) >= _LONGEST_LINE:
                raise Unreadable(f"Line {count} has no end; look for a file that is no list.")
            yield line.removeprefix("\ufeff") if count == 1 else line
    finally:
        with suppress(ValueError):  # the file is its owner's to close, and may be closed
            text.detach()


def _cells(lines: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    if len(separator) != 1:
        raise Unreadable("The separator must be one character, as in `;`.")
    # Strict: else a quotation mark left open would take every row after it for one.
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, _bounded(cells, reader.line_num)
    except csv.Error as error:
        raise Unreadable(
            f"Line {reader.line_num} is no CSV ({error}); look for a quotation mark left open."
        ) from error


def _bounded(cells: list[str], line: int) -> list[str]:
    if len(cells) > _MOST_COLUMNS:
        raise Unreadable(f"Line {line} has more than {_MOST_COLUMNS:,} columns; it is no row of a list.")
    if cells and max(map(len, cells)) > LONGEST_CELL:
        raise Unreadable(f"Line {line} has a cell of more than {LONGEST_CELL:,} characters.")
    return cells


# ---- spreadsheets ----------------------------------------------------------------------------------------------------


def _sheet(file: IO[bytes]) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """Return the name and the rows of the first sheet."""
    try:
        title, rows = spreadsheet.read(file)
    except spreadsheet.Refused as refused:
        raise Unreadable(str(refused)) from None
    return title, _sheet_rows(rows)


def _sheet_rows(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from rows
    except spreadsheet.Refused as refused:
        raise Unreadable(str(refused)) from None
