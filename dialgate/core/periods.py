"""Periods in laws, such as `72h`, `30d`, `P18M`, `P1Y` and `5wd`.

`h` means hours, `d` means days of 24 hours, and `wd` means working days. `P…M` and `P…Y` mean calendar months and
years. A period in months or years ends on the same day of the month, at the same time in UTC. If the number of months
is not a multiple of 12, the period ends an hour earlier. Without this correction, a change to or from summer time
could make the period too long.
"""

import calendar
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Annotated, NamedTuple, TypeAlias

from msgspec import Meta

from dialgate.core.model import DAY, EPOCH, HOUR, SECOND, UTC_PLACE, Instant, Place

Period: TypeAlias = Annotated[str, Meta(pattern=r"^([1-9]\d{0,3}[hd]|P[1-9]\d{0,2}[MY])$")]
DayPeriod: TypeAlias = Annotated[str, Meta(pattern=r"^([1-9]\d{0,3}d|P[1-9]\d{0,2}[MY])$")]
# Days for which a store keeps campaign counts.
CountedPeriod: TypeAlias = Annotated[str, Meta(pattern=r"^([1-9]|[1-5]\d|60)d$")]
ShortPeriod: TypeAlias = Annotated[str, Meta(pattern=r"^[1-9]\d{0,3}[hd]$")]
WorkingPeriod: TypeAlias = Annotated[str, Meta(pattern=r"^([1-9]\d{0,3}[hd]|[1-9]wd|P[1-9]\d{0,2}[MY])$")]

_PERIOD = re.compile(r"[1-9]\d{0,3}(h|d|wd)|P[1-9]\d{0,2}[MY]")
# The singular and the plural of each unit.
UNITS: dict[str, tuple[str, str]] = {
    "h": ("hour", "hours"),
    "d": ("day", "days"),
    "wd": ("working day", "working days"),
    "M": ("month", "months"),
    "Y": ("year", "years"),
}
_MONTHS = 12
_LONGEST_MONTH, _SHORTEST_MONTH = 31, 28
_FOUR_YEARS = 1461  # days


class Span(NamedTuple):
    """A parsed period. Exactly one field is non-zero."""

    length: Instant = 0
    months: int = 0
    working_days: int = 0

    @property
    def days(self) -> int:
        """The number of whole days, or 0 for a period in months or working days."""
        return self.length // DAY


@cache
def parse(period: str) -> Span:
    if period.startswith("P"):
        return Span(months=int(period[1:-1]) * (_MONTHS if period.endswith("Y") else 1))
    if period.endswith("wd"):
        return Span(working_days=int(period[:-2]))
    return Span(length=int(period[:-1]) * (DAY if period.endswith("d") else HOUR))


def is_period(text: str) -> bool:
    return _PERIOD.fullmatch(text) is not None


def in_words(period: str, units: Mapping[str, tuple[str, str]] = UNITS) -> str:
    """Return a period in words, such as `30 days`."""
    count, unit = re.fullmatch(r"P?(\d+)(\D+)", period).groups()  # type: ignore[union-attr] # it is a period
    return f"{count} {units[unit][count != '1']}"


def end(period: str, at: Instant) -> Instant:
    """Return the end of a period that begins at `at`. The period must not be in working days."""
    span = parse(period)
    if not span.months:
        return at + span.length
    clocks = HOUR if span.months % _MONTHS else 0
    return add_months(at, span.months) - clocks


def add_months(at: Instant, months: int) -> Instant:
    """Return the instant `months` later, on the same day of the month and at the same time of day in UTC.

    In a shorter month, return the instant on the last day of the month.
    """
    begins = datetime.fromtimestamp(at // SECOND, UTC)
    ends = datetime.combine(_later(begins.date(), months), begins.time(), UTC)
    return int(ends.timestamp()) * SECOND + at % SECOND


def last_day(period: str, day: date) -> date:
    """Return the last day of a period that begins on the day after `day`.

    The period must be in days, months or years.
    """
    span = parse(period)
    if span.months:
        return _later(day, span.months)
    return day + timedelta(days=span.days) if span.days <= (date.max - day).days else date.max


def most_days(period: str) -> int:
    """Return the maximum number of days in a period of days, months or years, including leap days."""
    span = parse(period)
    if not span.months:
        return span.days
    years, months = divmod(span.months, _MONTHS)
    return -(-years * _FOUR_YEARS // 4) + months * _LONGEST_MONTH


def most_months(period: str) -> int:
    """Return the number of months in a period of days, months or years, rounded up."""
    span = parse(period)
    return span.months or -(-span.length // (_SHORTEST_MONTH * DAY))


def end_of_days(period: str, at: Instant, places: Iterable[Place]) -> Instant:
    """Return the end of a period of local days, of which the day of `at` is the first. It ends at midnight.

    The period must be in days, months or years. If it ends at different instants in `places`, return the earliest. If
    there are none, return an instant that is not later than the end in any time zone.
    """
    ends = (place.instant(_first_after(period, first_day(at, place)), 0) for place in places)
    return min(ends, default=_first_after(period, at // DAY - 1) * DAY)


def first_day(at: Instant, place: Place) -> int:
    """Return the earliest local day, counted from 1970-01-01, on which `at` can fall.

    Because of daylight saving time, the UTC offset at `at` may be an hour smaller than the offset during the call.
    """
    return place.local(at - HOUR)[0]


def _first_after(period: str, day: int) -> int:
    """Return the first day after a period that begins with `day`. Both are counted from 1970-01-01."""
    span = parse(period)
    if not span.months:
        return day + span.days
    begins = date.fromordinal(EPOCH + day)
    ends = _later(begins, span.months)
    # Three months from 30 November end with the last day of February.
    return ends.toordinal() - EPOCH + (ends.day != begins.day)


def _later(day: date, months: int) -> date:
    """Return the same day of the month `months` later, or the last day of a shorter month."""
    years, month = divmod(day.month - 1 + months, _MONTHS)
    year = day.year + years
    if year > date.max.year:
        return date.max
    return day.replace(year=year, month=month + 1, day=min(day.day, calendar.monthrange(year, month + 1)[1]))


def end_of_working_days(
    period: str, at: Instant, places: Iterable[Place], weekdays: Collection[int], day_set: str
) -> Instant:
    """Return the end of a period of working days. The first day that can count is the day after `at`.

    If the period ends at different instants in `places`, return the earliest. `weekdays` are the days of the week that
    can be working days; Monday is 0. The days of `day_set` are not working days.
    """
    count = parse(period).working_days
    return min(_working_end(at, place, count, weekdays, day_set) for place in tuple(places) or (UTC_PLACE,))


def _working_end(at: Instant, place: Place, count: int, weekdays: Collection[int], day_set: str) -> Instant:
    day = place.local(at)[0]
    while count:
        day += 1
        date_ = date.fromordinal(EPOCH + day)
        count -= date_.weekday() in weekdays and not place.is_in(day_set, date_)
    return place.instant(day + 1, 0)
