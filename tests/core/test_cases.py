"""Every case through `decide`, and through a record and back."""

import msgspec
import pytest

from dialgate.core.decision import decide
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Decision, Facts
from dialgate.core.reasons import REASONS
from dialgate.core.rules import RULES
from tests.support.casebook import Case, all_cases, case_law, facts_of, instant
from tests.support.citations import citations, exchange_severities, matches
from tests.support.country_cases import all_country_cases

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.about}")
def test_each_case_gets_the_expected_decision(case: Case) -> None:
    decision = decide(facts_of(case), case_law(case))
    want = case.want
    assert ("allow" if decision.allow else "deny", [reason.code for reason in decision.reasons]) == (
        want.decision,
        want.reasons,
    )
    kinds = {name: type(outcome).__name__.lower() for name, outcome in decision.outcomes.items()}
    assert {name: kinds[name] for name in want.outcomes} == want.outcomes
    assert want.basis is None or decision.basis == want.basis
    for wanted, given in ((want.valid_until, decision.valid_until), (want.not_before, decision.not_before)):
        assert wanted is None or given == (instant(wanted) if wanted else 0), rfc3339(given)


@pytest.mark.parametrize("relabelled", [False, True], ids=["as written", "severities exchanged"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.about}")
def test_each_denial_cites_the_section_that_denied(case: Case, relabelled: bool) -> None:
    """The promise holds even if no section has the default severity."""
    case = exchange_severities(case) if relabelled else case
    decision = decide(facts_of(case), case_law(case))
    assert case.want.cites.keys() <= set(case.want.reasons)
    carried = {reason.code: f"{reason.severity} {reason.law}".rstrip() for reason in decision.reasons}
    possible = {code: citations(case, code) for code in carried}
    meant = {
        code: [citation for citation in several if matches(citation, case.want.cites.get(code, citation))]
        for code, several in possible.items()
    }
    assert meant == {code: [citation] for code, citation in carried.items()}, "name the section in `cites`"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.about}")
def test_the_record_replays_to_the_same_decision(case: Case) -> None:
    facts = facts_of(case)
    decision = decide(facts, case_law(case))
    stored = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    assert stored == facts
    assert decide(stored, case_law(case)) == decision
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


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
    assert given == set(REASONS) - {"gate.unavailable", "gate.rule_error"}
