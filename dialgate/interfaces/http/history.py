"""The endpoint that counts a controller's past decisions."""

from datetime import date
from functools import partial
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.own_processes import run_for
from dialgate.interfaces.http.reports import controller_of
from dialgate.ledger.schemas import described
from dialgate.report.history import DecisionHistory, HistoryOrder, gather_history

HISTORY: Final = EndpointGroup("History", "Past decisions, counted.", scope="watch")
MOST_DAYS: Final = 92


class PastDecisionsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    first: Annotated[date, described("First day, in the time zone of the controller's country.")]
    last: Annotated[date, described("Last day, inclusive. At most 92 days can be counted at once.")]
    controller: Annotated[str, described("Required only if the client has several controllers.")] = ""
    from_hour: Annotated[
        int, Meta(ge=0, le=23, description="Only from this hour of each day on, 0 to 23.")
    ] = 0
    to_hour: Annotated[int, Meta(ge=1, le=24, description="Only before this hour of each day, 1 to 24.")] = 24
    campaign: Annotated[str, described("Only this campaign.")] = ""
    agent: Annotated[str, described("Only calls of the agent with this ID.")] = ""


@HISTORY.endpoint(
    "GET", "/v1/history", errors=("controller.unknown", "store.unavailable", "gate.unavailable")
)
async def get_history(
    request: web.Request, app: App, client: Client, *, query: PastDecisionsQuery
) -> DecisionHistory:
    """Count a controller's decisions of up to 92 days by hour or day, campaign, call list, caller ID and reason, beside those of the weeks before.

    It contains no called number.
    """
    owner = controller_of(query.controller, client)
    if not 0 <= (query.last - query.first).days < MOST_DAYS:
        text = f"Send a day from `first` on, at most {MOST_DAYS} days in all."
        raise Fault(400, "request.invalid", text, field="last")
    if query.to_hour <= query.from_hour:
        raise Fault(400, "request.invalid", "Send an hour after `from_hour`.", field="to_hour")
    order = HistoryOrder(
        controller=owner,
        zone=app.config.laws[app.config.controllers[owner].country].zone,
        first=query.first,
        last=query.last,
        now=app.gate.now(),
        hours=(query.from_hour, query.to_hour),
        campaign=query.campaign,
        agent=query.agent,
    )
    return await run_for(request, client, partial(gather_history, app.config, order))
