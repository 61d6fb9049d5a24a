"""The endpoints for campaigns: viewing their limits on abandoned calls, and lifting a pause."""

from typing import Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http import body
from dialgate.interfaces.http.endpoint import JSON_ERRORS, Endpoint, EndpointGroup, Parameter
from dialgate.ledger.campaigns import CampaignList, PauseLiftRequest, PauseReceipt

_GROUP: Final = EndpointGroup("Campaigns", "Watch the share of abandoned calls, and lift a campaign's pause.")


async def campaigns(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    return body.reply_json(CampaignList(await app.registrar.campaigns.standings(client)))


async def lift_pause(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    ask = await body.read_json(request, app, PauseLiftRequest)
    receipt = await app.registrar.campaigns.lift_pause(client, request.match_info["id"], ask)
    return body.reply_json(receipt, 201)


CAMPAIGN_ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/campaigns",
        name="listCampaigns",
        group=_GROUP,
        about="Return the client's campaigns, with how much of each limit on abandoned calls they have used. `paused` campaigns are denied.",
        serve=campaigns,
        scope="watch",
        answer=CampaignList,
        errors=("store.unavailable",),
    ),
    Endpoint(
        method="POST",
        path="/v1/campaigns/{id}/lift",
        name="liftPause",
        group=_GROUP,
        about=(
            "Lift the pause of a campaign that abandoned too many calls. Calls made so far no longer count. The ground and the actor"
            " are recorded. The lift applies on this node before the response is sent; `in_force` says when it applies on other nodes."
        ),
        serve=lift_pause,
        scope="subjects",
        parameters=(Parameter(name="id", about="Campaign ID.", required=True, place="path"),),
        ask=PauseLiftRequest,
        answer=PauseReceipt,
        status=201,
        errors=(
            *JSON_ERRORS,
            "campaign.unknown",
            "campaign.not_paused",
            "store.unavailable",
            "gate.unavailable",
        ),
    ),
)
