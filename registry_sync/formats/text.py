"""The text in a file of numbers, or in the zip that holds it, and what is wrong with it.

A file is taken whole or not at all. Faults name the line, counted from 1, and never the number.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.uint64]
Mask: TypeAlias = NDArray[np.bool_]

LARGEST: Final = 2 << 30
HIGHEST_RATIO: Final = 200
PIECE: Final = 1 << 20  # what fits the processor's cache with its indices
ZERO, NINE, CR, LF, SPACE = b"09\r\n "


class FaultyFile(Exception):
    """A file that is refused whole. The message is `NAME: FAULT` or `NAME, line N: FAULT`."""


def size(path: Path) -> int:
    """Bytes of the text, as far as the file says. Raises FaultyFile, OSError."""
    with opened(path) as (_, length):
        return length


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The text and its length. Raises FaultyFile, OSError."""
    if path.suffix.lower() != ".zip":
        length = path.stat().st_size
        if length > LARGEST:
            raise FaultyFile(f"{path.name}: {length:,} bytes are more than the {LARGEST:,} that are read")
        with path.open("rb") as file:
            yield file, length
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entry = _sole_text(path.name, archive)
            with archive.open(entry) as member:
                yield member, entry.file_size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FaultyFile(f"{path.name}: the zip is damaged or of an unknown kind: {error}") from error


def _sole_text(name: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    entries = archive.infolist()
    if len(entries) != 1 or not entries[0].filename.lower().endswith(".txt"):
        raise FaultyFile(f"{name}: a zip must hold exactly one file, a .txt; this holds {len(entries)}")
    entry = entries[0]
    if entry.flag_bits & 1:
        raise FaultyFile(f"{name}: it is encrypted: unpack it and import the .txt")
    if entry.file_size > LARGEST or entry.file_size > HIGHEST_RATIO * max(entry.compress_size, 1):
        raise FaultyFile(
            f"{name}: {entry.file_size:,} bytes out of {entry.compress_size:,} are no list of numbers"
            f" (limits: {LARGEST:,} bytes, {HIGHEST_RATIO} to 1)"
        )
    return entry


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The file in pieces of whole lines; only the last line may lack its end."""
    held = b""
    while read := file.read(PIECE):
        cut = read.rfind(b"\n") + 1
        if cut:
            yield held + read[:cut]
            held = read[cut:]
        else:
            held += read
            if len(held) > PIECE:
                break
    if held:
        yield held


def bounds(text: Bytes) -> tuple[Integers, Integers]:
    """Where each line begins, and where it ends without CR and LF."""
    ends = np.flatnonzero(text == LF)
    if not len(ends) or ends[-1] != len(text) - 1:
        ends = np.append(ends, len(text))
    begins = np.concatenate(([0], ends[:-1] + 1))
    return begins, ends - ((ends > begins) & (text[ends - 1] == CR))


def encoding_fault(line: bytes) -> str:
    """Why a line is no plain text, or nothing."""
    if line.startswith(b"\xef\xbb\xbf"):
        return "the file begins with a byte order mark: save it as plain ASCII"
    if b"\0" in line or line.startswith((b"\xff\xfe", b"\xfe\xff")) or not line.isascii():
        return "it is not plain ASCII"
    return ""
