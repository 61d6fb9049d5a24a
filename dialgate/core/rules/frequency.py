"""The rules about the frequency of calls to one number, from the `limits` sections of a law.

Limits on attempts and answered calls give `frequency.exceeded`; limits on abandoned calls and refusals give
`frequency.rest`. Unless a section says otherwise, calls by all of the controller's campaigns and call centres count.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, get_args

from dialgate.core import periods
from dialgate.core.abandonment import open_silence
from dialgate.core.exemptions import has_guaranteed_agent
from dialgate.core.law import Binding
from dialgate.core.law_sections import Limit
from dialgate.core.model import DAY, HOUR, UTC_PLACE, Deny, Facts, Instant, Outcome, Pass, Result

# The results of the attempts that a limit counts. An attempt without a reported result counts as answered.
_COUNTED: Final[Mapping[str, frozenset[Result]]] = {
    "attempts": frozenset(get_args(Result)) - {"not_dialled"},
    "answered": frozenset(get_args(Result)) - {"not_dialled", "no_answer", "busy"},
    "abandoned": frozenset({"abandoned"}),
    "refused": frozenset({"refused"}),
}
# A period of local days is less than this longer than as many times 24 hours.
_LONGER: Final = 3 * DAY
_CODES: Final = {"frequency_kept": "frequency.exceeded", "rest_kept": "frequency.rest"}
_PASSED: Final = Pass()
_CALLED: Final = {
    "controller": "called",
    "campaign": "called for this campaign",
    "goods": "called about these goods",
}
_RESTS: Final[Mapping[str, str]] = {
    "abandoned": "a silent call was made",
    "refused": "the person refused the offer",
}


def frequency_kept(facts: Facts, law: Binding) -> Outcome:
    return _check_limits("frequency_kept", facts, law)


def rest_kept(facts: Facts, law: Binding) -> Outcome:
    return _check_limits("rest_kept", facts, law)


def permit(limits: Sequence[Limit], facts: Facts) -> bool:
    """Return whether the attempts certainly reach none of the limits. Most numbers have few attempts, so this is fast."""
    attempts = facts.known.attempts
    results = {attempt.result for attempt in attempts}
    for limit in limits:
        if limit.until_answered and "abandoned" in results:
            return False
        may_reach = len(attempts) >= limit.after and not results.isdisjoint(_COUNTED[limit.events])
        if may_reach and len(_counted(limit, facts)) >= limit.after:
            return False
    return True


def turning_points(facts: Facts, law: Binding) -> Iterator[Instant]:
    for limit in law.limits:
        yield from (_leaves(limit, facts, attempt.at) for attempt in facts.known.attempts)


def denied_until(facts: Facts, law: Binding) -> tuple[Instant, ...]:
    """Return when each limit ceases to deny calls if none is made, 0 if it does not, or -1 if it has no known end.

    Whatever is later than `facts.at`, these instants are all that rules read of the attempts, except of those for a call request.
    """
    return tuple([_ends(limit, facts) for limit in law.limits])


def _ends(limit: Limit, facts: Facts) -> Instant:
    if _is_barred_until_answered(limit, facts):
        return -1
    return max((deny.not_before for deny in _denies(limit, facts)), default=0)


def _check_limits(rule: str, facts: Facts, law: Binding) -> Outcome:
    """Return the denial that ends last, or a pass. A denial without a known end counts as the last to end."""
    limits = [limit for limit in law.limits if limit.rule == rule]
    if permit(limits, facts):
        return _PASSED
    denies = [deny for limit in limits for deny in _denies(limit, facts)]
    return max(denies, key=lambda deny: deny.not_before or math.inf) if denies else _PASSED


def _denies(limit: Limit, facts: Facts) -> Iterator[Deny]:
    ends = [end for at in _counted(limit, facts) if (end := _leaves(limit, facts, at)) > facts.at]
    if len(ends) >= limit.after:
        yield limit.deny(_CODES[limit.rule], _text(limit, len(ends)), sorted(ends)[-limit.after])
    if _is_barred_until_answered(limit, facts):
        text = f"a silent call was made; until a later call is answered {_demand(limit)}"
        yield limit.deny("frequency.rest", text)


def _counted(limit: Limit, facts: Facts) -> list[Instant]:
    """Return the times of the attempts that count toward the limit, also of some that have just left its period.

    If the goods of an attempt or of the new call are unknown, both calls are assumed to be about the same goods.
    """
    results, campaign = _COUNTED[limit.events], facts.campaign
    since = facts.at - periods.parse(limit.per).length - _LONGER
    attempts = [
        attempt for attempt in facts.known.attempts if attempt.at > since and attempt.result in results
    ]
    if limit.among == "campaign":
        attempts = [attempt for attempt in attempts if attempt.campaign == campaign.id]
    if limit.among == "goods" and campaign.goods:
        attempts = [attempt for attempt in attempts if attempt.goods in {"", campaign.goods}]
    return [attempt.at for attempt in attempts]


def _leaves(limit: Limit, facts: Facts, at: Instant) -> Instant:
    """Return the instant from which a call made at `at` no longer counts toward the limit."""
    if limit.counting == "rolling":
        return periods.end(limit.per, at)
    return _midnight_after(facts, at, periods.parse(limit.per).days + (limit.counting == "whole_days"))


def _midnight_after(facts: Facts, at: Instant, days: int) -> Instant:
    """Return the end of a period of `days` local days, in the place where the period ends last.

    The period begins with the local day of `at`. The facts might lack the UTC offset that was in force at `at`. One
    hour is added to `at`, because that offset might have been one hour ahead of the present offset. The returned period
    can be a day too long, but is never too short.
    """
    return max(place.instant(place.local(at + HOUR)[0] + days, 0) for place in facts.places or (UTC_PLACE,))


def _text(limit: Limit, count: int) -> str:
    if limit.rule == "rest_kept":
        return f"{_RESTS[limit.events]}; {_in_words(limit.per)} of rest follow"
    return f"{_CALLED[limit.among]} {count} times in {_in_words(limit.per)}, {limit.after} are allowed"


def _in_words(period: str) -> str:
    """Return a period in words. One day is written as `1 days`, because recorded decisions contain this text."""
    return f"{periods.parse(period).days} days" if period.endswith("d") else periods.in_words(period)


def _is_barred_until_answered(limit: Limit, facts: Facts) -> bool:
    permitted = limit.until_answered
    return (
        bool(permitted)
        and facts.call_type not in permitted
        and not ("guaranteed_agent" in permitted and has_guaranteed_agent(facts))
        and open_silence(facts.known.attempts) is not None
    )


def _demand(limit: Limit) -> str:
    if "guaranteed_agent" in limit.until_answered:
        return "an agent must be guaranteed: `call_type: agent`, and a campaign with `dial_mode: manual` or `preview`"
    return f"the call type must be {' or '.join(limit.until_answered)}"
