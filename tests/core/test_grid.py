"""The tables of `tests/cases/grid/`, and a check that they fail if any part of Italy's law is loosened."""

import copy
import re
from collections import Counter
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from dialgate.core.law import SECTIONS, Law, parse_law
from dialgate.core.model import Callee, CallType, Kind, Purpose
from dialgate.core.reasons import REASONS
from tests.support.casebook import COUNTRIES, law_data, law_of
from tests.support.decision_tables import GridError, Row, read_rows, read_words, table_rows

# A path in `it.yaml`, the value that is removed (-), added (+) or set (=) there, and the file whose tables deny the calls that
# this change would allow. Before there were tables, every test passed with each of these changes.
LOOSENED = (
    ("registries.0.purposes -advertising", "registries"),
    ("registries.0.purposes -sale", "registries"),
    ("registries.0.purposes -market_research", "registries"),
    ("registries.0.purposes -statistics", "registries"),
    ("registries.1.purposes =[political]", "registries"),
    ("registries.0.validity =16d", "registries"),
    ("consents.0.purposes -advertising", "registries"),
    ("consents.0.purposes -market_research", "registries"),
    ("consents.0.purposes -statistics", "registries"),
    ("consents.1.purposes =[political]", "registries"),
    ("hours.0.purposes -advertising", "hours"),
    ("hours.0.purposes -market_research", "hours"),
    ("limits.0.purposes -advertising", "frequency"),
    ("limits.0.purposes -market_research", "frequency"),
    ("limits.0.purposes -statistics", "frequency"),
    ("limits.0.purposes -political", "frequency"),
    ("limits.0.purposes -charity", "frequency"),
    ("foreign_ingress.0.bars -fixed", "foreign_ingress"),
    ("foreign_ingress.0.bars -fixed_or_mobile", "foreign_ingress"),
    ("foreign_ingress.0.bars -voip", "foreign_ingress"),
    ("foreign_ingress.0.bars -toll_free", "foreign_ingress"),
    ("foreign_ingress.0.bars -shared_cost", "foreign_ingress"),
    ("foreign_ingress.0.bars -personal", "foreign_ingress"),
    ("foreign_ingress.0.bars -unknown", "foreign_ingress"),
    ("foreign_ingress.1.bars -mobile", "foreign_ingress"),
    ("foreign_ingress.1.bars -voicemail", "foreign_ingress"),
    ("caller_ids.2.sectors -gas", "caller_ids"),
    ("caller_ids.2.sectors -electricity", "caller_ids"),
    ("sector_bans.0.sectors -gas", "energy"),
    ("sector_bans.0.purposes -advertising", "energy"),
    ("diallable.0.allows +toll_free", "numbers"),
    ("diallable.0.allows +premium", "numbers"),
    ("diallable.0.allows +shared_cost", "numbers"),
    ("diallable.0.allows +personal", "numbers"),
    ("legal_basis.0.accepts +request", "basis"),
    ("legal_basis.0.accepts +contract", "basis"),
    ("legal_basis.0.accepts +directory", "basis"),
    ("legal_basis.1.call_types -ai_voice", "basis"),
    ("legal_basis.1.accepts +request", "basis"),
    ("legal_basis.1.accepts +contract", "basis"),
    ("legal_basis.2.accepts +request", "basis"),
    ("legal_basis.2.accepts +contract", "basis"),
    ("legal_basis.2.accepts +directory", "basis"),
    ("legal_basis.3.accepts +directory", "basis"),
    ("legal_basis.4.accepts +directory", "basis"),
    ("legal_basis.5.accepts +directory", "basis"),
    ("legal_basis.6.accepts +contract", "basis"),
    ("lists.1.purposes -statistics", "lists"),
    ("lists.2.purposes =[political]", "lists"),
    ('caller_ids.0.classes.0.prefixes =["+39084"]', "caller_ids"),
    ('caller_ids.1.classes.0.prefixes =["+39084"]', "caller_ids"),
    ('caller_ids.0.classes.1.prefixes =["+39084"]', "caller_ids"),
    ('caller_ids.1.classes.1.prefixes =["+39084"]', "caller_ids"),
    *(
        (f"caller_ids.{era}.classes.{place}.serves +{purpose}", "caller_ids")
        for era in (0, 1)
        for place, served in ((0, {"sale", "advertising", "market_research"}), (1, {"statistics"}))
        for purpose in get_args(Purpose)
        if purpose not in served
    ),
    ("caller_ids.0.until =2026-04-12", "eras"),
    ("caller_ids.1.from =2026-04-15", "eras"),
)  # fmt: skip


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


def loosened(*changes: str) -> Law:
    data = copy.deepcopy(law_data("IT"))
    for change in changes:
        path, sign, value = re.fullmatch(r"(\S+) ([-+=])(.+)", change).groups()  # type: ignore[union-attr]
        *parents, last = path.split(".")
        at: Any = data
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        # YAML aliases share one list; a change replaces it, so that only one place changes.
        match sign:
            case "-":
                assert value in at[last]
                at[last] = [item for item in at[last] if item != value]
            case "+":
                assert value not in at[last]
                at[last] = [*at[last], value]
            case _:
                at[last] = value if value.startswith("+") else yaml.safe_load(value)
    return parse_law(data)


@cache
def _denied(file: str) -> list[Row]:
    return [row for row in rows() if row.file == file and row.answer]


@pytest.mark.parametrize(("change", "file"), LOOSENED, ids=[change for change, _ in LOOSENED])
def test_a_loosened_value_fails_a_table(change: str, file: str) -> None:
    law = loosened(change)
    assert any(question for row in _denied(file) for question in row.unlawful_allows(law))


# One of each sort.
TWELVE = (
    "registries.0.purposes -advertising",
    "hours.0.purposes -advertising",
    "limits.0.purposes -political",
    "consents.0.purposes -statistics",
    "foreign_ingress.0.bars -voip",
    "caller_ids.2.sectors -gas",
    "diallable.0.allows +toll_free",
    "legal_basis.1.call_types -ai_voice",
    "legal_basis.2.accepts +request",
    'caller_ids.1.classes.1.prefixes =["+39084"]',
    "caller_ids.1.classes.0.serves +charity",
    "caller_ids.0.until =2026-04-12",
)


def test_twelve_values_loosened_at_once_fail_a_dozen_rows() -> None:
    assert set(TWELVE) <= {change for change, _ in LOOSENED}
    law = loosened(*TWELVE)
    failed = Counter(row.file for row in rows() if any(row.unlawful_allows(law)))
    assert failed.total() >= len(TWELVE)
    assert failed.keys() >= {file for change, file in LOOSENED if change in TWELVE}


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
