"""The handlers for files of revocations and entries, for copies of lists with verdicts, and for previews.

A file is the body of its request. The other fields are in the query.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.model import Transfer
from dialgate.interfaces.http import body, uploads
from dialgate.interfaces.http.endpoint import NDJSON
from dialgate.interfaces.http.errors import FAILURES, Failed, convert, decode, fault_of
from dialgate.interfaces.http.headers import SCRUBBED
from dialgate.interfaces.http.uploads import UPLOADS, Upload
from dialgate.ledger.event_drafts import instant
from dialgate.ledger.file_jobs import ImportEntries, ImportRevocations, PreviewList, Scrub
from dialgate.ledger.list_exports import Preview, Previews, ScrubOrder
from dialgate.ledger.schemas import EntriesRequest, PreviewRequest, RevocationsRequest, ScrubRequest
from dialgate.ledger.view_schemas import Exports
from dialgate.lists.tabular import Hints

_T = TypeVar("_T")
Work: TypeAlias = Callable[[Upload, str], Awaitable[bytes]]
Serve: TypeAlias = Callable[[web.Request, App, Client], Awaitable[web.StreamResponse]]

_HINTS: Final = frozenset(Hints.__struct_fields__)
_transfers: Final = msgspec.json.Decoder(tuple[Transfer, ...])


class FileQuery(Struct, Generic[_T], frozen=True):
    """The query of a request with a file. `skipped` asks for a line for each row that is left out."""

    request: _T
    hints: Hints
    skipped: bool


class _Flags(Struct, frozen=True):
    skipped: bool = False


def read_query(request: web.Request, kind: type[_T]) -> FileQuery[_T]:
    """Convert the query. `campaigns` may be repeated, and `transfers` is a JSON array. Raises `Fault`."""
    fields: dict[str, Any] = {}
    for name, value in body.query(request):
        if name == "campaigns":
            fields.setdefault(name, []).append(value)
        elif name == "transfers":
            fields[name] = decode(_transfers, value.encode())
        else:
            fields[name] = value
    hints = {name: fields.pop(name) for name in _HINTS & fields.keys()}
    flags = {name: fields.pop(name) for name in ("skipped",) if name in fields}
    return FileQuery(convert(fields, kind), Hints(**hints), convert(flags, _Flags).skipped)


async def answer(
    request: web.Request, client: Client, work: Work, status: int, *, with_skipped: bool
) -> web.StreamResponse:
    """Receive the whole file, do the work, and answer with its report or error.

    With `with_skipped`, the answer is NDJSON with a line for each row that was left out. The report or the error is the last line.
    """
    spool = request.app[UPLOADS]
    with spool.temporary() as skipped:
        async with spool.received(
            client.name, lambda: request.content.read(body.READ_BYTES), uploads.gone(request)
        ) as upload:
            if not with_skipped:
                return body.reply(await work(upload, ""), status)
            try:
                last = await work(upload, skipped)
            except FAILURES as error:
                fault = fault_of(error)
                last, status = msgspec.json.encode(Failed(fault.problem)), fault.status
        response = web.StreamResponse(status=status, headers={"Content-Type": NDJSON})
        return await _send_file(response, request, skipped, last + b"\n")


async def _send_file(
    response: web.StreamResponse, request: web.Request, path: str, last: bytes = b""
) -> web.StreamResponse:
    """Send a response with the content of a file, if there is one, and then `last`."""
    await response.prepare(request)
    with suppress(FileNotFoundError), open(path, "rb") as file:  # noqa: ASYNC230, PTH123 - read from the page cache, in small parts
        while part := file.read(body.READ_BYTES):
            await response.write(part)
    await response.write(last)
    await response.write_eof()
    return response


async def import_revocations(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    query = read_query(request, RevocationsRequest)

    async def run(upload: Upload, skipped: str) -> bytes:
        return await upload.run(app, client, ImportRevocations(query.request, query.hints), skipped)

    return await answer(request, client, run, 201, with_skipped=query.skipped)


def import_entries(kind: str) -> Serve:
    """Return a handler for files with entries of a kind in `bulk_import.KINDS`."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        query = read_query(request, EntriesRequest)
        entries = msgspec.structs.replace(query.request, kind=kind)

        async def run(upload: Upload, skipped: str) -> bytes:
            return await upload.run(app, client, ImportEntries(entries, query.hints), skipped)

        return await answer(request, client, run, 201, with_skipped=query.skipped)

    return serve


async def scrub(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    query, spool = read_query(request, ScrubRequest), request.app[UPLOADS]
    ask = query.request
    at = instant(ask.at, "at") if ask.at else 0
    order = ScrubOrder(campaign=ask.campaign, at=at, actor=ask.actor or client.name, proof=ask.proof)
    with spool.temporary() as out:
        async with spool.received(
            client.name, lambda: request.content.read(body.READ_BYTES), uploads.gone(request)
        ) as upload:
            report = json.loads(await upload.run(app, client, Scrub(order, out, query.hints)))
        headers = {
            "Content-Type": "text/csv; charset=utf-8",
            "Cache-Control": "no-store",
            SCRUBBED: json.dumps(report),
        }
        return await _send_file(web.StreamResponse(headers=headers), request, out)


async def preview(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    ask, name = await body.read_json(request, app, PreviewRequest), request.match_info["id"]
    campaigns = (
        (ask.campaign,) if ask.campaign else tuple(await app.registrar.call_lists.campaigns_of(client, name))
    )
    at = instant(ask.at, "at") if ask.at else 0
    job, gone = PreviewList(name, campaigns, at), uploads.gone(request)
    report = await request.app[UPLOADS].run(app, client, job, gone=gone)
    return body.reply_json(Previews(msgspec.json.decode(report, type=list[Preview])))


async def exports(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    return body.reply_json(Exports(await app.registrar.list_exports.exports(client)))
