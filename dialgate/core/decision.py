"""The decision on a call, as a pure function of facts and law.

A call is denied if any rule denies it or raises an error. Replay recomputes old records and compares them word for
word, so never change the texts of rules.
"""

from collections.abc import Callable
from typing import TypeVar

from dialgate.core.exemptions import combine, lift
from dialgate.core.law import Binding, Law
from dialgate.core.model import MINUTE, Decision, Deny, Facts, Instant, Known, Outcome, Pass, Skip
from dialgate.core.rules import PRECONDITIONS, RULES, SECTIONS_OF
from dialgate.core.rules.hours import next_opening

_T = TypeVar("_T")
_NOT_JUDGED = Skip("not judged without a number and a campaign")
_TIMELESS = frozenset(
    {"registry.listed", "registry.unknown", "registry.uncovered", "list.unknown", "consent.missing"}
)
_PASSED = Pass()
# In every time zone in use, midnight falls on a full quarter of an hour in UTC.
_QUARTER = 15 * MINUTE


def decide(facts: Facts, law: Law) -> Decision:
    binding = _lift(law.binding(facts), facts)
    strict = outcomes = _outcomes(facts, binding)
    if binding.advised is not None:
        advice = _outcomes(facts, _lift(binding.advised, facts))
        outcomes = {name: _add_advice(strict.get(name, _PASSED), advised) for name, advised in advice.items()}
    denies = [outcome for outcome in outcomes.values() if type(outcome) is Deny]
    if denies:
        return Decision(allow=False, outcomes=outcomes, not_before=_not_before(denies, facts, binding))
    basis = strict["lawful_basis"]
    return Decision(
        allow=True,
        outcomes=outcomes,
        basis=basis.why if type(basis) is Pass else "",
        valid_until=_valid_until(outcomes, facts, law),
    )


def lasts_until(facts: Facts, law: Law, decision: Decision) -> Instant:
    """Return the time until which a decision holds if no fact but the time changes, or 0 if unknown.

    The time is unknown if recommendations apply, because a decision does not record when a warning ends. A denial has
    a known time only if no reason depends on the time, nothing is recorded about the person, and at most one registry
    applies. With several registries, the denial can change when one registry's answer expires.
    """
    binding = law.binding(facts)
    if binding.advised is not None:
        return 0
    if decision.allow:
        return min([decision.valid_until, *(start for start in _starts(facts.known) if start > facts.at)])
    nothing = facts.known == Known(seq=facts.known.seq) and len(binding.registries) <= 1
    timeless = nothing and all(deny.code in _TIMELESS and not deny.not_before for deny in decision.reasons)
    return _valid_until(decision.outcomes, facts, law) if timeless else 0


def _starts(known: Known) -> list[Instant]:
    """Return when call requests and consents start. The legal basis may change at each of these times."""
    starts = [instant for request in known.requests for instant in (request.requested_at, request.begins)]
    return starts + [
        instant for consent in known.consents for instant in (consent.collected_at, consent.confirmed_at)
    ]


def _lift(law: Binding, facts: Facts) -> Binding:
    if not law.conditional:
        return law
    lifted = _judge(lift, facts, law)
    return law if isinstance(lifted, Deny) else lifted  # an exemption that cannot be evaluated lifts nothing


def _outcomes(facts: Facts, law: Binding) -> dict[str, Outcome]:
    outcomes = {name: _judge(rule, facts, law) for name, rule in RULES[:PRECONDITIONS]}
    judged = not any(type(outcome) is Deny for outcome in outcomes.values())
    for name, rule in RULES[PRECONDITIONS:]:
        kind = SECTIONS_OF.get(name)
        if kind is None or getattr(law, kind) or name in law.lifted:
            outcomes[name] = _judge(rule, facts, law) if judged else _NOT_JUDGED
    for name, lifted in law.lifted.items() if judged else ():
        if type(outcomes[name]) is not Deny:
            outcomes[name] = combine(outcomes[name], lifted)
    return outcomes


def _judge(rule: Callable[[Facts, Binding], _T], facts: Facts, law: Binding) -> _T | Deny:
    try:
        return rule(facts, law)
    except Exception as error:  # noqa: BLE001 - any error in a rule is a deny
        return Deny("gate.rule_error", f"{rule.__name__} failed: {type(error).__name__}", severity="gate")


def _add_advice(outcome: Outcome, advice: Outcome) -> Outcome:
    """Return the outcome of a rule, with a warning if only recommendations deny the call.

    `advice` is the outcome of the same rule under the recommendations.
    """
    if type(outcome) is Deny or type(advice) is not Deny:
        return outcome
    if advice.code == "gate.rule_error":
        return advice
    return Pass(f"advised against: {advice.text}", outcome.until if type(outcome) is Pass else 0)


def _valid_until(outcomes: dict[str, Outcome], facts: Facts, law: Law) -> Instant:
    """Return when a decision expires. This is the next midnight, unless one of its `outcomes` expires earlier.

    Laws, campaigns and contracts start and end at midnight, in the law's time zone or where the person might be. If the
    facts lack the law's time zone, the decision expires at the next quarter hour at the latest.
    """
    ends = [outcome.until for outcome in outcomes.values() if type(outcome) is Pass and outcome.until]
    midnights = [place.instant(place.local(facts.at)[0] + 1, 0) for place in facts.places]
    if law.zone not in [place.zone for place in facts.places]:
        midnights = [(facts.at // _QUARTER + 1) * _QUARTER]
    return min(ends + midnights)


def _not_before(denies: list[Deny], facts: Facts, law: Binding) -> Instant:
    """Return the earliest time within permitted hours when no reason for the denial still applies, or 0 if unknown."""
    if not all(deny.not_before for deny in denies):
        return 0
    return next_opening(facts, law, max(deny.not_before for deny in denies))
