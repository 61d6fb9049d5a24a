"""The page for data-subject requests, with their deadlines and outcomes."""

from datetime import datetime
from typing import Any, Final

from aiohttp import web

from dialgate.audit.lookups import instant
from dialgate.cluster.personal_data import CaseInfo
from dialgate.core import local_time
from dialgate.core.model import DAY, Instant
from dialgate.core.request_deadlines import KINDS
from dialgate.interfaces.console.calls import instant_of
from dialgate.interfaces.console.visit import Fields, Visit, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.subjects.schemas import CaseRequest, CaseStep

CHANNELS: Final = ("mail", "pec", "letter", "call", "web_form", "shop")
_CLOSED_DAYS: Final = 90


async def _page(visit: Visit, fields: Fields, status: int = 200, **context: Any) -> web.Response:
    deadlines, now = visit.app.subjects.deadlines, visit.app.gate.now()
    return visit.show(
        "requests",
        "requests",
        status,
        open_cases=[(case, _elapsed_share(case, now)) for case in await deadlines.open_cases(visit.client)],
        closed_cases=await deadlines.closed_cases(visit.client, now - _CLOSED_DAYS * DAY),
        days=_CLOSED_DAYS,
        kinds=KINDS,
        channels=CHANNELS,
        **{"fields": fields, "changed": None, **context},
    )


async def _page_without_fields(visit: Visit, _: Fields, status: int, **context: Any) -> web.Response:
    return await _page(visit, {}, status, **context)


async def show_requests(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


@serves_form(_page)
async def record(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Record a data-subject request. It is due one month after the day on which it was received."""
    values = {name: fields[name] for name in ("kind", "identified", "channel", "proof") if fields.get(name)}
    at = instant_of(fields.get("received_at", ""), visit.zone())
    values |= {"received_at": local_time.rfc3339(at)} if at is not None else {}
    request = convert({**values, "controller": fields.get("controller", "")}, CaseRequest)
    case = await visit.app.subjects.record_request(visit.client, fields.get("number", ""), request)
    return await _page(visit, {}, 201, changed=case)


@serves_form(_page_without_fields)
async def resolve(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Answer or refuse a data-subject request, or extend its deadline."""
    step = convert({field: fields.get(field, "") for field in ("outcome", "reason", "actor")}, CaseStep)
    case = await visit.app.subjects.deadlines.move(visit.client, visit.request.match_info["id"], step)
    return await _page(visit, {}, changed=case)


def _elapsed_share(case: CaseInfo, now: Instant) -> float:
    begins, ends = (instant(datetime.fromisoformat(at)) for at in (case.received_at, case.due_at))
    return min(max((now - begins) / (ends - begins), 0), 1)
