"""The list of data-subject requests, with their deadlines and outcomes. Each has a page of its own (`cases`)."""

from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from dialgate.audit.lookups import instant
from dialgate.cluster.personal_data import CaseInfo
from dialgate.core import local_time
from dialgate.core.model import DAY, Instant
from dialgate.core.request_deadlines import KINDS
from dialgate.interfaces.console.calls import instant_of
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.subjects.schemas import CaseRequest

CHANNELS: Final = ("mail", "pec", "letter", "call", "web_form", "shop")
_CLOSED_DAYS: Final = 90


async def show_requests(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    deadlines, now = visit.app.subjects.deadlines, visit.app.gate.now()
    return visit.show(
        "requests",
        open_cases=[(case, elapsed_share(case, now)) for case in await deadlines.open_cases(visit.client)],
        closed_cases=await deadlines.closed_cases(visit.client, now - _CLOSED_DAYS * DAY),
        days=_CLOSED_DAYS,
        kinds=KINDS,
        channels=CHANNELS,
        fields=fields,
        **context,
    )


@serves_form(show_requests)
async def record(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Record a data-subject request. It is due one month after the day on which it was received."""
    names = ("kind", "identified", "channel", "proof", "addressee")
    values = {name: fields[name] for name in names if fields.get(name)}
    at = instant_of(fields.get("received_at", ""), visit.zone())
    values |= {"received_at": local_time.rfc3339(at)} if at is not None else {}
    request = convert({**values, "controller": fields.get("controller", "")}, CaseRequest)
    case = await visit.app.subjects.record_request(visit.client, fields.get("number", ""), request)
    return to_case(case.id, "recorded")


def to_case(name: str, done: str) -> web.Response:
    """Return a redirect to the page of a request, which says what was done."""
    return redirect(f"{ROOT}/requests/{quote(name, safe='')}?{urlencode({'done': done})}")


def elapsed_share(case: CaseInfo, now: Instant) -> float:
    begins, ends = (instant(datetime.fromisoformat(at)) for at in (case.received_at, case.due_at))
    return min(max((now - begins) / (ends - begins), 0), 1)
