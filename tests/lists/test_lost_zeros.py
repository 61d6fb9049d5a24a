"""Tests of files that went through a spreadsheet, which drops the zero or the plus of a telephone number."""

import random
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dialgate.core import lost_digits
from dialgate.lists import call_list, tabular
from dialgate.lists.call_list import RowProblem, Tally
from dialgate.lists.number_set import NumberSet
from tests.lists.test_tabular import workbook


def read(path: Path, file: bytes, home: str = "IT") -> tuple[Tally, list[str], list[RowProblem]]:
    """Build a call list from a file. Return its tally, its numbers and the rows that were left out."""
    problems: list[RowProblem] = []
    target = path / "list.numbers"
    table = tabular.read(BytesIO(file), home)
    tally = call_list.build(table, target, home=home, basis="directory", note=problems.append)
    with closing(NumberSet.open(target)) as numbers:
        return tally, [f"+{number}" for number in numbers.arrays()[0].tolist()], problems


def text(cells: list[str]) -> bytes:
    return "".join(f"{cell}\n" for cell in ["number", *cells]).encode()


# The cells of a column that lost its zeros: the landlines 0331 234567 and 06 12345678, and two mobiles.
LOST = ["331234567", "612345678", "3331234567", "3311234567"]


@pytest.mark.parametrize(
    ("home", "cells", "numbers", "doubtful"),
    [
        # Excel's numbers: only a complete international number is certain where a zero belongs to the number.
        ("IT", [331234567], [], 1),
        ("IT", [612345678], [], 1),
        ("IT", [3331234567], [], 1),
        ("IT", [393312345678], ["+393312345678"], 0),
        ("IT", [390331234567], ["+390331234567"], 0),
        ("IT", [12125551234], ["+12125551234"], 0),
        ("IT", [33123456789], [], 1),  # of France, or 0331 23456789 without its zero
        ("IT", [390612345], [], 1),  # +39 06 12345, or 039 0612345 without its zero
        ("IT", [393312345678.0], ["+393312345678"], 0),
        ("IT ES", [612345678], [], 1),
        ("ES", [612345678], ["+34612345678"], 0),
        ("US", [2125551234], ["+12125551234"], 0),
        ("FR", [612345678], ["+33612345678"], 0),
        # Text is certain, unless the column lost its zeros.
        ("IT", ["0331234567", "3331234567"], ["+390331234567", "+393331234567"], 0),
        ("IT", ["0612345678", "331234567"], ["+39331234567", "+390612345678"], 0),
        ("IT", ["3331234567", "3311234567"], ["+393311234567", "+393331234567"], 0),
        ("IT", ["3331234567", "331234567"], ["+393331234567"], 1),
        ("IT", LOST, ["+393331234567"], 3),
        ("IT", ["06 12345678", *LOST], ["+393331234567", "+390612345678"], 3),  # a blank keeps the zero
        ("IT", ["+39 06 12345678", *LOST], ["+393331234567", "+390612345678"], 3),
        ("IT", ["393312345678", "331234567"], ["+393312345678"], 1),
        # A column with numbers and texts
        ("IT", ["0331234567", 331234568, 393331234567], ["+390331234567", "+393331234567"], 1),
        ("IT", ["612345678", 393331234567, "3331234568"], ["+393331234567", "+393331234568"], 1),
    ],
)  # fmt: skip
def test_number_that_may_have_lost_a_zero_or_a_plus_is_left_out_and_counted(
    tmp_path: Path, home: str, cells: list[Any], numbers: list[str], doubtful: int
) -> None:
    certain = "+4930123457"  # so that the list is not empty
    file = workbook([["number"], *([cell] for cell in cells), [certain]])
    tally, found, problems = read(tmp_path, file, home)
    assert found == sorted([*numbers, certain], key=int)
    assert (tally.doubtful, tally.refused, len(problems)) == (doubtful, 0, doubtful)
    assert all(problem.problem.startswith("may have lost a zero or a plus in Excel") for problem in problems)
    if all(isinstance(cell, str) for cell in cells):
        assert read(tmp_path, text([*cells, certain]), home)[0] == tally


def test_list_without_a_certain_number_says_what_excel_did(tmp_path: Path) -> None:
    with pytest.raises(
        tabular.Unreadable, match=r"^Excel dropped the zero or the plus in 2 cells: format the column"
    ):
        read(tmp_path, workbook([["number"], [331234567], [3331234567]]))


def test_50000_mixed_numbers_make_no_mobile_out_of_a_landline(tmp_path: Path) -> None:
    """A CSV as Excel saves it: landlines of all area codes and mobiles, without zeros."""
    rng = random.Random(42)
    mobiles = [f"3{rng.choice((20, 28, 33, 47, 31, 91))}{rng.randrange(10**7):07}" for _ in range(25_000)]
    areas = ["06", "02", "011", "0331", "0321", "0341", "0372", "0391", "081", "0935"]
    landlines = [f"{rng.choice(areas)}{rng.randrange(10**5, 10**6)}" for _ in range(25_000)]
    rows = [*mobiles, *landlines]
    rng.shuffle(rows)
    tally, found, _ = read(
        tmp_path, ("number;name\r\n" + "".join(f"{int(row)};Rossi\r\n" for row in rows)).encode()
    )
    assert set(found) <= {f"+39{mobile}" for mobile in mobiles}
    assert tally.doubtful > 20_000
    assert tally.rows == tally.accepted + tally.duplicates + tally.refused + tally.doubtful


@pytest.mark.parametrize(
    ("digits", "home", "expected"),
    [
        ("331234567", "IT", {"+39331234567", "+390331234567"}),
        ("612345678", "IT", {"+390612345678"}),
        ("612345678", "IT ES", {"+390612345678", "+34612345678"}),
        ("393312345678", "IT", {"+393312345678"}),
        ("390612345", "IT", {"+390612345", "+390390612345", "+39390612345"}),
        ("612345678", "FR", {"+33612345678"}),
        ("12", "IT", set()),
    ],
)
def test_readings_are_all_numbers_that_digits_can_mean(digits: str, home: str, expected: set[str]) -> None:
    assert lost_digits.readings(digits, home) == expected
