"""The campaigns with their call counts, for limits such as the share of abandoned calls, and with supervisors' pauses.

Upkeep reads both from the store once a second. The counts are part of the facts, and the log needs a new record
whenever facts change. New counts that could change a decision are used at once. To keep the log small, other new
counts are used only when the old counts have been in use for ten minutes. A pause or its end is used at once.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from itertools import chain, islice
from typing import Final, Protocol

from msgspec import structs

from dialgate.config.configuration import Config
from dialgate.config.controllers import Line
from dialgate.core import local_time, periods
from dialgate.core.campaign_standing import Standing
from dialgate.core.model import DAY, HOUR, MINUTE, Campaign, Instant
from dialgate.core.rules import pacing
from dialgate.store import CampaignCounts, CampaignPause, CampaignPauses, PauseLift
from dialgate.store.campaign_counts import Counts, by_day, oldest_hour

_RENEWED: Final = 10 * MINUTE
_PRUNED_AT_ONCE: Final = 20  # with 500 hours each, 10 ms of the event loop


class CampaignStore(CampaignCounts, CampaignPauses, Protocol):
    """The parts of the store that are read here."""


class StoredCounts:
    """The stored counts for all campaigns, when the pause of each campaign was last lifted, and supervisors' pauses.

    `pauses` are by controller and campaign, also those that ended. `changed` names the campaigns with something new that
    decisions do not use yet.
    """

    def __init__(self) -> None:
        self.is_read = False  # whether the store was ever read: until then, no pause is known
        self.pauses: dict[tuple[str, str], CampaignPause] = {}
        self.lifts: dict[str, PauseLift] = {}
        self.changed: set[str] = set()
        # Hour, answered and abandoned calls, oldest hour first: 12 bytes an hour, where objects took 300.
        self._hours: dict[str, array[int]] = {}
        self._version = 0

    async def read(self, store: CampaignStore) -> None:
        """Read the counts and pauses that changed since the last read. Raises `StoreUnavailable`."""
        await self._read_pauses(store)
        counts, version = await store.counts(self._version)
        lifts = {lift.campaign: lift for lift in await store.pause_lifts()}
        fresh: defaultdict[str, dict[int, Counts]] = defaultdict(dict)
        for count in counts:
            fresh[count.campaign][count.hour] = count.answered, count.abandoned
        for name, hours in fresh.items():
            self._keep(name, self.hours(name) | hours)
        self.changed.update(fresh)
        self.changed.update(name for name, lift in lifts.items() if self.lifts.get(name) != lift)
        self.lifts, self._version = lifts, version
        self.is_read = True

    async def _read_pauses(self, store: CampaignPauses) -> None:
        """Read the pauses. If the store lacks a known change of one, because it is an older copy, store it again."""
        pauses = await store.campaign_pauses()
        for key, known in self.pauses.items():
            if key not in pauses or pauses[key].changed_at < known.changed_at:
                await store.put_pause(known)
                pauses[key] = known
        self.changed.update(key[1] for key, pause in pauses.items() if self.pauses.get(key) != pause)
        self.pauses = pauses

    @property
    def names(self) -> Collection[str]:
        """The campaigns that have counts or a pause."""
        return self._hours.keys() | {campaign for _, campaign in self.pauses}

    def pause(self, line: Line) -> CampaignPause | None:
        """Return the supervisor's pause of a campaign that is in force, or None."""
        pause = self.pauses.get((line.controller.id, line.campaign.id))
        return None if pause is None or pause.resumed_at else pause

    def hours(self, campaign: str, now: Instant = 0) -> dict[int, Counts]:
        """Return a campaign's counts by hour, without hours that the store no longer keeps at `now`."""
        oldest, packed = oldest_hour(now), iter(self._hours.get(campaign, ()))
        return {
            hour: (answered, abandoned)
            for hour, answered, abandoned in zip(packed, packed, packed, strict=True)
            if hour >= oldest
        }

    def prune(self, now: Instant) -> None:
        """Drop the hours that the store no longer keeps, of the next few campaigns."""
        for name in [*islice(self._hours, _PRUNED_AT_ONCE)]:
            self._keep(name, self.hours(name, now))  # moves it to the end

    def _keep(self, campaign: str, hours: Mapping[int, Counts]) -> None:
        self._hours.pop(campaign, None)
        if hours:
            self._hours[campaign] = array(
                "I", chain.from_iterable((hour, *hours[hour]) for hour in sorted(hours))
            )


class CountedCampaigns:
    """The campaigns in one configuration, with their counts.

    `campaigns` holds the newest counts. `lines` holds the counts that decisions use. The counts in `lines` may be up to
    ten minutes older if the newest counts would not change a decision.
    """

    def __init__(self, config: Config, stored: StoredCounts | None = None) -> None:
        self.lines: dict[str, Line] = {}
        self.campaigns: dict[str, Campaign] = {}
        self.stored = stored or StoredCounts()
        self._config = config
        self._sections = [section for law in config.laws.values() for section in law.ratios]
        self._longest = max((periods.parse(section.per).days for section in self._sections), default=0)
        self._renewed: dict[str, Instant] = {}
        self._updated: Instant = 0

    def configured(self, config: Config) -> "CountedCampaigns":
        """Return the counted campaigns for another configuration. Both objects share the stored counts.

        A campaign that is the same object in both configurations keeps its counts, unless a limit changed.
        """
        fresh = CountedCampaigns(config, self.stored)
        same = self._config.lines if _limits(self._config) == _limits(config) else {}
        for name in self.lines:
            if name in config.lines and config.lines[name] is same.get(name):
                fresh.lines[name], fresh.campaigns[name] = self.lines[name], self.campaigns[name]
                fresh._renewed[name] = self._renewed[name]
        self.stored.changed.update(name for name in self.stored.names if name not in fresh.lines)
        fresh.update(self._updated)
        return fresh

    def update(self, now: Instant) -> None:
        """Start using each campaign's newest counts, if they could change a decision.

        Otherwise, keep using the old counts until they have been in use for ten minutes.
        """
        self._updated = now
        self.stored.prune(now)
        for name in tuple(self.stored.changed):
            line = self._config.lines.get(name)
            if line is None or not self._is_used(line) or self._take(line, now):
                self.stored.changed.discard(name)

    def paused_since(self, line: Line, standing: Standing, now: Instant) -> Instant:
        """Return the beginning of the hour of the call with which a campaign exceeded a limit.

        Call this only if the campaign is above the limit.
        """
        name, section, day = line.campaign.id, standing.section, standing.since
        zone, lift = self._config.laws[line.home].zone, self.stored.lifts.get(name)
        counts = [count for count in self.campaigns[name].counts if count.day < day]
        hours = self.stored.hours(name, now)
        for hour in sorted(hours):
            if local_time.day_in(zone, hour * HOUR) == day:
                counts += by_day({hour: hours[hour]}, lift, zone)
                if pacing.used(section, *pacing.totals(section, counts, day)) > 1:
                    return hour * HOUR
        return local_time.midnight(zone, day)  # on this day, older calls left the limit's period

    def _is_used(self, line: Line) -> bool:
        """Return whether decisions can depend on the campaign's counts or pause."""
        return bool(self._sections) or (line.controller.id, line.campaign.id) in self.stored.pauses

    def _take(self, line: Line, now: Instant) -> bool:
        zone, name = self._config.laws[line.home].zone, line.campaign.id
        today = local_time.day_in(zone, now)
        campaign, pause = self._add_counts(line.campaign, zone, now), self.stored.pause(line)
        campaign = structs.replace(campaign, paused_at=pause.at if pause else 0)
        used, self.campaigns[name] = self.lines.get(name), campaign
        if (
            used is not None
            and now < self._renewed[name] + _RENEWED
            and self._judge(used.campaign, today) == self._judge(campaign, today)
        ):
            return False
        self.lines[name] = structs.replace(line, campaign=campaign)
        self._renewed[name] = now
        return True

    def _add_counts(self, campaign: Campaign, zone: str, now: Instant) -> Campaign:
        """Return the campaign with its counts for the longest period that any limit uses."""
        since = local_time.day_in(zone, now - self._longest * DAY)
        lift = self.stored.lifts.get(campaign.id)
        counts = by_day(self.stored.hours(campaign.id, now), lift, zone)
        recent = tuple(count for count in counts if count.day >= since) if self._sections else ()
        return structs.replace(campaign, counts=recent, lifted_at=lift.at if lift else 0)

    def _judge(self, campaign: Campaign, today: date) -> tuple[object, ...]:
        """Return a key for the campaign's counts. Counts with the same key lead to the same decisions.

        The key contains the pause, the time at which a pause was last lifted and, for each limit, the first day on which calls are
        allowed. The called person's local date can differ from `today` by a day. The first day is therefore computed
        for the day before `today`, for `today` and for the day after.
        """
        days = [today + timedelta(days=shift) for shift in (-1, 0, 1)]
        clear = (
            pacing.first_day_within(section, campaign.counts, day)
            for section in self._sections
            for day in days
        )
        return (campaign.paused_at, campaign.lifted_at, *clear)


def _limits(config: Config) -> dict[str, object]:
    return {country: (law.zone, law.ratios) for country, law in config.laws.items()}
