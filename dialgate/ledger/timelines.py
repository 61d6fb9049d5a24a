"""The decisions on calls to one number at all times in a period.

A decision changes only at the beginning of a local day and at turning points (`core.decision.turning_points`). All decisions assume
what is stored now.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from msgspec import Struct, structs

from dialgate.core.decision import decide, turning_points
from dialgate.core.law import Binding, Law
from dialgate.core.law_sections import Limit
from dialgate.core.model import Decision, Deny, Facts, Instant, Known, Place
from dialgate.core.rules.frequency import denied_until

# Facts with the sections that apply to them.
Limited: TypeAlias = tuple[Facts, Binding]


class Moment(NamedTuple):
    """The decision on a call made at `at`. It has the same verdict and reason codes until the next moment."""

    at: Instant
    decision: Decision


class Stretch(Struct, frozen=True):
    """The moments of a number in a time in which no local date changes. The facts are those of the first moment."""

    facts: Facts
    end: Instant
    points: Sequence[Instant]  # at which the decision may change
    moments: tuple[Moment, ...]


def essence(known: Known, limited: Sequence[Limited]) -> tuple[object, ...]:
    """Return what of a stored state decides about calls. Numbers of a group have equal verdicts if it is equal.

    Sequence numbers are only in texts. The time of a stop matters only beside what it may have ended. Attempts matter only by
    when limits end, unless there is a request that they may have used up, or an address on file that may change the time zones.
    """
    addressed = any(given.place for given in known.consents) or any(deal.place for deal in known.contracts)
    if addressed or known.requests or known.wrong_numbers:
        return (structs.replace(known, seq=0),)
    stops = known.revocations
    if stops:
        is_alone = not (known.consents or known.contracts or known.objections)
        stops = tuple(
            structs.replace(stop, seq=0, at=0 if is_alone else stop.at, channel="") for stop in stops
        )
    limits = (
        denied_until(structs.replace(facts, known=known), binding) if known.attempts else ()
        for facts, binding in limited
    )
    return (structs.replace(known, seq=0, revocations=stops, attempts=()), *limits)


def limited(stretches: Sequence[Stretch], law: Law) -> tuple[Limited, ...]:
    """Return the facts and sections of each stretch with another limit, or with other clocks to count its period."""
    found = list[tuple[list[Place], tuple[Limit, ...]]]()
    cases = list[Limited]()
    for stretch in stretches:
        binding = law.binding(stretch.facts)
        clocks = [structs.replace(place, holidays=(), day_sets={}) for place in stretch.facts.places]
        if (clocks, binding.limits) not in found:
            found.append((clocks, binding.limits))
            cases.append((stretch.facts, binding))
    return tuple(cases)


def decide_stretch(facts: Facts, law: Law, end: Instant, shared: Stretch | None = None) -> Stretch:
    """Return the moments of a call from `facts.at` until before `end`.

    `shared` is the stretch of an equal call to a number of which nothing is stored. A decision between two of its moments can be
    amended from the first, because only texts and times change until the second.
    """
    moments, stranger, later = list[Moment](), None, deque(shared.moments if shared else ())
    points: Sequence[Instant] = ()
    if end > facts.at + 1:
        points = turning_points(facts, law, end, shared.points if shared else None)
    for at in (facts.at, *points):
        while later and later[0].at <= at:
            stranger = later.popleft().decision
        decision = decide(facts if at == facts.at else structs.replace(facts, at=at), law, stranger)
        last = moments[-1].decision if moments else None
        if last is None or (decision is not last and denials(decision) != denials(last)):
            moments.append(Moment(at, decision))
    return Stretch(facts, end, points, tuple(moments))


def denials(decision: Decision) -> tuple[tuple[str, str], ...]:
    outcomes = decision.outcomes.items()
    return tuple([(name, outcome.code) for name, outcome in outcomes if type(outcome) is Deny])
