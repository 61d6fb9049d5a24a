"""For the agent: what a call would be told, and that a person said stop."""

from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from dialgate.core import local_time, responses
from dialgate.core.model import STRICTNESS, Instant
from dialgate.interfaces.console.page_request import Visit
from dialgate.interfaces.http.check import CheckRequest, call
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.ledger.schemas import RevocationRequest

CHANNELS: Final = ("call", "recall_line", "web_form", "mail", "letter", "shop")
_FIRST_YEAR, _LAST_YEAR = 2000, 2100


# ---- try a call ------------------------------------------------------------------------------------------------------


async def ask(visit: Visit) -> web.StreamResponse:
    return _form(visit, {})


async def tried(visit: Visit) -> web.StreamResponse:
    asked = await visit.form()
    try:
        simulation = await _simulated(visit, asked)
    except FAILURES as error:
        fault = fault_of(error)
        return _form(visit, asked, fault.status, error=fault.problem.code)
    return _form(visit, asked, simulation=simulation)


async def _simulated(visit: Visit, asked: dict[str, str]) -> responses.Simulation:
    """As `POST /v1/simulate`: it is recorded as a look-up."""
    fields = {name: asked.get(name, "") for name in ("to", "from", "campaign")}
    if asked.get("call_type"):
        fields["call_type"] = asked["call_type"]
    wanted = convert(fields, CheckRequest)
    at = instant_of(asked.get("at", ""), visit.zone())
    await visit.app.subjects.record_simulation(visit.client, wanted.campaign, wanted.to)
    return await visit.app.gate.simulate(call(wanted, visit.client, "console"), visit.client, at)


def instant_of(text: str, zone: str) -> Instant | None:
    """Of a `datetime-local` field, in the zone that the page names. Raises `Fault`."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Fault(400, "request.invalid", "Give a day and a time.", field="at") from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise Fault(400, "request.invalid", "Give an instant that is near.", field="at")
    return local_time.instant_in(zone, at)


def _form(visit: Visit, asked: dict[str, str], status: int = 200, **context: Any) -> web.Response:
    lines = visit.app.config.lines
    campaigns = visit.campaigns()
    shown = sorted({number for name in campaigns for number in lines[name].caller_ids})
    return visit.show(
        "try",
        "try",
        status,
        asked=asked,
        campaigns=campaigns,
        shown=shown,
        call_types=list(STRICTNESS),
        **{"simulation": None, "error": "", **context},
    )


# ---- stop ------------------------------------------------------------------------------------------------------------


async def ask_revocation(visit: Visit) -> web.StreamResponse:
    return _stop(visit, {})


async def revoked(visit: Visit) -> web.StreamResponse:
    asked = await visit.form()
    try:
        ask = convert(
            {
                "number": asked.get("number", ""),
                "controller": asked.get("controller", ""),
                "scope": asked.get("scope", "controller"),
                "campaign": asked.get("campaign", "") if asked.get("scope") == "campaign" else "",
                "channel": asked.get("channel", "call"),
                "proof": asked.get("proof", ""),
                "actor": asked.get("actor", ""),
            },
            RevocationRequest,
        )
        receipt = await visit.app.registrar.revocations.revoke(visit.client, ask)
    except FAILURES as error:
        fault = fault_of(error)
        return _stop(visit, asked, fault.status, error=fault.problem.code)
    return _stop(visit, {}, HTTPStatus.CREATED, receipt=receipt)


def _stop(visit: Visit, asked: dict[str, str], status: int = 200, **context: Any) -> web.Response:
    return visit.show(
        "revoke",
        "revoke",
        status,
        asked=asked,
        campaigns=visit.campaigns(),
        channels=CHANNELS,
        **{"receipt": None, "error": "", **context},
    )
