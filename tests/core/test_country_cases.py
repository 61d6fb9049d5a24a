"""Tests of the country case books: each case gets the expected decision, and its record replays to that decision."""

import msgspec
import pytest

from dialgate.tools.policy.case_file import PolicyCase
from tests.support.case_checks import is_replayed, name_of, wrong
from tests.support.casebook import COUNTRIES, case_law, facts_of
from tests.support.country_cases import cases_of

# A test for each of some thousand cases would take four times as long, and every test process would read all cases.
CODES = sorted(path.stem.upper() for path in COUNTRIES.glob("*.yaml") if path.stem != "it")


@pytest.mark.parametrize("country", CODES)
def test_every_case_is_decided_as_the_law_says(country: str) -> None:
    found = {name_of(case): wrong(case) for case in cases_of(country) if not case.pending}
    assert found, "a country needs a case book"
    assert {name: several for name, several in found.items() if several} == {}


@pytest.mark.parametrize("country", CODES)
def test_no_pending_case_holds_yet(country: str) -> None:
    assert [name_of(case) for case in cases_of(country) if case.pending and _holds(case)] == [], (
        "remove `pending`"
    )


def _holds(case: PolicyCase) -> bool:
    try:
        return not wrong(case)
    except (msgspec.ValidationError, ValueError):
        return False


@pytest.mark.parametrize("country", CODES)
def test_every_record_replays_to_the_same_decision(country: str) -> None:
    cases = [case for case in cases_of(country) if not case.pending]
    assert [name_of(case) for case in cases if not is_replayed(facts_of(case), case_law(case))] == []


@pytest.mark.parametrize("country", CODES)
def test_names_of_cases_are_unique(country: str) -> None:
    names = [name_of(case) for case in cases_of(country)]
    assert len(set(names)) == len(names)
