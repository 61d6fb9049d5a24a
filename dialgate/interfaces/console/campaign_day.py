"""The day of a campaign on its page: calls by hour, hours in force, lists and caller IDs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final, Literal

from msgspec import Struct

from dialgate.app import App
from dialgate.config.controllers import Line
from dialgate.core import local_time
from dialgate.core.campaign_standing import campaign_facts
from dialgate.core.model import DAY, HOUR, Campaign, Instant
from dialgate.core.text_formats import OptionalTimestamp, Timestamp
from dialgate.interfaces.status import CallerIdStatus, caller_ids
from dialgate.ledger.schemas import ListInfo
from dialgate.report.law_page import LawLine, describe
from dialgate.texts import Language

_KEPT: Final = DAY // HOUR + 1  # hours: the longest day


class HourlyDecisions:
    """Allowed and denied calls by hour and campaign, at this gate since it started at `since`. Hours are whole ones in UTC."""

    def __init__(self, since: Instant) -> None:
        self.since = since
        self._counts: Counter[tuple[int, str, str]] = Counter()  # by hour, campaign and verdict
        self._hour = since // HOUR

    def add(self, at: Instant, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Add counts by verdict, first reason and campaign."""
        hour = at // HOUR
        if hour != self._hour:
            self._hour = hour
            recent = {key: count for key, count in self._counts.items() if key[0] >= hour - _KEPT}
            self._counts = Counter(recent)
        for (verdict, _, campaign), count in counts.items():
            self._counts[hour, campaign, verdict] += count

    def count(self, hour: int, campaign: str, verdict: str) -> int:
        return self._counts[hour, campaign, verdict]


class CampaignHour(Struct, frozen=True, kw_only=True):
    """The calls of an hour. `answered` and `silent` are results that dialers reported to any gate."""

    begins: Timestamp
    allowed: int = 0
    denied: int = 0
    answered: int = 0
    silent: int = 0

    @property
    def total(self) -> int:
        return self.allowed + self.denied + self.answered + self.silent


class CampaignDay(Struct, frozen=True, kw_only=True):
    """Today's calls of a campaign, from the first hour with one, and what is in force for it.

    `counted_since` is the start of this gate, if it was today: it knows no earlier decisions.
    """

    state: Literal["open", "future", "over"]
    hours: tuple[CampaignHour, ...]
    total: CampaignHour
    counted_since: OptionalTimestamp
    permitted: tuple[LawLine, ...]
    lists: tuple[ListInfo, ...]
    caller_ids: tuple[CallerIdStatus, ...]

    @property
    def most(self) -> int:
        """The most decisions in one hour, or 1."""
        return max((hour.allowed + hour.denied for hour in self.hours), default=0) or 1


async def read_day(
    app: App, line: Line, decisions: HourlyDecisions, language: Language, lists: Iterable[ListInfo]
) -> CampaignDay:
    """Return a campaign's day. `lists` are the call lists that the client may see. Raises `StoreUnavailable`."""
    now, config, law, name = app.gate.now(), app.config, app.config.laws[line.home], line.campaign.id
    today = local_time.day_in(law.zone, now)
    begin = local_time.midnight(law.zone, today)
    hours = _hours(app, name, decisions, begin, now)
    binding = law.binding(campaign_facts(line.campaign, line.controller, law, now, today))
    shown = caller_ids(config, (line.controller.id,), await app.proofs(), now)
    return CampaignDay(
        state=_state(line.campaign, today),
        hours=hours,
        total=CampaignHour(
            begins=local_time.rfc3339(begin),
            allowed=sum(hour.allowed for hour in hours),
            denied=sum(hour.denied for hour in hours),
            answered=sum(hour.answered for hour in hours),
            silent=sum(hour.silent for hour in hours),
        ),
        counted_since=local_time.rfc3339(decisions.since) if decisions.since > begin else "",
        permitted=tuple(describe("hours", binding.hours, language)),
        lists=tuple(one for one in lists if name in one.campaigns and not one.retired_at),
        caller_ids=tuple(status for status in shown if status.campaign == name),
    )


def _state(campaign: Campaign, today: date) -> Literal["open", "future", "over"]:
    if campaign.starts is not None and today < campaign.starts:
        return "future"
    return "over" if campaign.ends is not None and today > campaign.ends else "open"


def _hours(
    app: App, name: str, decisions: HourlyDecisions, begin: Instant, now: Instant
) -> tuple[CampaignHour, ...]:
    results = app.gate.counted.stored.hours(name, now)
    hours: list[CampaignHour] = []
    for hour in range(begin // HOUR, now // HOUR + 1):
        answered, silent = results.get(hour, (0, 0))
        one = CampaignHour(
            begins=local_time.rfc3339(hour * HOUR),
            allowed=decisions.count(hour, name, "allow"),
            denied=decisions.count(hour, name, "deny"),
            answered=answered,
            silent=silent,
        )
        if hours or one.total:
            hours.append(one)
    return tuple(hours)
