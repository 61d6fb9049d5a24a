"""The page with the keys of programs, for an operator."""

from http import HTTPStatus
from typing import Any

from aiohttp import web

from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.people.client_keys import KeyRequest


async def _page(visit: Visit, fields: Fields, status: int = HTTPStatus.OK, **context: Any) -> web.Response:
    clients = visit.app.client_keys.infos()
    return visit.show("keys", "keys", status, clients=clients, **{"fields": fields, "new": None, **context})


async def show_keys(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


@serves_form(_page)
async def change(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Make a key for a client, and show it once, or disable one of its keys."""
    client_keys, name = visit.app.client_keys, fields.get("client", "")
    if key_id := fields.get("disable"):
        await client_keys.disable(visit.client, name, key_id)
        return redirect(f"{ROOT}/keys")
    request = convert({"last_day": fields["last_day"]} if fields.get("last_day") else {}, KeyRequest)
    return await _page(visit, {}, 201, new=await client_keys.make(visit.client, name, request))
