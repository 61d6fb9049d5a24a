"""A cached decision is the decision at every instant before its end, in every country and under random laws.

A gate uses a decision again for calls with equal facts, until the instant that `lasts_until` names or a local date changes
(`Batch._decide`). A rule that does not name the end of its outcome would let a call pass after its hours.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import replace

from dialgate.core import periods
from dialgate.core.decision import decide, lasts_until
from dialgate.core.law import Law, parse_law
from dialgate.core.model import (
    DAY,
    HOUR,
    MINUTE,
    Attempt,
    Decided,
    Decision,
    Facts,
    Grounds,
    Instant,
    Known,
    Pass,
    Result,
)
from dialgate.core.own_grounds import own_grounds, whole_grounds
from dialgate.core.rules import READ_ATTEMPTS, READ_ENTRIES, RULES, frequency
from dialgate.tools.policy.case_facts import build_facts, merge_values
from tests.support.casebook import (
    BASE,
    all_cases,
    case_law,
    facts_of,
    law_data,
    stranger_of,
)
from tests.support.country_cases import COUNTRIES, all_country_cases

# Besides its own time, each case is decided at so many of these (`make torture`: at all). In hours.
LATER = (-3, 2, 5)
TIMES = int(os.environ.get("DIALGATE_CASE_TIMES", "0"))
LAWS = 150 if TIMES else 50
SHARES = (0.0, 0.1, 0.35, 0.7, 1.0)


@cache
def situations(country: str) -> tuple[tuple[Facts, Law], ...]:
    """Return the facts and the law of every case of a country, each at several times of its day."""
    cases = [case for case in (*all_cases(), *all_country_cases()) if case.country == country]
    pairs = [(facts_of(case), case_law(case)) for case in cases]
    return tuple(
        (replace(facts, at=at), law)
        for (facts, law), first in zip(pairs, cycle(range(len(LATER))), strict=False)
        for at in (facts.at, *(facts.at + hours * HOUR for hours in (LATER * 2)[first : first + TIMES]))
        if at < _midnight(facts, law) and at - facts.at > -_since_midnight(facts)
    )


def _since_midnight(facts: Facts) -> Instant:
    seconds = [place.local(facts.at)[1] for place in facts.places] or [facts.at // 1000 % 86_400]
    return min(seconds) * 1000


def _midnight(facts: Facts, law: Law) -> Instant:
    """Return the first instant at which the facts themselves would change, because a local date does."""
    places = [place for place in facts.places if place.zone == law.zone] and facts.places
    ends = [place.instant(place.local(facts.at)[0] + 1, 0) for place in facts.places]
    return min(ends) if places else facts.at + 15 * MINUTE


def first_change(facts: Facts, law: Law, *, forgetful: str = "") -> Instant:
    """Return an instant before the end of a decision at which the decision is another one, or 0.

    The rule `forgetful` is taken to state no end.
    """
    facts = stranger_of(facts)
    made = decide(facts, law)
    end = min(lasts_until(facts, law, _without_end(made, forgetful, facts, law)), _midnight(facts, law))
    if end <= facts.at + 1:
        return 0
    for share in SHARES:
        at = facts.at + int((end - 1 - facts.at) * share)
        if decide(replace(facts, at=at), law) != made:
            return at
    return 0


def _without_end(made: Decision, name: str, facts: Facts, law: Law) -> Decision:
    """Return a decision as it would be if the rule `name` stated no end."""
    outcome = made.outcomes.get(name)
    if not isinstance(outcome, Pass) or not outcome.until:
        return made
    ends = [
        other.until
        for rule, other in made.outcomes.items()
        if rule != name and isinstance(other, Pass) and other.until
    ]
    until = min([*ends, _midnight(facts, law)]) if made.allow else made.valid_until
    return replace(made, outcomes=made.outcomes | {name: replace(outcome, until=0)}, valid_until=until)


@pytest.mark.parametrize("country", sorted({"IT", *COUNTRIES}))
def test_a_decision_holds_until_its_end_in_each_country(country: str) -> None:
    changes = [(facts, at) for facts, law in situations(country) if (at := first_change(facts, law))]
    assert changes == []
    strangers = [(stranger_of(facts), law) for facts, law in situations(country)]
    assert any(lasts_until(facts, law, decide(facts, law)) for facts, law in strangers)


def wrongly_amended(
    pairs: Sequence[tuple[Facts, Law]], draw: random.Random, *, forgotten: str = ""
) -> list[Facts]:
    """Return the facts for which a decision amended from that on an unknown number is another one than a fresh decision.

    Each call is also made to the number of another case. The first decision is made up to its whole length before. The rule
    `forgotten` is taken not to be evaluated for known numbers.
    """
    wrong = []
    for facts, law in pairs:
        stranger = stranger_of(facts)
        made = decide(stranger, law)
        end = max(min(lasts_until(stranger, law, made), _midnight(facts, law)), facts.at + 1)
        for other, _ in (facts, law), draw.choice(pairs):
            at = draw.choice((facts.at, draw.randrange(facts.at, end), end - 1))
            known = replace(
                facts,
                at=at,
                known=other.known,
                former_campaigns=other.former_campaigns,
                former_goods=other.former_goods,
            )
            amended = decide(known, law, made)
            if forgotten in made.outcomes:
                outcomes = amended.outcomes | {forgotten: made.outcomes[forgotten]}
                amended = replace(amended, outcomes=outcomes)
            if amended != decide(known, law):
                wrong.append(known)
    return wrong


@cache
def without_exemptions(country: str) -> tuple[tuple[Facts, Law], ...]:
    """Return the situations of a country under its law without `unless`, which could change the outcome of any rule."""
    law: dict[str, Any] = dict(law_data(country))
    for kind, sections in law.items():
        if isinstance(sections, list) and all(isinstance(section, dict) for section in sections):
            law[kind] = [
                {name: value for name, value in section.items() if name != "unless"} for section in sections
            ]
    parsed = parse_law(law)
    return tuple((facts, parsed) for facts, _ in situations(country))


class _Unread:
    """What is stored about a number that no rule may read. The attributes in `stored` may be read."""

    def __init__(self, **stored: Any) -> None:
        vars(self).update(stored)


@pytest.mark.parametrize("country", sorted({"IT", *COUNTRIES}))
def test_a_known_number_is_decided_as_if_nothing_were_cached(country: str) -> None:
    for pairs in (situations(country), without_exemptions(country)):
        assert wrongly_amended(pairs, random.Random(country)) == []


def as_recorded(facts: Facts, law: Law) -> tuple[Facts, Decision]:
    """Return the facts and the decision of a known number as its record beside shared grounds has them."""
    stranger = stranger_of(facts)
    made = decide(stranger, law)
    decision = decide(facts, law, made)
    shared = Grounds(seq=0, facts=replace(stranger, at=0), decision=made, country="", law="", config="")
    own = own_grounds(shared, facts, decision)
    record = Decided(
        seq=1, id="a-1", at=facts.at, number=b"", sealed=b"", grounds=0, allow=decision.allow, own=own
    )
    return whole_grounds(record, shared)


@pytest.mark.parametrize("country", sorted({"IT", *COUNTRIES}))
def test_the_record_of_a_known_number_has_its_facts_and_its_decision(country: str) -> None:
    for facts, law in situations(country):
        assert as_recorded(facts, law) == (facts, decide(facts, law))


def test_a_record_has_the_time_of_an_opening_that_a_contract_brings_forward() -> None:
    """The outcomes of all rules are those of a call to an unknown number, but the denial ends two hours earlier."""
    early, late = (
        {"source": "s", "from": "2018-02-04", "severity": "operator", "days": {"mon-sun": [band]}, **more}
        for band, more in (("08:00-18:00", {}), ("10:00-20:00", {"unless": ["running_contract"]}))
    )
    law = parse_law({**law_data("IT"), "hours": [early, late]})
    paused = {"campaign": {"counts": [["2026-11-24", 100, 50]]}}
    contract = {"id": "C-1", "starts": "2026-01-01", "goods": ["broadband"]}
    data = merge_values(BASE, {**paused, "known": {"contracts": [contract]}})
    facts = build_facts(data, "2026-11-24T12:00:00+01:00", law)
    stranger, known = decide(stranger_of(facts), law), decide(facts, law)
    assert stranger.outcomes == known.outcomes
    assert stranger.not_before - known.not_before == 2 * HOUR
    assert as_recorded(facts, law) == (facts, known)


@pytest.mark.parametrize("country", sorted({"IT", *COUNTRIES}))
def test_only_the_stated_rules_read_what_is_stored_about_a_number(country: str) -> None:
    for facts, law in situations(country):
        binding = law.binding(facts)
        attempts = replace(facts, known=_Unread(attempts=facts.known.attempts))
        nothing = replace(facts, known=_Unread())
        for name, rule in RULES:
            if name not in READ_ENTRIES:
                rule(attempts if name in READ_ATTEMPTS else nothing, binding)


def random_laws() -> Iterator[tuple[str, Law]]:
    """Yield laws of the sections of all countries: some left out, some of others added, hours and limits moved."""
    draw = random.Random(43)
    countries = sorted({"IT", *COUNTRIES})
    while True:
        country = draw.choice(countries)
        law: dict[str, Any] = dict(law_data(country))
        for kind in (
            "hours",
            "limits",
            "ratios",
            "sector_bans",
            "registries",
            "relations",
            "requests",
            "consents",
            "ai_disclosures",
        ):
            other = law_data(draw.choice(countries)).get(kind, [])
            sections = [section for section in (*law.get(kind, []), *other) if draw.random() < 0.7]
            law[kind] = [_moved(section, draw) for section in sections]
        try:
            yield country, parse_law(law)
        except (msgspec.ValidationError, ValueError):
            continue  # such as two registries with one name


def _moved(section: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    changed = {name: value for name, value in section.items() if name not in {"from", "until"}}
    if isinstance(days := changed.get("days"), dict):
        changed["days"] = {day: [_band(draw)] if bands else bands for day, bands in days.items()}
    if "after" in changed:
        changed["after"] = draw.randrange(1, 4)
    return {**changed, **({"from": section["from"]} if "from" in section else {})}


def _band(draw: random.Random) -> str:
    first, last = sorted(draw.sample(range(96), 2))
    return f"{first // 4:02}:{first % 4 * 15:02}-{last // 4:02}:{last % 4 * 15:02}"


def test_a_decision_holds_until_its_end_under_random_laws() -> None:
    draw, laws = random.Random(7), random_laws()
    for _ in range(LAWS):
        country, law = next(laws)
        for facts, _ in draw.sample(situations(country), 25):
            assert first_change(facts, law) == 0, facts


def test_a_known_number_is_decided_as_if_nothing_were_cached_under_random_laws() -> None:
    draw, laws = random.Random(8), random_laws()
    for _ in range(LAWS):
        country, law = next(laws)
        calls = [(facts, law) for facts, _ in draw.sample(situations(country), 25)]
        assert wrongly_amended(calls, draw) == []


def _with_attempts(facts: Facts, law: Law, draw: random.Random) -> Facts:
    """Return facts with attempts, some at the ends of the periods of limits."""
    periods_ = [periods.parse(limit.per).length for limit in law.limits] or [DAY]
    attempts = tuple(
        Attempt(
            decision=f"a-{seq}",
            at=facts.at
            - draw.choice((draw.randrange(40 * DAY), draw.choice(periods_) + draw.randrange(-2, 3))),
            campaign=draw.choice(("", facts.campaign.id)),
            goods=draw.choice(("", facts.campaign.goods, "other")),
            result=draw.choice(get_args(Result)),
        )
        for seq in range(draw.randrange(8))
    )
    return replace(facts, known=Known(attempts=attempts))


def test_attempts_that_limits_permit_leave_the_decision_on_an_unknown_number() -> None:
    draw, laws, permitted = random.Random(9), random_laws(), Counter[bool]()
    for _ in range(LAWS):
        country, law = next(laws)
        for situation, _ in draw.sample(situations(country), 25):
            facts = _with_attempts(situation, law, draw)
            binding = replace(law.binding(facts), limits=law.limits)
            is_permitted = frequency.permit(law.limits, facts)
            permitted[is_permitted] += bool(facts.known.attempts)
            assert not (is_permitted and any(frequency.denied_until(facts, binding))), facts
            stranger = decide(stranger_of(facts), law)
            assert decide(facts, law, stranger) == decide(facts, law), facts
    assert min(permitted[True], permitted[False]) > LAWS


@pytest.mark.parametrize("name", sorted(READ_ATTEMPTS | READ_ENTRIES))
def test_a_rule_that_is_not_evaluated_for_a_known_number_is_detected(name: str) -> None:
    countries = ("IT", *COUNTRIES)
    calls = (pairs for country in countries for pairs in (situations(country), without_exemptions(country)))
    assert any(wrongly_amended(pairs, random.Random(name), forgotten=name) for pairs in calls)


@pytest.mark.parametrize("name", ["caller_id_recallable", "hours_open", "registry_clear"])
def test_a_rule_that_forgets_its_end_is_detected(name: str) -> None:
    assert any(
        first_change(facts, law, forgetful=name)
        for country in ("IT", *COUNTRIES)
        for facts, law in situations(country)
    )
