"""Everything that decides lives here. This file does not know who asked, where the facts came from, or what time it is.

The answer before any rule has run is deny; one rule's deny is a deny; a rule that fails is a deny. For any record, for
ever: `decide(record.facts, law of that day) == record.decision`.
"""

from dialgate.core.law import Binding, Law
from dialgate.core.model import MINUTE, Decision, Deny, Facts, Instant, Known, Outcome, Pass, Skip
from dialgate.core.rules import PRECONDITIONS, RULES, Rule
from dialgate.core.rules.hours import next_opening

_NOT_JUDGED = Skip("not judged without a number and a campaign")
_TIMELESS = frozenset(
    {"registry.listed", "registry.unknown", "registry.uncovered", "list.unknown", "consent.missing"}
)
_OF_ATTEMPTS = tuple(rule for name, rule in RULES if name in {"frequency_kept", "rest_kept"})
_PASSED = Pass()
# The day of any time zone in use ends at a quarter of an hour.
_QUARTER = 15 * MINUTE


def decide(facts: Facts, law: Law) -> Decision:
    binding = law.binding(facts)
    outcomes = told = _outcomes(facts, binding)
    if binding.advised is not None:
        advice = _outcomes(facts, binding.advised)
        told = {name: _advised(outcome, advice[name]) for name, outcome in outcomes.items()}
    denies = [outcome for outcome in told.values() if type(outcome) is Deny]
    if denies:
        return Decision(allow=False, outcomes=told, not_before=_not_before(denies, facts, binding))
    basis = outcomes["lawful_basis"]
    return Decision(
        allow=True,
        outcomes=told,
        basis=basis.why if type(basis) is Pass else "",
        valid_until=_valid_until(told, facts, law),
    )


def lasts_until(facts: Facts, law: Law, decision: Decision) -> Instant:
    """Until then the same is decided, word for word, on the same facts; 0: nobody can tell. A deny may come to have
    another reason, and advice may begin and end, at instants that no outcome names, except where nothing is recorded of
    the person and what forbids the call does not look at the time. Of several registries one deny is told: an answer that
    expires may put another in its place.
    """
    binding = law.binding(facts)
    if binding.advised is not None:
        return 0
    if decision.allow:
        return min(
            [decision.valid_until, *(begins for begins in _beginnings(facts.known) if begins > facts.at)]
        )
    nothing = facts.known == Known(seq=facts.known.seq) and len(binding.registries) <= 1
    timeless = nothing and all(deny.code in _TIMELESS for deny in decision.reasons)
    return _valid_until(decision.outcomes, facts, law) if timeless else 0


def attempts_forbid_nothing(facts: Facts, law: Law) -> bool:
    """Whether what is decided on these facts without their attempts is the same with them, word for word. Nothing but the
    limits of frequency looks at attempts; of a call request, whether it is used up.
    """
    binding = law.binding(facts)
    if facts.known.requests or binding.advised is not None:
        return False
    return all(_judge(rule, facts, binding) == _PASSED for rule in _OF_ATTEMPTS)


def _beginnings(known: Known) -> list[Instant]:
    """When what may be dated ahead begins: from then on it, and not another, may be what the call is allowed on."""
    asked = [request.requested_at for request in known.requests]
    return asked + [
        instant for given in known.consents for instant in (given.collected_at, given.confirmed_at)
    ]


def _outcomes(facts: Facts, law: Binding) -> dict[str, Outcome]:
    outcomes = {name: _judge(rule, facts, law) for name, rule in RULES[:PRECONDITIONS]}
    judged = not any(type(outcome) is Deny for outcome in outcomes.values())
    for name, rule in RULES[PRECONDITIONS:]:
        outcomes[name] = _judge(rule, facts, law) if judged else _NOT_JUDGED
    return outcomes


def _judge(rule: Rule, facts: Facts, law: Binding) -> Outcome:
    try:
        return rule(facts, law)
    except Exception as error:  # noqa: BLE001 - whatever breaks in a rule, the answer is deny
        return Deny("gate.rule_error", f"{rule.__name__} failed: {type(error).__name__}", severity="gate")


def _advised(outcome: Outcome, advice: Outcome) -> Outcome:
    """`advice` is what the rule says with the recommendations: it warns, it does not deny."""
    if type(outcome) is Deny or type(advice) is not Deny:
        return outcome
    if advice.code == "gate.rule_error":
        return advice
    return Pass(f"advised against: {advice.text}", outcome.until if type(outcome) is Pass else 0)


def _valid_until(outcomes: dict[str, Outcome], facts: Facts, law: Law) -> Instant:
    """Laws, campaigns and contracts begin and end with a day where the law is made, so no allow outlives its day."""
    ends = [outcome.until for outcome in outcomes.values() if type(outcome) is Pass and outcome.until]
    midnights = [
        place.instant(place.local(facts.at)[0] + 1, 0) for place in facts.places if place.zone == law.zone
    ]
    return min([*ends, *(midnights or [(facts.at // _QUARTER + 1) * _QUARTER])])


def _not_before(denies: list[Deny], facts: Facts, law: Binding) -> Instant:
    """Time alone lifts a deny only if it lifts every reason, and the hours are open by then."""
    if not all(deny.not_before for deny in denies):
        return 0
    return next_opening(facts, law, max(deny.not_before for deny in denies))
