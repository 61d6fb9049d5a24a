"""The campaigns page, which shows limits on abandoned calls and lets an officer lift a pause."""

from http import HTTPStatus
from typing import Any

from aiohttp import web

from dialgate.interfaces.console.visit import Fields, Visit, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.ledger.campaigns import PauseLiftRequest


async def _page(visit: Visit, _: Fields, status: int = HTTPStatus.OK, **context: Any) -> web.Response:
    every = await visit.app.registrar.campaigns.infos(visit.client)
    return visit.show("campaigns", "campaigns", status, **{"every": every, "lifted": None, **context})


async def show_campaigns(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


@serves_form(_page)
async def lift(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Lift a campaign's pause for the reason given in the form."""
    values = {field: fields.get(field, "") for field in ("ground", "actor", "proof")}
    lifting = convert({**values, "channel": "console"}, PauseLiftRequest)
    name = visit.request.match_info["id"]
    receipt = await visit.app.registrar.campaigns.lift_pause(visit.client, name, lifting)
    return await _page(visit, fields, HTTPStatus.CREATED, lifted=receipt.campaign)
