"""The source of the time zones, and the `Place` that decisions and records use instead of a time zone."""

import zoneinfo
from datetime import UTC, date, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import phonenumbers
import pytest

from dialgate.core import local_time
from dialgate.core.day_sets import DaySet
from dialgate.core.model import DAY, HOUR, SECOND, Place
from dialgate.tools.policy.case_facts import instant


@pytest.mark.parametrize("zone", ["America/Winnipeg", "America/Vancouver", "Europe/Rome"])
def test_time_zones_are_those_of_the_package_whose_version_is_recorded(zone: str) -> None:
    """The system's time zones may be older: Manitoba stopped changing its clocks in 2026."""
    with files("tzdata").joinpath("zoneinfo", zone).open("rb") as file:
        packaged = zoneinfo.ZoneInfo.from_file(file)
    for at in (datetime(2026, 12, 15, tzinfo=UTC), datetime(2027, 7, 15, tzinfo=UTC)):
        assert local_time.clock_in(zone, at).utcoffset() == at.astimezone(packaged).utcoffset()
    assert not zoneinfo.TZPATH


WINTER = instant("2026-10-25T03:00:00+02:00")  # the clocks of Rome go back to 02:00
BACK = {"shifted_at": WINTER, "shifted_from": 7200}


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-10-08T23:59:59+02:00", {"offset": 7200}),
        ("2026-10-09T23:59:59+02:00", {"offset": 7200}),
        ("2026-10-10T00:00:00+02:00", {"offset": 7200, "shift_at": WINTER, "shift_to": 3600}),
        ("2026-10-25T23:59:59+01:00", {"offset": 7200, "shift_at": WINTER, "shift_to": 3600}),
        ("2026-10-26T00:00:00+01:00", {"offset": 3600, **BACK}),
        ("2026-11-10T12:00:00+01:00", {"offset": 3600, **BACK}),
        ("2026-11-26T23:59:59+01:00", {"offset": 3600, **BACK}),
        ("2026-11-27T00:00:00+01:00", {"offset": 3600}),
    ],
)
def test_a_place_holds_the_clock_changes_of_16_days_ahead_and_32_days_back(
    at: str, expected: dict[str, Any]
) -> None:
    assert local_time.place("Europe/Rome", {}, instant(at)) == Place(zone="Europe/Rome", **expected)


def test_of_two_clock_changes_the_place_holds_the_newest() -> None:
    """In 2010 Egypt moved its clocks on 30 April, 10 August and 9 September."""
    place = local_time.place("Africa/Cairo", {}, instant("2010-10-05T12:00:00+02:00"))
    changes = {"shift_at": 0, "shifted_at": instant("2010-09-30T23:00:00+02:00"), "shifted_from": 10800}
    assert {name: getattr(place, name) for name in changes} == changes


def test_a_place_holds_the_days_of_its_sets_16_days_ahead_and_back() -> None:
    added = tuple(f"{month:02}-{day:02}" for month, day in ((12, 4), (12, 5), (1, 5), (1, 6)))
    sets = {"ours": DaySet(added=added), "none": DaySet(added=("07-01",))}
    place = local_time.place("Europe/Rome", sets, instant("2026-12-21T00:00:00+01:00"))
    assert place.day_sets == {"ours": (date(2026, 12, 5), date(2027, 1, 5), date(2027, 1, 6))}
    sets["holidays"] = DaySet(library="IT", added=("12-24",))
    days = local_time.place("Europe/Rome", sets, instant("2026-12-20T23:59:59+01:00")).day_sets
    assert days["ours"] == (date(2026, 12, 4), date(2026, 12, 5), date(2027, 1, 5))
    assert days["holidays"] == (*(date(2026, 12, day) for day in (8, 24, 25, 26)), date(2027, 1, 1))


def test_the_library_adds_the_holidays_of_a_subdivision() -> None:
    sets = {"all": DaySet(library="DE"), "bavaria": DaySet(library="DE", subdivision="BY")}
    days = local_time.place("Europe/Berlin", sets, instant("2027-01-07T12:00:00+01:00")).day_sets
    assert set(days["bavaria"]) - set(days["all"]) == {date(2027, 1, 6)}
    assert local_time.unknown_library(DaySet(library="ZZ"))
    assert not local_time.unknown_library(DaySet(library="DE"))


def test_records_name_the_packages_of_zones_holidays_and_numbers() -> None:
    versions = dict(local_time.versions())
    assert versions.keys() == {"tzdata", "holidays", "phonenumbers"}
    assert [versions.pop(name) for name in ("tzdata", "holidays")] == [version("tzdata"), version("holidays")]
    assert versions["phonenumbers"] == phonenumbers.__version__


def test_days_and_hours_are_those_of_the_zone() -> None:
    at = instant("2026-11-24T00:30:00+01:00")
    assert local_time.day_in("Europe/Rome", at) == date(2026, 11, 24)
    assert local_time.day_in("Europe/London", at) == date(2026, 11, 23)
    assert local_time.hour_in("Europe/London", at) == (date(2026, 11, 23), 23)
    assert local_time.midnight("Europe/Rome", date(2026, 11, 24)) == at - HOUR // 2
    assert local_time.midnight("Europe/Rome", date(2026, 10, 26)) - WINTER == 22 * HOUR


def test_an_instant_is_written_in_utc_with_milliseconds_and_read_from_a_local_time() -> None:
    assert local_time.rfc3339(WINTER + DAY + SECOND + 7) == "2026-10-26T01:00:01.007Z"
    twice = datetime(2026, 10, 25, 2, 30, 0, 250_000)  # noqa: DTZ001 - a local time
    assert local_time.instant_in("Europe/Rome", twice) == WINTER - HOUR // 2 + 250
