"""The rules about the frequency of calls to one person.

Garante, provv. 83 of 2014-02-20 (GU 14A02670): after a silent call the person is left alone for five days, and the next
call must have a guaranteed agent. Otherwise the limit is set by the operator in Italy (the code of conduct's figure is
not confirmed), and by law in other countries. It counts calls of all campaigns and call centres of the controller.
"""

import math
from collections.abc import Iterator

from dialgate.core import periods
from dialgate.core.abandonment import open_silence
from dialgate.core.law import Binding
from dialgate.core.law_sections import Frequency, Rest
from dialgate.core.model import DAY, HOUR, Attempt, Deny, Facts, Instant, Outcome, Pass, Place

_UTC = Place(zone="UTC", offset=0)
_UNANSWERED = frozenset({"no_answer", "busy"})


def frequency_kept(facts: Facts, law: Binding) -> Outcome:
    exceeded = [deny for section in law.frequency for deny in _exceeded(section, facts)]
    return max(exceeded, key=lambda deny: deny.not_before, default=Pass())


def _exceeded(section: Frequency, facts: Facts) -> Iterator[Deny]:
    if len(facts.known.attempts) < section.limit:
        return
    counted = sorted(_counted(section, facts))
    if len(counted) >= section.limit:
        yield Deny(
            "frequency.exceeded",
            f"called {len(counted)} times in {_in_words(section.per)}, {section.limit} are allowed",
            section.source,
            section.severity,
            _leaves(section, facts, counted[-section.limit]),
        )


def _counted(section: Frequency, facts: Facts) -> Iterator[Instant]:
    for attempt in facts.known.attempts:
        if _counts(section, attempt) and _leaves(section, facts, attempt.at) > facts.at:
            yield attempt.at


def _counts(section: Frequency, attempt: Attempt) -> bool:
    """Return whether an attempt counts. An attempt without a known result counts, because it may have been answered."""
    if attempt.result == "not_dialled":
        return False
    return section.counts == "attempts" or attempt.result not in _UNANSWERED


def _leaves(section: Frequency, facts: Facts, at: Instant) -> Instant:
    """Return the instant from which a call made at `at` no longer counts."""
    if section.counting == "rolling":
        return periods.end(section.per, at)
    return _midnight_after(facts, at, _days(section.per))


def _days(period: str) -> int:
    return periods.parse(period).length // DAY


def _in_words(period: str) -> str:
    """Return a period in words. Days are always plural, as in records of any age."""
    return f"{_days(period)} days" if period.endswith("d") else periods.in_words(period)


def _midnight_after(facts: Facts, at: Instant, days: int) -> Instant:
    """Return the end of a period of `days` local days that begins with the day of `at`, in the place where it ends last.

    The facts do not hold the UTC offset at `at`; it may have been an hour larger than today's. So a call in the last
    hour of a day counts as made on the next day, and the period is never too short.
    """
    return max(place.instant(place.local(at + HOUR)[0] + days, 0) for place in facts.places or (_UTC,))


def rest_kept(facts: Facts, law: Binding) -> Outcome:
    """Deny during the rest period. A deny without an end takes precedence, then the deny with the latest end."""
    resting = [deny for section in law.rest for deny in _rests(section, facts)]
    return max(resting, key=lambda deny: deny.not_before or math.inf, default=Pass())


def _rests(section: Rest, facts: Facts) -> Iterator[Deny]:
    for attempt in facts.known.attempts:
        if attempt.result != "abandoned":
            continue
        in_days = section.lasts.endswith("d")
        ends = (
            _midnight_after(facts, attempt.at, _days(section.lasts) + 1)
            if in_days
            else periods.end(section.lasts, attempt.at)
        )
        if facts.at < ends:
            text = f"a silent call was made; {_in_words(section.lasts)} of rest follow"
            yield Deny("frequency.rest", text, section.source, section.severity, ends)
    if _needs_another_type(section, facts):
        allowed = " or ".join(section.until_answered)
        text = f"a silent call was made; until a later call is answered the call type must be {allowed}"
        yield Deny("frequency.rest", text, section.source, section.severity)


def _needs_another_type(section: Rest, facts: Facts) -> bool:
    return (
        bool(section.until_answered)
        and facts.call_type not in section.until_answered
        and open_silence(facts.known.attempts) is not None
    )
