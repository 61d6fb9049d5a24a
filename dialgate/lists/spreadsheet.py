"""The rows of the first sheet of an XLSX file.

A small XLSX can unpack to any size, and 60 MB of styles took 5.3 GB of memory to read. So the size of each part is checked
before it is unpacked, and parts with a DOCTYPE are rejected. A gate reads files in a process with limits on memory and
processor time (`dialgate.ledger.file_jobs`).
"""

import warnings
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import IO, Any, Final
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

from dialgate.runtime.extras import require

_MOST_COLUMNS: Final = 1_024
_LONGEST_CELL: Final = 32_767  # characters; the limit of the csv module is 131,072
# Maximum unpacked bytes of an XLSX. Enough for Excel's million rows with a few columns; texts are held in memory.
_MOST_UNPACKED: Final = 1 << 30
_MOST_PARTS: Final = 10_000
_MOST_SHARED: Final = 1 << 27
_MOST_OTHER: Final = (
    4 << 20
)  # openpyxl needs up to ninety times as much memory for styles, relations and names
_BOMB: Final = 500  # compression ratio that no real table has
_BOMB_BYTES: Final = 1 << 24
_MOST_INTEGER: Final = 1 << 53  # exact in Excel
# Exceptions that openpyxl and zipfile raise for a damaged or malicious file.
_DAMAGE: Final = (
    BadZipFile, zlib.error, EOFError, KeyError, ValueError, IndexError, TypeError,
    AttributeError, SyntaxError, NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip
_DAMAGED: Final = (
    "The spreadsheet is damaged, protected or incomplete; open it and save it again, or save it as CSV."
)
_TOO_LARGE: Final = "The spreadsheet is too large when unpacked; save it as CSV."

warnings.filterwarnings("ignore", module="openpyxl")  # about parts that are not read, such as drop-down lists


class Unreadable(ValueError):
    """Raised for a file that cannot be read as rows. The message says what to do, and quotes no cell."""


class NumericCell(str):
    """A cell that the spreadsheet stores as an integer. A telephone number in it may have lost a zero or a plus."""

    __slots__ = ()


def read(file: IO[bytes]) -> tuple[str, Generator[tuple[int, list[str]], None, None]]:
    """Return the title of the first sheet and its rows, each with its line number (from 1).

    `file` must stay open during the iteration. Raises `MissingExtra` and, also during the iteration, `Unreadable`.
    """
    require("xlsx", "Reading a spreadsheet")
    from openpyxl import load_workbook  # noqa: PLC0415 - in an extra

    with _damage_refused():
        _check_parts(file)
        book = load_workbook(file, read_only=True, data_only=False, keep_links=False)
        sheet: Any = book.worksheets[0]
        sheet.reset_dimensions()  # the dimensions in the file may be wrong
        return str(sheet.title), _rows(book, sheet)


def _rows(book: Any, sheet: Any) -> Generator[tuple[int, list[str]], None, None]:
    with closing(book), _damage_refused():
        for line, values in enumerate(sheet.iter_rows(values_only=True), 1):
            yield line, bounded([_text(value) for value in values], line)


@contextmanager
def _damage_refused() -> Iterator[None]:
    """Convert an error about the file raised in the block to `Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except _DAMAGE as error:
        raise Unreadable(_DAMAGED) from error


def _check_parts(file: IO[bytes]) -> None:
    """Check the declared sizes of an archive before it is unpacked.

    zipfile never unpacks more than is declared.
    """
    with ZipFile(file) as archive:
        parts = archive.infolist()
        if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > _MOST_UNPACKED:
            raise Unreadable(_TOO_LARGE)
        for part in parts:
            is_bomb = part.file_size > max(_BOMB_BYTES, part.compress_size * _BOMB)
            if is_bomb or part.file_size > _most(part.filename):
                raise Unreadable(_TOO_LARGE)
        for part in parts:
            with archive.open(part) as stream:
                _refuse_doctype(stream)


def _most(name: str) -> int:
    """Return the maximum unpacked size of a part, based on its name.

    The limit for pictures is high, because pictures are never read. If a name is misleading, the limit on memory of the
    process still applies.
    """
    if name.endswith("sharedStrings.xml"):
        return _MOST_SHARED
    is_sheet = name.startswith("xl/worksheets/") and name.endswith(".xml")
    return _MOST_UNPACKED if is_sheet or not name.endswith((".xml", ".rels")) else _MOST_OTHER


def _refuse_doctype(part: IO[bytes]) -> None:
    """Raise `Unreadable` if the part has a DOCTYPE.

    A DOCTYPE precedes the root element, so parsing stops at the root element.
    """
    from defusedxml import DefusedXmlException  # noqa: PLC0415 - in an extra
    from defusedxml.ElementTree import iterparse  # noqa: PLC0415

    try:
        next(iterparse(part, events=("start",), forbid_dtd=True), None)
    except DefusedXmlException:
        text = "The spreadsheet has a DOCTYPE or defines entities, which Excel never writes; save it as CSV."
        raise Unreadable(text) from None
    except (ParseError, UnicodeError, LookupError):
        return  # not XML: a picture, or damage that is reported later


def bounded(cells: list[str], line: int) -> list[str]:
    """Return the cells of a row. Raises `Unreadable` if they are too many or too long."""
    if len(cells) > _MOST_COLUMNS:
        raise Unreadable(
            f"Line {line} has more than {_MOST_COLUMNS:,} columns; remove the columns that are not needed."
        )
    if cells and max(map(len, cells)) > _LONGEST_CELL:
        raise Unreadable(f"Line {line} has a cell with more than {_LONGEST_CELL:,} characters; shorten it.")
    return cells


def cut(cells: list[str]) -> list[str]:
    """Return as many cells of a row, and as much of each, as `bounded` permits."""
    return [cell[:_LONGEST_CELL] for cell in cells[:_MOST_COLUMNS]]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_INTEGER:
        return NumericCell(int(value)) if value == int(value) else str(value)
    return str(value)
