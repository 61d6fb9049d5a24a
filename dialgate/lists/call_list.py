"""A converter that turns a file with one number per row into the number set of a call list.

`tabular` finds the column with the numbers. Two other columns are optional. `basis` contains the legal basis of
each row. `place` contains the state or province in which the person lives.
"""

import hashlib
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from itertools import product
from pathlib import Path
from typing import IO, get_args

import numpy as np
from msgspec import Struct

from dialgate.core import location, phone
from dialgate.core.model import Basis, Kind
from dialgate.crypto import masking
from dialgate.lists import lost_zeros, number_set, tabular
from dialgate.lists.tabular import cell

BASES: tuple[Basis, ...] = get_args(Basis)
_STATED = len(BASES)  # temporary tag of rows whose own `basis` is `directory`
_TAGS = _STATED + 1  # number of temporary tags for each place
_MOST_PLACES = 4_096  # a tag has 16 bits
SHOWN_PROBLEMS = 100
_BASIS_NAMES = frozenset({"basis", "base", "base_giuridica"})
_PLACE_NAMES = frozenset({"place"})


class RowProblem(Struct, frozen=True):
    """An invalid row.

    `line` counts from 1, including the header. `problem` does not contain the number.
    """

    line: int
    problem: str


class Tally(Struct):
    """The row counts of a loaded call list, and the meaning of its tags.

    `problems` contains the first `SHOWN_PROBLEMS` of the `refused` rows. `doubtful` counts the rows that were skipped
    because their number may have lost a zero or a plus; they are not counted in `refused`.
    `reasons` counts all these rows by their problem.

    Each number has a tag, which is an index into `bases`, `stated` and `places`. `bases[tag]` is the legal basis.
    `stated[tag]` is true if the row itself specifies the basis `directory`. `places[tag]` is the declared place, or "".

    For some classes of number, the law requires that the row itself specifies `directory`. `unstated` counts the
    numbers of these classes whose rows rely on the default basis `directory`. These numbers do not count as directory
    entries.
    """

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    problems: list[RowProblem] = []
    bases: tuple[Basis, ...] = ()
    stated: tuple[bool, ...] = ()
    unstated: int = 0
    places: tuple[str, ...] = ()
    doubtful: int = 0
    reasons: dict[str, int] = {}


class BuildOrder(Struct, frozen=True):
    """The arguments of `build_file`: the file to write, and those of `tabular.read` and `build`."""

    path: str
    home: str
    basis: Basis
    stated_kinds: frozenset[Kind] = frozenset()
    hints: tabular.Hints = tabular.NO_HINTS


class BuildResult(Struct, frozen=True):
    layout: tabular.Layout
    tally: Tally
    sha256: str


class CallListUnreadable(tabular.Unreadable):
    """Raised for a file without a valid row, or with rows above the header. The message contains no numbers."""


def _quiet(_: RowProblem) -> None: ...


def build_file(
    file: IO[bytes], order: BuildOrder, note: Callable[[RowProblem], None] = _quiet
) -> BuildResult:
    """Write the number set of a file's rows. Call `note` with each row that is left out. Raises `tabular.Unreadable`."""
    table, path = tabular.read(file, order.home, order.hints), Path(order.path)
    tally = build(table, path, home=order.home, basis=order.basis, stated_kinds=order.stated_kinds, note=note)
    return BuildResult(table.layout, tally, sha256_of(path))


def build(
    table: tabular.Table,
    path: Path,
    *,
    home: str,
    basis: Basis,
    stated_kinds: Collection[Kind] = (),
    note: Callable[[RowProblem], None] = _quiet,
) -> Tally:
    """Write the number set to `path` and return its tally. Raises `tabular.Unreadable`.

    `basis` applies to rows that specify no basis. Numbers of `stated_kinds` are directory entries only if
    their row specifies `directory`. Call `note` with each rejected or duplicate row. If several rows have the same number, the first row determines the basis, and the first row with a place
    determines the place. A number with two different places is rejected, because the wrong place could select a
    law that is too lenient.

    Tags are indexes into the tally's `bases`, `stated` and `places`. If all numbers would have the same tag,
    no tags are written, because a number set without tags is smaller and faster.
    """
    tally = Tally()
    numbers: dict[int, int] = {}
    doubtful: set[int] = set()
    places: dict[str, int] = {}  # with their positions in the order of their first rows
    at, basis_at, place_at = table.layout.number - 1, table.column(_BASIS_NAMES), table.column(_PLACE_NAMES)
    for line, cells in table.rows:
        tally.rows += 1
        try:
            number, tag, kind = _read(cell(cells, at), cell(cells, basis_at), basis, home)
            place = _place(cell(cells, place_at), places)
        except ValueError as error:
            _refuse_late_header(line, cells, table.layout.header)
            _leave_out(tally, line, error, note)
            continue
        place_tag = places.setdefault(place, len(places)) * _TAGS
        if number not in numbers:
            numbers[number] = place_tag + tag
            tally.unstated += kind in stated_kinds and tag == BASES.index("directory")
            continue
        tally.duplicates += 1
        note(RowProblem(line, "is already on the list"))
        first = numbers[number]
        if place and first // _TAGS == places.get(""):
            numbers[number] = place_tag + first % _TAGS
        elif place and first // _TAGS * _TAGS != place_tag and number not in doubtful:
            doubtful.add(number)
            tally.unstated -= kind in stated_kinds and first % _TAGS == BASES.index("directory")
            _refuse(
                tally, RowProblem(line, "has two different places on the list; correct one of its rows"), note
            )
    for number in doubtful:
        del numbers[number]
    tally.accepted = len(numbers)
    if not numbers:
        raise CallListUnreadable(_why_empty(tally))
    tags = _write(path, numbers)
    names = tuple(places)
    tally.bases = tuple("directory" if tag % _TAGS == _STATED else BASES[tag % _TAGS] for tag in tags)
    tally.stated = tuple(tag % _TAGS == _STATED for tag in tags)
    tally.places = tuple(names[tag // _TAGS] for tag in tags)
    return tally


def _refuse_late_header(line: int, cells: list[str], header: tuple[str, ...]) -> None:
    """Raise `CallListUnreadable` if a row contains a column name such as `basis`, but differs from the header.

    The column would otherwise be ignored, and all rows would get the default basis.
    """
    at = tabular.position_of(cells, _BASIS_NAMES | _PLACE_NAMES)
    if at >= 0 and tuple(map(str.strip, cells)) != header:
        raise CallListUnreadable(
            f"Line {line} looks like the header, because it contains the column name {cells[at].strip()}. Remove all rows above it, "
            "and rename the column with the telephone numbers to `number`."
        )


def _leave_out(tally: Tally, line: int, error: ValueError, note: Callable[[RowProblem], None]) -> None:
    problem = RowProblem(line, str(error))
    if isinstance(error, lost_zeros.LostDigits):
        tally.doubtful += 1
        _note(tally, problem, note)
    else:
        _refuse(tally, problem, note)


def _refuse(tally: Tally, problem: RowProblem, note: Callable[[RowProblem], None]) -> None:
    tally.refused += 1
    _note(tally, problem, note)
    if len(tally.problems) < SHOWN_PROBLEMS:
        tally.problems.append(problem)


def _note(tally: Tally, problem: RowProblem, note: Callable[[RowProblem], None]) -> None:
    tally.reasons[problem.problem] = tally.reasons.get(problem.problem, 0) + 1
    note(problem)


def _write(path: Path, tag_of: dict[int, int]) -> list[int]:
    """Write the numbers in `tag_of` to a number set, and return their distinct tags.

    The set stores each number's tag as an index into the returned list. If all tags are equal, the set stores no tags.
    """
    numbers = np.fromiter(tag_of.keys(), np.uint64, len(tag_of))
    used, tags = np.unique(np.fromiter(tag_of.values(), np.uint16, len(tag_of)), return_inverse=True)
    order = np.argsort(numbers)
    tagged = tags[order].astype(np.uint16) if len(used) > 1 else None
    number_set.write(path, [numbers[order]], meta=b"{}", tags=tagged)
    return [int(tag) for tag in used]


def _read(raw: str, own: str, basis: Basis, home: str) -> tuple[int, int, Kind]:
    """Return the number in a row, the tag for its basis, and the kind of number. Raises `ValueError`.

    `own` is the basis in the row, or "". `basis` is the default.
    """
    basis_name = own.strip().lower() or basis
    if basis_name not in BASES:
        raise ValueError(f"basis must be one of {', '.join(BASES)}")
    number = _parse(raw, home)
    tag = _STATED if basis_name == "directory" and own.strip() else BASES.index(basis_name)
    return int(number.e164.removeprefix("+")), tag, number.kind


def _place(own: str, earlier: Collection[str]) -> str:
    """Return the state or province named in a row, or "" if the cell is empty. Raises `ValueError`.

    `own` is the cell. `earlier` contains the places named in earlier rows.
    """
    place = own.strip().upper()
    if place and (problem := location.problem_of(place)):
        raise ValueError(problem)
    if place not in earlier and len(earlier) >= _MOST_PLACES:
        raise ValueError(f"place: a list may have at most {_MOST_PLACES:,} different places; split the list")
    return place


def number_of(raw: str, home: str) -> str:
    """Return a number in E.164. Raises `ValueError`, whose message contains no digits."""
    return _parse(raw, home).e164


def _parse(raw: str, home: str) -> phone.Parsed:
    if isinstance(raw, lost_zeros.DoubtfulCell):
        raise lost_zeros.LostDigits
    if raw.startswith("="):
        raise ValueError("is a formula; save the list with values instead of formulas")
    return phone.parse(raw.strip(), home)


def _why_empty(tally: Tally) -> str:
    if not tally.rows:
        return "The file has no rows; send one number per row."
    if not tally.problems:
        return lost_zeros.summary(tally.doubtful)
    first = tally.problems[0]
    return f"No row has a valid telephone number (rows: {tally.rows}). Line {first.line}: {first.problem}."


def names_one_of(path: Path, text: str, home: str) -> bool:
    """Return whether a text contains a number from the call list at `path`.

    A request with a listed number in its text is rejected, because decisions would record the number unencrypted.
    """
    with closing(number_set.NumberSet.open(path)) as numbers:
        for reading in masking.readings(text):
            for raw, region in product((f"+{reading}", reading), home.split()):
                with suppress(phone.NotANumber):
                    if numbers.tag(int(phone.parse(raw, region).e164.removeprefix("+"))) >= 0:
                        return True
    return False


def file_name(controller: str, name: str, sha256: str) -> str:
    """Return the file name for a list of a controller.

    Ids may contain dots, so a hash of both keeps lists `a`/`b.c` and `a.b`/`c` apart.
    """
    pair = hashlib.sha256(f"{controller}\0{name}".encode()).hexdigest()
    return f"{controller}.{name}.{pair[:8]}.{sha256[:16]}.numbers"


def stem_of(file: str) -> str:
    """Return a list file's name without the hash of its content, which differs between versions of the list."""
    return file.removesuffix(".numbers").rpartition(".")[0]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
