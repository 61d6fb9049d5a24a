"""The endpoints for campaigns: viewing their limits on abandoned calls, and lifting a pause."""

from typing import Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.ledger.campaigns import CampaignList, PauseLiftRequest, PauseReceipt

CAMPAIGNS: Final = EndpointGroup(
    "Campaigns", "Watch the share of abandoned calls, and lift a campaign's pause."
)


@CAMPAIGNS.endpoint("GET", "/v1/campaigns", scope="watch", errors=("store.unavailable",))
async def list_campaigns(_: web.Request, app: App, client: Client) -> CampaignList:
    """Return the client's campaigns, with how much of each limit on abandoned calls they have used.

    `paused` campaigns are denied.
    """
    return CampaignList(await app.registrar.campaigns.infos(client))


@CAMPAIGNS.endpoint(
    "POST",
    "/v1/campaigns/{id}/lift",
    in_path={"id": "Campaign ID."},
    scope="subjects",
    status=201,
    errors=("campaign.unknown", "campaign.not_paused", "store.unavailable", "gate.unavailable"),
)
async def lift_pause(
    request: web.Request, app: App, client: Client, *, ask: PauseLiftRequest
) -> PauseReceipt:
    """Lift the pause of a campaign that abandoned too many calls.

    Calls made so far no longer count. The ground and the actor are recorded. The lift applies on this node before the
    response is sent; `in_force` says when it applies on other nodes.
    """
    return await app.registrar.campaigns.lift_pause(client, request.match_info["id"], ask)
