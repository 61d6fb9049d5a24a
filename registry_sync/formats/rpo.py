"""The files of the Italian Registro Pubblico delle Opposizioni: what is asked and what comes back.

A request holds one number a line, an answer `number,status`, where 1 is enrolled and 0 is not. Numbers are in national
form: no +39, the leading 0 of a landline kept. Lines end in CRLF or LF. A file is that `.txt`, or a `.zip` with it alone.

Of an answer only an explicit 0 is one (DPR 26/2022 art. 8).
"""

import io
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from dialgate.core.model import DAY
from dialgate.lists.number_set import distinct
from registry_sync.formats import text
from registry_sync.formats.text import NINE, ZERO, Bytes, FaultyFile, Integers, Mask, Numbers

VALIDITY: Final = 15 * DAY  # DPR 26/2022 art. 8 c. 2, for calls; the gate's own limit is in its configuration
COUNTRY: Final = 39
SHORTEST, LONGEST = 6, 12
# No Italian number begins with 2, 6 or 9: one that does is a landline that has lost its 0.
FIRST: Final = b"0134578"
# Mobiles of the prefixes 39x have at most 10 digits; a longer one carries the country code.
LONGEST_39: Final = 10
# San Marino's landlines, which answer under 0549 as well, are not of the registry (L. 5/2018: national numbers).
SAN_MARINO: Final = b"0549"

COMMA = ord(",")


class Numbered(NamedTuple):
    """A file's numbers, E.164 as ints, in the order of the file. `statuses` (0 or 1) is all 0 for a request."""

    name: str
    sha256: str
    numbers: Numbers
    statuses: Bytes


class Answers(NamedTuple):
    """Sorted, each number once; `listed` says which are enrolled. `lines` counts the repeated ones as well."""

    numbers: Numbers
    listed: Mask
    lines: int


def read_request(path: Path, advance: Callable[[int], None]) -> Numbered:
    """Raises FaultyFile, OSError. `advance` is told of the bytes done."""
    return _read(path, advance, answered=False)


def read_answer(path: Path, advance: Callable[[int], None]) -> Numbered:
    """Raises FaultyFile, OSError. `advance` is told of the bytes done."""
    return _read(path, advance, answered=True)


def match(request: Numbered, answer: Numbered) -> Answers:
    """The answers, when each number asked about has exactly one and no other has any; else FaultyFile."""
    answers = distinct(answer.numbers * np.uint64(2) + answer.statuses)
    numbers = answers >> np.uint64(1)
    twice = numbers[1:][numbers[1:] == numbers[:-1]]
    if len(twice):
        line = min(_lines_with(answer, number)[-1] for number in twice[:1000])
        raise FaultyFile(f"{answer.name}, line {line:,}: this number stands above with the other status")
    asked = distinct(request.numbers)
    if not np.array_equal(asked, numbers):
        _refuse_strays(answer, asked, "this number was not asked about: is it the answer to this request?")
        _refuse_strays(
            request, numbers, f"this number has no answer in {answer.name}: is the answer cut short?"
        )
    return Answers(numbers, (answers & np.uint64(1)).astype(bool), len(answer.numbers))


def _lines_with(file: Numbered, number: np.uint64) -> list[int]:
    return [int(at) + 1 for at in np.flatnonzero(file.numbers == number)]


def _refuse_strays(file: Numbered, wanted: Numbers, fault: str) -> None:
    """`wanted` is sorted."""
    at = np.searchsorted(wanted, file.numbers)
    strays = np.flatnonzero(wanted[np.minimum(at, len(wanted) - 1)] != file.numbers)
    if len(strays):
        others = f" ({len(strays) - 1:,} more like it)" if len(strays) > 1 else ""
        raise FaultyFile(f"{file.name}, line {strays[0] + 1:,}: {fault}{others}")


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(path: Path, advance: Callable[[int], None], *, answered: bool) -> Numbered:
    total = sha256()
    numbers: list[Numbers] = []
    statuses: list[Bytes] = []
    done = 0
    with text.opened(path) as (file, _):
        for piece in text.pieces(file):
            total.update(piece)
            found, said = _parse(np.frombuffer(piece, np.uint8), path.name, done, answered=answered)
            numbers.append(found)
            statuses.append(said)
            done += len(found)
            advance(len(piece))
    if not done:
        raise FaultyFile(f"{path.name}: it is empty")
    return Numbered(path.name, total.hexdigest(), np.concatenate(numbers), np.concatenate(statuses))


def _parse(piece: Bytes, name: str, lines_before: int, *, answered: bool) -> tuple[Numbers, Bytes]:
    """E.164 numbers and statuses of whole lines, all lines of one length at a time."""
    begins, ends = text.bounds(piece)
    digits = ends - begins - (2 if answered else 0)
    bad: Mask = (digits < SHORTEST) | (digits > LONGEST)
    numbers = np.zeros(len(begins), np.uint64)
    for length in range(SHORTEST, LONGEST + 1):
        rows = np.flatnonzero(digits == length)
        if len(rows):
            numbers[rows], bad[rows] = _parse_numbers(piece, begins[rows], length)
    statuses = np.zeros(len(begins), np.uint8)
    if answered:
        statuses = piece[ends - 1] - ZERO
        bad |= (piece[np.maximum(ends - 2, 0)] != COMMA) | (statuses > 1)
    if bad.any():
        at = int(np.argmax(bad))
        fault = _fault(piece[begins[at] : ends[at]].tobytes(), answered=answered)
        raise FaultyFile(f"{name}, line {lines_before + at + 1:,}: {fault}")
    return numbers, statuses


def _parse_numbers(piece: Bytes, begins: Integers, length: int) -> tuple[Numbers, Mask]:
    """Which of the second are not numbers that the plan has; of those the first means nothing."""
    numbers = np.full(len(begins), COUNTRY, np.uint64)
    first, second = piece[begins], piece[begins + 1]
    bad: Mask = np.isin(first, np.frombuffer(FIRST, np.uint8), invert=True)
    if length > LONGEST_39:
        bad |= (first == ord("3")) & (second == ord("9"))
    for column in range(length):
        digit = piece[begins + column] - ZERO
        bad |= digit > NINE - ZERO  # a character below ZERO has wrapped round
        numbers *= np.uint64(10)
        numbers += digit
    return numbers, bad


def _fault(line: bytes, *, answered: bool) -> str:
    """Why this line was refused, without what stands in it."""
    if not line:
        return "it is empty"
    if fault := text.encoding_fault(line):
        return fault
    number, comma, status = line.partition(b",")
    if answered and not comma:
        return "no status follows the number: is the file cut short, or is it the request?"
    if answered and status not in (b"0", b"1"):
        return "the status is neither 0 nor 1"
    if not answered and comma:
        return "more than a number: is it the answer?"
    if not number.isdigit():
        return "the number is not digits alone (no +39, no spaces)"
    if not SHORTEST <= len(number) <= LONGEST:
        return f"a national number has {SHORTEST} to {LONGEST} digits, not {len(number)}"
    if number.startswith(b"39"):
        return "the number seems to carry the country code 39: the registry's form is national"
    return "no Italian number begins so: has a landline lost its 0?"


# ---- asking ----------------------------------------------------------------------------------------------------------


def askable(numbers: Numbers) -> Mask:
    """Which of these E.164 numbers the registry can be asked about: Italian ones, of a subscriber."""
    found = np.zeros(len(numbers), np.bool_)
    for digits in range(SHORTEST, LONGEST + 1):
        scale = np.uint64(10**digits)
        here = numbers // scale == COUNTRY
        national = numbers % scale
        first = national // np.uint64(10 ** (digits - 1))
        good = np.isin(first, [0, 3, 5, 7])
        good &= national // np.uint64(10 ** (digits - 4)) != int(SAN_MARINO)
        if digits > LONGEST_39:
            good &= national // np.uint64(10 ** (digits - 2)) != COUNTRY
        found |= here & good
    return found


def request_text(numbers: Numbers) -> bytes:
    return b"".join(b"%b\r\n" % str(number)[2:].encode() for number in numbers.tolist())


def request_zip(content: bytes) -> bytes:
    """The same bytes for the same text, whenever it is packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("numbers.txt")
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
    return packed.getvalue()
