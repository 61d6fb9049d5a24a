"""The page of legal holds: place one, see who placed which and why, lift one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from dialgate.audit.legal_holds import HoldRefused
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.administration import HoldQuery, add_hold, lift_hold, list_holds
from dialgate.interfaces.http.administration_schemas import HoldRequest
from dialgate.interfaces.http.errors import Fault, convert


async def show_holds(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    listed = await list_holds(visit.request, visit.app, visit.client, query=HoldQuery())
    return visit.show(
        "holds",
        in_force=[hold for hold in reversed(listed.holds) if not hold.lifted_at],
        lifted=[hold for hold in reversed(listed.holds) if hold.lifted_at],
        opened=visit.request.match_info.get("id", ""),
        done=visit.done(("placed", "lifted")),
        fields=fields,
        **context,
    )


@serves_form(show_holds)
async def place(visit: Visit, fields: Fields) -> web.StreamResponse:
    with _named_refusals():
        await add_hold(visit.request, visit.app, visit.client, ask=_request(fields))
    return redirect(f"{ROOT}/holds?done=placed")


@serves_form(show_holds)
async def lift(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Lift a hold. The officer confirms with its number, because retired decisions are unlinked for good."""
    ask, query = _request(fields), HoldQuery(number=fields.get("number", ""))
    found = await list_holds(visit.request, visit.app, visit.client, query=query)
    if [str(hold.id) for hold in found.holds] != [visit.item]:
        raise Fault(400, "console.other_number", "Enter the number of this hold.", field="number")
    with _named_refusals():
        await lift_hold(visit.request, visit.app, visit.client, ask=ask)
    return redirect(f"{ROOT}/holds?done=lifted")


def _request(fields: Fields) -> HoldRequest:
    values = {"number": fields.get("number", ""), "reason": fields.get("reason", "")}
    return convert({**values, "by": fields.get("actor", "")}, HoldRequest)


@contextmanager
def _named_refusals() -> Iterator[None]:
    """Give the refusal of a reason that contains the number a code of its own, which the page explains."""
    try:
        yield
    except HoldRefused as refusal:
        if refusal.field != "reason":
            raise
        raise Fault(409, "console.number_in_reason", str(refusal), field="reason") from None
