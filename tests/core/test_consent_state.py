"""The state of a consent in a look-up: whether a campaign's calls could rely on it."""

from typing import Any

import pytest
from msgspec import structs

from dialgate.core.consent_state import ConsentState, Situation, state
from dialgate.core.law import Law, parse_law
from dialgate.core.model import (
    DAY,
    Campaign,
    Consent,
    Controller,
    Known,
    RegistryAnswer,
    Revocation,
    WrongNumber,
)
from dialgate.tools.policy.case_facts import instant

NOW = instant("2026-11-24T00:30:00+01:00")  # 2026-11-23 in UTC
CONSENT = Consent(
    id="c-1",
    collected_at=NOW - 100 * DAY,
    purposes=("sale", "service"),
    call_types=("agent", "automated"),
    goods=("fibre",),
    proved=True,
)
FIBRE = Campaign(id="fibre", purpose="sale", goods="fibre", call_type="agent")
CAMPAIGNS = (
    FIBRE,
    structs.replace(FIBRE, id="robot", call_type="automated"),
    structs.replace(FIBRE, id="gas", goods="gas"),
    structs.replace(FIBRE, id="voice", call_type="ai_voice"),
    structs.replace(FIBRE, id="profiled", profiling=True),
)
LAW: dict[str, Any] = {
    "country": "IT",
    "name": "A made-up country",
    "zone": "Europe/Rome",
    "diallable": [{"source": "d", "from": "2020-01-01", "allows": ["fixed"]}],
    "legal_basis": [{"source": "b", "from": "2020-01-01", "accepts": ["consent"]}],
    "consents": [
        {"source": "separate", "from": "2020-01-01", "separate": ["profiling"]},
        {"source": "void", "from": "2020-01-01", "void_by_enrolment": True},
        {"source": "mobile", "from": "2020-01-01", "kinds": ["mobile"], "max_age": "200d"},
        {"source": "from today", "from": "2026-11-24", "traits": ["bank"], "max_age": "90d"},
    ],
    "traits": ["bank"],
}


def build_revocation(campaign: str, at: int = NOW - DAY) -> Known:
    return Known(revocations=(Revocation(seq=1, at=at, scope="campaign", campaign=campaign),))


def enrolled(at: int) -> tuple[RegistryAnswer, ...]:
    return (RegistryAnswer(registry="rpo", answer="listed", consulted_at=at, listed_at=at),)


STATES: dict[str, tuple[dict[str, Any], dict[str, Any], ConsentState]] = {
    "campaigns outside its scope, or selected by profiling, are not listed": ({}, {}, ConsentState()),
    "without goods it is about all goods": ({"goods": ()}, {}, ConsentState()),
    "without proof": ({"proved": False}, {}, ConsentState(reason="consent.void")),
    "collected later": ({"collected_at": NOW + 1}, {}, ConsentState(reason="consent.void")),
    "withdrawn": ({"withdrawn_at": NOW - DAY}, {}, ConsentState(reason="consent.withdrawn")),
    "ended": ({"expires_at": NOW}, {}, ConsentState(reason="consent.expired")),
    "the number's class is not known, so its consent may be too old": (
        {"collected_at": NOW - 200 * DAY}, {}, ConsentState(reason="consent.expired"),
    ),
    "the day is that of the country": (
        {}, {"controller": Controller(id="acme", traits=("bank",))}, ConsentState(reason="consent.expired"),
    ),
    "a later enrolment": ({}, {"registries": enrolled(NOW - DAY)}, ConsentState(reason="consent.void")),
    "an earlier enrolment": ({}, {"registries": enrolled(NOW - 101 * DAY)}, ConsentState()),
    "a wrong number": (
        {}, {"known": Known(wrong_numbers=(WrongNumber(seq=1, at=NOW - DAY),))}, ConsentState(reason="consent.wrong_number"),
    ),
    "a revocation for one campaign": ({}, {"known": build_revocation("robot")}, ConsentState(refused_for=("robot",))),
}  # fmt: skip


@pytest.fixture(scope="module")
def law() -> Law:
    return parse_law(LAW)


@pytest.mark.parametrize(("changes", "facts", "wanted"), STATES.values(), ids=STATES.keys())
def test_the_state_of_a_consent_is_why_calls_cannot_rely_on_it(
    law: Law, changes: dict[str, Any], facts: dict[str, Any], wanted: ConsentState
) -> None:
    usual: dict[str, Any] = {"controller": Controller(id="acme"), "known": Known(), "registries": ()}
    situation = Situation(at=NOW, law=law, **(usual | facts))
    assert state(structs.replace(CONSENT, **changes), situation, CAMPAIGNS) == wanted


@pytest.mark.parametrize(
    ("scope", "covered", "limited"), [("purposes", "sale", "service"), ("call_types", "agent", "automated")]
)
def test_a_limit_on_one_of_its_uses_is_a_defect_of_the_whole(scope: str, covered: str, limited: str) -> None:
    limit = {"source": "short", "from": "2020-01-01", "max_age": "30d", scope: [limited]}
    law = parse_law({**LAW, "consents": [limit]})
    situation = Situation(at=NOW, law=law, controller=Controller(id="acme"), known=Known(), registries=())
    assert state(CONSENT, situation, CAMPAIGNS).reason == "consent.expired"
    assert state(structs.replace(CONSENT, **{scope: (covered,)}), situation, CAMPAIGNS).reason == ""
