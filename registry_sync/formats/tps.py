"""The full files of the UK Telephone Preference Service and of its corporate twin: every line 12 characters and CRLF.

    with spaces      5 characters of dialling code, left-justified, and 7 of the rest, right-justified, blank-filled
    without spaces   at most 12 digits, left-justified, blank-filled

Numbers are national, with their leading 0. A file bears its version's day, `YYYYMMDD` or `YYYY-MM-DD`, in its name.
(corporate.mpsonline.org.uk/shared/technical_desc.asp; the layout of a change file is not published.)
"""

import re
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from dialgate.lists.number_set import distinct
from registry_sync.formats import text
from registry_sync.formats.text import CR, LF, NINE, SPACE, ZERO, FaultyFile, Mask, Numbers

CODE, WIDTH = 5, 12
COUNTRY: Final = 44
SHORTEST, LONGEST = 9, 10  # digits after the 0
_NAME = re.compile(r"(?:.*[^0-9])?(\d{4})-?(\d\d)-?(\d\d)(?:[^0-9].*)?\.(?:txt|zip)", re.ASCII)


class Everybody(NamedTuple):
    """`numbers` rise, each once; `lines` counts the repeated ones as well."""

    sha256: str
    lines: int
    numbers: Numbers


def version(name: str) -> date | None:
    """None: not such a file."""
    found = _NAME.fullmatch(name)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def read(path: Path, advance: Callable[[int], None], *, spaced: bool) -> Everybody:
    """Raises FaultyFile, OSError. `advance` is told of the bytes done."""
    total, lines = sha256(), 0
    parts: list[Numbers] = []
    with text.opened(path) as (file, _):
        for piece in text.pieces(file):
            total.update(piece)
            numbers = _parse(piece, path.name, lines, spaced=spaced)
            parts.append(numbers)
            lines += len(numbers)
            advance(len(piece))
    if not lines:
        raise FaultyFile(f"{path.name}: it is empty")
    return Everybody(total.hexdigest(), lines, distinct(np.concatenate(parts)))


def _parse(piece: bytes, name: str, before: int, *, spaced: bool) -> Numbers:
    width = WIDTH + 2
    whole = len(piece) // width
    rows = np.frombuffer(piece, np.uint8, whole * width).reshape(-1, width)
    good = (rows[:, -2] == CR) & (rows[:, -1] == LF)
    if not good.all() or len(piece) % width:
        at = int(np.argmin(np.append(good, np.False_)))
        fault = text.encoding_fault(piece[at * width : (at + 1) * width])
        fault = fault or f"it is not {WIDTH} characters and CRLF: is the file cut short?"
        raise FaultyFile(f"{name}, line {before + at + 1:,}: {fault}")
    digit = rows[:, :WIDTH] - ZERO
    is_digit = digit <= NINE - ZERO
    bad = (~is_digit & (rows[:, :WIDTH] != SPACE)).any(axis=1) | _misplaced(is_digit, spaced=spaced)
    numbers = np.zeros(len(rows), np.uint64)
    for column in range(WIDTH):
        here = is_digit[:, column]
        numbers = np.where(here, numbers * np.uint64(10) + digit[:, column], numbers)
    count = is_digit.sum(axis=1) - 1
    bad |= (digit[:, 0] != 0) | (count < SHORTEST) | (count > LONGEST)
    if bad.any():
        layout = "with spaces" if spaced else "without spaces"
        at = before + int(np.argmax(bad)) + 1
        raise FaultyFile(f"{name}, line {at:,}: no British number in the layout {layout}")
    country = np.where(count == LONGEST, COUNTRY * 10**LONGEST, COUNTRY * 10**SHORTEST)
    found: Numbers = numbers + country.astype(np.uint64)
    return found


def _misplaced(is_digit: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]", *, spaced: bool) -> Mask:
    """A digit after a blank, or in the second field of the layout with spaces a blank after a digit."""
    rises = is_digit[:, 1:] & ~is_digit[:, :-1]
    if not spaced:
        return np.asarray(rises.any(axis=1))
    falls = is_digit[:, :-1] & ~is_digit[:, 1:]
    return np.asarray(rises[:, : CODE - 1].any(axis=1) | falls[:, CODE:].any(axis=1))
