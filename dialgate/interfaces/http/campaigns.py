"""The endpoints for campaigns: viewing their limits on abandoned calls, pausing and resuming, and lifting a pause."""

from typing import Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.ledger.campaigns import (
    CampaignList,
    CampaignPauseRequest,
    CampaignResumeRequest,
    PauseLiftRequest,
    PauseReceipt,
)

CAMPAIGNS: Final = EndpointGroup(
    "Campaigns",
    "Pause and resume campaigns, watch the share of abandoned calls, and lift a pause for them.",
    in_path={"id": "Campaign ID."},
)
_NOT_PAUSED: Final = ("campaign.unknown", "campaign.not_paused", "store.unavailable", "gate.unavailable")


@CAMPAIGNS.endpoint("GET", "/v1/campaigns", scope="watch", errors=("store.unavailable",))
async def list_campaigns(_: web.Request, app: App, client: Client) -> CampaignList:
    """Return the client's campaigns, with how much of each limit on abandoned calls they have used.

    `paused` campaigns are denied. `paused_by` says why, and `pause_at` since when if a supervisor paused the campaign.
    """
    return CampaignList(await app.registrar.campaigns.infos(client))


@CAMPAIGNS.endpoint(
    "POST",
    "/v1/campaigns/{id}/pause",
    scope="lists",
    status=201,
    errors=("campaign.unknown", "store.unavailable", "gate.unavailable"),
)
async def pause_campaign(
    request: web.Request, app: App, client: Client, *, ask: CampaignPauseRequest
) -> PauseReceipt:
    """Deny every call of a campaign, until it is resumed.

    The reason and the actor are recorded. The pause applies on this node before the response is sent; `in_force` says when it
    applies on other nodes. It outlasts restarts and reloads. If a supervisor has paused the campaign already, that pause stays as
    it is and is returned.
    """
    return await app.registrar.campaigns.pause(client, request.match_info["id"], ask)


@CAMPAIGNS.endpoint("POST", "/v1/campaigns/{id}/resume", scope="lists", status=201, errors=_NOT_PAUSED)
async def resume_campaign(
    request: web.Request, app: App, client: Client, *, ask: CampaignResumeRequest
) -> PauseReceipt:
    """End a supervisor's pause of a campaign.

    The campaign stays paused if it is also paused in the configuration or for abandoned calls: see `paused_by`.
    """
    return await app.registrar.campaigns.resume(client, request.match_info["id"], ask)


@CAMPAIGNS.endpoint("POST", "/v1/campaigns/{id}/lift", scope="subjects", status=201, errors=_NOT_PAUSED)
async def lift_pause(
    request: web.Request, app: App, client: Client, *, ask: PauseLiftRequest
) -> PauseReceipt:
    """Lift the pause of a campaign that abandoned too many calls.

    Calls made so far no longer count. The ground and the actor are recorded. The lift applies on this node before the
    response is sent; `in_force` says when it applies on other nodes.
    """
    return await app.registrar.campaigns.lift_pause(client, request.match_info["id"], ask)
