"""A call list: from the lines of a text or CSV file to a number set, every row accounted for.

A row is a number, or several columns of which one is named number, numero, phone, telefono or telephone and, if a column
says it per row, one is named basis. Without a header the first column is the number.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator
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
    """`problems` holds the first `SHOWN_PROBLEMS` of `refused`."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    problems: list[RowProblem] = []


class CallListUnreadable(ValueError):
    """The file as a whole is no call list."""


def build(lines: Iterable[str], path: Path, *, home: str, basis: Basis) -> Tally:
    """Write the number set (tags are places in `BASES`) to `path`; `basis` is for rows that name none.

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
    numbers = np.fromiter(found.keys(), np.uint64, len(found))
    tags = np.fromiter(found.values(), np.uint16, len(found))
    order = np.argsort(numbers)
    numberset.write(path, [numbers[order]], meta=b"{}", tags=tags[order])
    return tally


def _read(raw: str, basis: str, home: str) -> tuple[int, int]:
    if basis not in BASES:
        raise ValueError(f"basis must be one of {', '.join(BASES)}")
    return int(phone.parse(raw.strip(), home).e164.removeprefix("+")), BASES.index(basis)


def _nothing(tally: Tally) -> str:
    if not tally.rows:
        return "the file has no rows"
    first = tally.problems[0]
    return f"none of its {tally.rows} rows holds a telephone number; line {first.line}: {first.problem}"


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Line, number and basis of each row that is not empty."""
    number_at, basis_at = 0, -1
    reader = csv.reader(_without_mark(lines), delimiter=",")
    try:
        for columns in reader:
            cells = columns if len(columns) != 1 else columns[0].split(";")
            names = [cell.strip().lower() for cell in cells]
            if reader.line_num == 1 and any(name in _NUMBER_NAMES for name in names):
                number_at = next(at for at, name in enumerate(names) if name in _NUMBER_NAMES)
                basis_at = next((at for at, name in enumerate(names) if name in _BASIS_NAMES), -1)
            elif any(names):
                yield reader.line_num, _cell(cells, number_at), _cell(cells, basis_at).strip().lower()
    except csv.Error as error:
        raise CallListUnreadable(f"line {reader.line_num}: {error}") from error


def _cell(cells: list[str], at: int) -> str:
    return cells[at] if 0 <= at < len(cells) else ""


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """Spreadsheets begin a file with a byte order mark."""
    for at, line in enumerate(lines):
        yield line.removeprefix("\ufeff") if at == 0 else line


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
