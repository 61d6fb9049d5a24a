"""The endpoints for call lists and files of numbers."""

import json
from functools import partial
from typing import IO, Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct, convert

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http import body, file_requests, uploads
from dialgate.interfaces.http.endpoint import (
    NDJSON,
    EndpointGroup,
    Media,
    Parameter,
)
from dialgate.interfaces.http.errors import Failed, Fault
from dialgate.interfaces.http.file_requests import (
    FILE_TYPES,
    HINTS,
    LIST_FILES,
    SKIPPED,
    UPLOAD_ERRORS,
    read_fields,
    read_query,
    send_file,
)
from dialgate.interfaces.http.headers import PLANNED, SCRUBBED
from dialgate.interfaces.http.uploads import UPLOADS
from dialgate.ledger.call_plans import MEDIA as PLAN_MEDIA
from dialgate.ledger.call_plans import CallPlans, NumberPlan
from dialgate.ledger.export_requests import PlanRequest, PreviewRequest, ScrubRequest
from dialgate.ledger.job_kinds import Job, PlanCalls, PreviewList, Scrub
from dialgate.ledger.list_exports import Preview, Previews
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest, Lists, RetiredList, described
from dialgate.ledger.scrub_files import MEDIA
from dialgate.ledger.view_schemas import Exports
from dialgate.lists import tabular
from dialgate.lists.call_list import RowProblem

CALL_LISTS: Final = EndpointGroup(
    "Call lists",
    "Load and retire call lists, with the origin of their numbers.",
    scope="lists",
    in_path={"id": "List ID."},
)
_TRANSFERS: Final = {"type": "string", "contentMediaType": "application/json"}
_UPLOADED: Final = (
    *(
        Parameter(
            name=field.name,
            about=f"{field.description} Only for a list that is sent as a file.",
            required=False,
            schema=_TRANSFERS if field.name == "transfers" else None,
        )
        for field in fields_of(ListRequest)
    ),
    *HINTS,
    SKIPPED,
)


class ListUpload(ListRequest, frozen=True, kw_only=True):
    """A call list that is sent as JSON, with its rows in `numbers`."""

    numbers: Annotated[
        tuple[str, ...], Meta(description="The rows of a call list, as in a file: one number in each.")
    ]


@CALL_LISTS.endpoint(
    "POST",
    "/v1/scrub",
    scope="admin",
    query=ScrubRequest,
    parameters=(
        *(Parameter(name=field.name, about=field.description) for field in fields_of(ScrubRequest)),
        *HINTS,
    ),
    also_asks=LIST_FILES,
    media=MEDIA["csv"],
    also_answers=(Media(name=MEDIA["xlsx"], kind=bytes),),
    headers={SCRUBBED: "The counts of verdicts, and the ledger entry, as JSON."},
    errors=(*UPLOAD_ERRORS, "campaign.unknown"),
)
async def scrub_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Return a copy of a list with a verdict on each row.

    The body is a text, CSV or XLSX file. The copy is recorded before it is sent.
    """
    query = read_query(request, ScrubRequest)
    with request.app[UPLOADS].temporary() as out:
        job = Scrub(query.request, out, query.hints)
        report = await _run(request, app, client, job, partial(request.content.read, body.READ_BYTES))
        return await _send_copy(request, out, MEDIA[query.request.format], SCRUBBED, report)


async def _run(
    request: web.Request, app: App, client: Client, job: Job, read: uploads.Read | None = None
) -> bytes:
    """Run a job on the file that `read` returns, if any, and return its report. Raises the errors of `UploadSlots`."""
    spool, gone = request.app[UPLOADS], uploads.gone(request)
    if read is None:
        return await spool.run(app, client, job, gone=gone)
    async with spool.received(client.name, read, gone) as upload:
        return await upload.run(app, client, job)


async def _send_copy(
    request: web.Request, path: str, media: str, header: str, report: bytes
) -> web.StreamResponse:
    headers = {"Content-Type": media, "Cache-Control": "no-store", header: json.dumps(json.loads(report))}
    return await send_file(web.StreamResponse(headers=headers), request, path)


class PlanUpload(PlanRequest, frozen=True, kw_only=True):
    """Plans for the numbers of a loaded list, or for `numbers`."""

    list: Annotated[str, described("ID of a loaded list.")] = ""
    numbers: Annotated[
        tuple[str, ...], described("Numbers, as in a file: one in each. Only without `list`.")
    ] = ()


@CALL_LISTS.endpoint(
    "POST",
    "/v1/plan",
    scope="admin",
    ask=PlanUpload,
    also_asks=LIST_FILES,
    query=PlanRequest,
    parameters=(
        *(
            Parameter(
                name=field.name,
                about=f"{field.description} Only for numbers that are sent as a file.",
                required=False,
            )
            for field in fields_of(PlanRequest)
        ),
        *HINTS,
    ),
    answer=CallPlans,
    also_answers=(
        Media(name=PLAN_MEDIA["ndjson"], kind=bytes, lines=(NumberPlan,)),
        Media(name=PLAN_MEDIA["csv"], kind=bytes),
    ),
    headers={PLANNED: "The counts of plans, and the ledger entry, as JSON."},
    errors=("list.unreadable", "list.unknown", "campaign.unknown", "store.unavailable", "gate.unavailable", "extra.missing",
            "upload.busy", "upload.full", "upload.failed", "upload.no_space"),
)  # fmt: skip
async def plan_calls(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Return, for each number, when calls would be permitted in the next days, and the first reason for a denial at other times.

    Send JSON with `list` or `numbers`, or a text, CSV or XLSX file with the other fields in the query string. The plans assume that
    nothing is recorded meanwhile, so each call still needs a check. They are recorded before they are sent.
    """
    name, hints = "", tabular.NO_HINTS
    read: uploads.Read | None = None
    if request.content_type in FILE_TYPES:
        query = read_query(request, PlanRequest)
        asked, hints, read = query.request, query.hints, partial(request.content.read, body.READ_BYTES)
    else:
        upload = await read_fields(request, app, PlanUpload)
        if bool(upload.list) == bool(upload.numbers):
            raise Fault(400, "request.invalid", "Send either `list` or `numbers`.", field="list")
        asked, name = convert(upload, PlanRequest, from_attributes=True), upload.list
        read = None if name else uploads.from_memory(_rows_of(upload))
    with request.app[UPLOADS].temporary() as out:
        report = await _run(request, app, client, PlanCalls(asked, out, hints, name), read)
        return await _send_copy(request, out, PLAN_MEDIA[asked.format], PLANNED, report)


@CALL_LISTS.endpoint("GET", "/v1/exports", errors=("store.unavailable",))
async def list_exports(_: web.Request, app: App, client: Client) -> Exports:
    """Return the recorded copies of lists with verdicts, plans and previews."""
    return Exports(await app.registrar.list_exports.exports(client))


@CALL_LISTS.endpoint(
    "POST",
    "/v1/lists/{id}/preview",
    scope="admin",
    errors=(
        "list.unknown",
        "list.too_short",
        "campaign.unknown",
        "store.unavailable",
        "gate.unavailable",
        "upload.failed",
    ),
)
async def preview_call_list(
    request: web.Request, app: App, client: Client, *, ask: PreviewRequest
) -> Previews:
    """Count the callable numbers on a call list, and the denied numbers by reason.

    The list must have at least 50 numbers. The preview is recorded.
    """
    name = request.match_info["id"]
    campaigns = (
        (ask.campaign,) if ask.campaign else tuple(await app.registrar.call_lists.campaigns_of(client, name))
    )
    report = await _run(request, app, client, PreviewList(name, campaigns, ask.at))
    return Previews(msgspec.json.decode(report, type=list[Preview]))


@CALL_LISTS.endpoint("GET", "/v1/lists", errors=("store.unavailable",))
async def list_call_lists(_: web.Request, app: App, client: Client) -> Lists:
    """Return the call lists of the client's controllers."""
    return Lists(await app.registrar.call_lists.lists(client))


@CALL_LISTS.endpoint(
    "POST",
    "/v1/lists",
    ask=ListUpload,
    also_asks=LIST_FILES,
    query=ListRequest,
    parameters=_UPLOADED,
    answer=ListReport,
    also_answers=(Media(name=NDJSON, kind=bytes, lines=(RowProblem, ListReport, Failed)),),
    status=201,
    errors=("list.unreadable", "list.exists", "list.too_many", "controller.unknown", "campaign.unknown",
            "store.unavailable", "extra.missing", "upload.busy", "upload.full", "upload.failed", "upload.no_space"),
)  # fmt: skip
async def load_call_list(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Load a call list.

    Send JSON with `numbers`, or a text, CSV or XLSX file with the other fields in the query string. Repeat `campaigns` for
    each campaign, and send `transfers` as a JSON array. `in_force` in the response says when each node uses the list.
    """
    if request.content_type in FILE_TYPES:
        # The whole file is received, then loaded: either completely or not at all.
        query = read_query(request, ListRequest)

        async def load(upload: uploads.Upload, skipped: str) -> bytes:
            build = upload.build(app, client, skipped)
            lists = app.registrar.call_lists
            return msgspec.json.encode(await lists.load_from(client, query.request, build, query.hints))

        return await file_requests.answer(request, client, load, 201, with_skipped=query.skipped)
    upload = await read_fields(request, app, ListUpload)
    spool, read = request.app[UPLOADS], uploads.from_memory(_rows_of(upload))
    async with spool.received(client.name, read, uploads.gone(request)) as received:
        report = await app.registrar.call_lists.load_from(client, upload, received.build(app, client))
    return body.reply_json(report, 201)


def _rows_of(upload: ListUpload | PlanUpload) -> IO[bytes]:
    try:
        return tabular.from_lines(upload.numbers)
    except tabular.Unreadable as error:
        raise Fault(400, "list.unreadable", str(error), field="numbers") from None


class _WhoseList(Struct, frozen=True, kw_only=True):
    controller: Annotated[
        str, described("Required only if several of the client's controllers have a list with this ID.")
    ] = ""


@CALL_LISTS.endpoint("GET", "/v1/lists/{id}", errors=("list.unknown", "store.unavailable"))
async def get_call_list(request: web.Request, app: App, client: Client) -> ListInfo:
    """Return a call list."""
    name = request.match_info["id"]
    for call_list in await app.registrar.call_lists.lists(client):
        if call_list.id == name:
            return call_list
    raise Fault(
        404, "list.unknown", "This client has no list with this ID. Use one from `GET /v1/lists`.", field="id"
    )


@CALL_LISTS.endpoint(
    "POST", "/v1/lists/{id}/retire", errors=("controller.unknown", "list.unknown", "store.unavailable")
)
async def retire_call_list(
    request: web.Request, app: App, client: Client, *, query: _WhoseList
) -> RetiredList:
    """Retire a call list.

    It stays on record, but no later check on this node uses it. Other nodes follow within a second; `in_force` says when.
    """
    return await app.registrar.call_lists.retire_list(client, request.match_info["id"], query.controller)
