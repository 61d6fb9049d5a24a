"""The pages for call lists: viewing loaded lists, uploading a list, and previewing its callable numbers."""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, Final, get_args

import msgspec
from aiohttp import BodyPartReader, MultipartReader, web

from dialgate.core.model import Basis, OriginKind
from dialgate.interfaces.console.visit import TOKEN, Visit
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.interfaces.http.uploads import UPLOADS, gone
from dialgate.ledger.job_kinds import PreviewList
from dialgate.ledger.list_exports import Preview
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest
from dialgate.lists.tabular import Hints

_FIELD_BYTES: Final = 4 << 10
_MOST_FIELDS: Final = 32


async def show_lists(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


async def load(visit: Visit) -> web.StreamResponse:
    """Load the call list in the uploaded form.

    The form sends its fields before the file, so the token is checked before any part of the file is read.
    """
    fields: dict[str, str] = {}
    received = visit.request.app[UPLOADS].received
    try:
        part = await _file_part(visit, fields)
        read = partial(part.read_chunk, http_body.READ_BYTES)
        async with received(visit.client.name, read, gone(visit.request)) as upload:
            build = upload.build(visit.app, visit.client)
            report = await visit.app.registrar.call_lists.load_from(
                visit.client, _request(fields), build, Hints(column=fields.get("column", ""))
            )
    except FAILURES as error:
        fault = fault_of(error)
        return await _page(visit, fields, fault.status, error=fault.problem.code)
    return await _page(visit, {}, HTTPStatus.CREATED, report=report)


async def _file_part(visit: Visit, fields: dict[str, str]) -> BodyPartReader:
    """Read the fields of the form into `fields` and return the part that contains the file. Raises `Fault`."""
    if not visit.request.content_type.startswith("multipart/"):
        raise Fault(400, "request.invalid", "Send the form as multipart/form-data.")
    reader = await visit.request.multipart()
    try:
        async with asyncio.timeout(visit.app.config.settings.limits.read_seconds):
            for _ in range(_MOST_FIELDS):
                part = await reader.next()
                if part is None or isinstance(part, MultipartReader):
                    break
                if part.name == "file":
                    visit.check(fields.pop(TOKEN, ""))
                    return part
                fields[part.name or ""] = (await _text(part)).strip()
    except TimeoutError:
        raise http_body.late() from None
    visit.check(fields.pop(TOKEN, ""))
    raise Fault(400, "list.unreadable", "Choose a file.", field="file")


async def _text(part: BodyPartReader) -> str:
    body = await part.read_chunk(_FIELD_BYTES)
    if await part.read_chunk(1):
        raise Fault(
            413, "request.too_large", f"A form field is longer than {_FIELD_BYTES} bytes. Shorten it."
        )
    return body.decode("utf-8", "replace")


def _request(fields: dict[str, str]) -> ListRequest:
    names = ("id", "basis", "collected_by", "collected_on", "source", "origin", "controller")
    values: dict[str, Any] = {name: fields.get(name, "") for name in names}
    campaigns = [fields["campaign"]] if fields.get("campaign") else []
    return convert({**values, "campaigns": campaigns, "channel": "console"}, ListRequest)


async def show_preview(visit: Visit) -> web.StreamResponse:
    """Show how many numbers of a list are callable, and why the others are not.

    A client must not learn the verdict on a number of its choice without a recorded look-up (D.P.R. 26/2022 art. 8
    c. 1 and 3). So a preview needs the scope of simulations and a list that is not short, and is recorded.
    """
    if not visit.may("simulate"):
        raise Fault(403, "auth.scope", "A preview needs the scope `simulate` as well as `lists`.")
    fields = await visit.form()
    name, campaign = visit.request.match_info["id"], fields.get("campaign", "")
    infos = await visit.app.registrar.call_lists.lists(visit.client)
    info = next((info for info in infos if info.id == name), None)
    if info is None or campaign not in visit.campaigns():
        raise Fault(
            404,
            "list.unknown",
            "This client has no call list with this id. Check `id` and `campaign`.",
            field="id",
        )
    try:
        job = PreviewList(name, (campaign,))
        report = await visit.request.app[UPLOADS].run(visit.app, visit.client, job, gone=gone(visit.request))
    except FAILURES as error:
        fault = fault_of(error)
        return await _page(visit, {}, fault.status, error=fault.problem.code)
    (preview,) = msgspec.json.decode(report, type=list[Preview])
    return visit.show("preview", "lists", preview=preview, info=info)


async def _page(
    visit: Visit,
    fields: dict[str, str],
    status: int = 200,
    *,
    report: ListReport | None = None,
    error: str = "",
) -> web.Response:
    infos: list[ListInfo] = await visit.app.registrar.call_lists.lists(visit.client)
    counted = visit.app.gate.counted
    paused = await asyncio.to_thread(visit.app.registrar.campaigns.paused, visit.client, counted)
    return visit.show(
        "lists",
        "lists",
        status,
        fields=fields,
        lists=sorted(infos, key=lambda info: info.loaded_at, reverse=True),
        campaigns=visit.campaigns(),
        paused={campaign.id for campaign in paused},
        bases=get_args(Basis),
        origins=get_args(OriginKind),
        report=report,
        error=error,
    )
