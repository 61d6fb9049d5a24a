"""The endpoints for personal data breaches: the register, the clock and the notification (GDPR art. 33 and 34)."""

from functools import partial
from typing import Final

from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup, Media
from dialgate.interfaces.http.own_processes import run_for
from dialgate.interfaces.http.subjects import CSV, PAGE, PDF, render_letter
from dialgate.subjects.breach_schemas import (
    BreachFile,
    BreachList,
    BreachRequest,
    BreachStepRequest,
    NoticeRequest,
)

BREACHES: Final = EndpointGroup(
    "Personal data breaches",
    "The register of personal data breaches (GDPR Article 33(5)), and drafts of the notification to the authority.",
    scope="subjects",
    in_path={"id": "Breach ID."},
    errors=("store.unavailable", "gate.unavailable"),
)


@BREACHES.endpoint("GET", "/v1/breaches")
async def list_breaches(_: web.Request, app: App, client: Client) -> BreachList:
    """Return the breaches of the client's controllers, first those for which nobody has decided about the authority."""
    return BreachList(await app.breaches.list_breaches(client.controllers))


@BREACHES.endpoint("POST", "/v1/breaches", status=201, errors=("controller.unknown",))
async def add_breach(_: web.Request, app: App, client: Client, *, ask: BreachRequest) -> BreachFile:
    """Record a breach, also one that need not be notified. The 72 hours run from `aware_at` (GDPR Article 33(1))."""
    return await app.breaches.open(client, ask)


@BREACHES.endpoint("GET", "/v1/breaches/{id}", errors=("breach.unknown",))
async def get_breach(request: web.Request, app: App, client: Client) -> BreachFile:
    """Return a breach with its steps: who recorded what, and when."""
    return await app.breaches.show(client, request.match_info["id"])


@BREACHES.endpoint("POST", "/v1/breaches/{id}", errors=("breach.unknown", "breach.refused"))
async def update_breach(
    request: web.Request, app: App, client: Client, *, ask: BreachStepRequest
) -> BreachFile:
    """Add a step: texts in phases, the notification, the decision about the people (GDPR Article 34), or a remark."""
    return await app.breaches.add_step(client, request.match_info["id"], ask)


@BREACHES.endpoint("POST", "/v1/breaches/{id}/exposure", errors=("breach.unknown",))
async def find_breach_exposure(request: web.Request, app: App, client: Client) -> BreachFile:
    """Compute what the log of this gate shows as exposed, and add it as a step. This reads the whole log.

    On several gates, send it to each.
    """
    return await app.breaches.compute(client, request.match_info["id"], partial(run_for, request, client))


@BREACHES.endpoint(
    "GET",
    "/v1/breaches/{id}/notification",
    also_answers=(Media(name=PAGE["Content-Type"], kind=None), Media(name=PDF, kind=bytes)),
    errors=("breach.unknown", "subject.template", "extra.missing"),
)
async def export_breach_notification(
    request: web.Request, app: App, client: Client, *, query: NoticeRequest
) -> web.StreamResponse:
    """Return a draft of the notification to the authority, as a page or as PDF, with a mark for each missing text (GDPR Article 33(3))."""
    name = request.match_info["id"]
    draft = await app.breaches.write_notice(client, name, query)
    return await render_letter(request, app, client, draft, name, query.form)


@BREACHES.endpoint("GET", "/v1/breach-register", also_answers=(Media(name=CSV, kind=bytes),))
async def export_breach_register(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Return the register of breaches as CSV: facts, effects, remedial action and decisions, with their reasons. It has no number."""
    return web.Response(text=await app.breaches.export(client), headers=PAGE | {"Content-Type": CSV})
