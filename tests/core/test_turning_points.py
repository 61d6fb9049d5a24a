"""Between two turning points of a local day, a call has one verdict and one set of reasons, in every country and under random laws.

A plan of calls is decided only at turning points. A rule that does not name an instant at which its outcome changes would let a
plan permit a call that the gate then denies.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import cache, partial
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from dialgate.core import local_time, periods
from dialgate.core.decision import decide, turning_points
from dialgate.core.law import Law
from dialgate.core.model import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Attempt,
    CallRequest,
    Consent,
    Deny,
    Facts,
    Instant,
    Known,
    Place,
)
from dialgate.core.rules import OWN_TURNING_POINTS, TURNING_POINTS, TurningPoints, frequency
from tests.core.test_lasting_decisions import random_laws, situations
from tests.support.country_cases import COUNTRIES

ALL = sorted({"IT", *COUNTRIES})
# Changes of the clocks, at night and at midnight, and days around them.
CHANGES = ("2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2027-03-28", "2026-09-05", "2026-04-04")
FORGETFUL = 5_000  # samples at most until a forgotten turning point is found
SAMPLES = int(os.environ.get("DIALGATE_PLANS", "400"))

Verdict = tuple[bool, tuple[tuple[str, str], ...]]


def verdict(facts: Facts, law: Law) -> Verdict:
    decision = decide(facts, law)
    denials = (
        (rule, outcome.code) for rule, outcome in decision.outcomes.items() if hasattr(outcome, "code")
    )
    return decision.allow, tuple(denials)


@cache
def _place(zone: str, day: Instant, sets: tuple[Any, ...]) -> Place:
    return local_time.place(zone, dict(sets), day)


def facts_at(facts: Facts, law: Law, at: Instant) -> Facts:
    """Return the facts of a call at another time, as a gate makes them."""
    sets = tuple(law.day_sets.items())
    places = tuple(
        _place(place.zone, local_time.midnight(place.zone, local_time.day_in(place.zone, at)), sets)
        for place in facts.places
    )
    return replace(facts, at=at, today=local_time.day_in(law.zone, at), places=places)


def end_of_dates(facts: Facts, law: Law) -> Instant:
    """Return when the first local date in the facts changes."""
    zones = (law.zone, *(place.zone for place in facts.places))
    return min(
        local_time.midnight(zone, local_time.day_in(zone, facts.at) + timedelta(days=1)) for zone in zones
    )


def differences(
    facts: Facts, law: Law, draw: random.Random, points: Callable[..., Sequence[Instant]] = turning_points
) -> Iterator[tuple[Facts, Instant]]:
    """Yield the instants at which a call has another verdict than at the turning point before."""
    end = end_of_dates(facts, law)
    turns = [facts.at, *points(facts, law, end), end]
    for begins, ends in draw.sample(list(pairwise(turns)), min(len(turns) - 1, 4)):
        wanted = verdict(facts_at(facts, law, begins), law)
        for at in {begins, ends - 1, draw.randrange(begins, ends), draw.randrange(begins, ends)}:
            if verdict(facts_at(facts, law, at), law) != wanted:
                yield facts, at


def around(at: Instant, draw: random.Random) -> Instant:
    """Return a random instant from weeks before to days after `at`, mostly on a full minute."""
    moved = at + draw.choice((draw.randrange(-35 * DAY, 3 * DAY), draw.randrange(-2 * DAY, 2 * DAY)))
    return draw.choice((moved, moved // MINUTE * MINUTE, moved // SECOND * SECOND))


def some_known(facts: Facts, law: Law, draw: random.Random) -> Known:
    """Return the stored state of a case, with the times of its entries moved, or with other entries.

    Some attempts are about as old as a limit of the law is long.
    """
    known, at, campaign = facts.known, facts.at, facts.campaign
    results: Any = ("pending", "no_answer", "answered", "abandoned", "refused")
    ages = [0, *(periods.parse(limit.per).length for limit in law.limits)]
    attempts = tuple(
        Attempt(
            decision=f"a-{n}",
            at=min(at, draw.choice((around(at, draw), at - draw.choice(ages) + draw.randrange(-DAY, DAY)))),
            campaign=campaign.id,
            goods=campaign.goods,
            result=draw.choice(results),
        )
        for n in range(draw.randrange(8))
    )
    consents = tuple(
        replace(
            consent,
            **{
                name: around(at, draw)
                for name in ("collected_at", "expires_at", "confirmed_at", "renewed_at")
                if getattr(consent, name) and draw.random() < 0.7
            },
        )
        for consent in known.consents
    )
    requests = tuple(
        replace(
            asked,
            requested_at=around(at, draw),
            begins=draw.choice((0, around(at, draw))),
            expires_at=around(at, draw) + 3 * DAY,
        )
        for asked in known.requests
    )
    if draw.random() < 0.5:
        given = Consent(
            id="C",
            collected_at=around(at, draw),
            purposes=(campaign.purpose,),
            call_types=(facts.call_type,),
            proved=True,
            expires_at=draw.choice((0, around(at, draw))),
            double_opt_in=draw.random() < 0.3,
            confirmed_at=around(at, draw),
        )
        begins = around(at, draw)
        asked = CallRequest(
            id="R",
            requested_at=around(at, draw),
            begins=begins,
            expires_at=begins + draw.choice((2 * HOUR, 4 * DAY)),
            goods=campaign.goods,
            own_interface=True,
            proved=True,
            appointment=draw.random() < 0.5,
        )
        consents, requests = (given, *consents)[: draw.randrange(3)], (asked, *requests)[: draw.randrange(3)]
    return replace(known, attempts=attempts, consents=consents, requests=requests)


def random_call(facts: Facts, law: Law, draw: random.Random) -> Facts:
    """Return the facts of a case at another time, in other zones, with other entries, and answers and proofs of other ages."""
    at = facts.at + draw.randrange(-5 * DAY, 20 * DAY)
    if draw.random() < 0.5:
        at = local_time.midnight("UTC", date.fromisoformat(draw.choice(CHANGES))) + draw.randrange(
            -30 * HOUR, 30 * HOUR
        )
    moved = replace(
        facts,
        at=at,
        registries=tuple(
            replace(answer, consulted_at=around(at, draw)) if answer.consulted_at else answer
            for answer in facts.registries
        ),
        caller_id=replace(
            facts.caller_id, proved_at=draw.choice((facts.caller_id.proved_at, around(at, draw)))
        ),
    )
    if draw.random() < 0.3:
        zones = (
            "Europe/Rome",
            "Atlantic/Azores",
            "America/Havana",
            "America/Santiago",
            "America/Nuuk",
            "Pacific/Apia",
            "Asia/Kolkata",
            "America/New_York",
            "America/Los_Angeles",
            "Australia/Lord_Howe",
            "Pacific/Honolulu",
        )
        places = tuple(Place(zone=zone, offset=0) for zone in draw.sample(zones, draw.randrange(1, 4)))
        moved = replace(moved, places=places)
    if draw.random() < 0.7:
        moved = replace(moved, known=some_known(moved, law, draw))
    return facts_at(moved, law, at)


@pytest.mark.parametrize("country", ALL)
def test_a_verdict_changes_only_at_turning_points_in_each_country(country: str) -> None:
    draw, pairs = random.Random(country), situations(country)
    for _ in range(SAMPLES // len(ALL)):
        facts, law = draw.choice(pairs)
        assert list(differences(random_call(facts, law, draw), law, draw)) == []


def test_a_verdict_changes_only_at_turning_points_under_random_laws() -> None:
    draw, laws = random.Random(5), random_laws()
    for _ in range(SAMPLES // 25):
        country, law = next(laws)
        for facts, _ in draw.sample(situations(country), 25):
            assert list(differences(random_call(facts, law, draw), law, draw)) == []


SOURCES: tuple[TurningPoints, ...] = (*TURNING_POINTS, *OWN_TURNING_POINTS)


def points_without(forgotten: TurningPoints, facts: Facts, law: Law, end: Instant) -> list[Instant]:
    binding = law.binding(facts)
    kept = {at for source in SOURCES if source is not forgotten for at in source(facts, binding)}
    kept |= {place.shift_at for place in facts.places}
    return [at for at in turning_points(facts, law, end) if at in kept]


@pytest.mark.parametrize("forgotten", SOURCES, ids=lambda source: source.__module__.rpartition(".")[2])
def test_rules_that_forget_their_turning_points_are_noticed(forgotten: TurningPoints) -> None:
    draw, points = random.Random(8), partial(points_without, forgotten)
    pairs = (draw.choice(situations(draw.choice(ALL))) for _ in range(FORGETFUL))
    assert any(any(differences(random_call(facts, law, draw), law, draw, points)) for facts, law in pairs)


@pytest.mark.parametrize("country", ALL)
def test_a_known_number_has_the_points_of_a_stranger_and_its_own(country: str) -> None:
    draw, pairs = random.Random(country), situations(country)
    for _ in range(SAMPLES // len(ALL)):
        facts, law = draw.choice(pairs)
        call = random_call(facts, law, draw)
        end = end_of_dates(call, law)
        shared = turning_points(replace(call, known=Known(seq=call.known.seq)), law, end)
        assert {*turning_points(call, law, end)} <= {*turning_points(call, law, end, shared)}


@pytest.mark.parametrize("country", ALL)
def test_a_limit_denies_until_its_instant(country: str) -> None:
    draw, pairs = random.Random(country), situations(country)
    for _ in range(SAMPLES // len(ALL)):
        facts, law = draw.choice(pairs)
        call = random_call(facts, law, draw)
        binding = law.binding(call)
        denied = [
            type(rule(call, binding)) is Deny for rule in (frequency.frequency_kept, frequency.rest_kept)
        ]
        ends = frequency.denied_until(call, binding)
        assert any(denied) == any(end == -1 or end > call.at for end in ends)
