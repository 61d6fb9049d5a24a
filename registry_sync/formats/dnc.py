"""Files from the US National Do Not Call Registry, one for each area code.

    YYYY-M-D_AAA[_ID].txt                    full file: lines `AAA,NNNNNNN`
    YYYY-M-D_AAA_changes-since-YYYY-M-D[_ID].txt   changes: lines `AAANNNNNNN,YYYY-MM-DDTHH:MM:SS,A` (added) or `…,D`
                                             (deleted), or the single line `NoChanges`

The file may also be a `.zip` that contains only this `.txt`. All lines end in CRLF, or all in LF. Months and
days may have one digit.

The names of full files are documented, but the layout of change files is uncertain. The sources describe two layouts,
and this module reads the layout above. Compare it with a real change file before you rely on the module.
"""

import re
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from registry_sync.formats import text
from registry_sync.formats.text import CR, LF, NINE, ZERO, Bytes, FaultyFile, Mask, Numbers

AREA: Final = 10_000_000  # numbers
FULL: Final = len("AAA,NNNNNNN")
CHANGE: Final = len("AAANNNNNNN,YYYY-MM-DDTHH:MM:SS,A")
NO_CHANGES: Final = b"NoChanges"
_DATE = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_NAME = re.compile(
    rf"{_DATE}_(\d{{3}})(?:_changes-since-{_DATE})?(?:_[0-9A-Za-z-]+)?\.txt(?:\.zip)?", re.ASCII
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


class FileName(NamedTuple):
    """A parsed file name.

    `prefix` is 1 followed by the area code. `since` is the version that a change file updates, or None for a full file.
    """

    name: str
    prefix: str
    version: date
    since: date | None


class AreaFile(NamedTuple):
    """The contents of a full file. `bits` has one bit for each of the area's 10,000,000 numbers, in order."""

    sha256: str
    lines: int
    bits: Bytes


class ChangeFile(NamedTuple):
    """The contents of a change file. `times` are in seconds. `added` is True for A and False for D."""

    sha256: str
    numbers: Numbers
    times: NDArray[np.int64]
    added: Mask


def parse_name(name: str) -> FileName | None:
    """Parse a file name. Return None if the name is not in the registry's format."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        version = date(*map(int, match.group(1, 2, 3)))
        since = date(*map(int, match.group(5, 6, 7))) if match[5] else None
    except ValueError:
        return None
    return FileName(name, f"1{match[4]}", version, since)


def read_full(path: Path, prefix: str, progress: text.Progress) -> AreaFile:
    """Read a full file. Raises FaultyFile and OSError."""
    total, lines = sha256(), 0
    present = np.zeros(AREA, np.bool_)
    for chunk in text.read_chunks(path, total.update, progress):
        rows = _rows(chunk, FULL, path.name, lines)
        bad = _not_digits(rows, (0, 1, 2, *range(4, FULL))) | (rows[:, 3] != ord(","))
        _refuse(bad, path.name, lines, "the line is not `AAA,NNNNNNN`")
        area = np.frombuffer(prefix[1:].encode(), np.uint8)
        _refuse((rows[:, :3] != area).any(axis=1), path.name, lines, "the number has another area code")
        present[_value(rows, range(4, FULL))] = True
        lines += len(rows)
    return AreaFile(total.hexdigest(), lines, np.packbits(present, bitorder="little"))


def read_changes(path: Path, prefix: str) -> ChangeFile:
    """Read a change file. Raises FaultyFile and OSError."""
    with text.open_text(path) as (file, _):
        content = file.read()
    digest = sha256(content).hexdigest()
    if content.strip() == NO_CHANGES:
        return ChangeFile(digest, np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.bool_))
    if not content:
        # A truncated file must not count as "no changes" and make the list look fresh.
        raise FaultyFile(
            f"{path.name}: the file is empty. If there are no changes, it must contain the single line NoChanges"
        )
    rows = _rows(content, CHANGE, path.name, 0)
    action = rows[:, CHANGE - 1]
    bad = _not_digits(rows, range(10)) | ~np.isin(action, [ord("A"), ord("D")])
    bad |= (rows[:, 10] != ord(",")) | (rows[:, CHANGE - 2] != ord(","))
    _refuse(bad, path.name, 0, "the line is not `AAANNNNNNN,YYYY-MM-DDTHH:MM:SS,A` (or D)")
    area = np.frombuffer(prefix[1:].encode(), np.uint8)
    _refuse((rows[:, :3] != area).any(axis=1), path.name, 0, "the number has another area code")
    numbers = _value(rows, range(3, 10)).astype(np.uint64) + np.uint64(int(prefix) * AREA)
    return ChangeFile(digest, numbers, _times(rows[:, 11 : CHANGE - 2], path.name), action == ord("A"))


def _times(rows: Bytes, name: str) -> NDArray[np.int64]:
    stamps = np.ascontiguousarray(rows).view("S19").ravel().astype("U19")
    invalid = np.array([_TIME.fullmatch(stamp) is None for stamp in stamps.tolist()])
    _refuse(invalid, name, 0, "the time is not YYYY-MM-DDTHH:MM:SS")
    try:
        return stamps.astype("datetime64[s]").astype(np.int64)
    except ValueError:
        raise FaultyFile(f"{name}: the file contains a time that does not exist") from None


def _rows(content: bytes, width: int, name: str, before: int) -> Bytes:
    """Split the contents into lines of the given width, without their line endings.

    `before` is the number of earlier lines in the file, used for line numbers in errors.
    """
    data = np.frombuffer(content, np.uint8)
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
