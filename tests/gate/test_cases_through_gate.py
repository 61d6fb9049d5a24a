"""Every case through a whole gate, which gathers the facts itself.

The tests write the facts of a case to the configuration files, the published registry answers, the call lists and the
store. The gate checks a call at the instant of the case, to a number of the kind that the case describes.
"""

import asyncio
from functools import cache

import msgspec
import pytest
from msgspec import structs

from dialgate.core import local_time, phone
from dialgate.core.decision import decide
from dialgate.core.model import (
    SECOND,
    CallerId,
    Campaign,
    Controller,
    Decision,
    Deny,
    Facts,
    Instant,
    Known,
    Pass,
    RegistryAnswer,
)
from tests.support.case_checks import naming
from tests.support.case_world import GateResult, PreparedCase, ask_group, order_of_attempts, prepare, worlds
from tests.support.casebook import all_cases, case_law, instant

# Cases with facts that a gate cannot gather, and why.
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

CASES = [case for case in all_cases() if case.about not in ELSEWHERE]

# ---- expected facts --------------------------------------------------------------------------------------------------


def expected(prepared: PreparedCase) -> Facts:
    """Return the facts that the gate should gather for a case.

    If the number is invalid or the campaign is unknown, the facts contain no ledger state, call lists or registry
    answers.
    """
    facts, law = prepared.facts, case_law(prepared.case)
    said = {answer.registry: answer for answer in facts.registries}
    names = dict.fromkeys(registry.id for registry in law.registries)
    facts = structs.replace(
        facts,
        places=tuple(local_time.place(zone, law.day_sets, facts.at) for zone in zones(prepared.to)),
        registries=tuple(said.get(name, RegistryAnswer(registry=name, answer="unknown")) for name in names),
    )
    if facts.number.kind == "invalid":
        facts = structs.replace(facts, number=structs.replace(facts.number, region="", problem=""))
    elif not prepared.is_number:
        facts = structs.replace(
            facts,
            listings=(),
            registries=tuple(RegistryAnswer(registry=name, answer="unknown") for name in names),
        )
    if not facts.campaign.known:
        facts = structs.replace(
            facts,
            campaign=Campaign(id=facts.campaign.id, known=False),
            controller=Controller(id=""),
            call_type="automated",
            caller_id=structs.replace(facts.caller_id, assigned=False),
        )
    if facts.number.kind == "invalid" or not facts.campaign.known:
        facts = structs.replace(facts, known=Known(), listings=(), registries=())
    return unnamed(facts)


def unnamed(facts: Facts) -> Facts:
    """Return the facts in the order of the store, without sequence numbers, consultation ids and decision ids."""
    known, shown = facts.known, facts.caller_id
    collectors = sorted({*facts.controller.collectors} - {"acme"})  # the controller's own name
    return structs.replace(
        facts,
        controller=structs.replace(facts.controller, collectors=tuple(collectors)),
        number=structs.replace(
            facts.number, problem="" if facts.number.kind == "invalid" else facts.number.problem
        ),
        caller_id=structs.replace(
            shown, proof="", number=shown.number if shown.assigned else reserved(shown)
        ),
        known=structs.replace(
            known,
            seq=0,
            revocations=tuple(
                structs.replace(revocation, seq=0, channel="")
                for revocation in sorted(known.revocations, key=lambda revoked: revoked.seq)
            ),
            wrong_numbers=tuple(structs.replace(report, seq=0) for report in known.wrong_numbers),
            attempts=tuple(
                structs.replace(attempt, decision="")
                for attempt in sorted(known.attempts, key=order_of_attempts)
            ),
        ),
        listings=tuple(sorted(facts.listings, key=lambda listing: listing.list)),
        registries=tuple(
            structs.replace(answer, consultation="", snapshot="") for answer in facts.registries
        ),
    )


def reserved(shown: CallerId) -> str:
    """Return the recorded part of an unassigned caller ID: the prefix of a reserved number class, or empty."""
    return shown.number[:7] if shown.number.startswith(("+390843", "+390844")) else ""


@cache
def zones(to: str) -> tuple[str, ...]:
    try:
        return phone.parse(to, "IT").zones
    except phone.NotANumber:
        return ()


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


# ---- facts of the gate -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[PreparedCase, GateResult]]:
    """Return every case with its answer and record."""
    cases = [prepare(place, case) for place, case in enumerate(CASES)]

    async def all_of_them() -> dict[str, GateResult]:
        found: dict[str, GateResult] = {}
        for group in worlds(cases):
            found.update(await ask_group(tmp_path_factory.mktemp("world"), group))
        return found

    found = asyncio.run(all_of_them())
    return [(prepared, found[prepared.case.about]) for prepared in cases]


def test_the_gate_gathers_the_facts_and_makes_the_wanted_decision(
    results: list[tuple[PreparedCase, GateResult]],
) -> None:
    for prepared, result in results:
        with naming(prepared.case):
            check_decision(prepared, result)


def check_decision(prepared: PreparedCase, result: GateResult) -> None:
    answer, record = result
    want, decision = prepared.case.want, record.decision
    assert msgspec.to_builtins(unnamed(record.facts)) == msgspec.to_builtins(expected(prepared))
    assert (answer.decision, [reason.code for reason in answer.reasons]) == (want.decision, want.reasons)
    assert outcomes_of(decision) == outcomes_of(decide(expected(prepared), case_law(prepared.case)))
    assert {rule: outcomes_of(decision)[rule][0].lower() for rule in want.outcomes} == want.outcomes
    assert want.basis is None or decision.basis == want.basis
    for wanted, given in ((want.valid_until, decision.valid_until), (want.not_before, decision.not_before)):
        assert wanted is None or given == (instant(wanted) if wanted else 0)


def test_the_response_matches_the_decision_and_expires_with_it_or_after_a_quarter_hour(
    results: list[tuple[PreparedCase, GateResult]],
) -> None:
    for prepared, result in results:
        with naming(prepared.case):
            check_response(prepared, result)


def check_response(prepared: PreparedCase, result: GateResult) -> None:
    answer, record = result
    until = min(record.decision.valid_until, record.at + 900 * SECOND) if record.decision.allow else 0
    # If a case needs a second controller, clients get encrypted ids.
    assert (answer.decision_id == record.id) != prepared.facts.caller_id.shared
    assert [(reason.code, reason.severity, reason.law) for reason in answer.reasons] == [
        (deny.code, deny.severity, deny.law) for deny in record.decision.reasons
    ]
    assert record.at == prepared.facts.at
    assert (answer.decision == "allow") == record.decision.allow
    assert answer.valid_until == (local_time.rfc3339(until) if until else "")
    assert answer.not_before == (
        local_time.rfc3339(record.decision.not_before) if record.decision.not_before else ""
    )
    assert decide(record.facts, case_law(prepared.case)) == record.decision


def test_the_excluded_cases_exist_and_are_few() -> None:
    known = [case.about for case in all_cases()]
    assert len(set(known)) == len(known)
    assert set(ELSEWHERE) <= set(known)
    assert len(ELSEWHERE) <= 12
