"""The files of the US National Do Not Call Registry, one area code each.

    YYYY-M-D_AAA[_ID].txt                    everybody: a line `AAA,NNNNNNN` each
    YYYY-M-D_AAA_changes-since-YYYY-M-D[_ID].txt   what changed: a line `AAANNNNNNN,YYYY-MM-DDTHH:MM:SS,A` or `…,D` each, or
                                             the one line `NoChanges`

or a `.zip` that holds the `.txt` alone. Lines end in CRLF or LF, one of them throughout; days may have one digit.

The registry's name for a full file is known; how a change file is named and laid out is told in two ways, and this is
one of them: hold it against a real file before you rely on it.
"""

import re
from collections.abc import Callable
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


class Named(NamedTuple):
    """What a file's name says. `prefix`: the area code after a 1; `since`: of changes, from which version on."""

    name: str
    prefix: str
    version: date
    since: date | None


class Everybody(NamedTuple):
    """`bits`: one for each of the area's 10,000,000 numbers, packed, the lowest first."""

    sha256: str
    lines: int
    bits: Bytes


class Changed(NamedTuple):
    """`times` are numbers that order as the times do, `added` says which of A and D."""

    sha256: str
    numbers: Numbers
    times: NDArray[np.int64]
    added: Mask


def named(name: str) -> Named | None:
    """None: not such a file."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        version = date(*map(int, found.group(1, 2, 3)))
        since = date(*map(int, found.group(5, 6, 7))) if found[5] else None
    except ValueError:
        return None
    return Named(name, f"1{found[4]}", version, since)


def read_full(path: Path, prefix: str, advance: Callable[[int], None]) -> Everybody:
    """Raises FaultyFile, OSError. `advance` is told of the bytes done."""
    total, lines = sha256(), 0
    present = np.zeros(AREA, np.bool_)
    with text.opened(path) as (file, _):
        for piece in text.pieces(file):
            total.update(piece)
            rows = _rows(piece, FULL, path.name, lines)
            bad = _not_digits(rows, (0, 1, 2, *range(4, FULL))) | (rows[:, 3] != ord(","))
            _refuse(bad, path.name, lines, "not `AAA,NNNNNNN`")
            area = np.frombuffer(prefix[1:].encode(), np.uint8)
            _refuse((rows[:, :3] != area).any(axis=1), path.name, lines, "of another area code")
            present[_value(rows, range(4, FULL))] = True
            lines += len(rows)
            advance(len(piece))
    if not lines:
        raise FaultyFile(f"{path.name}: it is empty")
    return Everybody(total.hexdigest(), lines, np.packbits(present, bitorder="little"))


def read_changes(path: Path, prefix: str) -> Changed:
    """Raises FaultyFile, OSError."""
    with text.opened(path) as (file, _):
        content = file.read()
    digest = sha256(content).hexdigest()
    if content.strip() == NO_CHANGES:
        return Changed(digest, np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.bool_))
    if not content:
        # Nothing is no news: a file that was cut to nothing must not refresh the list.
        raise FaultyFile(f"{path.name}: it is empty; no changes are told by the one line NoChanges")
    rows = _rows(content, CHANGE, path.name, 0)
    word = rows[:, CHANGE - 1]
    bad = _not_digits(rows, range(10)) | ~np.isin(word, [ord("A"), ord("D")])
    bad |= (rows[:, 10] != ord(",")) | (rows[:, CHANGE - 2] != ord(","))
    _refuse(bad, path.name, 0, "not `AAANNNNNNN,YYYY-MM-DDTHH:MM:SS,A` (or D)")
    area = np.frombuffer(prefix[1:].encode(), np.uint8)
    _refuse((rows[:, :3] != area).any(axis=1), path.name, 0, "of another area code")
    numbers = _value(rows, range(3, 10)).astype(np.uint64) + np.uint64(int(prefix) * AREA)
    return Changed(digest, numbers, _times(rows[:, 11 : CHANGE - 2], path.name), word == ord("A"))


def _times(rows: Bytes, name: str) -> NDArray[np.int64]:
    stamps = np.ascontiguousarray(rows).view("S19").ravel().astype("U19")
    strange = np.array([_TIME.fullmatch(stamp) is None for stamp in stamps.tolist()])
    _refuse(strange, name, 0, "its time is not YYYY-MM-DDTHH:MM:SS")
    try:
        return stamps.astype("datetime64[s]").astype(np.int64)
    except ValueError:
        raise FaultyFile(f"{name}: it holds a time that does not exist") from None


def _rows(content: bytes, width: int, name: str, before: int) -> Bytes:
    """The lines, all of one width, without their ends."""
    data = np.frombuffer(content, np.uint8)
    end = 2 if len(data) > width and data[width] == CR else 1
    whole = len(data) // (width + end) * (width + end)
    rest = bytes(data[whole:])
    rows = data[:whole].reshape(-1, width + end)
    good = rows[:, -1] == LF
    if end > 1:
        good &= rows[:, -2] == CR
    if rest and good.all():  # the last line may lack its end
        if len(rest) != width or b"\n" in rest:
            raise FaultyFile(f"{name}, line {before + len(rows) + 1:,}: {_line_fault(rest)}")
        return np.concatenate((rows[:, :width], np.frombuffer(rest, np.uint8).reshape(1, width)))
    if not good.all():
        at = int(np.argmin(good))
        raise FaultyFile(f"{name}, line {before + at + 1:,}: {_line_fault(bytes(rows[at]))}")
    return rows[:, :width]


def _line_fault(line: bytes) -> str:
    return text.encoding_fault(line) or "it is shorter or longer than the others: is the file cut short?"


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
