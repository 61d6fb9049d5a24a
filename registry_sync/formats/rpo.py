"""Request and answer files for the Italian Registro Pubblico delle Opposizioni (RPO).

A request has one number on each line. Each line of an answer is `number,status`, where 1 means enrolled and 0
means not enrolled. Numbers are in national form, without +39. Landline numbers keep their leading 0. Lines end in
CRLF or LF. A file is a `.txt`, or a `.zip` that contains only this `.txt`.

Only an explicit 0 means that a number is not enrolled (DPR 26/2022 art. 8).
"""

from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np

from dialgate.core.model import DAY
from registry_sync.formats import text
from registry_sync.formats.number_files import NumberFile
from registry_sync.formats.text import NINE, ZERO, Bytes, FaultyFile, Integers, Mask, Numbers

VALIDITY: Final = 15 * DAY  # DPR 26/2022 art. 8 c. 2, for calls; the gate's own limit is in its configuration
COUNTRY: Final = 39
MIN_DIGITS, MAX_DIGITS = 6, 12
# No Italian number begins with 2, 6 or 9. A number that does is a landline without its leading 0.
FIRST: Final = b"0134578"
# Mobile numbers 39x have at most 10 digits; a longer number contains the country code.
LONGEST_39: Final = 10
# San Marino's landlines, also reachable under 0549, are not in the registry (L. 5/2018: national numbers).
SAN_MARINO: Final = b"0549"

COMMA = ord(",")


def read_request(path: Path, progress: text.Progress = text.no_progress) -> NumberFile:
    """Read a request file. Raises FaultyFile and OSError."""
    return _read(path, progress, has_status=False)


def read_answer(path: Path, progress: text.Progress = text.no_progress) -> NumberFile:
    """Read an answer file. Raises FaultyFile and OSError."""
    return _read(path, progress, has_status=True)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(path: Path, progress: text.Progress, *, has_status: bool) -> NumberFile:
    total = sha256()
    numbers: list[Numbers] = []
    statuses: list[Bytes] = []
    lines = 0
    for chunk in text.read_chunks(path, total.update, progress):
        piece_numbers, piece_statuses = _parse(
            np.frombuffer(chunk, np.uint8), path.name, lines, has_status=has_status
        )
        numbers.append(piece_numbers)
        statuses.append(piece_statuses)
        lines += len(piece_numbers)
    return NumberFile(path.name, total.hexdigest(), np.concatenate(numbers), np.concatenate(statuses))


def _parse(chunk: Bytes, name: str, lines_before: int, *, has_status: bool) -> tuple[Numbers, Bytes]:
    """Parse whole lines into E.164 numbers and statuses. Lines of equal length are parsed together."""
    begins, ends = text.line_bounds(chunk)
    digits = ends - begins - (2 if has_status else 0)
    bad: Mask = (digits < MIN_DIGITS) | (digits > MAX_DIGITS)
    numbers = np.zeros(len(begins), np.uint64)
    for length in range(MIN_DIGITS, MAX_DIGITS + 1):
        rows = np.flatnonzero(digits == length)
        if len(rows):
            numbers[rows], bad[rows] = _parse_numbers(chunk, begins[rows], length)
    statuses = np.zeros(len(begins), np.uint8)
    if has_status:
        statuses = chunk[ends - 1] - ZERO
        bad |= (chunk[np.maximum(ends - 2, 0)] != COMMA) | (statuses > 1)
    if bad.any():
        at = int(np.argmax(bad))
        fault = _line_fault(chunk[begins[at] : ends[at]].tobytes(), has_status=has_status)
        raise FaultyFile(f"{name}, line {lines_before + at + 1:,}: {fault}")
    return numbers, statuses


def _parse_numbers(chunk: Bytes, begins: Integers, length: int) -> tuple[Numbers, Mask]:
    """Return the numbers, and a mask of the numbers outside the numbering plan."""
    numbers = np.full(len(begins), COUNTRY, np.uint64)
    first, second = chunk[begins], chunk[begins + 1]
    bad: Mask = np.isin(first, np.frombuffer(FIRST, np.uint8), invert=True)
    if length > LONGEST_39:
        bad |= (first == ord("3")) & (second == ord("9"))
    for column in range(length):
        digit = chunk[begins + column] - ZERO
        bad |= digit > NINE - ZERO  # a character below ZERO wraps round
        numbers *= np.uint64(10)
        numbers += digit
    return numbers, bad


def _line_fault(line: bytes, *, has_status: bool) -> str:
    """Return the reason why this line is invalid, without quoting the line."""
    if not line:
        return "the line is empty"
    if fault := text.encoding_fault(line):
        return fault
    number, comma, status = line.partition(b",")
    if has_status and not comma:
        return "no status after the number. Is the file truncated, or is it the request file?"
    if has_status and status not in (b"0", b"1"):
        return "the status is neither 0 nor 1"
    if not has_status and comma:
        return "the line contains more than a number. Is this the answer file?"
    if not number.isdigit():
        return "the number must contain only digits, without +39 or spaces"
    if not MIN_DIGITS <= len(number) <= MAX_DIGITS:
        return f"a national number has {MIN_DIGITS} to {MAX_DIGITS} digits, not {len(number)}"
    if number.startswith(b"39"):
        return "the number seems to contain the country code 39; the registry uses the national form"
    return "no Italian number begins with this digit. Is a landline's leading 0 missing?"


# ---- writing ---------------------------------------------------------------------------------------------------------


def is_queryable(numbers: Numbers) -> Mask:
    """Return a mask of the E.164 numbers that the registry covers: Italian subscriber numbers."""
    mask = np.zeros(len(numbers), np.bool_)
    for digits in range(MIN_DIGITS, MAX_DIGITS + 1):
        scale = np.uint64(10**digits)
        is_italian = numbers // scale == COUNTRY
        national = numbers % scale
        first = national // np.uint64(10 ** (digits - 1))
        good = np.isin(first, [0, 3, 5, 7])
        good &= national // np.uint64(10 ** (digits - 4)) != int(SAN_MARINO)
        if digits > LONGEST_39:
            good &= national // np.uint64(10 ** (digits - 2)) != COUNTRY
        mask |= is_italian & good
    return mask


def request_text(numbers: Numbers, _since: date | None = None, /) -> bytes:
    return b"".join(b"%b\r\n" % str(number)[2:].encode() for number in numbers.tolist())
