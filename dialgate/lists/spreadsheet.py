"""The rows of the first sheet of an XLSX file, read by a separate process.

A small XLSX can unpack to any size, and 60 MB of styles took 5.3 GB of memory to read. A separate process therefore
reads the file under limits on memory and processor time. It checks the size of each part before unpacking, and rejects
parts with a DOCTYPE. If the process fails, the user gets an error message.

The process, `python -m dialgate.lists.spreadsheet`, reads standard input and writes frames to standard
output: four bytes of length, followed by MessagePack.
"""

import os
import select
import subprocess
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO, Final, TypeAlias
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

import msgspec
from msgspec import Struct

from dialgate.runtime.extras import require
from dialgate.runtime.resource_limits import confine

MEMORY: Final = 768 << 20  # in addition to Python and its libraries: enough for a million rows of three texts
SECONDS: Final = 600  # of processor time
_SILENCE: Final = 300.0  # seconds within which the first or the next rows must arrive
_FRAME: Final = 64 << 20
_ROWS_AT_ONCE: Final = 500
_CHARACTERS_AT_ONCE: Final = 1 << 20
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
_MOST_INTEGER: Final = 1 << 53  # exact in Excel, and it fits into MessagePack
# Exceptions that openpyxl and zipfile raise for a damaged or malicious file.
_DAMAGE: Final = (
    BadZipFile, zlib.error, EOFError, KeyError, ValueError, IndexError, TypeError,
    AttributeError, SyntaxError, NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip


_TOO_LARGE: Final = "The spreadsheet is too large when unpacked; save it as CSV."


class Unreadable(ValueError):
    """Raised for a file that cannot be read as rows. The message says what to do, and quotes no cell."""


class NumericCell(str):
    """A cell that the spreadsheet stores as an integer. A telephone number in it may have lost a zero or a plus."""

    __slots__ = ()


class _Sheet(Struct, frozen=True, tag=True):
    title: str


class _Rows(Struct, frozen=True, tag=True):
    rows: list[tuple[int, list[str | int]]]


class _Refusal(Struct, frozen=True, tag=True):
    text: str


class _End(Struct, frozen=True, tag=True):
    pass


_Frame: TypeAlias = _Sheet | _Rows | _Refusal | _End
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Frame).decode


# ---- in the calling process ------------------------------------------------------------------------------------------


def read(
    file: IO[bytes], memory: int = MEMORY, seconds: int = SECONDS
) -> tuple[str, Generator[tuple[int, list[str]], None, None]]:
    """Return the title of the first sheet and its rows, each with its line number (from 1).

    Raises `MissingExtra` and, also during iteration, `Unreadable`.
    """
    require("xlsx", "Reading a spreadsheet")
    frames = _frames(file, memory, seconds)
    first = next(frames)
    if not isinstance(first, _Sheet):
        frames.close()
        raise _build_refusal()
    return first.title, _rows(frames)


def _rows(frames: Generator[_Frame, None, None]) -> Generator[tuple[int, list[str]], None, None]:
    with closing(frames):
        for frame in frames:
            if isinstance(frame, _Rows):
                for line, cells in frame.rows:
                    yield line, [cell if isinstance(cell, str) else NumericCell(cell) for cell in cells]
            elif isinstance(frame, _End):
                return
    raise _build_refusal()


def _frames(file: IO[bytes], memory: int, seconds: int) -> Generator[_Frame, None, None]:
    with _on_disk(file) as path:
        process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-m", __name__, str(memory), str(seconds)],
            stdin=path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENPYXL_DEFUSEDXML": "True", "OPENPYXL_LXML": "False"},
        )
    assert process.stdout is not None
    try:
        while True:
            head = _bytes(process.stdout, 4)
            frame = _decode(_bytes(process.stdout, min(int.from_bytes(head, "big"), _FRAME)))
            if isinstance(frame, _Refusal):
                raise Unreadable(frame.text)
            yield frame
    except (EOFError, msgspec.DecodeError):
        raise _build_refusal() from None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _on_disk(file: IO[bytes]) -> IO[bytes]:
    """Return a file that another process can read. The caller must close the returned file; `file` stays open."""
    try:
        return os.fdopen(os.dup(file.fileno()), "rb")
    except OSError:  # `file` is in memory
        copy: BinaryIO = TemporaryFile()  # noqa: SIM115 - the caller closes it
        file.seek(0)
        while chunk := file.read(1 << 20):
            copy.write(chunk)
        copy.flush()
        return copy


def _bytes(pipe: IO[bytes], count: int) -> bytes:
    """Read `count` bytes. Raises `EOFError` if the process ends early or writes nothing for too long."""
    content = bytearray()
    # `select.select` fails for descriptors above 1,023, which a gate with many connections has.
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while len(content) < count:
        if not waiting.poll(_SILENCE * 1_000):
            raise EOFError
        chunk = os.read(pipe.fileno(), count - len(content))
        if not chunk:
            raise EOFError
        content += chunk
    return bytes(content)


def _build_refusal() -> Unreadable:
    return Unreadable("The spreadsheet takes too much memory or time to read; save it as CSV, or split it.")


# ---- in the reading process ------------------------------------------------------------------------------------------


def _main(file: BinaryIO, out: BinaryIO, memory: int, seconds: int) -> None:
    from openpyxl import load_workbook  # noqa: PLC0415 - the calling process must stay small

    def write(frame: _Frame) -> None:
        body = _encode(frame)
        out.write(len(body).to_bytes(4, "big") + body)
        out.flush()

    confine(memory, seconds)
    try:
        _check_parts(file)
        file.seek(0)
        book = load_workbook(file, read_only=True, data_only=False, keep_links=False)
        with closing(book):
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # the dimensions in the file may be wrong
            write(_Sheet(str(sheet.title)))
            for rows in _pieces(sheet):
                write(_Rows(rows))
        write(_End())
    except Unreadable as error:
        write(_Refusal(str(error)))
    except MemoryError:
        write(_Refusal(str(_build_refusal())))
    except _DAMAGE:
        write(
            _Refusal(
                "The spreadsheet is damaged, protected or incomplete; open it and save it again, or save it as CSV."
            )
        )


def _check_parts(file: BinaryIO) -> None:
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

    The limit for pictures is high, because pictures are never read. If a name is misleading, the limit on memory still
    applies.
    """
    if name.endswith("sharedStrings.xml"):
        return _MOST_SHARED
    is_sheet = name.startswith("xl/worksheets/") and name.endswith(".xml")
    return _MOST_UNPACKED if is_sheet or not name.endswith((".xml", ".rels")) else _MOST_OTHER


def _refuse_doctype(part: IO[bytes]) -> None:
    """Raise `Unreadable` if the part has a DOCTYPE.

    A DOCTYPE precedes the root element, so parsing stops at the root element.
    """
    from defusedxml import DefusedXmlException  # noqa: PLC0415 - as above
    from defusedxml.ElementTree import iterparse  # noqa: PLC0415

    try:
        next(iterparse(part, events=("start",), forbid_dtd=True), None)
    except DefusedXmlException:
        text = "The spreadsheet has a DOCTYPE or defines entities, which Excel never writes; save it as CSV."
        raise Unreadable(text) from None
    except (ParseError, UnicodeError, LookupError):
        return  # not XML: a picture, or damage that is reported later


def _pieces(sheet: Any) -> Iterator[list[tuple[int, list[str | int]]]]:
    rows: list[tuple[int, list[str | int]]] = []
    characters = 0
    for line, values in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [_text_or_integer(value) for value in values]
        texts = bounded(list(map(str, cells)), line)
        rows.append((line, cells))
        characters += sum(map(len, texts))
        if len(rows) >= _ROWS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield rows
            rows, characters = [], 0
    yield rows


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


def _text_or_integer(value: Any) -> str | int:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_INTEGER:
        return int(value) if value == int(value) else str(value)
    return str(value)


if __name__ == "__main__":
    _main(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), int(sys.argv[2]))
