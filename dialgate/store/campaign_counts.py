"""Hourly counts of call results for each campaign, and the records of lifted pauses."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from dialgate.core import local_time
from dialgate.core.abandonment import ANSWERED
from dialgate.core.model import DAY, HOUR, DayCount, Instant, Result

COUNTS_KEPT: Final = 62 * DAY
Counts: TypeAlias = tuple[int, int]  # of answered and of abandoned calls


class HourCount(Struct, frozen=True):
    """A campaign's counts of answered and abandoned calls in one hour.

    `hour` is the number of hours since 1970.
    """

    hour: int
    campaign: str
    answered: int
    abandoned: int


class PauseLift(Struct, frozen=True, kw_only=True):
    """An officer's decision that a paused campaign may call again.

    Calls made before the hour of `at` no longer count. For that hour itself, `answered` and `abandoned`
    contain the results reported so far, which are subtracted.
    """

    campaign: str
    at: Instant
    ground: str
    actor: str
    proof: str = ""
    answered: int = 0
    abandoned: int = 0


class CampaignCounts(Protocol):
    """Counts for all campaigns. `Attempts.result` updates them in the same transaction."""

    async def counts(self, after: int = 0) -> tuple[list[HourCount], int]:
        """Return the counts that changed after version `after`, and the newest version.

        Each count is the total for its hour, so it replaces an earlier count for the same hour. Counts are kept
        for `COUNTS_KEPT`.
        """

    async def put_counts(self, counts: Sequence[HourCount]) -> None:
        """Replace the counts of some hours. Only for an import, while no gate has the store open."""

    async def pause_lifts(self) -> list[PauseLift]:
        """Return all lifted pauses, oldest first."""

    async def lift_pause(self, lift: PauseLift) -> None: ...


def count_of(campaign: str, at: Instant, result: Result) -> HourCount:
    """Return an hourly count that contains a single call."""
    return HourCount(at // HOUR, campaign, int(result in ANSWERED), int(result == "abandoned"))


def by_day(hours: Mapping[int, Counts], lift: PauseLift | None, zone: str) -> tuple[DayCount, ...]:
    """Return a campaign's counts by day in a time zone, oldest first.

    Calls that `lift` excludes are not counted.
    """
    lifted_hour = lift.at // HOUR if lift else -1
    days: defaultdict[date, list[int]] = defaultdict(lambda: [0, 0])
    for hour, (answered, abandoned) in hours.items():
        if hour < lifted_hour:
            continue
        total = days[_day(zone, hour)]
        if lift is not None and hour == lifted_hour:
            total[0] += max(answered - lift.answered, 0)
            total[1] += max(abandoned - lift.abandoned, 0)
        else:
            total[0] += answered
            total[1] += abandoned
    return tuple(DayCount(day, *days[day]) for day in sorted(days))


@lru_cache(16_384)
def _day(zone: str, hour: int) -> date:
    return local_time.day_in(zone, hour * HOUR)


def oldest_hour(now: Instant) -> int:
    return (now - COUNTS_KEPT) // HOUR
