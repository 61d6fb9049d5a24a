"""The days that a country file adds to a set of days from the holiday library."""

import msgspec
import pytest

from dialgate.core.day_sets import DaySet, added_days, faults


@pytest.mark.parametrize(
    ("added", "days"),
    [
        ("2026-11-03", ["2026-11-03"]),
        ("06-14", ["2025-06-14", "2026-06-14", "2027-06-14", "2028-06-14"]),
        ("02-29", ["2028-02-29"]),
        ("tue after 11-01", ["2025-11-04", "2026-11-03", "2027-11-02", "2028-11-07"]),
        ("sun after 11-01", ["2025-11-02", "2026-11-08", "2027-11-07", "2028-11-05"]),
        ("mon after 12-28", ["2025-12-29", "2027-01-04", "2028-01-03"]),
        ("mardi_gras", ["2025-03-04", "2026-02-17", "2027-02-09", "2028-02-29"]),
        ("holy_thursday", ["2025-04-17", "2026-04-02", "2027-03-25", "2028-04-13"]),
        ("good_friday", ["2025-04-18", "2026-04-03", "2027-03-26", "2028-04-14"]),
        ("easter_monday", ["2025-04-21", "2026-04-06", "2027-03-29", "2028-04-17"]),
        ("ascension", ["2025-05-29", "2026-05-14", "2027-05-06", "2028-05-25"]),
        ("whit_monday", ["2025-06-09", "2026-05-25", "2027-05-17", "2028-06-05"]),
        ("corpus_christi", ["2025-06-19", "2026-06-04", "2027-05-27", "2028-06-15"]),
    ],
)
def test_an_added_day_is_found_in_each_of_its_years(added: str, days: list[str]) -> None:
    given = DaySet(added=(added,))
    found = [day.isoformat() for year in range(2025, 2029) for day in added_days(given, year)]
    assert found == days
    assert not list(faults(given))


@pytest.mark.parametrize(
    "added", ["02-30", "2026-02-29", "tue after 02-29", "tue after 02-30", "xyz after 11-01", "easter"]
)
def test_a_text_that_is_not_a_day_is_a_fault(added: str) -> None:
    (fault,) = faults(msgspec.convert({"added": ["good_friday", added]}, DaySet))
    assert fault.startswith(f"{added!r} is not a day; write 2026-11-03,")
    assert "mardi_gras, holy_thursday, good_friday, easter_monday" in fault


@pytest.mark.parametrize("added", ["today", "06-1", "2026-6-14", "W10-1", "2026-W10-1", "Tue after 11-01"])
def test_a_text_in_another_form_is_refused_or_a_fault(added: str) -> None:
    try:
        days = msgspec.convert({"added": [added]}, DaySet)
    except msgspec.ValidationError:
        return
    assert list(faults(days))
