"""Files from the US National Do Not Call Registry, one for each area code.

    YYYY-M-D_AAA[_ID].txt      lines `AAA,NNNNNNN`

The file may also be a `.zip` that contains only this `.txt`. All lines end in CRLF, or all in LF. Months and
days may have one digit. The registry's change files are not read, because their layout is not documented.
"""

import re
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from registry_sync.formats import text
from registry_sync.formats.text import CR, LF, NINE, ZERO, Bytes, FaultyFile, Mask

AREA: Final = 10_000_000  # numbers
FULL: Final = len("AAA,NNNNNNN")
_DATE = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_NAME = re.compile(rf"{_DATE}_(\d{{3}})(_changes-since-{_DATE})?(?:_[0-9A-Za-z-]+)?\.txt(?:\.zip)?", re.ASCII)


class FileName(NamedTuple):
    """A parsed file name. `prefix` is 1 followed by the area code. `is_change` is true for a change file."""

    prefix: str
    version: date
    is_change: bool


class AreaFile(NamedTuple):
    """The contents of a full file. `bits` has one bit for each of the area's 10,000,000 numbers, in order."""

    sha256: str
    lines: int
    bits: Bytes


def parse_name(name: str) -> FileName | None:
    """Parse a file name. Return None if the name is not in the registry's format."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        version = date(*map(int, match.group(1, 2, 3)))
    except ValueError:
        return None
    return FileName(f"1{match[4]}", version, bool(match[5]))


def read_full(path: Path, prefix: str, progress: text.Progress) -> AreaFile:
    """Read a full file. Raises FaultyFile and OSError."""
    total, lines = sha256(), 0
    present = np.zeros(AREA, np.bool_)
    for chunk in text.read_chunks(path, total.update, progress):
        rows = _rows(chunk, path.name, lines)
        bad = _not_digits(rows, (0, 1, 2, *range(4, FULL))) | (rows[:, 3] != ord(","))
        _refuse(bad, path.name, lines, "the line is not `AAA,NNNNNNN`")
        area = np.frombuffer(prefix[1:].encode(), np.uint8)
        _refuse((rows[:, :3] != area).any(axis=1), path.name, lines, "the number has another area code")
        present[_value(rows, range(4, FULL))] = True
        lines += len(rows)
    return AreaFile(total.hexdigest(), lines, np.packbits(present, bitorder="little"))


def _rows(content: bytes, name: str, before: int) -> Bytes:
    """Split the contents into lines, without their line endings.

    `before` is the number of earlier lines in the file, used for line numbers in errors.
    """
    data, width = np.frombuffer(content, np.uint8), FULL
    end = 2 if len(data) > width and data[width] == CR else 1
    whole = len(data) // (width + end) * (width + end)
    rest = bytes(data[whole:])
    rows = data[:whole].reshape(-1, width + end)
    good = rows[:, -1] == LF
    if end > 1:
        good &= rows[:, -2] == CR
    if rest and good.all():  # the last line may have no line end
        if len(rest) != width or b"\n" in rest:
            raise FaultyFile(f"{name}, line {before + len(rows) + 1:,}: {_line_fault(rest)}")
        return np.concatenate((rows[:, :width], np.frombuffer(rest, np.uint8).reshape(1, width)))
    if not good.all():
        at = int(np.argmin(good))
        raise FaultyFile(f"{name}, line {before + at + 1:,}: {_line_fault(bytes(rows[at]))}")
    return rows[:, :width]


def _line_fault(line: bytes) -> str:
    return (
        text.encoding_fault(line) or "the line has a different length from the others. Is the file truncated?"
    )


def _not_digits(rows: Bytes, columns: "range | tuple[int, ...]") -> Mask:
    bad = np.zeros(len(rows), np.bool_)
    for column in columns:
        bad |= rows[:, column] - ZERO > NINE - ZERO  # a character below ZERO wraps round
    return bad


def _value(rows: Bytes, columns: range) -> NDArray[np.uint32]:
    value = np.zeros(len(rows), np.uint32)
    for column in columns:
        value *= np.uint32(10)
        value += rows[:, column] - ZERO
    return value


def _refuse(bad: Mask, name: str, before: int, fault: str) -> None:
    if bad.any():
        raise FaultyFile(f"{name}, line {before + int(np.argmax(bad)) + 1:,}: {fault}")
