"""A reader for the rows of text, CSV and XLSX files.

The layout is detected from the beginning of the file and reported, so that a person can confirm it. The file
is then read row by row, in limited memory. Formulas are never evaluated. Messages give line numbers but never
quote a cell, which may contain a telephone number.
"""

import codecs
import csv
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from io import SEEK_END, BytesIO, TextIOWrapper
from itertools import chain, islice
from typing import IO, Final, Literal, TypeAlias

from msgspec import Struct, structs

from dialgate.core import lost_digits, phone
from dialgate.lists import lost_zeros, spreadsheet
from dialgate.lists.row_parts import ParsedRows, PlainLines, plain_lines

NUMBER_NAMES: Final = frozenset(
    {"number", "numero", "numero_telefono", "numero_di_telefono", "phone", "phone_number", "telefono", "telephone",
     "tel", "msisdn", "cellulare", "mobile"}
)  # fmt: skip
SEPARATORS: Final = ",;\t|"
_SAMPLE_BYTES: Final = 1 << 16
_SAMPLE_ROWS: Final = 50
_MOST_BYTES: Final = 2 << 30
_LONGEST_LINE: Final = 1 << 21
_MOST_HELD: Final = 1 << 23
_PART_ROWS: Final = 32_768
_CELL_OVERHEAD: Final = 16  # memory for an empty cell, in characters
_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Encodings that a person may choose. Others that Python knows, such as UTF-7, are not used by spreadsheets or CRMs.
ENCODINGS: Final = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1252", "iso-8859-1", "iso-8859-15",
)  # fmt: skip
_CODECS: Final = frozenset(codecs.lookup(name).name for name in ENCODINGS)
_FOREIGN: Final = (
    (b"\xd0\xcf\x11\xe0", "an old or protected Excel file"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "packed with gzip"),
    (b"Rar!", "packed with RAR"),
    (b"7z\xbc\xaf", "packed with 7-Zip"),
)
_DIGIT: Final = re.compile(r"\d")
_FEWEST_DIGITS: Final = 5  # of a telephone number, even if it lost its leading zeros


Rows: TypeAlias = Generator[tuple[int, list[str]], None, None]
Unreadable = spreadsheet.Unreadable  # the same error for text files and spreadsheets


class Hints(Struct, frozen=True, kw_only=True):
    """A person's corrections to the detected layout.

    `column` is the name or the position (from 1) of the number column. It is needed if several columns may be it.
    """

    encoding: str = ""
    separator: str = ""
    column: str = ""


NO_HINTS: Final = Hints()


class Layout(Struct, frozen=True, kw_only=True):
    """A file's layout. `header` is empty if there is none. `number` is the position of the number column, from 1."""

    format: Literal["text", "xlsx"]
    encoding: str
    separator: str
    sheet: str
    header: tuple[str, ...]
    number: int


class Candidate(Struct, frozen=True):
    """A column that may hold the number, by its position, from 1. `name` is its title, if that says so."""

    place: int
    name: str

    def __str__(self) -> str:
        return f"{self.place} (`{self.name}`)" if self.name else str(self.place)


class SeveralColumns(Unreadable):
    """Raised if more than one column may hold the number: whom a list permits to call must not be a guess."""

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        places = ", ".join(map(str, candidates))
        super().__init__(
            f"More than one column may hold the number: {places}. Set `column` (option --column), for example to {candidates[0].place}."
        )
        self.candidates = candidates


class Table(Struct, frozen=True):
    """A file's layout and its non-empty rows.

    A row is a line number (from 1, including the header) with its cells. `rows` can be iterated only once,
    and raises `Unreadable` where the file is damaged. `parts` reads the rows from the beginning each time, without
    line numbers and without marks on doubtful cells.
    """

    layout: Layout
    rows: Iterator[tuple[int, list[str]]]
    parts: Callable[[], Iterator[PlainLines | ParsedRows]]

    def column(self, names: frozenset[str]) -> int:
        """Return the index of the first column with one of these names, or -1."""
        return position_of(self.layout.header, names)


def _chunks(rows: Iterable[tuple[int, list[str]]], most: int) -> Iterator[list[tuple[int, list[str]]]]:
    chunk: list[tuple[int, list[str]]] = []
    length = 0
    for row in rows:
        chunk.append(row)
        length += len(row[1]) * _CELL_OVERHEAD + sum(map(len, row[1]))
        if len(chunk) >= most or length >= _MOST_HELD:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def from_lines(lines: Iterable[str]) -> IO[bytes]:
    """Return a client's list of lines as a file with one row per line. Raises `Unreadable`."""
    rows = [line.rstrip("\r\n") for line in lines]
    for count, row in enumerate(rows, 1):
        if "\n" in row or "\r" in row:
            raise Unreadable(f"Item {count} contains a line break; send each row as a separate item.")
    return BytesIO("\n".join(rows).encode("utf-8", "replace"))


def read(file: IO[bytes], home: str, hints: Hints = NO_HINTS, *, lenient: bool = False) -> Table:
    """Return the table in a seekable file. Raises `Unreadable`.

    `home` is the country for numbers without a country code. If `lenient`, a text line that is not CSV is a row by itself.
    """
    if file.seek(0, SEEK_END) > _MOST_BYTES:
        raise Unreadable(f"The file has more than {_MOST_BYTES >> 30} GiB; split it.")
    file.seek(0)
    head = file.read(_SAMPLE_BYTES)
    for mark, what in _FOREIGN:
        if head.startswith(mark):
            raise Unreadable(f"The file is {what}; save it as XLSX or CSV.")
    if head.startswith(b"PK\x03\x04"):
        sheet = spreadsheet.open_sheet(file)
        layout = Layout(format="xlsx", encoding="", separator="", sheet=sheet.name, header=(), number=0)
        return _detect_layout(
            lambda: (layout, spreadsheet.rows(sheet)), lambda _: (None for _ in range(1)), home, hints
        )
    encoding = _chosen(hints.encoding) or _encoding(head)

    def plain(separator: str) -> Generator[PlainLines | None, None, None]:
        file.seek(0)
        return plain_lines(_decoding(file, encoding), separator)

    return _detect_layout(
        lambda: _open_text(file, encoding, hints.separator, lenient=lenient), plain, home, hints
    )


def _open_text(file: IO[bytes], encoding: str, separator: str, *, lenient: bool) -> tuple[Layout, Rows]:
    file.seek(0)
    lines = _lines(_decoding(file, encoding))
    first = next(lines, "")
    separator = separator or max(SEPARATORS, key=first.count)
    layout = Layout(format="text", encoding=encoding, separator=separator, sheet="", header=(), number=0)
    read_cells = _lenient_cells if lenient else _cells
    return layout, read_cells(chain([first], lines), separator)


def _detect_layout(
    begin: Callable[[], tuple[Layout, Rows]],
    plain: Callable[[str], Generator[PlainLines | None, None, None]],
    home: str,
    hints: Hints,
) -> Table:
    """Return the table.

    `begin` opens the file at its first row, and again if all cells of a column must be compared. `plain` returns its
    `plain_lines`.
    """
    layout, rows = begin()
    filled = _filled(rows)
    sample = list(islice(filled, _SAMPLE_ROWS))
    names = tuple(map(str.strip, sample[0][1])) if sample else ()
    if any(len(_DIGIT.findall(name)) >= _FEWEST_DIGITS for name in names):
        names = ()  # the row contains a number, so its `mobile` is a label
    number = _number_column(names, [cells for _, cells in sample], home, hints)
    is_header = bool(names) and (
        position_of(names, NUMBER_NAMES) >= 0
        or _is_title(sample, number, home)
        or (bool(hints.column) and hints.column in names)
    )
    layout = structs.replace(layout, header=names if is_header else (), number=number + 1)

    def parts() -> Iterator[PlainLines | ParsedRows]:
        rows.close()
        return _parts(plain(layout.separator), lambda: _filled(begin()[1]), layout)

    if lost_digits.has_zero_numbers(home):
        rows.close()
        body = lost_zeros.mark(lambda: islice(_filled(begin()[1]), int(is_header), None), number, home)
        return Table(layout, body, parts)
    return Table(layout, chain(sample[is_header:], filled), parts)


def _parts(
    plain: Generator[PlainLines | None, None, None], begin: Callable[[], Rows], layout: Layout
) -> Iterator[PlainLines | ParsedRows]:
    """Yield the rows after the header: the plain lines, then the other rows, for which `begin` reads all again."""
    done, header = 0, int(bool(layout.header))
    with closing(plain):
        for part in plain:
            if part is None:
                break
            yield part if done else part.after(header)
            done += len(part)
        else:
            return
    for chunk in _chunks(islice(begin(), max(done, header), None), _PART_ROWS):
        yield ParsedRows([cells for _, cells in chunk], layout.separator or ",")


def _filled(rows: Rows) -> Rows:
    """Yield the rows that are not empty."""
    with closing(rows):
        yield from (row for row in rows if any(map(str.strip, row[1])))


def _number_column(names: tuple[str, ...], sample: list[list[str]], home: str, hints: Hints) -> int:
    if hints.column:
        if hints.column in names:
            return names.index(hints.column)
        if hints.column.isdecimal() and 1 <= int(hints.column) <= max(map(len, sample), default=0):
            return int(hints.column) - 1
        raise Unreadable(
            "The file has no such column; send a name from its header, or a position, counting from 1."
        )
    width = max(map(len, sample), default=0)
    named = [at for at, name in enumerate(names) if column_name(name) in NUMBER_NAMES]
    if named:
        found = [at for at in named if not _has_only_words(sample[1:], at)] or named[:1]
    else:
        counts = [sum(_is_number(cell(cells, at), home) for cells in sample) for at in range(width)]
        found = [at for at, count in enumerate(counts) if count] or [0]
    if len(found) > 1:
        raise SeveralColumns(tuple(Candidate(at + 1, names[at] if at in named else "") for at in found))
    return found[0]


def _has_only_words(sample: list[list[str]], at: int) -> bool:
    """Return whether a column has no number, but for example yes and no in a column `mobile`."""
    texts = [text for cells in sample if (text := cell(cells, at).strip())]
    return bool(texts) and not any(map(_DIGIT.search, texts))


def position_of(header: Iterable[str], names: frozenset[str]) -> int:
    """Return the index of the first cell that is one of these names, or -1."""
    return next((at for at, name in enumerate(header) if column_name(name) in names), -1)


def column_name(title: str) -> str:
    """Return the name of a column from its cell in the header: in lower case, with `_` for spaces, dots and dashes."""
    return re.sub(r"[\s.-]+", "_", title.strip().lower())


def _is_title(sample: list[tuple[int, list[str]]], number: int, home: str) -> bool:
    """Return whether the first row is a header.

    The first row is a header if its number column contains no digit and a later row has a number in this column.
    """
    title = cell(sample[0][1], number)
    return not _DIGIT.search(title) and any(_is_number(cell(cells, number), home) for _, cells in sample[1:])


def _is_number(text: str, home: str) -> bool:
    try:
        phone.parse(text.strip(), home)
    except phone.NotANumber:
        return False
    return True


def cell(cells: Sequence[str], at: int) -> str:
    """Return the cell in a column, or "" if the row is shorter or `at` is -1."""
    return cells[at] if 0 <= at < len(cells) else ""


# ---- text ------------------------------------------------------------------------------------------------------------


def _encoding(head: bytes) -> str:
    """Detect the encoding from the byte order mark, or UTF-16 from zero bytes.

    Otherwise return UTF-8 if the bytes are valid, and windows-1252 if not.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    zeros = head.count(0)
    if zeros:
        for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if head[first::2].count(0) == zeros and zeros * 4 > len(head):
                return name
        raise Unreadable("The file is not text; save it as XLSX or CSV.")
    try:
        (head[: head.rfind(b"\n") + 1] or head).decode("utf-8")
    except UnicodeDecodeError:
        return "windows-1252"
    return "utf-8"


def _chosen(encoding: str) -> str:
    """Return the encoding that a person chose, or "". Raises `Unreadable` unless it is one of `ENCODINGS`."""
    with suppress(LookupError):
        if not encoding or codecs.lookup(encoding).name in _CODECS:
            return encoding
    raise Unreadable(f"Unknown encoding; use one of {', '.join(ENCODINGS)}.")


def _decoding(file: IO[bytes], encoding: str) -> TextIOWrapper:
    """Return the file as text.

    Invalid bytes are replaced, because they occur in names and only the number matters.
    """
    return TextIOWrapper(file, encoding, errors="replace", newline="")


def _lines(text: TextIOWrapper) -> Iterator[str]:
    count = 0
    try:
        while line := text.readline(_LONGEST_LINE):
            count += 1
            if len(line) >= _LONGEST_LINE:
                raise Unreadable(
                    f"Line {count} has more than {_LONGEST_LINE:,} characters; put each row on its own line."
                )
            yield line.removeprefix("\ufeff") if count == 1 else line
    finally:
        with suppress(ValueError):  # the caller closes the file, and may have done so already
            text.detach()


def _cells(lines: Iterator[str], separator: str) -> Rows:
    _check_separator(separator)
    # Strict: otherwise an unclosed quotation mark would join all rows after it.
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, spreadsheet.bounded(cells, reader.line_num)
    except csv.Error as error:
        raise Unreadable(
            f"Line {reader.line_num} is not CSV ({error}); check for an unclosed quotation mark."
        ) from error


def _lenient_cells(lines: Iterator[str], separator: str) -> Rows:
    """Yield the rows of a file that may be damaged. A line that is not CSV is split at its separators."""
    _check_separator(separator)
    waiting, taken, line = deque[str](), list[str](), 0

    def take() -> Iterator[str]:
        while (text := waiting.popleft() if waiting else next(lines, None)) is not None:
            taken.append(text)
            yield text

    while True:
        taken.clear()
        try:
            cells = next(csv.reader(take(), delimiter=separator, strict=True))
        except StopIteration:
            return
        except csv.Error:
            waiting.extendleft(reversed(taken[1:]))
            del taken[1:]
            cells = taken[0].rstrip("\r\n").replace('"', "").split(separator)
        line += len(taken)
        yield line, spreadsheet.cut(cells)


def _check_separator(separator: str) -> None:
    if len(separator) != 1:
        raise Unreadable("The separator must be one character, for example `;`.")
