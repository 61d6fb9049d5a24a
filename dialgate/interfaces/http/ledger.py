"""The handlers for outcomes, ledger entries, call lists and caller-ID proofs."""

from collections.abc import Awaitable, Callable
from typing import IO, Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.audit.lookups import Reason
from dialgate.config.clients import Client
from dialgate.interfaces.http import body, file_requests, uploads
from dialgate.interfaces.http.errors import Fault, convert, decode
from dialgate.interfaces.http.headers import IN_FORCE, NOTE
from dialgate.interfaces.http.uploads import UPLOADS
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import CallerIdProofRequest, ListRequest, Lists, OutcomeRequest
from dialgate.ledger.view_schemas import ConsentStanding, HistoryEntry
from dialgate.lists import tabular

Serve: TypeAlias = Callable[[web.Request, App, Client], Awaitable[web.StreamResponse]]
_T = TypeVar("_T")
Act: TypeAlias = Callable[[Client, _T], Awaitable[Any]]
Lift: TypeAlias = Callable[[Client, int, _T], Awaitable[Any]]

LIST_FILES: Final = (
    "text/csv",
    "text/plain",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
)
CONSENT_KINDS: Final = ("consent", "consent_confirmed", "consent_withdrawn", "consents_voided")


class History(Struct, frozen=True):
    entries: list[HistoryEntry]


class ConsentHistory(History, frozen=True):
    """The ledger entries about a number's consents, with the current state of each consent."""

    consents: list[ConsentStanding]


class ListUpload(ListRequest, frozen=True, kw_only=True):
    """A call list that is sent as JSON, with its rows in `numbers`."""

    numbers: Annotated[
        tuple[str, ...], Meta(description="The rows of a call list, as in a file: one number in each.")
    ]


def write(kind: type[_T], select: Callable[[Registrar], Act[_T]], status: int = 201) -> Serve:
    """Return a handler that decodes a request of type `kind` and passes it to the selected method of `Registrar`."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        entry = await body.read_json(request, app, kind)
        return body.reply_json(await select(app.registrar)(client, entry), status)

    return serve


_fields: Final = msgspec.json.Decoder(dict[str, Any])
_outcome: Final = msgspec.json.Decoder(OutcomeRequest)


def stop(select: Callable[[Registrar], Act[dict[str, Any]]]) -> Serve:
    """Return a handler for a request that stops calls, whose form may have faults."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        fields = await body.read_open(request, app, client, _fields)
        return body.reply_json(await select(app.registrar)(client, fields), 201)

    return serve


async def report_outcome(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    outcomes = app.registrar.outcomes
    raw = await body.whole(request, app.config.settings.limits)
    fields = await body.decode_open(request, client, _fields, raw)
    if fields.get("outcome") == "opt_out":
        return body.reply_json(await outcomes.opt_out(client, fields))
    return body.reply_json(await outcomes.result(client, decode(_outcome, raw)))


def lift(kind: type[_T], select: Callable[[Registrar], Lift[_T]]) -> Serve:
    """Return a handler that lifts the ledger entry whose `seq` is in the path. See `write` for the arguments."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        entry = await body.read_json(request, app, kind)
        receipt = await select(app.registrar)(client, int(request.match_info["seq"]), entry)
        return body.reply_json(receipt, 201)

    return serve


def history(*kinds: str) -> Serve:
    """Return a handler that sends the ledger entries of `kinds` for the `number` in the query."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        query = convert(body.query_about_number(request), HistoryQuery)
        await app.subjects.look_up(client, query.controller, query.number, kinds[0], query.purpose)
        entries = await app.registrar.views.history(client, query.controller, query.number, kinds)
        return body.reply_json(History(entries))

    return serve


async def consents(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    query = convert(body.query_about_number(request), HistoryQuery)
    await app.subjects.look_up(client, query.controller, query.number, "consent", query.purpose)
    states = await app.registrar.views.consents(client, query.controller, query.number)
    entries = await app.registrar.views.history(client, query.controller, query.number, CONSENT_KINDS)
    return body.reply_json(ConsentHistory(entries, states))


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: str
    purpose: Reason
    controller: str = ""


async def prove_caller_id(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    proof = await body.read_json(request, app, CallerIdProofRequest)
    receipt = await app.registrar.caller_ids.prove_caller_id(client, proof)
    headers = {"Cache-Control": "no-store", IN_FORCE: receipt.in_force}
    return web.Response(status=204, headers=headers | ({NOTE: receipt.note} if receipt.note else {}))


# ---- call lists ------------------------------------------------------------------------------------------------------


async def load_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    if request.content_type in LIST_FILES:
        return await _load_file(request, app, client)
    upload = await body.read_json(request, app, ListUpload)
    return await _load(request, app, client, upload, uploads.from_memory(_rows_of(upload)))


def _rows_of(upload: ListUpload) -> IO[bytes]:
    try:
        return tabular.from_lines(upload.numbers)
    except tabular.Unreadable as error:
        raise Fault(400, "list.unreadable", str(error), field="numbers") from None


async def _load_file(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Receive the whole file, then load it. A list is loaded either completely or not at all."""
    query = file_requests.read_query(request, ListRequest)

    async def load(upload: uploads.Upload, skipped: str) -> bytes:
        lists = app.registrar.call_lists
        return msgspec.json.encode(
            await lists.load_from(client, query.request, upload.build(app, client, skipped), query.hints)
        )

    return await file_requests.answer(request, client, load, 201, with_skipped=query.skipped)


async def _load(
    request: web.Request, app: App, client: Client, list_request: ListRequest, read: uploads.Read
) -> web.StreamResponse:
    async with request.app[UPLOADS].received(client.name, read, uploads.gone(request)) as upload:
        report = await app.registrar.call_lists.load_from(client, list_request, upload.build(app, client))
    return body.reply_json(report, 201)


async def lists(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    return body.reply_json(Lists(await app.registrar.call_lists.lists(client)))


async def one_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    name = request.match_info["id"]
    for call_list in await app.registrar.call_lists.lists(client):
        if call_list.id == name:
            return body.reply_json(call_list)
    raise Fault(
        404, "list.unknown", "This client has no list with this ID. Use one from `GET /v1/lists`.", field="id"
    )


async def retire_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    name, controller = request.match_info["id"], request.query.get("controller", "")
    return body.reply_json(await app.registrar.call_lists.retire_list(client, name, controller))
