"""The pages of campaigns: limits on abandoned calls, pauses, and how a supervisor or an officer ends them."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from dialgate.interfaces.console.campaign_day import read_day
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import LIVE, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.ledger.campaigns import CampaignPauseRequest, CampaignResumeRequest, PauseLiftRequest


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
    receipt = await visit.app.registrar.campaigns.lift_pause(visit.client, _name(visit), lifting)
    return await _page(visit, fields, HTTPStatus.CREATED, lifted=receipt.campaign)


async def _campaign_page(
    visit: Visit, fields: Fields, status: int = HTTPStatus.OK, error: str = ""
) -> web.Response:
    app, client, name = visit.app, visit.client, _name(visit)
    campaign = await app.registrar.campaigns.info(client, name)
    line, decisions = app.registrar.access.line(client, name), visit.request.app[LIVE].hourly
    lists = await app.registrar.call_lists.lists(client) if visit.may_read("lists") else []
    day = await read_day(app, line, decisions, visit.words.language, lists)
    return visit.show("campaign", "campaigns", status, campaign=campaign, day=day, fields=fields, error=error)


async def show_campaign(visit: Visit) -> web.StreamResponse:
    return await _campaign_page(visit, {})


@serves_form(_campaign_page)
async def pause(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Pause a campaign for the reason given in the form."""
    pausing = convert({**_values(fields), "channel": "console"}, CampaignPauseRequest)
    await visit.app.registrar.campaigns.pause(visit.client, _name(visit), pausing)
    return redirect(f"{ROOT}/campaigns/{quote(_name(visit), safe='')}")


@serves_form(_campaign_page)
async def resume(visit: Visit, fields: Fields) -> web.StreamResponse:
    resumption = convert({**_values(fields), "channel": "console"}, CampaignResumeRequest)
    await visit.app.registrar.campaigns.resume(visit.client, _name(visit), resumption)
    return redirect(f"{ROOT}/campaigns/{quote(_name(visit), safe='')}")


def _values(fields: Fields) -> Fields:
    return {field: fields.get(field, "") for field in ("reason", "actor")}


def _name(visit: Visit) -> str:
    return visit.request.match_info["id"]
