"""Time windows on named days, such as `mon-fri: ["09:00-13:00", "14:00-20:00"]`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Final, Literal, TypeAlias, get_args

from dialgate.core.model import EPOCH, SECOND, SECONDS_A_DAY, Instant, Place, Weekday

DayName: TypeAlias = Weekday | Literal["holiday", "pre_holiday"]
Window: TypeAlias = tuple[int, int]
Windows: TypeAlias = Mapping[str, tuple[Window, ...]]

WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)
_SPECIAL: Final = ("holiday", "pre_holiday")
_ONE_DAY: Final = timedelta(days=1)
_WINDOW = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def parse_days(days: Mapping[str, Iterable[str]]) -> Windows:
    """Return the windows for each weekday, and for `holiday` and `pre_holiday` if `days` names them.

    Raises `ValueError` for an invalid day or window.
    """
    windows: dict[str, tuple[Window, ...]] = dict.fromkeys(WEEKDAYS, ())
    named: set[str] = set()
    for key, texts in days.items():
        for name in _names(key):
            if name in named:
                raise ValueError(
                    f"`days` names {name!r} twice, the second time in {key!r}; remove one of them"
                )
            named.add(name)
            windows[name] = tuple(parse_window(text) for text in texts)
    return windows


def _names(key: str) -> Iterator[str]:
    first, _, last = key.partition("-")
    if key in _SPECIAL:
        yield key
    elif first in WEEKDAYS and (last or first) in WEEKDAYS:
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        yield from WEEKDAYS[begin : end + 1]
        if begin > end:
            raise ValueError(
                f"{key!r} ends before it begins, because the week begins on `mon`; split it into two keys"
            )
    else:
        raise ValueError(f"{key!r} is not a day; write mon, mon-fri, holiday or pre_holiday")


def parse_window(text: str) -> Window:
    """Parse a window such as `09:00-20:00` into its start and exclusive end, in seconds since midnight. Raises `ValueError`."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time window; write it as 09:00-20:00")
    first, last = (
        int(hours) * 3600 + int(minutes) * 60 for hours, minutes in (match.group(1, 2), match.group(3, 4))
    )
    if not first < last <= SECONDS_A_DAY:
        raise ValueError(f"{text!r} must begin before it ends, and end by 24:00, for example 09:00-20:00")
    return first, last


def name_of_day(windows: Windows, day_set: str, place: Place, day: int) -> DayName:
    """Return the key of `windows` that applies on a local day. `day` is the number of days since 1970-01-01."""
    today = date.fromordinal(EPOCH + day)
    weekday = WEEKDAYS[today.weekday()]
    if "holiday" in windows and place.is_in(day_set, today):
        return "holiday"
    if weekday != "sun" and "pre_holiday" in windows and place.is_in(day_set, today + _ONE_DAY):
        return "pre_holiday"
    return weekday


def end_of_window(
    windows: Windows, day_set: str, place: Place, at: Instant, ring_seconds: int = 0
) -> Instant:
    """Return the end of the window that is open at `at`, or 0 if none is.

    Each window is treated as closing `ring_seconds` early, so that the telephone still rings within the window.
    """
    day, second = place.local(at)
    for first, last in windows[name_of_day(windows, day_set, place, day)]:
        if first <= second < last - ring_seconds:
            return place.instant(day, last - ring_seconds)
    return 0


def boundaries(
    windows: Windows, day_set: str, place: Place, day: int, ring_seconds: int = 0
) -> Iterator[Instant]:
    """Yield the instants on a local day at which `end_of_window` begins or ceases to find a window.

    A local time that occurs twice is yielded twice. A change of the clocks, which can skip a boundary, is not yielded.
    """
    for window in windows[name_of_day(windows, day_set, place, day)]:
        for second in (window[0], window[1] - ring_seconds):
            local = day * SECONDS_A_DAY + second
            instants = {(local - offset) * SECOND for offset in (place.offset, place.shift_to)}
            yield from (at for at in instants if place.local(at) == divmod(local, SECONDS_A_DAY))


def next_window(windows: Windows, day_set: str, place: Place, at: Instant, days: int) -> Instant:
    """Return the start of the first window after `at`, or 0 if none starts within `days` days."""
    today, second = place.local(at)
    for day in range(today, today + days + 1):
        for first, _ in windows[name_of_day(windows, day_set, place, day)]:
            if day > today or first > second:
                return place.instant(day, first)
    return 0
