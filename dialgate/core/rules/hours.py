"""The rule about the hours in which the person may be called.

No Italian statute sets general calling hours. The code of conduct (Garante 70/2023 and 148/2024, in effect since
2024-09-28) binds its adherents: Monday to Friday 9-20, Saturdays and days before a holiday 10-19, Sundays and holidays
never. The window must be open in every time zone that the number might be in. It must be open both when the gate
decides and when the telephone rings.
"""

from collections.abc import Iterator, Mapping
from datetime import date

from dialgate.core.law import Binding
from dialgate.core.law_sections import Hours
from dialgate.core.model import DAY, EPOCH, Deny, Facts, Instant, Outcome, Pass, Place, Skip
from dialgate.core.windows import DayName, boundaries, end_of_window, name_of_day, next_window

_HORIZON_DAYS = 14
_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# The words used in denials, by day. The days from Monday to Friday are `weekday`.
_KINDS: Mapping[DayName, str] = {
    "sat": "saturday",
    "sun": "sunday",
    "holiday": "holiday",
    "pre_holiday": "pre holiday",
}


def hours_open(facts: Facts, law: Binding) -> Outcome:
    if not law.hours:
        return Skip("no hours bind this call")
    if not facts.places:
        section = law.hours[0]
        text = "the called person's time zone is not known"
        return section.deny("hours.outside", text)
    closes = 0
    for section in law.hours:
        for place in facts.places:
            end = _open_until(section, place, facts.at)
            if not end:
                return _deny(section, place, facts, law)
            closes = min(closes or end, end)
    return Pass("", closes)


def turning_points(facts: Facts, law: Binding) -> Iterator[Instant]:
    for section in law.hours:
        for place in facts.places:
            day, _ = place.local(facts.at)
            yield from boundaries(section.windows, section.day_set, place, day, section.ring_seconds)


def _open_until(section: Hours, place: Place, at: Instant) -> Instant:
    return end_of_window(section.windows, section.day_set, place, at, section.ring_seconds)


def _deny(section: Hours, place: Place, facts: Facts, law: Binding) -> Deny:
    day, second = place.local(facts.at)
    kind = _KINDS.get(name_of_day(section.windows, section.day_set, place, day), "weekday")
    name = _NAMES[date.fromordinal(EPOCH + day).weekday()]
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    text = f"{name} {clock} in {place.zone} ({kind}) is outside the permitted hours"
    code = "hours.holiday" if kind == "holiday" else "hours.outside"
    return section.deny(code, text, next_opening(facts, law, facts.at))


def next_opening(facts: Facts, law: Binding, at: Instant) -> Instant:
    """Return the first instant, at or after `at`, when every section permits calls in every place.

    Return 0 if there is none within two weeks, because facts contain the day sets for only two weeks.
    """
    pairs = [(section, place) for section in law.hours for place in facts.places]
    horizon = at + _HORIZON_DAYS * DAY
    while at < horizon:
        moved = max((_opening(section, place, at) for section, place in pairs), default=at)
        if moved == at:
            return at
        at = moved
    return 0


def _opening(section: Hours, place: Place, at: Instant) -> Instant:
    """Return the first instant at or after `at` when one section permits calls in one place.

    Return the end of the two-week horizon if there is none.
    """
    if _open_until(section, place, at):
        return at
    opens = next_window(section.windows, section.day_set, place, at, _HORIZON_DAYS)
    return opens or at + _HORIZON_DAYS * DAY
