"""The cases of every country, checked over HTTP at a gate that gathers the facts itself.

The tests check one case of each kind, or all cases with `DIALGATE_HTTP_CASES=all` (`make torture`).
"""

import asyncio
import os
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.core.decision import decide
from dialgate.core.local_time import rfc3339
from dialgate.core.model import SECOND, Decision, Deny, Instant, Pass
from dialgate.tools.policy.case_file import PolicyCase
from tests.support import world
from tests.support.case_checks import name_of
from tests.support.case_world import GateResult, PreparedCase, ask_group, groups, prepare, write_config
from tests.support.casebook import all_cases, case_law, facts_of
from tests.support.country_cases import COUNTRIES, cases_of

# Italian cases with facts that a gate cannot gather, and why.
_ZONES = "every Italian number is in the time zone of Rome; other countries have several zones"
ELSEWHERE = {
    "Days are counted at the called person's location, and in every possible zone if there are two": _ZONES,
    "Days are counted in UTC if the called person's time zone is unknown": _ZONES,
    "A number with two possible time zones may be called only within the hours of both": _ZONES,
    "For a number with two possible time zones, calling hours end when the first zone's end": _ZONES,
    "If the called person's time zone is unknown, no calling hours are open": _ZONES,
    "With two time zones the later opening counts, and none is given two weeks ahead": _ZONES,
    "If the called person's time zone is not the law's, a decision is valid until the end of the quarter-hour": _ZONES,
    "For a number with two possible time zones, a contract must begin after the day of the revocation in both": _ZONES,
    "If the called person's time zone is unknown, a contract that begins the day after a revocation does not count as later": _ZONES,
    "If the called person's time zone is unknown, a contract that begins two days after a revocation counts as later": _ZONES,
    "Campaigns may not call numbers of an unknown class": "the gate treats a number of an unknown class as invalid",
    "A trunk without a declared country counts as foreign": "the configuration must declare the country of a trunk",
}


def cases_over_http(country: str) -> list[PolicyCase]:
    if country == "IT":
        cases = [case for case in all_cases() if case.about not in ELSEWHERE]
    else:
        cases = [case for case in cases_of(country) if not case.pending and _is_a_call(case)]
    if os.environ.get("DIALGATE_HTTP_CASES") == "all":
        return cases
    return list({_kind(case): case for case in cases}.values())


def _is_a_call(case: PolicyCase) -> bool:
    """Return whether a case describes a real call.

    Cases in the `shared` and `scopes` books do not. They vary the facts that sections of the law depend on.
    """
    return "/shared/" not in case.file and not case.file.endswith("/scopes")


def _kind(case: PolicyCase) -> tuple[object, ...]:
    """Return the kind of a case. Over HTTP, one case of each kind is enough.

    The kind consists of the decision's legal basis, the denial reasons, the bases of the call list entries, and the
    registry answers. Which section of the law a reason cites is tested without a gate.
    """
    facts = facts_of(case)
    decision = decide(facts, case_law(case))
    return (
        decision.basis.partition(":")[0],
        tuple(deny.code for deny in decision.reasons),
        frozenset(listing.basis for listing in facts.listings),
        frozenset(answer.answer for answer in facts.registries),
    )


def outcomes_of(decision: Decision) -> dict[str, tuple[str, str, Instant]]:
    """Return a decision's outcomes without their texts, which contain names."""
    return {
        rule: (
            type(outcome).__name__,
            outcome.code if isinstance(outcome, Deny) else "",
            outcome.until if isinstance(outcome, Pass) else getattr(outcome, "not_before", 0),
        )
        for rule, outcome in decision.outcomes.items()
    }


def differences(prepared: PreparedCase, result: GateResult) -> list[object]:
    """Return what the gate decided, recorded or answered differently from the rules."""
    case, answer, record = prepared.case, result.answer, result.record
    wanted = decide(facts_of(case), case_law(case))
    until = min(record.decision.valid_until, record.at + 900 * SECOND) if wanted.allow else 0
    compared = (
        (answer["decision"], case.want.decision),
        (outcomes_of(record.decision), outcomes_of(wanted)),
        (
            [(reason["code"], reason["severity"], reason["law"]) for reason in answer.get("reasons", ())],
            [(deny.code, deny.severity, deny.law) for deny in wanted.reasons],
        ),
        (answer.get("not_before", ""), rfc3339(wanted.not_before) if wanted.not_before else ""),
        (answer.get("valid_until", ""), rfc3339(until) if until else ""),
        (record.at, prepared.facts.at),
        (decide(record.facts, case_law(case)), record.decision),
    )
    return [pair for pair in compared if pair[0] != pair[1]]


@pytest.mark.timeout(600)  # the United States have 372 cases, each with a call list of its own
@pytest.mark.parametrize("country", ["IT", *COUNTRIES])
def test_each_case_is_decided_over_http_as_by_the_rules(country: str, tmp_path: Path) -> None:
    cases = [prepare(place, case) for place, case in enumerate(cases_over_http(country))]
    names = count()

    async def ask_all() -> list[tuple[PreparedCase, GateResult]]:
        return [
            pair for group in groups(cases) for pair in await ask_group(tmp_path / str(next(names)), group)
        ]

    results = asyncio.run(ask_all())
    assert len(results) == len(cases)
    found = {name_of(prepared.case): differences(prepared, result) for prepared, result in results}
    assert {name: several for name, several in found.items() if several} == {}


async def test_a_gate_whose_country_has_no_registry_is_ready_without_answers(tmp_path: Path) -> None:
    case = prepare(0, cases_of("DE")[0])
    config = write_config(tmp_path, [case])
    assert not config.laws["DE"].registries
    app = await App.open(config, registry=CollectorRegistry(), clock=world.Hand(case.facts.at))
    await app.tick()
    assert app.gate.readiness() == {}
    await app.close()


def test_the_excluded_cases_exist_and_are_few() -> None:
    known = [case.about for case in all_cases()]
    assert len(set(known)) == len(known)
    assert set(ELSEWHERE) <= set(known)
    assert len(ELSEWHERE) <= 12
