"""The handlers for outcomes and ledger entries."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http import body
from dialgate.interfaces.http.check import CHECKS
from dialgate.interfaces.http.endpoint import Serve
from dialgate.interfaces.http.errors import decode
from dialgate.interfaces.http.subjects import LookupPurpose, OnlyController
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import OutcomeReceipt, OutcomeRequest, described
from dialgate.ledger.view_schemas import ConsentStanding, HistoryEntry

_T = TypeVar("_T")
Act: TypeAlias = Callable[[Client, _T], Awaitable[Any]]
Lift: TypeAlias = Callable[[Client, int, _T], Awaitable[Any]]

CONSENT_KINDS: Final = ("consent", "consent_confirmed", "consent_withdrawn", "consents_voided")


class History(Struct, frozen=True):
    entries: list[HistoryEntry]


class ConsentHistory(History, frozen=True):
    """The ledger entries about a number's consents, with the current state of each consent."""

    consents: list[ConsentStanding]


def write(select: Callable[[Registrar], Act[_T]]) -> Serve:
    """Return a handler that passes a request to the selected method of `Registrar`."""

    async def serve(_: web.Request, app: App, client: Client, *, ask: _T) -> Any:
        return await select(app.registrar)(client, ask)

    return serve


_fields: Final = msgspec.json.Decoder(dict[str, Any])
_outcome: Final = msgspec.json.Decoder(OutcomeRequest)


def stop(select: Callable[[Registrar], Act[dict[str, Any]]]) -> Serve:
    """Return a handler for a request that stops calls, whose form may have faults."""

    async def serve(request: web.Request, app: App, client: Client) -> Any:
        return await select(app.registrar)(client, await body.read_open(request, app, client, _fields))

    return serve


@CHECKS.endpoint(
    "POST",
    "/v1/outcomes",
    scope="outcome",
    ask=OutcomeRequest,
    errors=("decision.unknown", "outcome.known", "store.unavailable", "gate.unavailable"),
)
async def report_outcome(request: web.Request, app: App, client: Client) -> OutcomeReceipt:
    """Report the outcome of an allowed call.

    `opt_out` records a revocation. `wrong_number` suspends the consents and contracts of the number.
    """
    outcomes = app.registrar.outcomes
    raw = await body.whole(request, app.config.settings.limits)
    fields = await body.decode_open(request, client, _fields, raw)
    if fields.get("outcome") == "opt_out":
        return await outcomes.opt_out(client, fields)
    return await outcomes.result(client, decode(_outcome, raw))


def lift(select: Callable[[Registrar], Lift[_T]]) -> Serve:
    """Return a handler that lifts the ledger entry whose `seq` is in the path."""

    async def serve(request: web.Request, app: App, client: Client, *, ask: _T) -> Any:
        return await select(app.registrar)(client, int(request.match_info["seq"]), ask)

    return serve


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: Annotated[str, described("The data subject's number, in E.164.")]
    purpose: LookupPurpose
    controller: OnlyController = ""


def history(*kinds: str) -> Serve:
    """Return a handler that sends the ledger entries of `kinds` for the `number` in the query."""

    async def serve(_: web.Request, app: App, client: Client, *, query: HistoryQuery) -> History:
        await app.subjects.look_up(client, query.controller, query.number, kinds[0], query.purpose)
        return History(await app.registrar.views.history(client, query.controller, query.number, kinds))

    return serve
