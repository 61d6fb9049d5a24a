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
from dialgate.interfaces.console.visit import Visit
from dialgate.interfaces.http.errors import FAILURES, convert, fault_of
from dialgate.subjects.schemas import CaseRequest, CaseStep

CHANNELS: Final = ("mail", "pec", "letter", "call", "web_form", "shop")
_CLOSED_DAYS: Final = 90


async def show_requests(visit: Visit) -> web.StreamResponse:
    return await _page(visit)


async def record(visit: Visit) -> web.StreamResponse:
    """Record a data-subject request. It is due one month after the day on which it was received."""
    fields = await visit.form()
    try:
        values = {
            name: fields[name] for name in ("kind", "identified", "channel", "proof") if fields.get(name)
        }
        at = instant_of(fields.get("received_at", ""), visit.zone())
        values |= {"received_at": local_time.rfc3339(at)} if at is not None else {}
        request = convert({**values, "controller": fields.get("controller", "")}, CaseRequest)
        case = await visit.app.subjects.record_request(visit.client, fields.get("number", ""), request)
    except FAILURES as error:
        fault = fault_of(error)
        return await _page(visit, fault.status, fields=fields, error=fault.problem.code)
    return await _page(visit, 201, changed=case)


async def resolve(visit: Visit) -> web.StreamResponse:
    """Answer or refuse a data-subject request, or extend its deadline."""
    fields = await visit.form()
    name = visit.request.match_info["id"]
    try:
        step = {field: fields.get(field, "") for field in ("outcome", "reason", "actor")}
        case = await visit.app.subjects.deadlines.move(visit.client, name, convert(step, CaseStep))
    except FAILURES as error:
        fault = fault_of(error)
        return await _page(visit, fault.status, error=fault.problem.code)
    return await _page(visit, changed=case)


async def _page(visit: Visit, status: int = 200, **context: Any) -> web.Response:
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
        **{"fields": {}, "changed": None, **context},
    )


def _elapsed_share(case: CaseInfo, now: Instant) -> float:
    begins, ends = (instant(datetime.fromisoformat(at)) for at in (case.received_at, case.due_at))
    return min(max((now - begins) / (ends - begins), 0), 1)
