"""Pages for agents: simulating a call, and recording an opt-out."""

from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from dialgate.core import local_time
from dialgate.core.model import STRICTNESS, Call, Instant
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, serves_form
from dialgate.interfaces.http.errors import Fault, convert

CHANNELS: Final = ("call", "recall_line", "web_form", "mail", "letter", "shop")
_FIRST_YEAR, _LAST_YEAR = 2000, 2100


# ---- simulate a call -------------------------------------------------------------------------------------------------


async def show_simulation_form(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    lines = visit.app.config.lines
    campaigns = visit.campaigns()
    caller_ids = sorted({number for name in campaigns for number in lines[name].caller_ids})
    return visit.show(
        "try",
        fields=fields,
        campaigns=campaigns,
        caller_ids=caller_ids,
        call_types=list(STRICTNESS),
        **{"simulation": None, **context},
    )


@serves_form(show_simulation_form)
async def simulate(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Simulate the call that the form describes, and record a look-up, as `POST /v1/simulate` does."""
    values = {name: fields.get(name, "") for name in ("to", "from", "campaign")}
    if fields.get("call_type"):
        values["call_type"] = fields["call_type"]
    call = convert(values, Call)
    at = instant_of(fields.get("at", ""), visit.zone())
    await visit.app.subjects.record_simulation(visit.client, call.campaign, call.to)
    simulation = await visit.app.gate.simulate(call, visit.client, at)
    return await show_simulation_form(visit, fields, simulation=simulation)


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


# ---- record an opt-out -----------------------------------------------------------------------------------------------


async def show_opt_out_form(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    return visit.show(
        "revoke",
        fields=fields,
        campaigns=visit.campaigns(),
        channels=CHANNELS,
        **{"receipt": None, **context},
    )


@serves_form(show_opt_out_form)
async def record_opt_out(visit: Visit, fields: Fields) -> web.StreamResponse:
    names = ("number", "controller", "campaign", "proof", "actor")
    stop = {
        **{name: fields.get(name, "") for name in names},
        "scope": fields.get("scope", "controller"),
        "channel": fields.get("channel", "call"),
    }
    receipt = await visit.app.registrar.revocations.stop(visit.client, stop)
    return await show_opt_out_form(visit, status=HTTPStatus.CREATED, receipt=receipt)
