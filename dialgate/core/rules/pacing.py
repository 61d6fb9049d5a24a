"""The rule that limits the share of abandoned calls in a campaign.

Garante, provv. 83 of 2014-02-20 (GU 14A02670): in each campaign at most three silent calls for every hundred answered
calls. 16 CFR 310.4(b)(4): at most three percent of the calls answered by a person, in each campaign and each period of
30 days.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from dialgate.core import periods
from dialgate.core.law import Binding
from dialgate.core.law_sections import Ratio
from dialgate.core.model import EPOCH, UTC_PLACE, DayCount, Deny, Facts, Instant, Outcome, Pass

_ONE_DAY = timedelta(days=1)


def ratio_kept(facts: Facts, law: Binding) -> Outcome:
    if not facts.campaign.counts:
        return Pass()
    paused = [deny for section in law.ratios for deny in _exceeded(section, facts)]
    return max(paused, key=lambda deny: deny.not_before, default=Pass())


def _exceeded(section: Ratio, facts: Facts) -> Iterator[Deny]:
    abandoned, compared = totals(section, facts.campaign.counts, facts.today)
    if used(section, abandoned, compared) > 1:
        clear = first_day_within(section, facts.campaign.counts, facts.today)
        days = periods.parse(section.per).days
        text = f"{abandoned} abandoned calls to {compared} answered calls in {days} days, "
        text += f"{section.above} to {section.out_of} are allowed"
        yield section.deny("pacing.abandoned", text, _begins(clear, facts))


def first_day_within(section: Ratio, counts: Iterable[DayCount], today: date) -> date:
    """Return the first day, `today` or later, on which the campaign is within the limit.

    Only results that have been reported are considered.
    """
    day, counted = today, tuple(counts)
    while used(section, *totals(section, counted, day)) > 1:
        day += _ONE_DAY
    return day


def first_day_above(section: Ratio, counts: Iterable[DayCount], today: date) -> date:
    """Return the day on which the campaign last went above the limit.

    Call this function only if the campaign is above the limit on `today`. Results count on the day of the call, not on
    the day of the report.
    """
    day, counted = today, tuple(counts)
    while True:
        before = day - _ONE_DAY
        counted = tuple(count for count in counted if count.day <= before)
        if used(section, *totals(section, counted, before)) <= 1:
            return day
        day = before


def used(section: Ratio, abandoned: int, compared: int) -> float:
    """Return the fraction of the limit that is used. Above 1, the campaign is paused."""
    allowed = section.above * max(compared, section.out_of)
    if not allowed:
        return 2.0 if abandoned else 0.0
    return abandoned * section.out_of / allowed


def totals(section: Ratio, counts: Iterable[DayCount], today: date) -> tuple[int, int]:
    """Return the numbers of abandoned and of answered calls in the section's period up to `today`.

    If the section's `to` is `answered_by_person`, the abandoned calls are included in the answered calls.
    """
    since = today - timedelta(days=periods.parse(section.per).days)
    abandoned = answered = 0
    for count in counts:
        if count.day > since:
            abandoned += count.abandoned
            answered += count.answered
    return abandoned, answered + abandoned if section.to == "answered_by_person" else answered


def _begins(day: date, facts: Facts) -> Instant:
    """Return the first instant at which a day has begun in all places where the person may be."""
    return max(place.instant(day.toordinal() - EPOCH, 0) for place in facts.places or (UTC_PLACE,))
