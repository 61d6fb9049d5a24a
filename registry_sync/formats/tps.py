"""Full files from the UK Telephone Preference Service and its corporate counterpart.

Every line has 12 characters and ends in CRLF. There are two layouts:

    with spaces      dialling code, left-justified in 5 characters; the rest, right-justified in 7; padded with spaces
    without spaces   at most 12 digits, left-justified, padded with spaces

Numbers are national, with their leading 0. (corporate.mpsonline.org.uk/shared/technical_desc.asp; the layout
of change files is not published.)
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from dialgate.lists.number_set import distinct
from registry_sync.formats import text
from registry_sync.formats.number_files import FullFile
from registry_sync.formats.text import CR, LF, NINE, SPACE, ZERO, FaultyFile, Mask, Numbers

CODE, WIDTH = 5, 12
COUNTRY: Final = 44
MIN_DIGITS, MAX_DIGITS = 9, 10  # digits after the 0


def read(path: Path, progress: text.Progress, *, spaced: bool) -> FullFile:
    """Read a full file. Raises FaultyFile and OSError."""
    total, lines = sha256(), 0
    parts: list[Numbers] = []
    for chunk in text.read_chunks(path, total.update, progress):
        numbers = _parse(chunk, path.name, lines, spaced=spaced)
        parts.append(numbers)
        lines += len(numbers)
    return FullFile(total.hexdigest(), lines, distinct(np.concatenate(parts)))


def _parse(chunk: bytes, name: str, before: int, *, spaced: bool) -> Numbers:
    width = WIDTH + 2
    whole = len(chunk) // width
    rows = np.frombuffer(chunk, np.uint8, whole * width).reshape(-1, width)
    good = (rows[:, -2] == CR) & (rows[:, -1] == LF)
    if not good.all() or len(chunk) % width:
        at = int(np.argmin(np.append(good, np.False_)))
        fault = text.encoding_fault(chunk[at * width : (at + 1) * width])
        fault = fault or f"the line is not {WIDTH} characters and CRLF. Is the file truncated?"
        raise FaultyFile(f"{name}, line {before + at + 1:,}: {fault}")
    digit = rows[:, :WIDTH] - ZERO
    is_digit = digit <= NINE - ZERO
    bad = (~is_digit & (rows[:, :WIDTH] != SPACE)).any(axis=1) | _misplaced(is_digit, spaced=spaced)
    numbers = np.zeros(len(rows), np.uint64)
    for column in range(WIDTH):
        shifted = numbers * np.uint64(10) + digit[:, column]
        numbers = np.where(is_digit[:, column], shifted, numbers)
    count = is_digit.sum(axis=1) - 1
    bad |= (digit[:, 0] != 0) | (count < MIN_DIGITS) | (count > MAX_DIGITS)
    if bad.any():
        layout = "with spaces" if spaced else "without spaces"
        at = before + int(np.argmax(bad)) + 1
        raise FaultyFile(f"{name}, line {at:,}: not a valid British number (layout {layout})")
    country = np.where(count == MAX_DIGITS, COUNTRY * 10**MAX_DIGITS, COUNTRY * 10**MIN_DIGITS)
    international: Numbers = numbers + country.astype(np.uint64)
    return international


def _misplaced(is_digit: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]", *, spaced: bool) -> Mask:
    """Return a mask of the rows with misplaced spaces.

    Digits are left-justified in the layout without spaces, and in the first field of the layout with spaces. In these
    fields no digit may follow a space. In the second field digits are right-justified, so no space may follow a digit.
    """
    rises = is_digit[:, 1:] & ~is_digit[:, :-1]
    if not spaced:
        return np.asarray(rises.any(axis=1))
    falls = is_digit[:, :-1] & ~is_digit[:, 1:]
    return np.asarray(rises[:, : CODE - 1].any(axis=1) | falls[:, CODE:].any(axis=1))
