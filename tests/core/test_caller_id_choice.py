"""Properties of the choice among caller IDs, for random pools of every country."""

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec import structs

from dialgate.core import local_time, phone
from dialgate.core.caller_id_choice import judge_pool
from dialgate.core.decision import NOT_JUDGED, decide
from dialgate.core.law import Law
from dialgate.core.model import DAY, HOUR, CallerId, Deny, Facts, Known
from dialgate.core.rules import CALLER_ID_RULES
from tests.support.casebook import all_cases, facts_of, law_of
from tests.support.country_cases import COUNTRIES, cases_of

NUMBERS = (
    "+390844123456",
    "+390612345670",
    "+390212345670",
    "+393331234500",
    "+33162123456",
    "+390843123456",
    "4545",
)
PURPOSES = ("sale", "market_research", "statistics", "service", "debt")
POOLS_A_COUNTRY = 30
ITALIAN = [case for case in all_cases() if case.country == "IT" and not case.law]


def random_pool(randomly: random.Random, facts: Facts, country: str) -> list[CallerId]:
    """Return caller IDs of many classes, places, proofs and ends, among them those that the country's cases present."""
    texts = {case.shown for case in cases_of(country) if case.shown}.union(NUMBERS)
    pool: dict[str, CallerId] = {}
    for text in randomly.sample(sorted(texts), randomly.randint(1, min(6, len(texts)))):
        parsed = phone.parse_caller_id(text, country)
        if parsed.form in {"number", "short"}:
            pool[parsed.number] = structs.replace(
                parsed,
                assigned=True,
                shared=randomly.random() < 0.2,
                held=randomly.random() < 0.8,
                in_directory=randomly.random() < 0.8,
                proved_at=randomly.choice(
                    (0, facts.at + HOUR, facts.at - HOUR, facts.at - 20 * DAY, facts.at - 400 * DAY)
                ),
                ends=randomly.choice((None, None, facts.today + timedelta(days=randomly.randint(0, 400)))),
            )
    return list(pool.values()) or [facts.caller_id]


def random_calls(country: str) -> Iterator[tuple[Facts, list[CallerId]]]:
    randomly = random.Random(country)
    cases = cases_of(country) or ITALIAN
    for _ in range(POOLS_A_COUNTRY):
        facts = facts_of(randomly.choice(cases))
        campaign = structs.replace(facts.campaign, purpose=randomly.choice(PURPOSES))
        days = randomly.choice((0, 0, randomly.randint(-400, 400)))
        at, today = facts.at + days * DAY, facts.today + timedelta(days=days)
        facts = structs.replace(facts, campaign=campaign, at=at, today=today)
        yield facts, random_pool(randomly, facts, country)


def end_of_day(facts: Facts, law: Law) -> int:
    """Return when the date first changes in one of the time zones."""
    zones = (law.zone, *(place.zone for place in facts.places))
    tomorrow = [(zone, local_time.day_in(zone, facts.at) + timedelta(days=1)) for zone in zones]
    return min(local_time.midnight(zone, day) for zone, day in tomorrow)


def fitting(pool: list[CallerId], facts: Facts, law: Law) -> list[str]:
    """Return the numbers that no rule about caller IDs denies, without the code under test."""
    judged = [(shown.number, decide(structs.replace(facts, caller_id=shown), law).outcomes) for shown in pool]
    return [
        number
        for number, outcomes in judged
        if not any(
            isinstance(outcomes[rule], Deny) or outcomes[rule] == NOT_JUDGED for rule in CALLER_ID_RULES
        )
    ]


@pytest.mark.parametrize("country", ["IT", *COUNTRIES])
def test_no_chosen_caller_id_is_outside_class_place_or_proof(country: str) -> None:
    law, mixed = law_of(country), 0
    for facts, pool in random_calls(country):
        stranger = structs.replace(facts, known=Known())
        lawful = fitting(pool, stranger, law)
        choice = judge_pool(pool, stranger, law, end_of_day(stranger, law))
        for at in (facts.at, (facts.at + choice.until) // 2, choice.until - 1):
            assert fitting(pool, structs.replace(stranger, at=at), law) == lawful
        assert [shown.number for shown in choice.candidates] == (lawful or [pool[0].number])
        for subject in (b"a", b"b", b"c", b"d"):
            chosen = choice.choose(subject)
            decision = decide(structs.replace(facts, caller_id=chosen), law)
            plain = decide(structs.replace(facts, caller_id=structs.replace(chosen, chosen="")), law)
            assert decision == plain  # the reason for the choice has no effect
            assert (
                chosen.number in lawful or not decide(structs.replace(stranger, caller_id=chosen), law).allow
            )
        mixed += 0 < len(lawful) < len(pool)
    assert mixed  # otherwise nothing was tested


def test_the_reason_names_at_most_eight_that_do_not_fit() -> None:
    facts = facts_of(next(case for case in ITALIAN if case.want.decision == "allow"))
    pool = [structs.replace(facts.caller_id, number=f"+39061234567{n}", assigned=False) for n in range(9)]
    (first,) = judge_pool(pool, facts, law_of("IT"), facts.at + DAY).candidates
    assert first.number == pool[0].number
    assert first.chosen.startswith("0 of 9 fit; left out: +390612345670 caller_id.not_assigned, ")
    assert first.chosen.endswith("+390612345677 caller_id.not_assigned and 1 more")


@pytest.mark.parametrize("seed", range(20))
def test_a_person_sees_another_number_only_if_theirs_leaves_the_pool(seed: int) -> None:
    randomly = random.Random(seed)
    facts = facts_of(next(case for case in ITALIAN if case.want.decision == "allow"))
    pool = [
        CallerId(number=f"+390844{number:06}", form="number", region="IT", assigned=True)
        for number in randomly.sample(range(10**6), 6)
    ]
    law, until = law_of("IT"), facts.at + DAY
    subjects = [randomly.randbytes(16) for _ in range(300)]
    choice = judge_pool(pool, facts, law, until)
    before = [choice.choose(subject).number for subject in subjects]
    gone = randomly.choice(pool)
    rest = randomly.sample([shown for shown in pool if shown is not gone], 5)  # in any order
    choice = judge_pool(rest, facts, law, until)
    after = [choice.choose(subject).number for subject in subjects]
    assert {*before} == {shown.number for shown in pool}
    assert all(was in {now, gone.number} for was, now in zip(before, after, strict=True))
    assert gone.number not in after
