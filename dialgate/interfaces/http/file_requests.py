"""The handlers for files of revocations and entries, for copies of lists with verdicts, and for previews.

A file is the body of its request. The other fields are in the query.
"""

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
from dialgate.interfaces.http.endpoint import BODY_ERRORS, NDJSON, Media, Parameter, Serve
from dialgate.interfaces.http.errors import FAILURES, Failed, Fault, convert, decode, encoded, fault_of
from dialgate.interfaces.http.uploads import UPLOADS, Upload
from dialgate.ledger.job_kinds import Job, RecordLines
from dialgate.ledger.request_lines import LineKind
from dialgate.lists.tabular import Hints

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Struct)
Work: TypeAlias = Callable[[Upload, str], Awaitable[bytes]]

FILE_TYPES: Final = (
    "text/csv",
    "text/plain",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
)
_HOW_TO_SEND_A_FILE: Final = f"To send a file, name its type in the header `Content-Type` ({', '.join(FILE_TYPES)}), and put the other fields into the query."
LIST_FILES: Final = tuple(Media(name=name, kind=bytes) for name in FILE_TYPES)
SKIPPED: Final = Parameter(
    name="skipped",
    about="`true`: the answer is NDJSON, with a line for each row that is left out. Its last line is the report, or the error.",
    required=False,
    schema={"type": "boolean"},
)
HINTS: Final = (
    Parameter(name="encoding", about="Encoding of the file. Default: detected.", required=False),
    Parameter(name="separator", about="Column separator of the file. Default: detected.", required=False),
    Parameter(
        name="column",
        about="Column with the number, by name, or by position from 1. Default: detected; needed if several columns may hold the number.",
        required=False,
    ),
)
UPLOAD_FAULTS: Final = ("upload.busy", "upload.full", "upload.failed", "upload.no_space")
UPLOAD_ERRORS: Final = (
    *BODY_ERRORS, "list.unreadable", "controller.unknown", "store.unavailable", "gate.unavailable", "extra.missing", *UPLOAD_FAULTS,
)  # fmt: skip
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
        return await send_file(response, request, skipped, last + b"\n")


async def send_file(
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


def import_file(kind: type[_R], job: Callable[[_R, Hints], Job], /, **fixed: str) -> Serve:
    """Return a handler for files of a kind of request, some of whose fields are fixed. A job imports the file."""

    async def serve(request: web.Request, app: App, client: Client) -> web.StreamResponse:
        query = read_query(request, kind)
        import_job = job(msgspec.structs.replace(query.request, **fixed), query.hints)

        async def run(upload: Upload, skipped: str) -> bytes:
            return await upload.run(app, client, import_job, skipped)

        return await answer(request, client, run, 201, with_skipped=query.skipped)

    return serve


def one_or_lines(kind: LineKind, ask: Any, one: Serve) -> Serve:
    """Return a handler for a request in JSON, for which it calls `one`, or for a request in each line (`request_lines`)."""

    async def serve(request: web.Request, app: App, client: Client) -> Any:
        if request.content_type == NDJSON:
            return await _record_lines(request, app, client, kind)
        if kind == "revocation":  # its form may have faults
            return await one(request, app, client)
        return await one(request, app, client, ask=await body.read_json(request, app, ask))

    return serve


async def _record_lines(request: web.Request, app: App, client: Client, kind: LineKind) -> web.StreamResponse:
    """Receive all lines, and send their answers as they are made."""
    response = web.StreamResponse(status=201, headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})

    async def answer(lines: bytes) -> None:
        if not response.prepared:
            await response.prepare(request)
        await response.write(lines)

    async with request.app[UPLOADS].received(
        client.name, lambda: request.content.read(body.READ_BYTES), uploads.gone(request)
    ) as upload:
        try:
            await upload.run(app, client, RecordLines(kind), answer=answer)
        except FAILURES as error:
            if not response.prepared:
                raise
            # The status was sent already, so the last line holds the error.
            await response.write(encoded(fault_of(error).problem) + b"\n")
            response.force_close()
    await answer(b"")
    await response.write_eof()
    return response


async def read_fields(request: web.Request, app: App, kind: type[_T]) -> _T:
    """Read the JSON body of an endpoint that takes files, too. Raises `Fault`."""
    try:
        return await body.read_json(request, app, kind)
    except Fault as fault:
        code, message, _ = msgspec.structs.astuple(fault.problem)
        if code != "request.not_json":
            raise
        raise Fault(fault.status, code, f"{message} {_HOW_TO_SEND_A_FILE}") from None
