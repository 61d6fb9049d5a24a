"""The campaigns page, which shows limits on abandoned calls and lets an officer lift a pause."""

from http import HTTPStatus
from typing import Any

from aiohttp import web

from dialgate.interfaces.console.visit import Visit
from dialgate.interfaces.http.errors import FAILURES, convert, fault_of
from dialgate.ledger.campaigns import PauseLiftRequest


async def show_campaigns(visit: Visit) -> web.StreamResponse:
    return await _page(visit)


async def lift(visit: Visit) -> web.StreamResponse:
    """Lift a campaign's pause for the reason given in the form."""
    fields = await visit.form()
    name = visit.request.match_info["id"]
    try:
        values = {field: fields.get(field, "") for field in ("ground", "actor", "proof")}
        ask = convert({**values, "channel": "console"}, PauseLiftRequest)
        receipt = await visit.app.registrar.campaigns.lift_pause(visit.client, name, ask)
    except FAILURES as error:
        fault = fault_of(error)
        return await _page(visit, fault.status, error=fault.problem.code)
    return await _page(visit, HTTPStatus.CREATED, lifted=receipt.campaign)


async def _page(visit: Visit, status: int = HTTPStatus.OK, **context: Any) -> web.Response:
    every = await visit.app.registrar.campaigns.standings(visit.client)
    return visit.show("campaigns", "campaigns", status, **{"every": every, "lifted": None, **context})
