"""A call list: from the lines of a text or CSV file to a number set, every row accounted for.

A row is a number, or several columns of which one is named number, numero, phone, telefono or telephone and, if a column
says it per row, one is named basis. Without a header the first column is the number. Columns are parted by the comma,
semicolon or tab that is most frequent in the first line.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
from msgspec import Struct

from dialgate import numberset, phone
from dialgate.model import Basis

BASES: tuple[Basis, ...] = get_args(Basis)
SHOWN_PROBLEMS = 100
_NUMBER_NAMES = frozenset(
    {"number", "numero", "numero_telefono", "phone", "telefono", "telephone", "tel", "msisdn"}
)
_BASIS_NAMES = frozenset({"basis", "base", "base_giuridica"})


class RowProblem(Struct, frozen=True):
    """`line` counts from 1, the header included. The number itself is not repeated."""

    line: int
    problem: str


class Tally(Struct):
    """`problems` holds the first `SHOWN_PROBLEMS` of `refused`; `bases` what the accepted rest on."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    problems: list[RowProblem] = []
    bases: tuple[Basis, ...] = ()


class CallListUnreadable(ValueError):
    """The file as a whole is no call list. The text is a sentence that says why, and never holds a number."""


def build(lines: Iterable[str], path: Path, *, home: str, basis: Basis) -> Tally:
    """Write the number set to `path`; `basis` is for rows that name none. Its tags are places in the tally's `bases`; a
    list that rests on one basis has none, which makes it smaller and quicker to look up.

    Of two rows with the same number the first counts. Raises `CallListUnreadable` where no row can be read."""
    tally = Tally()
    found: dict[int, int] = {}
    for line, raw, named in _rows(lines):
        tally.rows += 1
        try:
            number, tag = _read(raw, named or basis, home)
        except ValueError as error:
            tally.refused += 1
            if len(tally.problems) < SHOWN_PROBLEMS:
                tally.problems.append(RowProblem(line, str(error)))
            continue
        if number in found:
            tally.duplicates += 1
        else:
            found[number] = tag
    tally.accepted = len(found)
    if not found:
        raise CallListUnreadable(_nothing(tally))
    tally.bases = _write(path, found)
    return tally


def _write(path: Path, found: dict[int, int]) -> tuple[Basis, ...]:
    numbers = np.fromiter(found.keys(), np.uint64, len(found))
    used, tags = np.unique(np.fromiter(found.values(), np.uint16, len(found)), return_inverse=True)
    order = np.argsort(numbers)
    tagged = tags[order].astype(np.uint16) if len(used) > 1 else None
    numberset.write(path, [numbers[order]], meta=b"{}", tags=tagged)
    return tuple(BASES[at] for at in used)


def _read(raw: str, basis: str, home: str) -> tuple[int, int]:
    if basis not in BASES:
        raise ValueError(f"basis must be one of {', '.join(BASES)}")
    return int(phone.parse(raw.strip(), home).e164.removeprefix("+")), BASES.index(basis)


def _nothing(tally: Tally) -> str:
    if not tally.rows:
        return "The file has no rows; send a number a row."
    first = tally.problems[0]
    return f"None of its {tally.rows} rows holds a telephone number. Line {first.line}: {first.problem}."


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Line, number and basis of each row that is not empty."""
    number_at, basis_at, begun = 0, -1, False
    rest = iter(lines)
    first = next(rest, "").removeprefix("\ufeff")  # spreadsheets begin a file with a byte order mark
    # Strict: else a quotation mark left open would take every row after it for one.
    reader = csv.reader(chain([first], rest), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        for cells in reader:
            names = [cell.strip().lower() for cell in cells]
            if not begun and any(name in _NUMBER_NAMES for name in names):
                number_at = next(at for at, name in enumerate(names) if name in _NUMBER_NAMES)
                basis_at = next((at for at, name in enumerate(names) if name in _BASIS_NAMES), -1)
            elif any(names):
                yield reader.line_num, _cell(cells, number_at), _cell(cells, basis_at).strip().lower()
            begun = begun or any(names)
    except csv.Error as error:
        raise CallListUnreadable(
            f"Line {reader.line_num} is no CSV ({error}); look for a quotation mark left open."
        ) from error


def _cell(cells: list[str], at: int) -> str:
    return cells[at] if 0 <= at < len(cells) else ""


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
