"""The rows of the only sheet with content of an XLSX file.

A small XLSX can unpack to any size, so the size of each part is checked before it is unpacked. `calamine` expands no entities of
a DOCTYPE. It holds the sheet in memory as a rectangle, which two distant cells make large. A gate reads files in a process with
limits on memory and processor time (`dialgate.ledger.file_jobs`).
"""

import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import date
from typing import IO, Any, Final
from zipfile import BadZipFile, ZipFile

from dialgate.core.refusal import Refused
from dialgate.runtime.extras import require

_MOST_COLUMNS: Final = 1_024
_LONGEST_CELL: Final = 32_767  # characters; the limit of the csv module is 131,072
# Maximum unpacked bytes of an XLSX. Enough for Excel's million rows with a few columns; the sheet is held in memory.
_MOST_UNPACKED: Final = 1 << 30
_MOST_PARTS: Final = 10_000
_MOST_SHARED: Final = 1 << 27
_MOST_OTHER: Final = 4 << 20  # of styles, relations and names
_BOMB: Final = 500  # compression ratio that no real table has
_BOMB_BYTES: Final = 1 << 24
_MOST_INTEGER: Final = 1 << 53  # exact in Excel
_DAMAGED: Final = (
    "The spreadsheet is damaged, protected or incomplete; open it and save it again, or save it as CSV."
)
_TOO_LARGE: Final = "The spreadsheet is too large when unpacked; save it as CSV."


class Unreadable(Refused):
    """Raised for a file that cannot be read as rows. The message says what to do, and quotes no cell."""

    def __init__(self, message: str, at: str = "file") -> None:
        super().__init__("list.unreadable", message, at)


class NumericCell(str):
    """A cell that the spreadsheet stores as an integer. A telephone number in it may have lost a zero or a plus."""

    __slots__ = ()


def open_sheet(file: IO[bytes]) -> Any:
    """Read the only sheet with content, hidden or not, for `rows`. Its title is `name`.

    Raises `MissingExtra`, and `Unreadable` also if several sheets have content: stops on a second one would be lost.
    """
    require("xlsx", "Reading a spreadsheet")
    from python_calamine import SheetTypeEnum, load_workbook  # noqa: PLC0415 - in an extra

    with _damage_refused():
        _check_parts(file)
        file.seek(0)
        book = load_workbook(file)
        tables = [about.name for about in book.sheets_metadata if about.typ == SheetTypeEnum.WorkSheet]
        sheets = [book.get_sheet_by_name(name) for name in tables]
    if not sheets:
        raise Unreadable(_DAMAGED)
    used = [sheet for sheet in sheets if sheet.height]
    if len(used) > 1:
        raise Unreadable(
            f"{len(used)} sheets of the spreadsheet have content; save each as a file of its own."
        )
    return (used or sheets)[0]


def rows(sheet: Any) -> Generator[tuple[int, list[str]], None, None]:
    """Yield the rows of a sheet, each with its line number (from 1).

    A formula has the value that the spreadsheet program saved. Raises `Unreadable`.
    """
    left = [""] * (sheet.start or (0, 0))[1]  # `iter_rows` begins at the first column with a cell
    for line, values in enumerate(sheet.iter_rows(), 1):
        cells = [value if type(value) is str else _text(value) for value in values]
        yield line, bounded(left + cells, line)


@contextmanager
def _damage_refused() -> Iterator[None]:
    """Convert an error about the file raised in the block to `Unreadable`."""
    from python_calamine import CalamineError  # noqa: PLC0415 - in an extra

    try:
        yield
    except (CalamineError, BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Unreadable(_DAMAGED) from error


def _check_parts(file: IO[bytes]) -> None:
    """Check the declared sizes of an archive before it is unpacked. `calamine` never unpacks more than is declared."""
    with ZipFile(file) as archive:
        parts = archive.infolist()
        if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > _MOST_UNPACKED:
            raise Unreadable(_TOO_LARGE)
        if "xl/workbook.xml" not in archive.namelist():  # `calamine` would also read other formats
            raise Unreadable(_DAMAGED)
        for part in parts:
            is_bomb = part.file_size > max(_BOMB_BYTES, part.compress_size * _BOMB)
            if is_bomb or part.file_size > _most(part.filename):
                raise Unreadable(_TOO_LARGE)


def _most(name: str) -> int:
    """Return the maximum unpacked size of a part, based on its name.

    The limit for pictures is high, because pictures are never read. If a name is misleading, the limit on memory of the
    process still applies.
    """
    if name.endswith("sharedStrings.xml"):
        return _MOST_SHARED
    is_sheet = name.startswith("xl/worksheets/") and name.endswith(".xml")
    return _MOST_UNPACKED if is_sheet or not name.endswith((".xml", ".rels")) else _MOST_OTHER


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


def _text(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_INTEGER:
        return NumericCell(int(value)) if value == int(value) else str(value)
    if type(value) is date:
        return f"{value} 00:00:00"  # as a cell with a date and a time
    return str(value)
