"""The register of personal data breaches, and the page of one: clock, exposure, texts, draft, decisions."""

from datetime import datetime
from functools import partial
from typing import Any, Final

from aiohttp import web

from dialgate.core.local_time import rfc3339
from dialgate.interfaces.console.calls import instant_of
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.breaches import export_breach_notification
from dialgate.interfaces.http.errors import convert
from dialgate.interfaces.http.own_processes import run_for
from dialgate.subjects.breach_register import NOTIFY_HOURS
from dialgate.subjects.breach_schemas import (
    BreachFile,
    BreachRequest,
    BreachStepRequest,
    BreachTexts,
    NoticeRequest,
)

_TEXTS: Final = BreachTexts.__struct_fields__
_INSTANTS: Final = ("aware_at", "since", "until", "at")


async def show_breaches(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    files = await visit.app.breaches.list_breaches(visit.client.controllers)
    return visit.show("breaches", files=files, share=_elapsed_share, fields=fields, **context)


@serves_form(show_breaches)
async def open_breach(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Record a breach. Its page then offers to compute the exposure."""
    breach = await visit.app.breaches.open(visit.client, convert(_values(visit, fields), BreachRequest))
    return _to_breach(breach.id, "opened")


async def show_breach(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    breach = await visit.app.breaches.show(visit.client, visit.item)
    return visit.show(
        "breach",
        here="breaches",
        breach=breach,
        names=_TEXTS,
        elapsed=_elapsed_share(breach),
        done=visit.done({step.step for step in breach.steps}),
        fields=fields,
        **context,
    )


@serves_form(show_breach)
async def record_step(visit: Visit, fields: Fields) -> web.StreamResponse:
    step = convert(_values(visit, fields), BreachStepRequest)
    await visit.app.breaches.add_step(visit.client, visit.item, step)
    return _to_breach(visit.item, step.outcome)


@serves_form(show_breach)
async def compute(visit: Visit, _: Fields) -> web.StreamResponse:
    """Compute the exposure in a process of its own, because this reads the whole log."""
    run = partial(run_for, visit.request, visit.client)
    await visit.app.breaches.compute(visit.client, visit.item, run)
    return _to_breach(visit.item, "computed")


async def show_notification(visit: Visit) -> web.StreamResponse:
    query = convert(dict(visit.request.query), NoticeRequest)
    return await export_breach_notification(visit.request, visit.app, visit.client, query=query)


async def export_register(visit: Visit) -> web.StreamResponse:
    body = await visit.app.breaches.export(visit.client)
    return as_file(body.encode(), "breaches.csv", "text/csv; charset=utf-8")


def _values(visit: Visit, fields: Fields) -> dict[str, str]:
    """Return the fields that are not empty, with local times as instants. Raises `Fault`."""
    instants = {name: instant_of(fields.get(name, ""), visit.zone()) for name in _INSTANTS}
    given = {name: value for name, value in fields.items() if value and name not in _INSTANTS}
    return given | {name: rfc3339(at) for name, at in instants.items() if at is not None}


def _elapsed_share(breach: BreachFile) -> float:
    """Return the part of the 72 hours that has passed, or that the notification took."""
    if not breach.authority:
        return min(max(1 - breach.hours_left / NOTIFY_HOURS, 0), 1)
    begun, end = (
        datetime.fromisoformat(at) for at in (breach.aware_at, breach.notified_at or breach.aware_at)
    )
    return min((end - begun).total_seconds() / 3600 / NOTIFY_HOURS, 1)


def _to_breach(name: str, done: str) -> web.Response:
    return redirect(f"{ROOT}/breaches/{name}?done={done}")
