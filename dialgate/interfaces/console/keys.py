"""The page with the keys of programs, for an operator."""

from typing import Any

from aiohttp import web

from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.people.client_keys import KeyRequest


async def show_keys(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    clients = visit.app.client_keys.infos()
    return visit.show("keys", clients=clients, **{"fields": fields, "new": None, **context})


@serves_form(show_keys)
async def change(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Make a key for a client, and show it once, or disable one of its keys."""
    client_keys, name = visit.app.client_keys, fields.get("client", "")
    if key_id := fields.get("disable"):
        await client_keys.disable(visit.client, name, key_id)
        return redirect(f"{ROOT}/keys")
    request = convert({"last_day": fields["last_day"]} if fields.get("last_day") else {}, KeyRequest)
    return await show_keys(visit, status=201, new=await client_keys.make(visit.client, name, request))
