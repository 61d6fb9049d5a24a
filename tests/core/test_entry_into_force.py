"""Checks that a decision case fails if a section of a country file begins or ends a day too early or too late.

The cases contain the expected dates. Dates read from the country file would only be compared with themselves.
"""

import copy
from collections import defaultdict
from datetime import date, timedelta
from typing import Any

import pytest

from dialgate.core.decision import decide
from dialgate.core.law import SECTIONS, parse_law
from tests.support.case_checks import differences
from tests.support.casebook import Case, all_cases, facts_of, law_data, merge_values

ONE_DAY = timedelta(days=1)
CASES: defaultdict[date, list[Case]] = defaultdict(list)
for case in all_cases():
    CASES[facts_of(case).today].append(case)

# Dates without effect, and why.
_NO_BASIS = "no legal basis on file accepts any call before 2005-11-30"
_NO_OFFER = "no legal basis accepts an offer or an appeal before 2018-09-19"
_NO_CONTRACT = "no legal basis accepts a contract before this day"
_NO_REQUEST = "no legal basis accepts a call request before this day"
_NO_DIRECTORY = "no legal basis accepts a directory entry before this day"
_NO_SALE = "no legal basis accepts a consent to sales calls before this day"
_TWO_ALIKE = "the two sections say the same as long as no short code is entered, and the first is cited"
WITHOUT_EFFECT = {
    ("consents", 2, "from", -1): _NO_BASIS,
    ("consents", 2, "from", 1): _NO_BASIS,
    ("consents", 3, "from", -1): _NO_BASIS,
    ("consents", 3, "from", 1): _NO_BASIS,
    ("consents", 10, "from", -1): _NO_SALE,
    ("lists", 1, "from", -1): _NO_OFFER,
    ("lists", 1, "from", 1): _NO_OFFER,
    ("lists", 2, "from", -1): _NO_OFFER,
    ("lists", 2, "from", 1): _NO_OFFER,
    ("stops", 0, "from", -1): _NO_CONTRACT,
    ("contracts", 1, "from", -1): _NO_CONTRACT,
    ("requests", 0, "from", -1): _NO_REQUEST,
    ("directories", 0, "from", -1): _NO_DIRECTORY,
    ("caller_ids", 1, "from", -1): _TWO_ALIKE,
}
SHIFTS = [
    (kind, index, key, days)
    for kind in SECTIONS
    for index, section in enumerate(law_data("IT").get(kind, ()))
    for key in ("from", "until")
    if key in section
    for days in (-1, 1)
]


def shifted(kind: str, index: int, key: str, days: int) -> tuple[dict[str, Any], date]:
    """Return a copy of the file with one date moved, and the only day on which the copy differs from the file."""
    data: dict[str, Any] = copy.deepcopy(law_data("IT"))
    section = data[kind][index]
    written = section[key]
    section[key] = written + days * ONE_DAY
    differs = min(written, section[key]) if key == "from" else max(written, section[key])
    return data, differs


@pytest.mark.parametrize(("kind", "index", "key", "days"), SHIFTS)
def test_a_case_fails_if_a_date_is_off_by_a_day(kind: str, index: int, key: str, days: int) -> None:
    data, day = shifted(kind, index, key, days)
    affected = [case for case in CASES[day] if kind not in case.law]
    noticed = any(
        differences(case.want, decide(facts_of(case), parse_law(merge_values(data, case.law))))
        for case in affected
    )
    assert noticed != ((kind, index, key, days) in WITHOUT_EFFECT), (
        f"{kind}[{index}]: add a case on {day} to tests/cases/entry_into_force.yaml"
    )


def test_the_listed_dates_without_effect_are_in_the_file() -> None:
    assert set(SHIFTS) >= WITHOUT_EFFECT.keys()
