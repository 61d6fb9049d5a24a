"""Campaigns: which are paused, how a supervisor pauses one, and how an officer lifts a pause for abandoned calls."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

import structlog
from msgspec import Meta, Struct, structs

from dialgate.config.clients import Client
from dialgate.config.controllers import Line
from dialgate.core import local_time
from dialgate.core.campaign_standing import Standing, standings
from dialgate.core.law import Law
from dialgate.core.ledger_events import CampaignPaused, CampaignResumed, Draft
from dialgate.core.model import HOUR, Instant, Severity
from dialgate.core.refusal import Refused
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import OptionalTimestamp
from dialgate.gate.counted_campaigns import CountedCampaigns
from dialgate.ledger.access import LedgerAccess
from dialgate.ledger.activation import Activation
from dialgate.ledger.schemas import Request
from dialgate.store import CampaignPause, PauseLift

PauseCause: TypeAlias = Literal["configuration", "abandoned_calls", "supervisor"]
# How each cause is named in an error, and how such a pause ends.
_CAUSES: Final[dict[PauseCause, tuple[str, str]]] = {
    "configuration": (
        "in the configuration",
        "Remove `paused: true` from its controller's file and reload the gate.",
    ),
    "abandoned_calls": ("for abandoned calls", "An officer can lift this pause: `dialgate campaign lift`."),
    "supervisor": ("by a supervisor", "Resume it: `dialgate campaign resume`."),
}
_NEAR: Final = 0.67  # share of a limit above which a supervisor should act, as the alert says
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


class CampaignPauseRequest(Request, frozen=True, kw_only=True):
    reason: Annotated[
        str, Meta(min_length=1, max_length=1024, description="Reason why the campaign must not call now.")
    ]


class CampaignResumeRequest(Request, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=1024, description="Reason why the campaign may call again.")] = ""


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

    @property
    def is_near(self) -> bool:
        return self.used > _NEAR


class CampaignInfo(Struct, frozen=True, kw_only=True):
    """A campaign, whether it is paused and why, and its limits on abandoned calls.

    `paused_by` says why the campaign is paused: `configuration` if its controller's file has `paused: true`,
    `abandoned_calls` if it exceeds a limit, `supervisor` if a supervisor paused it: `pause_at`, `pause_actor` and
    `pause_reason` describe that pause.

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
    pause_at: OptionalTimestamp = ""
    pause_actor: str = ""
    pause_reason: str = ""


class CampaignList(Struct, frozen=True):
    campaigns: list[CampaignInfo]


class PauseReceipt(Struct, frozen=True, kw_only=True):
    """The acknowledgement of a pause or of its end. `in_force` says when each node applies the change."""

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

    async def info(self, client: Client, campaign: str) -> CampaignInfo:
        """Return one of the client's campaigns. Raises `Refused` and `StoreUnavailable`."""
        line = self._access.line(client, campaign)
        return self._info(line, await self._read_counts(), self._access.clock())

    def noteworthy(self, client: Client, counted: CountedCampaigns) -> list[CampaignInfo]:
        """Return the client's campaigns that are paused, or close to a limit.

        `counted` holds the call counts that a gate has already read.
        """
        now, lines = self._access.clock(), self._access.config.lines
        names = (
            name
            for name in sorted(self._access.config.campaigns_of(client))
            if name in counted.campaigns or lines[name].campaign.paused
        )
        campaigns = (self._info(lines[name], counted, now) for name in names)
        return [
            campaign
            for campaign in campaigns
            if campaign.paused or any(limit.is_near for limit in campaign.limits)
        ]

    def paused(self, client: Client, counted: CountedCampaigns) -> list[CampaignInfo]:
        return [campaign for campaign in self.noteworthy(client, counted) if campaign.paused]

    async def lift_pause(self, client: Client, campaign: str, ask: PauseLiftRequest) -> PauseReceipt:
        """Let a paused campaign call again. Calls made so far no longer count towards the limits.

        Raises `Refused` and `Unavailable`.
        """
        line, now = self._access.line(client, campaign), self._access.clock()
        counted = await self._read_counts()
        if "abandoned_calls" not in (causes := self._info(line, counted, now).paused_by):
            raise _not_paused("abandoned_calls", causes)
        answered, abandoned = counted.stored.hours(campaign, now).get(now // HOUR, (0, 0))
        lift = PauseLift(
            campaign=campaign,
            at=now,
            ground=ask.ground,
            actor=client.actor(ask.actor),
            proof=ask.proof,
            answered=answered,
            abandoned=abandoned,
        )
        await self._access.store.lift_pause(lift)
        _log.warning("a campaign's pause was lifted", campaign=campaign, actor=lift.actor)
        return await self._receipt(client, line)

    async def pause(self, client: Client, campaign: str, ask: CampaignPauseRequest) -> PauseReceipt:
        """Deny all calls of a campaign. If a supervisor has paused it already, that pause stays as it is.

        The pause is stored before its ledger entry: after a crash between the two, it is in force, and the repeated
        request enters it. Raises `Refused` and `Unavailable`.
        """
        line, actor = self._access.line(client, campaign), client.actor(ask.actor)
        while (pause := await self._stored_pause(line)) is None or pause.resumed_at:
            # Later than the end of the last pause, also if this node's clock is behind.
            at = max(self._access.clock(), pause.resumed_at + 1 if pause else 0)
            new = CampaignPause(
                controller=line.controller.id,
                campaign=campaign,
                at=at,
                reason=ask.reason,
                actor=actor,
                proof=ask.proof,
            )
            await self._access.store.put_pause(new)
        event = CampaignPaused(campaign=campaign, at=pause.at, reason=pause.reason)
        history = await self._access.store.history(self._subject(line))
        if all(entry.event != event for entry in history):
            await self._enter(line, event, pause.actor, ask.channel, pause.proof)
            _log.warning("a supervisor paused a campaign", campaign=campaign, actor=pause.actor)
        return await self._receipt(client, line)

    async def resume(self, client: Client, campaign: str, ask: CampaignResumeRequest) -> PauseReceipt:
        """End a supervisor's pause of a campaign.

        The ledger entry is written first: after a crash between the two, the pause is still in force. Raises `Refused`
        and `Unavailable`.
        """
        line, now = self._access.line(client, campaign), self._access.clock()
        pause, actor = await self._stored_pause(line), client.actor(ask.actor)
        if pause is None or pause.resumed_at:
            raise _not_paused("supervisor", self._info(line, await self._read_counts(), now).paused_by)
        at = max(now, pause.at + 1)
        event = CampaignResumed(campaign=campaign, at=at, reason=ask.reason)
        await self._enter(line, event, actor, ask.channel, ask.proof)
        await self._access.store.put_pause(structs.replace(pause, resumed_at=at, resumed_by=actor))
        _log.warning("a supervisor resumed a campaign", campaign=campaign, actor=actor)
        return await self._receipt(client, line)

    async def _stored_pause(self, line: Line) -> CampaignPause | None:
        return (await self._access.store.campaign_pauses()).get((line.controller.id, line.campaign.id))

    def _subject(self, line: Line) -> bytes:
        return self._access.keys.subject(line.controller.id, f"campaign {line.campaign.id}")

    async def _enter(
        self, line: Line, event: CampaignPaused | CampaignResumed, actor: str, channel: str, proof: str
    ) -> None:
        draft = Draft(
            at=self._access.clock(),
            controller=line.controller.id,
            subject=self._subject(line),
            event=event,
            actor=actor,
            channel=channel,
            proof=proof,
        )
        await self._access.write(draft)

    async def _receipt(self, client: Client, line: Line) -> PauseReceipt:
        in_force = await self._activation.put_in_force()
        return PauseReceipt(campaign=await self.info(client, line.campaign.id), in_force=in_force)

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
            "supervisor": (pause := counted.stored.pause(line)) is not None,
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
            pause_at=local_time.rfc3339(pause.at) if pause else "",
            pause_actor=pause.actor if pause else "",
            pause_reason=pause.reason if pause else "",
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


def _not_paused(wanted: PauseCause, causes: tuple[PauseCause, ...]) -> Refused:
    code, (named, _) = "campaign.not_paused", _CAUSES[wanted]
    if not causes:
        text = f"This campaign is not paused {named}. Check the campaign's id in the path."
        return Refused(code, text, "campaign", 409)
    other, remedy = _CAUSES[causes[0]]
    return Refused(code, f"This campaign is paused {other}, not {named}. {remedy}", "campaign", 409)


def _limit(law: Law, found: Standing, since: Instant) -> CampaignLimit:
    section = found.section
    return copy_fields(
        section,
        CampaignLimit,
        country=law.country,
        days=section.per,
        abandoned=found.abandoned,
        compared=found.compared,
        used=round(found.used, 3),
        not_before=local_time.rfc3339(local_time.midnight(law.zone, found.clear)) if since else "",
        since=local_time.rfc3339(since) if since else "",
    )
