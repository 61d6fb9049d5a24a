"""Periods in laws end at the exact millisecond or on the exact day."""

import os
import time
from datetime import date

import pytest

from dialgate.core import periods
from dialgate.core.model import Place
from dialgate.tools.policy.case_facts import instant

ALL_DAYS = frozenset(range(7))
UNTIL_FRIDAY, UNTIL_SATURDAY = frozenset(range(5)), frozenset(range(6))
PARIS = Place(zone="Europe/Paris", offset=3600, day_sets={"l3133": (date(2026, 11, 11),)})


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        ("72h", "2026-11-24T10:00:00.001Z", "2026-11-27T10:00:00.001Z"),
        ("3d", "2026-11-24T10:00:00Z", "2026-11-27T10:00:00Z"),
        ("P2Y", "2024-11-27T11:00:00Z", "2026-11-27T11:00:00Z"),
        ("P1Y", "2024-02-29T11:00:00.5Z", "2025-02-28T11:00:00.5Z"),
        ("P12M", "2025-11-27T11:00:00Z", "2026-11-27T11:00:00Z"),
        ("P3M", "2026-08-27T11:00:00Z", "2026-11-27T10:00:00Z"),
        ("P1M", "2026-01-31T11:00:00Z", "2026-02-28T10:00:00Z"),
        ("P11M", "2026-02-27T11:00:00Z", "2027-01-27T10:00:00Z"),
    ],
)
def test_a_period_ends_at_an_instant(period: str, begins: str, ends: str) -> None:
    assert periods.end(period, instant(begins)) == instant(ends)


@pytest.mark.parametrize(
    ("period", "day", "last"),
    [
        ("30d", date(2026, 11, 1), date(2026, 12, 1)),
        ("P18M", date(2025, 5, 28), date(2026, 11, 28)),
        ("P6M", date(2026, 8, 31), date(2027, 2, 28)),
        ("P1Y", date(2024, 2, 29), date(2025, 2, 28)),
        ("1d", date.max, date.max),
        ("P1M", date.max, date.max),
    ],
)
def test_a_period_has_a_last_day(period: str, day: date, last: date) -> None:
    assert periods.last_day(period, day) == last


@pytest.mark.parametrize(
    ("weekdays", "ends"),
    [
        (
            UNTIL_SATURDAY,
            "2026-11-14T00:00:00+01:00",
        ),  # Monday, Tuesday, no holiday, Thursday, Friday: the fifth of 7, 9, 10, 12, 13
        (UNTIL_FRIDAY, "2026-11-17T00:00:00+01:00"),
        (ALL_DAYS, "2026-11-13T00:00:00+01:00"),
    ],
)
def test_working_days_leave_out_holidays_and_end_at_midnight(weekdays: frozenset[int], ends: str) -> None:
    begins = instant("2026-11-06T23:59:59+01:00")
    assert periods.end_of_working_days("5wd", begins, [PARIS], weekdays, "l3133") == instant(ends)


def test_working_days_end_where_they_end_first() -> None:
    begins = instant("2026-11-03T10:00:00Z")
    places = [Place(zone="Indian/Reunion", offset=4 * 3600), Place(zone="Europe/Paris", offset=3600)]
    assert periods.end_of_working_days("1wd", begins, places, UNTIL_FRIDAY, "") == instant(
        "2026-11-04T20:00:00Z"
    )
    assert periods.end_of_working_days("1wd", begins, [], UNTIL_FRIDAY, "") == instant("2026-11-05T00:00:00Z")


SYDNEY = Place(zone="Australia/Sydney", offset=11 * 3600)
PERTH = Place(zone="Australia/Perth", offset=8 * 3600)


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        ("P3M", "2026-08-27T01:00:00+11:00", "2026-11-27T00:00:00+11:00"),
        ("P3M", "2026-08-27T23:59:59.999+11:00", "2026-11-27T00:00:00+11:00"),
        ("P3M", "2026-11-29T12:00:00+11:00", "2027-03-01T00:00:00+11:00"),
        ("P3M", "2026-11-28T12:00:00+11:00", "2027-02-28T00:00:00+11:00"),
        ("P1Y", "2024-02-29T12:00:00+11:00", "2025-03-01T00:00:00+11:00"),
        ("1d", "2026-11-27T12:00:00+11:00", "2026-11-28T00:00:00+11:00"),
        # In the first hour, the clocks of that time may have shown the day before.
        ("P3M", "2026-08-27T00:59:59+11:00", "2026-11-26T00:00:00+11:00"),
    ],
)
def test_a_period_of_local_days_ends_at_midnight(period: str, begins: str, ends: str) -> None:
    assert periods.end_of_days(period, instant(begins), [SYDNEY]) == instant(ends)


def test_a_period_of_local_days_ends_at_the_first_midnight() -> None:
    begins = instant("2026-08-27T12:00:00Z")
    assert periods.end_of_days("P3M", begins, [PERTH, SYDNEY]) == instant("2026-11-27T00:00:00+11:00")


@pytest.mark.parametrize("hour", range(-12, 15))
@pytest.mark.parametrize("begins", ["2026-08-27T01:00:00Z", "2026-08-27T12:00:00Z", "2026-08-27T23:59:59Z"])
def test_without_a_known_time_zone_a_period_of_local_days_ends_no_later_than_in_any(
    hour: int, begins: str
) -> None:
    somewhere = Place(zone="", offset=hour * 3600)
    ends = periods.end_of_days("P3M", instant(begins), [])
    assert ends <= periods.end_of_days("P3M", instant(begins), [somewhere])


@pytest.mark.parametrize(
    ("period", "words"),
    [
        ("72h", "72 hours"),
        ("1d", "1 day"),
        ("5wd", "5 working days"),
        ("P18M", "18 months"),
        ("P1Y", "1 year"),
    ],
)
def test_a_period_in_words(period: str, words: str) -> None:
    assert periods.in_words(period) == words


@pytest.mark.parametrize(
    ("text", "is_period"),
    [
        ("72h", True),
        ("5wd", True),
        ("P18M", True),
        ("0d", False),
        ("P1D", False),
        ("30 d", False),
        ("", False),
    ],
)
def test_a_period_is_told_from_other_text(text: str, *, is_period: bool) -> None:
    assert periods.is_period(text) is is_period


@pytest.mark.parametrize(
    ("period", "days", "months"),
    [("30d", 30, 2), ("28d", 28, 1), ("29d", 29, 2), ("P1M", 31, 1), ("P18M", 552, 18), ("P1Y", 366, 12), ("P3Y", 1096, 36),
     ("P4Y", 1461, 48), ("P5Y", 1827, 60)],
)  # fmt: skip
def test_a_period_has_a_longest_form(period: str, days: int, months: int) -> None:
    assert (periods.most_days(period), periods.most_months(period)) == (days, months)


def test_a_period_does_not_depend_on_the_time_zone_of_the_server() -> None:
    begins = instant("2026-01-31T11:00:00Z")
    before = dict(os.environ)
    try:
        os.environ["TZ"] = "Pacific/Kiritimati"
        time.tzset()
        assert periods.end("P1M", begins) == instant("2026-02-28T10:00:00Z")
    finally:
        os.environ.clear()
        os.environ.update(before)
        time.tzset()
