"""The decision on a call, as a pure function of facts and law.

A call is denied if any rule denies it or raises an error. Replay recomputes old records and compares them word for
word, so never change the texts of rules.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import structs

from dialgate.core.exemptions import combine, lift
from dialgate.core.law import Binding, Law
from dialgate.core.model import MINUTE, Decision, Deny, Facts, Instant, Outcome, Pass, Skip
from dialgate.core.rules import (
    OWN_TURNING_POINTS,
    PRECONDITIONS,
    READ_ATTEMPTS,
    READ_ENTRIES,
    RULES,
    SECTIONS_OF,
    TURNING_POINTS,
    Rule,
    frequency,
)
from dialgate.core.rules.hours import next_opening

_T = TypeVar("_T")
NOT_JUDGED = Skip("not judged without a number and a campaign")
_TIMELESS = frozenset(
    {"registry.listed", "registry.unknown", "registry.uncovered", "list.unknown", "consent.missing"}
)
_PASSED = Pass()
_READ_ATTEMPTS = tuple(pair for pair in RULES if pair[0] in READ_ATTEMPTS)
_READ_ANY = tuple(pair for pair in RULES if pair[0] in READ_ATTEMPTS | READ_ENTRIES)
# In every time zone in use, midnight falls on a full quarter of an hour in UTC.
_QUARTER = 15 * MINUTE


def decide(facts: Facts, law: Law, stranger: Decision | None = None) -> Decision:
    """Return the decision on a call.

    `stranger` is the decision on an equal call to a number of which nothing is stored, if it still holds (`lasts_until`).
    With it, only the rules that read what is stored are evaluated. The result is the same.
    """
    has_entries = facts.known.has_entries
    if stranger is not None and not has_entries and frequency.permit(law.limits, facts):
        return stranger
    bound = law.binding(facts)
    binding = _lift(bound, facts)
    # If an entry lifted a section, any rule can have another outcome.
    if stranger is not None and bound.advised is None and (binding is bound or not has_entries):
        return _amend(stranger, _READ_ANY if has_entries else _READ_ATTEMPTS, facts, law, binding)
    strict = outcomes = _outcomes(facts, binding)
    if binding.advised is not None:
        advice = _outcomes(facts, _lift(binding.advised, facts))
        outcomes = {name: _add_advice(strict.get(name, _PASSED), advised) for name, advised in advice.items()}
    return _conclude(outcomes, strict["lawful_basis"], facts, law, binding)


def _conclude(
    outcomes: dict[str, Outcome], basis: Outcome, facts: Facts, law: Law, binding: Binding
) -> Decision:
    denies = [outcome for outcome in outcomes.values() if type(outcome) is Deny]
    if denies:
        return Decision(allow=False, outcomes=outcomes, not_before=_not_before(denies, facts, binding))
    return Decision(
        allow=True,
        outcomes=outcomes,
        basis=basis.why if type(basis) is Pass else "",
        valid_until=_valid_until(outcomes, facts, law),
    )


def _amend(
    stranger: Decision, readers: tuple[tuple[str, Rule], ...], facts: Facts, law: Law, binding: Binding
) -> Decision:
    if stranger.outcomes[readers[0][0]] == NOT_JUDGED:
        return stranger
    judged = {name: _judge(rule, facts, binding) for name, rule in readers}
    read = _with_exemptions(judged, binding)
    if read.items() <= stranger.outcomes.items():
        return stranger
    outcomes = stranger.outcomes | read
    return _conclude(outcomes, outcomes["lawful_basis"], facts, law, binding)


def lasts_until(facts: Facts, law: Law, decision: Decision) -> Instant:
    """Return the time until which the decision on a call to an unknown number holds if no fact but the time changes, or 0.

    The time is unknown (0) if recommendations apply, because a decision does not record when a warning ends. A denial has
    a known time only if no reason depends on the time and at most one registry applies. With several registries, the
    denial can change when one registry's answer expires.
    """
    binding = law.binding(facts)
    if binding.advised is not None:
        return 0
    if decision.allow:
        return decision.valid_until
    timeless = all(deny.code in _TIMELESS and not deny.not_before for deny in decision.reasons)
    return _valid_until(decision.outcomes, facts, law) if timeless and len(binding.registries) <= 1 else 0


def turning_points(
    facts: Facts, law: Law, end: Instant, shared: Sequence[Instant] | None = None
) -> Sequence[Instant]:
    """Return the instants after `facts.at` and before `end` at which a call may get another verdict or other reason codes, in order.

    No local date in the facts may change before `end`. Between these instants, only the texts and times of a decision change.
    `shared` are the turning points of an equal call to a number of which nothing is stored.
    """
    binding = law.binding(facts)
    points = set(shared or ())
    if shared is None:
        points.update([place.shift_at for place in facts.places])
        points.update(*[turning(facts, binding) for turning in TURNING_POINTS])
    points.update(*[turning(facts, binding) for turning in OWN_TURNING_POINTS])
    return sorted([at for at in points if facts.at < at < end])


def _lift(law: Binding, facts: Facts) -> Binding:
    """Return `law` if nothing lifts a section. If an exemption cannot be evaluated, it lifts nothing: return a copy."""
    if not law.conditional:
        return law
    lifted = _judge(lift, facts, law)
    return lifted if type(lifted) is Binding else structs.replace(law)


def _outcomes(facts: Facts, law: Binding) -> dict[str, Outcome]:
    outcomes = {name: _judge(rule, facts, law) for name, rule in RULES[:PRECONDITIONS]}
    judged = not any(type(outcome) is Deny for outcome in outcomes.values())
    for name, rule in RULES[PRECONDITIONS:]:
        kind = SECTIONS_OF.get(name)
        if kind is None or getattr(law, kind) or name in law.lifted:
            outcomes[name] = _judge(rule, facts, law) if judged else NOT_JUDGED
    return _with_exemptions(outcomes, law) if judged else outcomes


def _with_exemptions(outcomes: dict[str, Outcome], law: Binding) -> dict[str, Outcome]:
    for name, lifted in law.lifted.items():
        if name in outcomes and type(outcomes[name]) is not Deny:
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
