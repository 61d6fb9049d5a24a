"""The tables of `tests/cases/grid/`. The mutants of `tests/mutants` check that they fail if a part of Italy's law is loosened."""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from dialgate.core.law import SECTIONS
from dialgate.core.model import Callee, CallType, Kind, Purpose
from dialgate.core.reasons import REASONS
from tests.support.casebook import COUNTRIES, law_of
from tests.support.decision_tables import GridError, Row, read_rows, read_words, table_rows


@cache
def rows() -> list[Row]:
    return list(read_rows())


def test_every_row_is_decided_as_the_law_says() -> None:
    differences = [
        f"{row.file}: {row.table}: {row.text}: {difference}"
        for row in rows()
        for difference in row.differences(law_of("IT"))
    ]
    assert not differences, "\n" + "\n".join(differences)


# ---- successive sections ---------------------------------------------------------------------------------------------

_SCOPE = ("id", "purposes", "call_types", "sectors", "callees", "traits", "profiled")


def unmet(text: str) -> list[str]:
    """Return each section that ends without a successor of the same scope on the following day.

    A section is exempt if a comment on its `until` line gives the reason.
    """
    data = yaml.safe_load(text)
    explained = set(re.findall(r"until: (\d{4}-\d\d-\d\d)\s*#\s*\S", text))
    return [
        f"{name}: nothing follows on {section['until']}"
        for name in SECTIONS
        for section in data.get(name, ())
        if "until" in section
        and str(section["until"]) not in explained
        and not any(_follows(item, section) for item in data[name])
    ]


def _follows(later: dict[str, Any], earlier: dict[str, Any]) -> bool:
    return later["from"] == earlier["until"] + timedelta(days=1) and all(
        later.get(key) == earlier.get(key) for key in _SCOPE
    )


@pytest.mark.parametrize("path", sorted(COUNTRIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_sections_of_one_kind_are_contiguous_or_the_file_explains_the_gap(path: Path) -> None:
    assert unmet(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("until", "scope", "found"),
    [
        ("2020-03-31", "", 0),
        ("2020-03-30", "", 1),
        ("2020-04-01", "", 1),
        ("2020-03-31", ", purposes: [sale]", 1),
        ("2020-03-30   # the decree lapsed, and was made again two days later", "", 0),
    ],
)
def test_a_gap_or_an_overlap_of_sections_is_found(until: str, scope: str, found: int) -> None:
    text = f"limits:\n  - from: 2019-01-01\n    until: {until}\n  - {{from: 2020-04-01{scope}}}\n"
    assert len(unmet(text)) == found


# ---- the tables themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("purpose", get_args(Purpose)),
        ("call type", get_args(CallType)),
        ("called", get_args(Kind)),
        ("callee", get_args(Callee)),
        ("sector", law_of("IT").sectors),
    ],
)
def test_each_axis_has_a_word_for_every_value(axis: str, values: tuple[str, ...]) -> None:
    assert sorted(read_words().axes[axis]) == sorted(values)


TABLE: dict[str, Any] = {
    "table": "A table",
    "axes": {"purpose": ["sale", "debt"], "callee": "all"},
    "rows": [{"purpose": "sale", "answer": "allow"}, {"purpose": "debt", "answer": ["a", "b"]}],
}


def test_a_row_covers_all_words_of_axes_that_it_does_not_name() -> None:
    sale, debt = table_rows("file", TABLE, read_words())
    assert [str(question) for question in sale.questions] == [
        f"sale, {callee}" for callee in ("consumer", "business", "sole_trader")
    ]
    assert (set(sale.answer), set(debt.answer)) == (set[str](), {"a", "b"})


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"rows": TABLE["rows"][:1]}, "debt, consumer: 0 rows"),
        ({"rows": [*TABLE["rows"], {"callee": "business", "answer": "allow"}]}, "debt, business: 2 rows"),
        (
            {"rows": [*TABLE["rows"], {"purpose": "sales", "answer": "allow"}]},
            "'sales' is not a word of this axis",
        ),
        ({"rows": [*TABLE["rows"], {"purpose": [], "answer": "allow"}]}, "answers nothing"),
        ({"rows": [*TABLE["rows"], {"rest": None, "answer": "allow"}]}, "'rest' is not an axis"),
        ({"rows": [TABLE["rows"][0], {"purpose": "debt"}]}, "`answer` is missing"),
        ({"axes": {"purpose": ["sale", "debt", "sales"]}}, "'sales' is unknown"),
        ({"given": {"weather": "rain"}}, "weather: unknown axis"),
        ({"given": {"basis": "rain"}}, "'rain' is unknown"),
    ],
)
def test_an_incomplete_table_is_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(GridError, match=re.escape(problem)):
        table_rows("file", {**TABLE, **changed}, read_words())


def test_every_answer_is_a_reason_code() -> None:
    assert {code for row in rows() for code in row.answer} <= REASONS.keys()
