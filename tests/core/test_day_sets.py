"""The days of a set that the country file adds to those of the library."""

from datetime import date

from dialgate.core.day_sets import DaySet, added_days


def test_a_weekday_after_the_last_days_of_december_may_be_in_january() -> None:
    days = DaySet(added=("mon after 12-28",))
    found = [day for year in range(2025, 2028) for day in added_days(days, year)]
    assert found == [date(2025, 12, 29), date(2027, 1, 4)]
