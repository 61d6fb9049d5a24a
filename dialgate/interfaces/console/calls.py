"""Pages for agents: simulating a call, and recording an opt-out."""

from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from dialgate.core import local_time, responses
from dialgate.core.model import STRICTNESS, Call, Instant
from dialgate.interfaces.console.visit import Visit
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of

CHANNELS: Final = ("call", "recall_line", "web_form", "mail", "letter", "shop")
_FIRST_YEAR, _LAST_YEAR = 2000, 2100


# ---- simulate a call -------------------------------------------------------------------------------------------------


async def show_simulation_form(visit: Visit) -> web.StreamResponse:
    return _simulation_page(visit, {})


async def simulate(visit: Visit) -> web.StreamResponse:
    fields = await visit.form()
    try:
        simulation = await _simulate(visit, fields)
    except FAILURES as error:
        fault = fault_of(error)
        return _simulation_page(visit, fields, fault.status, error=fault.problem.code)
    return _simulation_page(visit, fields, simulation=simulation)


async def _simulate(visit: Visit, fields: dict[str, str]) -> responses.Simulation:
    """Simulate the call that the form describes, and record a look-up, as `POST /v1/simulate` does."""
    values = {name: fields.get(name, "") for name in ("to", "from", "campaign")}
    if fields.get("call_type"):
        values["call_type"] = fields["call_type"]
    call = convert(values, Call)
    at = instant_of(fields.get("at", ""), visit.zone())
    await visit.app.subjects.record_simulation(visit.client, call.campaign, call.to)
    return await visit.app.gate.simulate(call, visit.client, at)


def instant_of(text: str, zone: str) -> Instant | None:
    """Convert a `datetime-local` value to an instant, or return None if the value is empty. Raises `Fault`."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Fault(
            400, "request.invalid", "Enter a date and a time, such as 2026-11-24T10:00.", field="at"
        ) from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise Fault(
            400, "request.invalid", f"Enter a date between {_FIRST_YEAR} and {_LAST_YEAR}.", field="at"
        )
    return local_time.instant_in(zone, at)


def _simulation_page(visit: Visit, fields: dict[str, str], status: int = 200, **context: Any) -> web.Response:
    lines = visit.app.config.lines
    campaigns = visit.campaigns()
    caller_ids = sorted({number for name in campaigns for number in lines[name].caller_ids})
    return visit.show(
        "try",
        "try",
        status,
        fields=fields,
        campaigns=campaigns,
        caller_ids=caller_ids,
        call_types=list(STRICTNESS),
        **{"simulation": None, **context},
    )


# ---- record an opt-out -----------------------------------------------------------------------------------------------


async def show_opt_out_form(visit: Visit) -> web.StreamResponse:
    return _opt_out_page(visit, {})


async def record_opt_out(visit: Visit) -> web.StreamResponse:
    fields = await visit.form()
    try:
        request = {
            "number": fields.get("number", ""),
            "controller": fields.get("controller", ""),
            "scope": fields.get("scope", "controller"),
            "campaign": fields.get("campaign", ""),
            "channel": fields.get("channel", "call"),
            "proof": fields.get("proof", ""),
            "actor": fields.get("actor", ""),
        }
        receipt = await visit.app.registrar.revocations.stop(visit.client, request)
    except FAILURES as error:
        fault = fault_of(error)
        return _opt_out_page(visit, fields, fault.status, error=fault.problem.code)
    return _opt_out_page(visit, {}, HTTPStatus.CREATED, receipt=receipt)


def _opt_out_page(visit: Visit, fields: dict[str, str], status: int = 200, **context: Any) -> web.Response:
    return visit.show(
        "revoke",
        "revoke",
        status,
        fields=fields,
        campaigns=visit.campaigns(),
        channels=CHANNELS,
        **{"receipt": None, **context},
    )
