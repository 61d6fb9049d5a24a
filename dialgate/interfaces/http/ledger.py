"""What may be written and read beside the check: outcomes, the ledger, call lists, caller-ID proofs."""

from collections.abc import Awaitable, Callable
from typing import IO, Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.audit.lookups import Reason
from dialgate.config.clients import Client
from dialgate.core.model import Transfer
from dialgate.interfaces.http import body, uploads
from dialgate.interfaces.http.errors import Fault, convert, decode
from dialgate.interfaces.http.uploads import UPLOADS
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    ConsentStanding,
    HistoryEntry,
    ListInfo,
    ListRequest,
)
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
IN_FORCE: Final = "Dialgate-In-Force"  # a header, where the answer has no body
NOTE: Final = "Dialgate-Note"  # the same: why a proof opens nothing yet
_encode: Final = msgspec.json.Encoder().encode
CONSENT_KINDS: Final = ("consent", "consent_confirmed", "consent_withdrawn", "consents_voided")


class History(Struct, frozen=True):
    entries: list[HistoryEntry]


class ConsentHistory(History, frozen=True):
    """And what the entries about each consent amount to."""

    consents: list[ConsentStanding]


class Lists(Struct, frozen=True):
    lists: list[ListInfo]


class ListUpload(ListRequest, frozen=True, kw_only=True):
    """A call list with its numbers."""

    numbers: Annotated[tuple[str, ...], Meta(description="Rows as in a file, one number in each.")]


def write(kind: type[_T], select: Callable[[Registrar], Act[_T]], status: int = 201) -> Serve:
    """Return an endpoint that decodes a `kind`, and responds with the result of the act that `select` returns."""
    decoder = msgspec.json.Decoder(kind)

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        ask = await _ask(request, app, decoder)
        return body.reply(_encode(await select(app.registrar)(client, ask)), status)

    return serve


def lift(kind: type[_T], select: Callable[[Registrar], Lift[_T]]) -> Serve:
    """Return an endpoint that does as that of `write`, for the ledger entry in the path."""
    decoder = msgspec.json.Decoder(kind)

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        ask = await _ask(request, app, decoder)
        receipt = await select(app.registrar)(client, int(request.match_info["seq"]), ask)
        return body.reply(_encode(receipt), 201)

    return serve


async def _ask(request: web.Request, app: App, decoder: msgspec.json.Decoder[_T]) -> _T:
    return decode(decoder, await body.whole(request, app.config.settings.limits))


def history(*kinds: str) -> Serve:
    """An endpoint that gives the entries of these kinds about the `number` in the query."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        asked = _history_query(request)
        await app.subjects.look_up(client, asked.controller, asked.number, kinds[0], asked.purpose)
        entries = await app.registrar.views.history(client, asked.controller, asked.number, kinds)
        return body.reply(_encode(History(entries)))

    return serve


async def consents(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked = _history_query(request)
    await app.subjects.look_up(client, asked.controller, asked.number, "consent", asked.purpose)
    held = await app.registrar.views.consents(client, asked.controller, asked.number)
    entries = await app.registrar.views.history(client, asked.controller, asked.number, CONSENT_KINDS)
    return body.reply(_encode(ConsentHistory(entries, held)))


def _history_query(request: web.Request) -> "_HistoryQuery":
    fields = dict(body.query(request))
    number = fields.get("number", "")
    if number.startswith(" "):  # a plus that was not encoded
        fields["number"] = f"+{number[1:]}"
    return convert(fields, _HistoryQuery)


class _HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: str
    purpose: Reason
    controller: str = ""


_proof: Final = msgspec.json.Decoder(CallerIdProofRequest)


async def prove_caller_id(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    receipt = await app.registrar.caller_ids.prove_caller_id(client, await _ask(request, app, _proof))
    headers = {"Cache-Control": "no-store", IN_FORCE: receipt.in_force}
    return web.Response(status=204, headers=headers | ({NOTE: receipt.note} if receipt.note else {}))


# ---- call lists ------------------------------------------------------------------------------------------------------

_upload: Final = msgspec.json.Decoder(ListUpload)
_transfers: Final = msgspec.json.Decoder(tuple[Transfer, ...])


async def load_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    if request.content_type in LIST_FILES:
        return await _load_file(request, app, client)
    ask = await _ask(request, app, _upload)
    return await _load(request, app, client, ask, uploads.from_memory(_rows_of(ask)))


def _rows_of(ask: ListUpload) -> IO[bytes]:
    try:
        return tabular.of_lines(ask.numbers)
    except tabular.Unreadable as error:
        raise Fault(400, "list.unreadable", str(error), field="numbers") from None


async def _load_file(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    ask = _list_request(request)
    return await _load(request, app, client, ask, lambda: request.content.read(body.READ_BYTES))


async def _load(
    request: web.Request, app: App, client: Client, ask: ListRequest, read: uploads.Read
) -> web.StreamResponse:
    """Receive the file to its end first: a list is loaded whole or not at all."""
    async with request.app[UPLOADS].received(client.name, read, uploads.gone(request)) as upload:
        report = await app.registrar.call_lists.load_from(client, ask, upload)
    return body.reply(_encode(report), 201)


def _list_request(request: web.Request) -> ListRequest:
    """From the query: the fields by their names, `campaigns` once for each campaign, `transfers` as a JSON array."""
    fields: dict[str, Any] = {}
    for name, value in body.query(request):
        if name == "campaigns":
            fields.setdefault(name, []).append(value)
        elif name == "transfers":
            fields[name] = decode(_transfers, value.encode())
        else:
            fields[name] = value
    return convert(fields, ListRequest)


async def lists(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    return body.reply(_encode(Lists(await app.registrar.call_lists.lists(client))))


async def one_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    name = request.match_info["id"]
    for found in await app.registrar.call_lists.lists(client):
        if found.id == name:
            return body.reply(_encode(found))
    raise Fault(404, "list.unknown", "No list of yours has this id; GET /v1/lists names them.", field="id")


async def retire_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    name, controller = request.match_info["id"], request.query.get("controller", "")
    return body.reply(_encode(await app.registrar.call_lists.retire_list(client, name, controller)))
