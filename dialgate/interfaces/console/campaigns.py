"""The pages of campaigns: limits on abandoned calls, pauses, and how a supervisor or an officer ends them."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from aiohttp import web

from dialgate.interfaces.console.campaign_day import read_day
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, LIVE, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.ledger.campaigns import CampaignPauseRequest, CampaignResumeRequest, PauseLiftRequest


async def show_campaigns(visit: Visit, _: Fields = EMPTY, **context: Any) -> web.Response:
    every = await visit.app.registrar.campaigns.infos(visit.client)
    return visit.show("campaigns", **{"every": every, "lifted": None, **context})


@serves_form(show_campaigns)
async def lift(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Lift a campaign's pause for the reason given in the form."""
    lifting = convert(_values(fields, "ground", "actor", "proof"), PauseLiftRequest)
    receipt = await visit.app.registrar.campaigns.lift_pause(visit.client, visit.item, lifting)
    return await show_campaigns(visit, status=HTTPStatus.CREATED, lifted=receipt.campaign)


async def show_campaign(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    app, client, name = visit.app, visit.client, visit.item
    campaign = await app.registrar.campaigns.info(client, name)
    line, decisions = app.registrar.access.line(client, name), visit.request.app[LIVE].hourly
    lists = await app.registrar.call_lists.lists(client) if visit.may_read("lists") else []
    day = await read_day(app, line, decisions, visit.words.language, lists)
    return visit.show("campaign", here="campaigns", campaign=campaign, day=day, fields=fields, **context)


@serves_form(show_campaign)
async def pause(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Pause a campaign for the reason given in the form."""
    pausing = convert(_values(fields, "reason", "actor"), CampaignPauseRequest)
    await visit.app.registrar.campaigns.pause(visit.client, visit.item, pausing)
    return _to_campaign(visit)


@serves_form(show_campaign)
async def resume(visit: Visit, fields: Fields) -> web.StreamResponse:
    resumption = convert(_values(fields, "reason", "actor"), CampaignResumeRequest)
    await visit.app.registrar.campaigns.resume(visit.client, visit.item, resumption)
    return _to_campaign(visit)


def _values(fields: Fields, *names: str) -> Fields:
    return {**{name: fields.get(name, "") for name in names}, "channel": "console"}


def _to_campaign(visit: Visit) -> web.Response:
    return redirect(f"{ROOT}/campaigns/{quote(visit.item, safe='')}")
