"""For the officer: what people asked for, until when it must be answered, and who answered it."""

from datetime import datetime
from typing import Any, Final

from aiohttp import web

from dialgate.audit.lookups import instant
from dialgate.cluster.personal_data import CaseInfo
from dialgate.core import local_time
from dialgate.core.model import DAY, Instant
from dialgate.core.request_deadlines import KINDS
from dialgate.interfaces.console.calls import instant_of
from dialgate.interfaces.console.page_request import Visit
from dialgate.interfaces.http.errors import FAILURES, convert, fault_of
from dialgate.subjects.schemas import CaseRequest, CaseStep

ASKED_BY: Final = ("mail", "pec", "letter", "call", "web_form", "shop")
_SHOWN_DAYS: Final = 90


async def requests(visit: Visit) -> web.StreamResponse:
    return await _requests(visit)


async def noted(visit: Visit) -> web.StreamResponse:
    """That a person asked something: the month runs from the day on which it came in."""
    asked = await visit.form()
    try:
        told = {name: asked[name] for name in ("kind", "identified", "channel", "proof") if asked.get(name)}
        at = instant_of(asked.get("received_at", ""), visit.zone())
        told |= {"received_at": local_time.rfc3339(at)} if at is not None else {}
        ask = convert({**told, "controller": asked.get("controller", "")}, CaseRequest)
        case = await visit.app.subjects.ask(visit.client, asked.get("number", ""), ask)
    except FAILURES as error:
        fault = fault_of(error)
        return await _requests(visit, fault.status, asked=asked, error=fault.problem.code)
    return await _requests(visit, 201, moved=case)


async def move(visit: Visit) -> web.StreamResponse:
    """Answered, refused or extended, by whom, and what the person was told."""
    asked = await visit.form()
    name = visit.request.match_info["id"]
    try:
        fields = {field: asked.get(field, "") for field in ("outcome", "reason", "actor")}
        case = await visit.app.subjects.deadlines.move(visit.client, name, convert(fields, CaseStep))
    except FAILURES as error:
        fault = fault_of(error)
        return await _requests(visit, fault.status, error=fault.problem.code)
    return await _requests(visit, moved=case)


async def _requests(visit: Visit, status: int = 200, **context: Any) -> web.Response:
    deadlines, now = visit.app.subjects.deadlines, visit.app.gate.now()
    return visit.show(
        "requests",
        "requests",
        status,
        found=[(case, _gone(case, now)) for case in await deadlines.open_cases(visit.client)],
        closed=await deadlines.closed_cases(visit.client, now - _SHOWN_DAYS * DAY),
        days=_SHOWN_DAYS,
        kinds=KINDS,
        channels=ASKED_BY,
        **{"asked": {}, "moved": None, "error": "", **context},
    )


def _gone(case: CaseInfo, now: Instant) -> float:
    """Of the time to answer, the share that is over."""
    begun, ends = (instant(datetime.fromisoformat(at)) for at in (case.received_at, case.due_at))
    return min(max((now - begun) / (ends - begun), 0), 1)
