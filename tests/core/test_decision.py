"""Properties that hold for every decision."""

import calendar
from datetime import date, timedelta
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dialgate.core import local_time
from dialgate.core.decision import _judge, decide, lasts_until
from dialgate.core.law import Binding, Law, parse_law
from dialgate.core.model import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Attempt,
    CallerId,
    CallRequest,
    Campaign,
    Consent,
    Contract,
    Controller,
    Decision,
    Deny,
    Facts,
    Instant,
    Known,
    Listing,
    Number,
    Origin,
    Outcome,
    Pass,
    Place,
    RegistryAnswer,
    Revocation,
    Skip,
    Transfer,
)
from dialgate.core.rules import PRECONDITIONS, RULES
from dialgate.tools.policy.case_facts import INSTANTS, instant
from dialgate.tools.policy.case_file import PolicyCase, Wanted
from tests.support.casebook import facts_of, law_data, law_of, stranger_of

IT = law_of("IT")
CODE = "codice_condotta_telemarketing"
ADHERENT: dict[str, Any] = {"controller": {"adheres_to": [CODE]}}


def base(at: str = "2026-11-24T10:00:00+01:00", **facts: Any) -> Facts:
    return facts_of(PolicyCase(about="", at=at, want=Wanted(decision="allow"), facts=facts))


def with_law(**sections: Any) -> Law:
    return parse_law({**law_data("IT"), **sections})


# ---- a rule that fails, a rule that advises --------------------------------------------------------------------------


def test_a_rule_that_raises_denies_without_revealing_the_facts() -> None:
    def broken(_facts: Facts, _law: Binding) -> Outcome:
        raise LookupError("+390612345678")

    assert _judge(broken, base(), IT.binding(base())) == Deny(
        "gate.rule_error", "broken failed: LookupError", severity="gate"
    )


BEYOND_THE_CALENDAR = 400_000 * 366 * DAY
ALWAYS = {"source": "s", "from": date(2018, 1, 1), "days": {"mon-fri": ["00:00-24:00"]}}


@pytest.mark.parametrize("severity", ["statute", "recommendation"])
def test_the_decision_is_deny_if_a_real_rule_fails_for_an_impossible_date(severity: str) -> None:
    """The cases include a recommendation, which cannot deny by itself."""
    law = with_law(hours=[{**ALWAYS, "severity": severity}])
    decision = decide(replace(base(), at=BEYOND_THE_CALENDAR), law)
    assert not decision.allow
    assert decision.outcomes["hours_open"] == Deny(
        "gate.rule_error", "hours_open failed: ValueError", severity="gate"
    )
    assert decision.not_before == 0


RECOMMENDED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("number_valid", {"diallable": [{"allows": ["mobile"]}]}, {}),
    ("sector_allowed", {"sector_bans": [{}]}, {}),
    ("registry_clear", {"registries": [{"id": "other", "mode": "answers", "validity": "1d"}]}, {}),
    ("lawful_basis", {"consents": [{"max_age": "1d"}]}, {"number": {"kind": "mobile"}}),
    ("caller_id_assigned", {"caller_ids": [{"exclusive": True}]}, {"caller_id": {"shared": True}}),
    ("caller_id_recallable", {"caller_ids": [{"classes": [], "proof_validity": "1d"}]}, {}),
    ("caller_id_ingress", {"foreign_ingress": [{"bars": ["unknown"]}]}, {"campaign": {"trunk_country": "FR"}}),
    ("hours_open", {"hours": [{}]}, {}),
    ("frequency_kept",
     {"limits": [{"events": "attempts", "per": "30d", "counting": "rolling"}]},
     {"known": {"attempts": [{"decision": "d", "at": "-9d", "campaign": "c"}]}}),
    ("rest_kept", {"limits": [{"events": "abandoned", "per": "9d", "counting": "whole_days"}]},
     {"known": {"attempts": [{"decision": "d", "at": "-8d", "campaign": "c", "result": "abandoned"}]}}),
]  # fmt: skip
CONSENT = {
    "consents": [
        {
            "id": "c1",
            "collected_at": "-9d",
            "purposes": ["sale"],
            "call_types": ["agent"],
            "goods": ["broadband"],
            "proved": True,
        }
    ]
}


@pytest.mark.parametrize(("rule", "sections", "facts"), RECOMMENDED, ids=[row[0] for row in RECOMMENDED])
def test_a_recommendation_becomes_a_marked_pass_and_changes_nothing_else(
    rule: str, sections: dict[str, Any], facts: dict[str, Any]
) -> None:
    data: dict[str, Any] = law_data("IT")
    for name in sections:
        data = {
            **data,
            name: [section for section in data[name] if name in {"diallable", "consents", "caller_ids"}],
        }
    common = {"source": "s", "from": date(2018, 1, 1)}
    if rule == "lawful_basis":
        facts = {**facts, "known": CONSENT, "listings": []}
    before = decide(base(**facts), parse_law(data))
    added = {
        name: [*data[name], *({**common, **section} for section in new)] for name, new in sections.items()
    }
    binding = decide(base(**facts), parse_law({**data, **added}))
    assert before.allow
    assert not binding.allow

    for section in (section for new in added.values() for section in new if section["source"] == "s"):
        section["severity"] = "recommendation"
    law = parse_law({**data, **added})
    advised = decide(base(**facts), law)
    assert lasts_until(base(**facts), law, advised) == 0
    assert decide(base(**facts), law, advised) == advised
    outcome = advised.outcomes[rule]
    assert isinstance(outcome, Pass)
    assert outcome.why.startswith("advised against: ")
    assert (advised.allow, advised.basis, advised.valid_until) == (True, before.basis, before.valid_until)


def test_a_recommendation_does_not_soften_a_denial_by_law() -> None:
    law = with_law(
        limits=[*law_data("IT")["limits"], {**law_data("IT")["limits"][1], "severity": "recommendation"}]
    )
    silent = {"attempts": [{"decision": "d", "at": "-1d", "campaign": "c", "result": "abandoned"}]}
    decision = decide(base(known=silent), law)
    assert [deny.code for deny in decision.reasons] == ["frequency.rest"]


@pytest.mark.parametrize(
    ("severity", "kind"),
    [("statute", Deny), ("self_regulation", Deny), ("operator", Deny), ("recommendation", Pass)],
)
def test_only_a_recommendation_does_not_deny(severity: str, kind: type[Outcome]) -> None:
    law = with_law(hours=[{"source": "s", "from": date(2018, 1, 1), "severity": severity}])
    assert type(decide(base(), law).outcomes["hours_open"]) is kind


# ---- the shape of a decision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts", [{"campaign": {"known": False}}, {"number": {"kind": "invalid", "problem": "p"}}]
)
def test_without_a_number_and_a_campaign_every_other_rule_is_skipped(facts: dict[str, Any]) -> None:
    decision = decide(base(**facts, call_type="ai_voice"), IT)
    assert list(decision.outcomes) == [name for name, _ in RULES]
    rest = [decision.outcomes[name] for name, _ in RULES[PRECONDITIONS:]]
    assert all(isinstance(outcome, Skip) for outcome in rest)
    assert (decision.allow, decision.basis, decision.valid_until, decision.not_before) == (False, "", 0, 0)


LATE = {**ADHERENT, "at": "2026-11-24T21:00:00+01:00"}
OPENS = "2026-11-25T09:00:00+01:00"
SILENT = {"attempts": [{"decision": "d", "at": "-1d", "campaign": "c", "result": "abandoned"}]}


@pytest.mark.parametrize(
    ("facts", "not_before"),
    [
        (LATE, OPENS),
        (
            {**LATE, "campaign": {"dial_mode": "manual"}, "known": SILENT},
            "2026-11-30T09:00:00+01:00",
        ),  # from Sunday on, and then Monday's hours
        ({**LATE, "registries": []}, ""),
        ({**LATE, "known": {**SILENT, "revocations": [{"seq": 1, "at": "-1d", "scope": "everyone"}]}}, ""),
    ],
)
def test_not_before_is_given_only_if_time_ends_every_denial(facts: dict[str, Any], not_before: str) -> None:
    assert decide(base(**facts), IT).not_before == (instant(not_before) if not_before else 0)


@pytest.mark.parametrize(
    ("consent", "is_lifted"),
    [
        ({}, True),
        ({"id": "c2"}, False),
        ({"proved": False}, False),
        ({"collected_at": "2026-11-20T10:00:00+01:00"}, False),  # the time of the stop
    ],
)
def test_a_stop_for_every_controller_is_lifted_where_the_new_consent_is(
    consent: dict[str, Any], is_lifted: bool
) -> None:
    stop = {
        "seq": 1, "at": "2026-11-20T10:00:00+01:00", "scope": "everyone", "lifted": "new_consent", "consents": ["c1"],
    }  # fmt: skip
    given = {**CONSENT["consents"][0], "collected_at": "2026-11-21T10:00:00+01:00", **consent}
    codes = [
        reason.code for reason in decide(base(known={"revocations": [stop], "consents": [given]}), IT).reasons
    ]
    assert ("revocation.revoked" not in codes) == is_lifted


def test_a_law_without_a_kind_of_section_that_came_later_has_no_outcome_for_it() -> None:
    """A record older than the `ratios` sections must replay without the outcome `ratio_kept`."""
    assert "ratio_kept" in decide(base(), IT).outcomes
    assert "ratio_kept" not in decide(base(), with_law(ratios=[])).outcomes


@pytest.mark.parametrize(("per", "words"), [("1d", "1 days"), ("30d", "30 days"), ("72h", "72 hours")])
def test_a_limit_names_its_period_in_the_words_of_earlier_records(per: str, words: str) -> None:
    attempts = [
        {"decision": "d", "at": "2026-11-24T09:00:00+01:00", "campaign": "fibre", "result": "answered"}
    ]
    limit = {"source": "s", "from": "2020-01-01", "events": "attempts", "per": per, "counting": "rolling"}
    (reason,) = decide(base(known={"attempts": attempts}), with_law(limits=[limit])).reasons
    assert reason.text == f"called 1 times in {words}, 1 are allowed"


def test_an_open_ended_contract_may_end_on_the_last_possible_day() -> None:
    forever = {"contracts": [{"id": "k", "starts": "2025-01-01", "ends": "9999-12-31", "marketing": True}]}
    assert decide(base(known=forever, listings=[]), IT).basis == "contract:k"


def test_an_unlimited_consent_does_not_end_an_allow() -> None:
    decision = decide(base(known=CONSENT, listings=[]), with_law(consents=[]))
    assert decision.basis == "consent:c1"
    assert decision.outcomes["lawful_basis"] == Pass("consent:c1", 0)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (
            {**ADHERENT, "at": "2026-12-07T20:03:07+01:00"},
            "Monday 20:03:07 in Europe/Rome (pre holiday) is outside the permitted hours",
        ),
        (
            {"campaign": {"trunk_country": ""}, "caller_id": {"kind": "unknown"}},
            "a caller ID of IT must not enter through a trunk in an undeclared country",
        ),
        (
            {"campaign": {"trunk_country": "FR"}, "caller_id": {"kind": "unknown"}},
            "a caller ID of IT must not enter through a trunk in FR",
        ),
        ({"number": {"region": ""}}, "no law is on file for this country"),
        ({"number": {"region": "SM"}}, "no law is on file for SM"),
        (
            {"campaign": {"counts": [["2026-11-20", 90, 4]]}},
            "4 abandoned calls to 90 answered calls in 30 days, 3 to 100 are allowed",
        ),
        ({"caller_id": {"form": "withheld"}}, "the caller ID is withheld"),
        ({"caller_id": {"form": "invalid"}}, "the caller ID is no telephone number"),
    ],
)
def test_the_reason_is_a_sentence_that_says_what_was_wrong(facts: dict[str, Any], text: str) -> None:
    assert decide(base(**facts), IT).reasons[0].text == text


# ---- properties ------------------------------------------------------------------------------------------------------


@cache
def place(zone: str, day: date) -> Place:
    noon = instant(f"{day.isoformat()}T12:00:00+00:00")
    return local_time.place(zone, IT.day_sets, noon)


def moved(facts: Facts, at: Instant) -> Facts:
    """Return the facts as the gate would gather them at another instant."""
    places = tuple(place(item.zone, local_time.day_in(item.zone, at)) for item in facts.places)
    return replace(facts, at=at, today=local_time.day_in(IT.zone, at), places=places)


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 9 * len(others) + list(others))


def few(each: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(each, max_size=most).map(tuple)


# Facts are generated for one instant and then moved as a whole, so that every strategy is created once.
REFERENCE = "2026-06-10T00:00:00+02:00"
AT = instant(REFERENCE)
TODAY = date(2026, 6, 10)


def shifted(value: Any, by: int, days: int) -> Any:
    if isinstance(value, date):
        return value + timedelta(days=days)
    if isinstance(value, tuple):
        return tuple(shifted(item, by, days) for item in value)
    if not isinstance(value, msgspec.Struct):
        return value
    fields = msgspec.structs.asdict(value).items()
    moved = {
        name: (each and each + by) if name in INSTANTS else shifted(each, by, days) for name, each in fields
    }
    return replace(value, **moved)


# Near the instant, and near the ages at which the law gives another result.
NEAR = st.sampled_from(
    [
        AT - days * DAY + by
        for days in (0, 1, 4, 5, 6, 14, 15, 16, 29, 30, 31, 32, 729, 730, 731)
        for by in (-HOUR, -SECOND, -1, 0, 1, SECOND, HOUR)
    ]
)
CONSENTS = st.builds(
    Consent,
    id=st.sampled_from(["c1", "c2"]),
    collected_at=NEAR,
    purposes=mostly(("sale", "market_research"), ("service",)),
    call_types=mostly(("agent", "automated"), ("agent",)),
    goods=mostly((), ("broadband",), ("power",)),
    proved=st.sampled_from([True] * 9 + [False]),
    other_proofs=st.sampled_from([(), ("certificate", "crm_reference")]),
    expires_at=mostly(0, AT + 1, AT + HOUR, AT),
    withdrawn_at=mostly(0, AT - DAY),
    voided_at=mostly(0, AT - DAY),
)
CONTRACTS = st.builds(
    Contract,
    id=st.sampled_from(["k1", "k2"]),
    starts=mostly(TODAY - timedelta(days=500), TODAY, TODAY + timedelta(days=1)),
    ends=st.sampled_from([None, *(TODAY + timedelta(days=days) for days in (-400, -31, -30, -1, 0, 1, 40))]),
    sector=mostly("", "electricity"),
    goods=mostly((), ("power",)),
    marketing=st.booleans(),
)
REQUESTS = st.builds(
    CallRequest,
    id=st.just("r1"),
    requested_at=NEAR,
    expires_at=st.sampled_from([AT, AT + 1, AT + HOUR, AT + 9 * DAY]),
    goods=mostly("broadband", "power"),
    own_interface=st.booleans(),
)
ATTEMPTS = st.builds(
    Attempt,
    decision=st.just("d"),
    at=NEAR.map(lambda at: at - HOUR - 1),
    campaign=st.just("fibre"),
    basis=mostly("", "request:r1"),
    result=st.sampled_from(["pending", "not_dialled", "no_answer", "busy", "answered", "abandoned"]),
)
REVOCATIONS = st.builds(
    Revocation,
    seq=st.integers(1, 9),
    at=NEAR,
    scope=st.sampled_from(["campaign", "controller", "everyone"]),
    campaign=st.sampled_from(["fibre", "other"]),
    lifted=mostly("new_consent", "", "error"),
)
KNOWN = st.builds(
    Known,
    revocations=few(REVOCATIONS, 1),
    consents=few(CONSENTS),
    contracts=few(CONTRACTS),
    requests=few(REQUESTS, 1),
    attempts=few(ATTEMPTS, 3),
)
CEDED = Transfer(by="broker", to="acme", on=TODAY - timedelta(days=9), subjects_told=True)
ORIGINS = st.builds(
    Origin,
    collected_by=mostly("acme", "broker"),
    collected_on=st.just(TODAY - timedelta(days=99)),
    transfers=mostly((), (CEDED,), (replace(CEDED, subjects_told=False),)),
)
LISTINGS = st.builds(Listing, list=st.just("l"), basis=mostly("directory", "consent"), origin=ORIGINS)
ANSWERS = st.builds(
    RegistryAnswer,
    registry=st.just("rpo"),
    answer=mostly("clear", "listed", "unknown"),
    consulted_at=mostly(AT - 4 * DAY, AT - 15 * DAY, AT - 15 * DAY + 1, AT + 1),
    listed_at=mostly(0, AT - 40 * DAY),
).map(lambda each: replace(each, listed_at=each.consulted_at) if each.answer == "listed" else each)
COMMERCIAL = CallerId(number="+390844123456", form="number", region="IT", assigned=True)
LINE = replace(COMMERCIAL, number="+390612345678", kind="fixed")
CALLER_IDS = mostly(
    COMMERCIAL,
    replace(COMMERCIAL, shared=True),
    *(replace(LINE, proved_at=AT - age) for age in (DAY, 30 * DAY - 1, 30 * DAY)),
)
CAMPAIGNS = st.builds(
    Campaign,
    id=st.just("fibre"),
    purpose=mostly("sale", "market_research", "service", "political"),
    sector=mostly("", "electricity"),
    goods=st.just("broadband"),
    call_type=st.just("agent"),
    trunk_country=st.just("IT"),
    ends=mostly(None, TODAY),
)
CONTROLLERS = st.builds(
    Controller,
    id=st.just("acme"),
    adheres_to=st.sampled_from([(), (CODE,)]),
    consent_after_listing=st.booleans(),
)
ZONES = st.sampled_from([(IT.zone,), (IT.zone, "Europe/London"), ("Atlantic/Canary",), ()])
FACTS = st.builds(
    Facts,
    at=st.just(AT),
    today=st.just(TODAY),
    number=st.builds(Number, kind=mostly("fixed", "mobile"), region=st.just("IT")),
    controller=CONTROLLERS,
    campaign=CAMPAIGNS,
    call_type=mostly("agent", "automated"),
    caller_id=CALLER_IDS,
    known=KNOWN,
    places=ZONES.map(lambda zones: tuple(Place(zone=zone, offset=0) for zone in zones)),
    listings=few(LISTINGS),
    registries=st.tuples(ANSWERS),
)
SECONDS = st.sampled_from([0, 9 * 3600, 20 * 3600 - 10, 23 * 3600 + 3599]) | st.integers(0, 86_399)


def at_some_time(facts: Facts, day: int, second: int) -> Facts:
    by = day * DAY + second * SECOND
    days = (local_time.day_in(IT.zone, AT + by) - TODAY).days
    there: Facts = shifted(facts, by, days)
    return moved(there, there.at)


ANY = st.builds(at_some_time, FACTS, st.integers(-200, 200), SECONDS)
# Only time forbids these calls, and no clock changes between the oldest attempt that counts and the next hours.
LATE_IN_WINTER = st.builds(
    at_some_time,
    few(ATTEMPTS, 9).map(
        lambda attempts: replace(
            base(REFERENCE, **ADHERENT, campaign={"dial_mode": "manual"}), known=Known(attempts=attempts)
        )
    ),
    st.integers(170, 250),
    SECONDS,
)
PROPERTY = settings(max_examples=150)
TIME = ("hours.", "frequency.")


def time_denies(facts: Facts) -> list[str]:
    return [deny.code for deny in decide(facts, IT).reasons if deny.code.startswith(TIME)]


@PROPERTY
@given(ANY, REVOCATIONS)
def test_a_revocation_in_force_denies_and_no_revocation_allows(facts: Facts, stop: Revocation) -> None:
    """A revocation must deny the call, unless it is lifted or limited to another campaign.

    Adding a revocation must never change a denial into a permission.
    """
    stop = shifted(stop, facts.at - AT, 0)
    after = decide(
        replace(facts, known=replace(facts.known, revocations=(*facts.known.revocations, stop))), IT
    )
    before = decide(facts, IT)
    assert before.allow or not after.allow
    if not stop.lifted and (stop.scope != "campaign" or stop.campaign == facts.campaign.id):
        assert "revocation.revoked" in [deny.code for deny in after.reasons]


@PROPERTY
@given(ANY)
def test_a_decision_replays_from_its_record(facts: Facts) -> None:
    """The facts read from JSON, under a newly parsed law, give the same decision."""
    decision = decide(facts, IT)
    stored = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    assert decide(facts, IT) == decision
    assert decide(stored, parse_law(law_data("IT"))) == decision
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


@PROPERTY
@given(ANY)
def test_no_call_is_allowed_without_a_legal_basis_in_the_facts(facts: Facts) -> None:
    """For a permitted call, the decision names a legal basis that is recorded, in force and accepted for the call."""
    decision = decide(facts, IT)
    event("allow" if decision.allow else "deny")
    if not decision.allow:
        return
    assert decision.outcomes["lawful_basis"] == Pass(
        decision.basis, getattr(decision.outcomes["lawful_basis"], "until", 0)
    )
    kind, _, name = decision.basis.partition(":")
    held: dict[str, list[bool]] = {
        "consent": [
            consent.proved and not consent.withdrawn_at and facts.campaign.purpose in consent.purposes
            for consent in facts.known.consents if consent.id == name
        ],
        "contract": [
            (contract.starts <= facts.today and facts.call_type == "agent") or facts.campaign.purpose == "service"
            for contract in facts.known.contracts if contract.id == name
        ],
        "request": [request.requested_at <= facts.at < request.expires_at for request in facts.known.requests],
        "directory": [
            listing.basis == "directory" and facts.call_type == "agent" and facts.campaign.purpose != "political"
            for listing in facts.listings if listing.list == name
        ],
    }  # fmt: skip
    assert any(held[kind])


@PROPERTY
@given(ANY)
def test_a_marketing_call_needs_a_clear_registry_answer_or_an_exemption(facts: Facts) -> None:
    """The basis is an unexpired answer *not enrolled*, a contract, a call request, or the documented exception."""
    decision = decide(facts, IT)
    if (
        not decision.allow
        or facts.campaign.purpose != "sale"
        or facts.at < instant("2022-07-27T00:00:00+02:00")
    ):
        return
    (answer,) = facts.registries
    fresh = answer.consulted_at <= facts.at < answer.consulted_at + 15 * DAY
    kind = decision.basis.partition(":")[0]
    assert (
        (answer.answer == "clear" and fresh)
        or kind in {"contract", "request"}
        or (kind == "consent" and facts.controller.consent_after_listing and fresh)
    )


@PROPERTY
@given(LATE_IN_WINTER)
def test_a_denial_by_time_ends_at_not_before_and_not_a_second_earlier(
    facts: Facts,
) -> None:
    """At `not_before`, the rules on hours, frequency and rest periods allow the call. A second earlier, at least one denies it."""
    decision = decide(facts, IT)
    promised = decision.not_before
    event("allow" if decision.allow else ", ".join(deny.code for deny in decision.reasons))
    # Beyond two weeks the holidays are unknown, and the instant is only a lower bound.
    assume(promised <= facts.at + 14 * DAY)
    if decision.allow:
        return
    assert facts.at < promised
    assert time_denies(moved(facts, promised)) == []
    assert time_denies(moved(facts, promised - SECOND)) != []


@PROPERTY
@given(ANY, st.integers(0, 999))
def test_an_allow_holds_until_valid_until(facts: Facts, permille: int) -> None:
    """If only the time changes, the call stays permitted until the last millisecond before `valid_until`."""
    decision = decide(facts, IT)
    event("allow" if decision.allow else "deny")
    if not decision.allow:
        return
    assert facts.at < decision.valid_until <= facts.at + 25 * HOUR
    span = decision.valid_until - facts.at
    for at in (facts.at + span * permille // 1000, decision.valid_until - 1):
        assert decide(moved(facts, at), IT).allow, local_time.rfc3339(at)


@pytest.mark.parametrize(
    ("law", "attempts", "reasons"),
    [
        (IT, 4, []),
        (IT, 5, ["frequency.exceeded"]),
        (with_law(limits=[]), 5, []),
    ],
    ids=["below the limit", "at the limit", "no limit"],
)
def test_attempts_beyond_a_limit_are_denied(law: Law, attempts: int, reasons: list[str]) -> None:
    made = [
        {"decision": f"a-{day}", "at": f"2026-11-{24 - day}T09:00:00+01:00", "campaign": "c"}
        for day in range(attempts)
    ]
    facts = base(known={"attempts": made})
    assert [deny.code for deny in decide(facts, law).reasons] == reasons


@PROPERTY
@given(ANY, st.integers(0, 999))
def test_a_lasting_decision_is_identical_until_its_end(facts: Facts, permille: int) -> None:
    """With equal facts, the decision is the same at every instant before `lasts_until`, and amended to that on a known number."""
    stranger = stranger_of(facts)
    decision = decide(stranger, IT)
    end = lasts_until(stranger, IT, decision)
    event(f"{'allow' if decision.allow else 'deny'} that {'lasts' if end else 'does not'}")
    span = end - facts.at if end else 1
    for at in (facts.at + span * permille // 1000, facts.at + span - 1):
        for seen in (moved(stranger, at), replace(stranger, at=at)) if end else ():
            assert decide(seen, IT) == decision, local_time.rfc3339(at)
        known = replace(facts, at=at)
        assert decide(known, IT, decision) == decide(known, IT), local_time.rfc3339(at)


def test_a_paused_campaign_is_denied_for_a_known_number_too() -> None:
    facts = base(campaign={"paused": True})
    denied = decide(stranger_of(facts), IT)
    attempt = Attempt(decision="9f2c01ab-1", at=facts.at - HOUR, campaign="acme-fibre")
    for attempts in (1, 9):  # within every limit, and not
        known = Known(seq=7, attempts=(attempt,) * attempts)
        assert decide(replace(facts, known=known), IT, denied) is denied


def test_a_denial_lasts_at_most_as_long_as_the_answer_of_a_registry_that_would_deny_first() -> None:
    rpo, *_ = law_data("IT")["registries"]
    law = with_law(registries=[{**rpo, "id": "first"}, rpo])
    facts = base()
    expires = facts.at + HOUR
    clear = RegistryAnswer(registry="first", answer="clear", consulted_at=expires - 15 * DAY)
    listed = RegistryAnswer(registry="rpo", answer="listed", consulted_at=facts.at, listed_at=facts.at)
    facts = replace(facts, known=Known(), registries=(clear, listed))
    decision = decide(facts, law)
    assert [deny.code for deny in decision.reasons] == ["registry.listed"]
    assert [deny.code for deny in decide(replace(facts, at=expires), law).reasons] == ["registry.expired"]
    assert lasts_until(facts, law, decision) <= expires


def test_an_allow_ends_with_the_quarter_hour_if_the_law_uses_another_time_zone() -> None:
    facts = base(zones=["Atlantic/Canary"])
    assert decide(facts, IT).valid_until == facts.at + 15 * MINUTE


@pytest.mark.parametrize("day", range(23, 30))
def test_a_denial_outside_the_hours_names_the_local_day_and_time(day: int) -> None:
    """23 November 2026 is a Monday, so the cases cover each day of the week."""
    decision = decide(base(f"2026-11-{day}T03:04:05+01:00", **ADHERENT), IT)
    name, kind = calendar.day_name[day - 23], ("weekday", "saturday", "sunday")[max(day - 27, 0)]
    (reason,) = (reason for reason in decision.reasons if reason.code == "hours.outside")
    assert reason.text.startswith(f"{name} 03:04:05 in Europe/Rome ({kind})")
