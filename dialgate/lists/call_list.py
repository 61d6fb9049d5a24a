"""A call list: from the rows of a file to a number set, every row accounted for.

A row is a number, or several columns of which one is the number's (`tabular` finds it) and, if a column says it per row,
one is named basis.
"""

import hashlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
from msgspec import Struct

from dialgate.core import phone
from dialgate.core.model import Basis, Kind
from dialgate.crypto import redaction
from dialgate.lists import number_set, tabular

BASES: tuple[Basis, ...] = get_args(Basis)
_STATED = len(BASES)  # the tag, while a file is read, of a row that says `directory` itself
SHOWN_PROBLEMS = 100
_BASIS_NAMES = frozenset({"basis", "base", "base_giuridica"})


class RowProblem(Struct, frozen=True):
    """`line` counts from 1, the header included. The number itself is not repeated."""

    line: int
    problem: str


class Tally(Struct):
    """`problems` holds the first `SHOWN_PROBLEMS` of `refused`; `bases` what the accepted rest on, `stated` for which of these
    the rows said `directory` themselves. `unstated`: accepted numbers for which a row must say so, and did not.
    """

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    problems: list[RowProblem] = []
    bases: tuple[Basis, ...] = ()
    stated: tuple[bool, ...] = ()
    unstated: int = 0


class CallListUnreadable(tabular.Unreadable):
    """No row of the file holds a number. The text is a sentence that says why, and never holds one itself."""


def _quiet(_: RowProblem) -> None: ...


def build(
    table: tabular.Table,
    path: Path,
    *,
    home: str,
    basis: Basis,
    stated_kinds: Collection[Kind] = (),
    note: Callable[[RowProblem], None] = _quiet,
) -> Tally:
    """Write the number set to `path`; `basis` is for rows that name none. Its tags are places in the tally's `bases`; a
    list that rests on one basis has none, which makes it smaller and quicker to look up. `stated_kinds`: numbers that are
    directory entries only if their own row says so. `note` is told of every row that is left out.

    Of two rows with the same number the first counts. Raises `tabular.Unreadable`.
    """
    tally = Tally()
    numbers: dict[int, int] = {}
    at, basis_at = table.layout.number - 1, table.column(_BASIS_NAMES)
    for line, cells in table.rows:
        tally.rows += 1
        try:
            number, tag, kind = _read(_cell(cells, at), _cell(cells, basis_at), basis, home)
        except ValueError as error:
            tally.refused += 1
            problem = RowProblem(line, str(error))
            note(problem)
            if len(tally.problems) < SHOWN_PROBLEMS:
                tally.problems.append(problem)
            continue
        if number in numbers:
            tally.duplicates += 1
            note(RowProblem(line, "stands on the list already"))
        else:
            numbers[number] = tag
            tally.unstated += kind in stated_kinds and tag == BASES.index("directory")
    tally.accepted = len(numbers)
    if not numbers:
        raise CallListUnreadable(_nothing(tally))
    tags = _write(path, numbers)
    tally.bases = tuple("directory" if tag == _STATED else BASES[tag] for tag in tags)
    tally.stated = tuple(tag == _STATED for tag in tags)
    return tally


def _write(path: Path, found: dict[int, int]) -> list[int]:
    """Return the tags that occur, in the order in which the file numbers them."""
    numbers = np.fromiter(found.keys(), np.uint64, len(found))
    used, tags = np.unique(np.fromiter(found.values(), np.uint16, len(found)), return_inverse=True)
    order = np.argsort(numbers)
    tagged = tags[order].astype(np.uint16) if len(used) > 1 else None
    number_set.write(path, [numbers[order]], meta=b"{}", tags=tagged)
    return [int(tag) for tag in used]


def _read(raw: str, own: str, basis: Basis, home: str) -> tuple[int, int, Kind]:
    """`own`: the basis that the row names, if any."""
    basis_name = own.strip().lower() or basis
    if basis_name not in BASES:
        raise ValueError(f"basis must be one of {', '.join(BASES)}")
    number = _parsed(raw, home)
    tag = _STATED if basis_name == "directory" and own.strip() else BASES.index(basis_name)
    return int(number.e164.removeprefix("+")), tag, number.kind


def number_of(raw: str, home: str) -> str:
    """In E.164. Raises ValueError, whose text is a phrase without a digit."""
    return _parsed(raw, home).e164


def _parsed(raw: str, home: str) -> phone.Parsed:
    if raw.startswith("="):
        raise ValueError("is a formula; save the list with its values")
    return phone.parse(raw.strip(), home)


def _cell(cells: list[str], at: int) -> str:
    return cells[at] if 0 <= at < len(cells) else ""


def _nothing(tally: Tally) -> str:
    if not tally.rows:
        return "The file has no rows; send a number a row."
    first = tally.problems[0]
    return f"None of its {tally.rows} rows holds a telephone number. Line {first.line}: {first.problem}."


def names_one_of(path: Path, text: str, home: str) -> bool:
    """Return whether a text about the list holds one of its numbers. Such a text is stored in clear with every decision."""
    numbers = number_set.NumberSet.open(path)
    try:
        for reading in redaction.readings(text):
            for raw in (f"+{reading}", reading):
                with suppress(phone.NotANumber):
                    if numbers.tag(int(phone.parse(raw, home).e164.removeprefix("+"))) >= 0:
                        return True
        return False
    finally:
        numbers.close()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
