"""Functions that read plain or zipped number files, and the error for faulty files.

A file is accepted as a whole or not at all. Error messages name the line, counted from 1, but never a phone
number.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.uint64]
Mask: TypeAlias = NDArray[np.bool_]
Days: TypeAlias = NDArray[np.int32]  # ordinals, as of `date.toordinal`
# A function that starts a progress bar with a title and a total. It returns a function that advances the bar by an amount.
Progress: TypeAlias = Callable[[str, int], Callable[[int], None]]

MAX_BYTES: Final = 2 << 30
MAX_RATIO: Final = 200
PIECE_BYTES: Final = 1 << 20  # fits into the processor's cache, indices included
ZERO, NINE, CR, LF, SPACE = b"09\r\n "


class FaultyFile(Exception):
    """Raised for an invalid file. The message is `NAME: FAULT` or `NAME, line N: FAULT`."""


def no_progress(_title: str, _total: int) -> Callable[[int], None]:
    return lambda _: None


@contextmanager
def open_text(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a text file, or the only file in a zip. Yield it with its declared length.

    Raises FaultyFile and OSError.
    """
    if path.suffix.lower() != ".zip":
        length = path.stat().st_size
        if length > MAX_BYTES:
            raise FaultyFile(f"{path.name}: {length:,} bytes exceed the limit of {MAX_BYTES:,}")
        with path.open("rb") as file:
            yield file, length
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entry = _sole_text(path.name, archive)
            with archive.open(entry) as member:
                yield member, entry.file_size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FaultyFile(f"{path.name}: the zip is damaged or not supported: {error}") from error


def _sole_text(name: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    entries = archive.infolist()
    if len(entries) != 1 or not entries[0].filename.lower().endswith((".txt", ".csv")):
        raise FaultyFile(
            f"{name}: a zip must contain exactly one file, a .txt or a .csv; this one has {len(entries)} files"
        )
    entry = entries[0]
    if entry.flag_bits & 1:
        raise FaultyFile(f"{name}: the zip is encrypted. Unpack it and import the text file")
    if entry.file_size > MAX_BYTES or entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise FaultyFile(
            f"{name}: {entry.compress_size:,} bytes unpack to {entry.file_size:,}; the limits are {MAX_BYTES:,} bytes and"
            f" a ratio of {MAX_RATIO}"
        )
    return entry


def read_chunks(path: Path, add_to_hash: Callable[[bytes], object], progress: Progress) -> Iterator[bytes]:
    """Yield a file's text in chunks of whole lines. The last line may lack its line ending.

    Call `add_to_hash` with each chunk. Raises OSError, and FaultyFile if the file is empty, too large, or cannot be
    unpacked.
    """
    is_empty = True
    with open_text(path) as (file, length):
        advance = progress(path.name, length)
        for chunk in _split(file):
            is_empty = False
            add_to_hash(chunk)
            yield chunk
            advance(len(chunk))
    if is_empty:
        raise FaultyFile(f"{path.name}: the file is empty")


def _split(file: IO[bytes]) -> Iterator[bytes]:
    partial_line = b""
    while data := file.read(PIECE_BYTES):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield partial_line + data[:cut]
            partial_line = data[cut:]
        else:
            partial_line += data
            if len(partial_line) > PIECE_BYTES:
                break
    if partial_line:
        yield partial_line


def encoding_fault(line: bytes) -> str:
    """Return the reason why a line is not plain ASCII, or an empty string if it is."""
    if line.startswith(b"\xef\xbb\xbf"):
        return "the file begins with a byte order mark. Save it as plain ASCII"
    if b"\0" in line or line.startswith((b"\xff\xfe", b"\xfe\xff")) or not line.isascii():
        return "the line is not plain ASCII"
    return ""
