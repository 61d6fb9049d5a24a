"""Tests of CSV that opens in a spreadsheet of any country."""

import csv

import pytest

from dialgate.runtime import csv_text


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("plain", "plain"),
        ("+39 06 1234", "+39 06 1234"),
        ("-5", "-5"),
        ("", ""),
        ("=1+1", "'=1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("+cmd|x", '"\'+cmd|x"'),
        ("-2+3", "'-2+3"),
        ("\t=1", '"\'\t=1"'),
        ("\r=1", '"\'\r=1"'),
        ("\n=1", '"\'\n=1"'),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\uff0b1-x", "'\uff0b1-x"),
        ("\uff0d1+x", "'\uff0d1+x"),
        ("\uff20SUM(1)", "'\uff20SUM(1)"),
        ("x,=F()", '"x,=F()"'),
        ("x;=F()", '"x;=F()"'),
        ("x\t=F()", '"x\t=F()"'),
        ("x|=F()", '"x|=F()"'),
        ('say "x"', '"say ""x"""'),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_cell_is_no_formula_and_is_not_split_in_any_country(cell: str, expected: str, separator: str) -> None:
    text = csv_text.line((cell, 1), separator, keep_numbers=True)
    assert text == f"{expected}{separator}1"
    (row,) = csv.reader([text], delimiter=separator)
    assert row[0].removeprefix("'") == cell


def test_cell_with_an_unusual_separator_is_quoted() -> None:
    assert csv_text.line(("a:b", "c"), ":") == '"a:b":c'


def test_report_keeps_the_plus_of_a_number_and_its_own_figures() -> None:
    assert csv_text.line(("+390844123456", "-5", -5, 0.5), ",") == "'+390844123456,'-5,-5,0.5"
