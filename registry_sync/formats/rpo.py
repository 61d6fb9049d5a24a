"""The files of the Italian Registro Pubblico delle Opposizioni: what is asked and what comes back.

A request holds one number a line, an answer `number,status`, where 1 is enrolled and 0 is not. Numbers are in national
form: no +39, the leading 0 of a landline kept. Lines end in CRLF or LF. A file is that `.txt`, or a `.zip` with it alone.

A file is taken whole or not at all (DPR 26/2022 art. 8: only an explicit 0 is an answer). Faults name the line, counted
from 1, and never the number.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dialgate.model import DAY
from dialgate.numberset import distinct

Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.int64]
Numbers: TypeAlias = NDArray[np.uint64]
Mask: TypeAlias = NDArray[np.bool_]

VALIDITY: Final = 15 * DAY  # DPR 26/2022 art. 8 c. 2, for calls; the gate's own limit is in its configuration
LARGEST: Final = 2 << 30
HIGHEST_RATIO: Final = 200
PIECE: Final = 1 << 20  # what fits the processor's cache with its indices
COUNTRY: Final = 39
SHORTEST, LONGEST = 6, 12
# No Italian number begins with 2, 6 or 9: one that does is a landline that has lost its 0.
FIRST: Final = b"0134578"
# Mobiles of the prefixes 39x have at most 10 digits; a longer one carries the country code.
LONGEST_39: Final = 10

ZERO, NINE, COMMA, CR, LF = b"09,\r\n"


class FaultyFile(Exception):
    """A file that is refused whole. The message is `NAME: FAULT` or `NAME, line N: FAULT`."""


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


def text_size(path: Path) -> int:
    """Bytes of the text, as far as the file says. Raises FaultyFile, OSError."""
    with _text(path) as (_, size):
        return size


def _read(path: Path, advance: Callable[[int], None], *, answered: bool) -> Numbered:
    total = sha256()
    numbers: list[Numbers] = []
    statuses: list[Bytes] = []
    done = 0
    with _text(path) as (file, _):
        for piece in _pieces(file):
            total.update(piece)
            found, said = _parse(np.frombuffer(piece, np.uint8), path.name, done, answered=answered)
            numbers.append(found)
            statuses.append(said)
            done += len(found)
            advance(len(piece))
    if not done:
        raise FaultyFile(f"{path.name}: it is empty")
    return Numbered(path.name, total.hexdigest(), np.concatenate(numbers), np.concatenate(statuses))


@contextmanager
def _text(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    if path.suffix.lower() != ".zip":
        size = path.stat().st_size
        if size > LARGEST:
            raise FaultyFile(f"{path.name}: {size:,} bytes are more than the {LARGEST:,} that are read")
        with path.open("rb") as file:
            yield file, size
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


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
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


def _parse(text: Bytes, name: str, lines_before: int, *, answered: bool) -> tuple[Numbers, Bytes]:
    """E.164 numbers and statuses of whole lines, all lines of one length at a time."""
    begins, ends = _bounds(text)
    digits = ends - begins - (2 if answered else 0)
    bad: Mask = (digits < SHORTEST) | (digits > LONGEST)
    numbers = np.zeros(len(begins), np.uint64)
    for length in range(SHORTEST, LONGEST + 1):
        rows = np.flatnonzero(digits == length)
        if len(rows):
            numbers[rows], bad[rows] = _parse_numbers(text, begins[rows], length)
    statuses = np.zeros(len(begins), np.uint8)
    if answered:
        statuses = text[ends - 1] - ZERO
        bad |= (text[np.maximum(ends - 2, 0)] != COMMA) | (statuses > 1)
    if bad.any():
        at = int(np.argmax(bad))
        fault = _fault(text[begins[at] : ends[at]].tobytes(), answered=answered)
        raise FaultyFile(f"{name}, line {lines_before + at + 1:,}: {fault}")
    return numbers, statuses


def _bounds(text: Bytes) -> tuple[Integers, Integers]:
    """Where each line begins, and where it ends without CR and LF."""
    ends = np.flatnonzero(text == LF)
    if not len(ends) or ends[-1] != len(text) - 1:
        ends = np.append(ends, len(text))
    begins = np.concatenate(([0], ends[:-1] + 1))
    return begins, ends - ((ends > begins) & (text[ends - 1] == CR))


def _parse_numbers(text: Bytes, begins: Integers, length: int) -> tuple[Numbers, Mask]:
    """Which of the second are not numbers that the plan has; of those the first means nothing."""
    numbers = np.full(len(begins), COUNTRY, np.uint64)
    first, second = text[begins], text[begins + 1]
    bad: Mask = np.isin(first, np.frombuffer(FIRST, np.uint8), invert=True)
    if length > LONGEST_39:
        bad |= (first == ord("3")) & (second == ord("9"))
    for column in range(length):
        digit = text[begins + column] - ZERO
        bad |= digit > NINE - ZERO  # a character below ZERO has wrapped round
        numbers *= np.uint64(10)
        numbers += digit
    return numbers, bad


def _fault(line: bytes, *, answered: bool) -> str:
    """Why this line was refused, without what stands in it."""
    if not line:
        return "it is empty"
    if line.startswith(b"\xef\xbb\xbf"):
        return "the file begins with a byte order mark: save it as plain ASCII"
    if b"\0" in line or line.startswith((b"\xff\xfe", b"\xfe\xff")) or not line.isascii():
        return "it is not plain ASCII"
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
