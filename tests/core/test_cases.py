"""Tests with the Italian case books. `decide` gives the decision that each case expects, and a replay repeats it."""

import pytest

from dialgate.core.decision import decide
from dialgate.core.reasons import REASONS
from dialgate.core.rules import RULES
from dialgate.tools.policy.case_file import PolicyCase
from dialgate.tools.policy.checking import cites
from tests.support.case_checks import is_replayed, name_of, wrong
from tests.support.casebook import all_cases, case_law, facts_of
from tests.support.citations import citations, exchange_severities
from tests.support.country_cases import all_country_cases

CASES = all_cases()
# A test for each case would take four times as long.
BOOKS = sorted({case.file for case in CASES})


@pytest.mark.parametrize("book", BOOKS)
def test_every_case_is_decided_as_the_law_says(book: str) -> None:
    found = {name_of(case): wrong(case) for case in CASES if case.file == book}
    assert {name: several for name, several in found.items() if several} == {}


@pytest.mark.parametrize("relabelled", [False, True], ids=["as written", "severities exchanged"])
@pytest.mark.parametrize("book", BOOKS)
def test_each_denial_cites_the_section_that_denied(book: str, relabelled: bool) -> None:
    """The denial also carries the severity of the cited section, even if it is not the default severity."""
    cases = [case for case in CASES if case.file == book]
    found = {
        name_of(case): _wrong_citations(exchange_severities(case) if relabelled else case) for case in cases
    }
    assert {name: several for name, several in found.items() if several} == {}, "name the section in `cites`"


def _wrong_citations(case: PolicyCase) -> dict[str, str]:
    decision = decide(facts_of(case), case_law(case))
    assert case.want.cites.keys() <= set(case.want.reasons)
    carried = {reason.code: f"{reason.severity} {reason.law}".rstrip() for reason in decision.reasons}
    return {
        code: f"{cited}, not {meant}"
        for code, cited in carried.items()
        for meant in [
            [each for each in citations(case, code) if cites(each, case.want.cites.get(code, each))]
        ]
        if meant != [cited]
    }


@pytest.mark.parametrize("book", BOOKS)
def test_every_record_replays_to_the_same_decision(book: str) -> None:
    cases = [case for case in CASES if case.file == book]
    assert [name_of(case) for case in cases if not is_replayed(facts_of(case), case_law(case))] == []


def test_every_rule_has_a_case_that_it_denies_and_one_that_it_passes() -> None:
    seen = {"deny": set[str](), "pass": set[str]()}
    for case in CASES:
        for name, outcome in decide(facts_of(case), case_law(case)).outcomes.items():
            seen.setdefault(type(outcome).__name__.lower(), set()).add(name)
    rules = {name for name, _ in RULES}
    assert seen["deny"] == rules
    assert seen["pass"] >= rules


def test_every_reason_that_facts_alone_can_give_has_a_case() -> None:
    cases = (case for case in (*CASES, *all_country_cases()) if not case.pending)
    given = {code for case in cases for code in case.want.reasons}
    assert given == set(REASONS) - {"gate.unavailable", "gate.rule_error", "rate.exceeded"}
