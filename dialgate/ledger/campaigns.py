"""Campaigns and their limits on abandoned calls: which campaigns are paused, and how an officer lifts a pause."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import structlog
from msgspec import Meta, Struct

from dialgate.config.clients import Client
from dialgate.config.controllers import Line
from dialgate.core import local_time
from dialgate.core.campaign_standing import Standing, standings
from dialgate.core.law import Law
from dialgate.core.model import HOUR, Instant, Severity
from dialgate.core.refusal import Refused
from dialgate.core.text_formats import OptionalTimestamp
from dialgate.gate.counted_campaigns import CountedCampaigns
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.activation import Activation
from dialgate.ledger.schemas import Request
from dialgate.store import PauseLift

PauseCause: TypeAlias = Literal["configuration", "abandoned_calls"]
_log = structlog.get_logger(__name__)


class PauseLiftRequest(Request, frozen=True, kw_only=True):
    ground: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            description="Reason why the campaign may call again, for example what was corrected.",
        ),
    ]


class CampaignLimit(Struct, frozen=True, kw_only=True):
    """A limit on a campaign's abandoned calls: at most `above` per `out_of` calls.

    `abandoned` is the number of abandoned calls. `compared` is the number of calls in the denominator, as the law
    counts them. `used` is the share of the limit that is used up. `since` is the beginning of the hour of the call
    with which the campaign exceeded the limit. `not_before` is the time at which the pause ends if no further results are reported. `since` and `not_before` are empty while the
    campaign is within the limit.
    """

    country: str
    source: str
    severity: Severity
    days: str
    above: int
    out_of: int
    abandoned: int
    compared: int
    used: float
    not_before: OptionalTimestamp = ""
    since: OptionalTimestamp = ""


class CampaignInfo(Struct, frozen=True, kw_only=True):
    """A campaign, whether it is paused and why, and its limits on abandoned calls.

    `paused_by` says why the campaign is paused: `configuration` if its controller's file has `paused: true`,
    `abandoned_calls` if it exceeds a limit.

    `limits` contains the limits that the law of the controller's country sets. It also contains other
    countries' limits that the campaign exceeds. `lifted_at`, `lifted_by`, `ground` and `proof` describe the
    last time that a pause was lifted. Calls before `lifted_at` no longer count.
    """

    id: str
    controller: str
    paused: bool
    paused_by: tuple[PauseCause, ...] = ()
    limits: tuple[CampaignLimit, ...]
    lifted_at: OptionalTimestamp = ""
    lifted_by: str = ""
    ground: str = ""
    proof: str = ""


class CampaignList(Struct, frozen=True):
    campaigns: list[CampaignInfo]


class PauseReceipt(Struct, frozen=True, kw_only=True):
    """The acknowledgement of a lifted pause. `in_force` says when each node lets the campaign call again."""

    campaign: CampaignInfo
    in_force: str


class Campaigns:
    def __init__(self, access: LedgerAccess, activation: Activation) -> None:
        self._access, self._activation = access, activation

    async def infos(self, client: Client) -> list[CampaignInfo]:
        """Return the client's campaigns with their limits on abandoned calls. Raises `StoreUnavailable`."""
        now, counted = self._access.clock(), await self._read_counts()
        config = self._access.config
        return await asyncio.to_thread(
            lambda: [self._info(config.lines[name], counted, now) for name in config.campaigns_of(client)]
        )

    def paused(self, client: Client, counted: CountedCampaigns) -> list[CampaignInfo]:
        """Return the client's paused campaigns. `counted` holds the call counts that a gate has already read."""
        now, lines = self._access.clock(), self._access.config.lines
        names = (
            name
            for name in sorted(self._access.config.campaigns_of(client))
            if name in counted.campaigns or lines[name].campaign.paused
        )
        campaigns = (self._info(lines[name], counted, now) for name in names)
        return [campaign for campaign in campaigns if campaign.paused]

    async def lift_pause(self, client: Client, campaign: str, ask: PauseLiftRequest) -> PauseReceipt:
        """Let a paused campaign call again. Calls made so far no longer count towards the limits.

        Raises `Refused` and `Unavailable`.
        """
        line, now = self._access.line(client, campaign), self._access.clock()
        counted = await self._read_counts()
        if "abandoned_calls" not in (reasons := self._info(line, counted, now).paused_by):
            text = (
                "This campaign is paused in the configuration, not for abandoned calls. Remove `paused: true` from its"
                " controller's file and reload the gate."
                if reasons
                else "This campaign is not paused for abandoned calls. Check the campaign's id in the path."
            )
            raise Refused("campaign.not_paused", text, "campaign", 409)
        answered, abandoned = counted.stored.hours(campaign, now).get(now // HOUR, (0, 0))
        lift = PauseLift(
            campaign=campaign,
            at=now,
            ground=ask.ground,
            actor=ask.actor or client.name,
            proof=ask.proof,
            answered=answered,
            abandoned=abandoned,
        )
        await self._access.store.lift_pause(lift)
        _log.warning("a campaign's pause was lifted", campaign=campaign, actor=lift.actor)
        in_force = await self._activation.put_in_force()
        return PauseReceipt(campaign=self._info(line, await self._read_counts(), now), in_force=in_force)

    async def _read_counts(self) -> CountedCampaigns:
        counted = CountedCampaigns(self._access.config)
        await counted.stored.read(self._access.store)
        counted.update(self._access.clock())
        return counted

    def _info(self, line: Line, counted: CountedCampaigns, now: Instant) -> CampaignInfo:
        campaign = counted.campaigns.get(line.campaign.id, line.campaign)
        limits = tuple(self._limits(line, counted, now))
        causes: dict[PauseCause, bool] = {
            "configuration": campaign.paused,
            "abandoned_calls": any(limit.not_before for limit in limits),
        }
        paused_by = tuple(cause for cause, is_paused in causes.items() if is_paused)
        lift = counted.stored.lifts.get(campaign.id)
        return CampaignInfo(
            id=campaign.id,
            controller=line.controller.id,
            paused=bool(paused_by),
            paused_by=paused_by,
            limits=limits,
            lifted_at=local_time.rfc3339(lift.at) if lift else "",
            lifted_by=lift.actor if lift else "",
            ground=lift.ground if lift else "",
            proof=lift.proof if lift else "",
        )

    def _limits(self, line: Line, counted: CountedCampaigns, now: Instant) -> Iterator[CampaignLimit]:
        campaign = counted.campaigns.get(line.campaign.id, line.campaign)
        for law in self._access.config.laws.values():
            if not law.ratios:
                continue
            today = local_time.day_in(law.zone, now)
            for found in standings(campaign, line.controller, law, now, today):
                if law.country == line.home or found.is_above:
                    since = counted.paused_since(line, found, now) if found.is_above else 0
                    yield _limit(law, found, since)


def _limit(law: Law, found: Standing, since: Instant) -> CampaignLimit:
    section = found.section
    return CampaignLimit(
        country=law.country,
        source=section.source,
        severity=section.severity,
        days=section.per,
        above=section.above,
        out_of=section.out_of,
        abandoned=found.abandoned,
        compared=found.compared,
        used=round(found.used, 3),
        not_before=local_time.rfc3339(local_time.midnight(law.zone, found.clear)) if since else "",
        since=local_time.rfc3339(since) if since else "",
    )
