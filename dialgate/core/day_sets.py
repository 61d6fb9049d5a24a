"""A country's named sets of days, such as its public holidays.

`local_time` adds the days of the `holidays` library, so that this module stays pure.
"""

from calendar import isleap
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Final, TypeAlias

from dateutil.easter import easter
from msgspec import Meta, Struct

from dialgate.core.windows import WEEKDAYS

_WEEK: Final = 7
_LEAP_DAY: Final = "02-29"
_AFTER_EASTER: Final = {
    "mardi_gras": -47, "holy_thursday": -3, "good_friday": -2, "easter_monday": 1, "ascension": 39, "whit_monday": 50,
    "corpus_christi": 60,
}  # fmt: skip
AddedDay: TypeAlias = Annotated[str, Meta(pattern=r"^((\d{4}-)?\d\d-\d\d|[a-z]{3} after \d\d-\d\d|[a-z_]+)$")]


class DaySet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A set of days from the `holidays` library, with the days in `added`."""

    library: str = ""
    """Country in the `holidays` library."""
    subdivision: str = ""
    """Subdivision in the `holidays` library, which adds local holidays."""
    added: tuple[AddedDay, ...] = ()
    """Additional days: `2026-11-03`; `06-14`, every year; `tue after 11-01`, the first Tuesday after that day; a name such as `good_friday`."""


def faults(days: DaySet) -> Iterator[str]:
    """Yield an error for each text in `added` that is not a day."""
    for text in days.added:
        try:
            _added(text, 2024 if text == _LEAP_DAY else 2023)
        except ValueError:
            names = ", ".join(_AFTER_EASTER)
            yield f"{text!r} is not a day; write 2026-11-03, 06-14, `tue after 11-01` or one of {names}"


def added_days(days: DaySet, year: int) -> Iterator[date]:
    """Yield the days in `added` that fall in a year. Skip `02-29` unless the year is a leap year."""
    for text in days.added:
        if text == _LEAP_DAY and not isleap(year):
            continue
        first = year - 1 if " after " in text else year  # the Monday after 30 December may be in January
        for begun in range(first, year + 1):
            day = _added(text, begun)
            if day.year == year:
                yield day


def _added(text: str, year: int) -> date:
    if text in _AFTER_EASTER:
        sunday: date = easter(year)  # type: ignore[no-untyped-call]
        return sunday + timedelta(days=_AFTER_EASTER[text])
    weekday, _, begin = text.rpartition(" after ")
    if weekday:
        first = date.fromisoformat(f"{year}-{begin}") + timedelta(days=1)
        return first + timedelta(days=(WEEKDAYS.index(weekday) - first.weekday()) % _WEEK)
    return date.fromisoformat(text if text.count("-") > 1 else f"{year}-{text}")
