"""Every case of the countries' case books through `decide`, and through a record and back."""

import msgspec
import pytest

from dialgate.core.decision import decide
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Decision, Facts
from tests.support.casebook import COUNTRIES, Case, case_law, facts_of, instant
from tests.support.citations import matches
from tests.support.country_cases import cases_of

# A test for each of some thousand cases would take four times as long, and every test process would read all cases.
NAMES = sorted(path.stem.upper() for path in COUNTRIES.glob("*.yaml") if path.stem != "it")


def name_of(case: Case) -> str:
    return f"{case.file}: {case.about} at {case.at}"


def differences(case: Case) -> list[str]:
    """Return what differs between the decision and the one that the case demands."""
    decision, want = decide(facts_of(case), case_law(case)), case.want
    cited = {reason.code: f"{reason.severity} {reason.law}".rstrip() for reason in decision.reasons}
    kinds = {name: type(outcome).__name__.lower() for name, outcome in decision.outcomes.items()}
    compared = [
        ("decision", want.decision, "allow" if decision.allow else "deny"),
        ("reasons", want.reasons, list(cited)),
        ("outcomes", want.outcomes, {name: kinds[name] for name in want.outcomes}),
        ("basis", want.basis, decision.basis),
        ("valid_until", want.valid_until, rfc3339(decision.valid_until)),
        ("not_before", want.not_before, rfc3339(decision.not_before) if decision.not_before else ""),
    ]
    found = [
        f"{key}: {given}, not {wanted}"
        for key, wanted, given in compared
        if wanted is not None and _value(key, wanted) != _value(key, given)
    ]
    return found + [
        f"cites: {cited.get(code)}, not {named}"
        for code, named in want.cites.items()
        if not matches(cited.get(code, ""), named)
    ]


def _value(key: str, value: object) -> object:
    return (
        instant(value) if key in {"valid_until", "not_before"} and isinstance(value, str) and value else value
    )


@pytest.mark.parametrize("country", NAMES)
def test_every_case_is_decided_as_the_law_says(country: str) -> None:
    found = {name_of(case): differences(case) for case in cases_of(country) if not case.pending}
    assert found, "a country needs a case book"
    assert {name: several for name, several in found.items() if several} == {}


@pytest.mark.parametrize("country", NAMES)
def test_no_pending_case_holds_yet(country: str) -> None:
    assert [name_of(case) for case in cases_of(country) if case.pending and _holds(case)] == [], (
        "remove `pending`"
    )


def _holds(case: Case) -> bool:
    try:
        return not differences(case)
    except (msgspec.ValidationError, ValueError):
        return False


@pytest.mark.parametrize("country", NAMES)
def test_every_record_replays_to_the_same_decision(country: str) -> None:
    cases = [case for case in cases_of(country) if not case.pending]
    assert [name_of(case) for case in cases if not _is_replayed(case)] == []


def _is_replayed(case: Case) -> bool:
    facts = facts_of(case)
    decision = decide(facts, case_law(case))
    stored = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    restored = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    return decide(stored, case_law(case)) == restored == decision


@pytest.mark.parametrize("country", NAMES)
def test_names_of_cases_are_unique(country: str) -> None:
    names = [name_of(case) for case in cases_of(country)]
    assert len(set(names)) == len(names)
