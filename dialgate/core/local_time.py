"""Local times and sets of days, such as public holidays, as plain values for rules and records.

Only this module uses the time-zone database and the holiday library. Their versions are written to the decision log.
"""

import importlib.metadata
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, reset_tzpath

import holidays

from dialgate.core.day_sets import DaySet, added_days
from dialgate.core.model import DAY, SECOND, Instant, Place

_DAYS_AHEAD = 16
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
# Records name the library, whichever package it comes from.
_PACKAGES = {"tzdata": "tzdata", "holidays": "holidays", "phonenumbers": "phonenumberslite"}

# By default the system's time zones take precedence. They may be older than the package, whose version is recorded.
reset_tzpath(to=())
ZoneInfo.clear_cache()


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of the libraries whose data affects decisions."""
    return {name: importlib.metadata.version(package) for name, package in _PACKAGES.items()}


def day_in(zone: str, at: Instant) -> date:
    return datetime.fromtimestamp(at // SECOND, ZoneInfo(zone)).date()


def clock_in(zone: str, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(zone))


def instant_in(zone: str, clock: datetime) -> Instant:
    """Return the instant of a local time. If the time occurs twice, return the first instant."""
    return int(clock.replace(tzinfo=ZoneInfo(zone)).timestamp() * SECOND)


def rfc3339(at: Instant) -> str:
    """Format an instant in UTC, with milliseconds."""
    second, millisecond = divmod(at, SECOND)
    return f"{_to_the_second(second)}.{millisecond:03}Z"


@lru_cache(4096)
def local_rfc3339(at: Instant, zone: str) -> str:
    """Format an instant in a time zone, to the second, or with milliseconds if it is within a second."""
    local = datetime.fromtimestamp(at // SECOND, ZoneInfo(zone)) + at % SECOND * _MILLISECOND
    return local.isoformat(timespec="milliseconds" if at % SECOND else "seconds")


def instant_of(text: str) -> Instant:
    """Return the instant that `rfc3339` formatted."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


@lru_cache(1024)
def _to_the_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def place(zone: str, day_sets: Mapping[str, DaySet], at: Instant) -> Place:
    """Return a time zone as a `Place` that is valid for the whole local day of `at`."""
    info = ZoneInfo(zone)
    today = day_in(zone, at)
    start = midnight(zone, today)
    offset = _offset(info, start)
    shift_at = _next_offset_change(info, start, start + _DAYS_AHEAD * DAY)
    middle = start - _DAYS_AHEAD * DAY
    shifted_at = _next_offset_change(info, middle, start) or _next_offset_change(
        info, middle - _DAYS_AHEAD * DAY, middle
    )
    return Place(
        zone=zone,
        offset=offset,
        shift_at=shift_at,
        shift_to=_offset(info, shift_at) if shift_at else 0,
        shifted_at=shifted_at,
        shifted_from=_offset(info, shifted_at - SECOND) if shifted_at else 0,
        day_sets={name: days for name, set_ in day_sets.items() if (days := _days_around(set_, today))},
    )


def _offset(info: ZoneInfo, at: Instant) -> int:
    offset = datetime.fromtimestamp(at // SECOND, info).utcoffset()
    return int((offset or timedelta()).total_seconds())


def _next_offset_change(info: ZoneInfo, start: Instant, end: Instant) -> Instant:
    """Return the instant between `start` and `end` at which the offset changes, or 0 if it does not change.

    `start` and `end` are `_DAYS_AHEAD` days apart. Comparing their offsets is enough, because no zone changes its
    offset twice within so few days.
    """
    before = _offset(info, start)
    if _offset(info, end) == before:
        return 0
    while end - start > SECOND:
        middle = (start + end) // 2 // SECOND * SECOND
        if _offset(info, middle) == before:
            start = middle
        else:
            end = middle
    return end


def _days_around(days: DaySet, today: date) -> tuple[date, ...]:
    first, last = (today + timedelta(days=days) for days in (-_DAYS_AHEAD, _DAYS_AHEAD))
    years = range(first.year, last.year + 1)
    return tuple(sorted({day for year in years for day in _days_of(days, year) if first <= day <= last}))


@lru_cache(512)
def _days_of(days: DaySet, year: int) -> frozenset[date]:
    if not days.library:
        return frozenset(added_days(days, year))
    known = holidays.country_holidays(days.library, subdiv=days.subdivision or None, years=year)
    return frozenset(known).union(added_days(days, year))


def unknown_library(days: DaySet) -> str:
    """Return why the `holidays` library cannot supply the days of a day set, or ""."""
    try:
        _days_of(days, 2026)
    except NotImplementedError as error:
        return str(error)
    return ""


def midnight(zone: str, day: date) -> Instant:
    return instant_in(zone, datetime.combine(day, time.min))


def hour_in(zone: str, at: Instant) -> tuple[date, int]:
    local = datetime.fromtimestamp(at // SECOND, ZoneInfo(zone))
    return local.date(), local.hour
