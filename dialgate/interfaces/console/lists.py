"""Call lists: those there are, a new one from a file, and what of one is callable."""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, Final, get_args

from aiohttp import BodyPartReader, MultipartReader, web

from dialgate.core.model import Basis
from dialgate.interfaces.console import previewing
from dialgate.interfaces.console.page_request import PREVIEWING, TOKEN, Visit
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.interfaces.http.uploads import UPLOADS, gone
from dialgate.ledger.export import Preview
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest

_FIELD_BYTES: Final = 4 << 10
_MOST_FIELDS: Final = 32


async def lists(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


async def load(visit: Visit) -> web.StreamResponse:
    """The fields stand before the file, as the form sends them: nothing is taken in before the token is checked."""
    asked: dict[str, str] = {}
    received = visit.request.app[UPLOADS].received
    try:
        part = await _file_part(visit, asked)
        read = partial(part.read_chunk, http_body.READ_BYTES)
        async with received(visit.client.name, read, gone(visit.request)) as upload:
            report = await visit.app.registrar.call_lists.load_from(visit.client, _request(asked), upload)
    except FAILURES as error:
        fault = fault_of(error)
        return await _page(visit, asked, fault.status, error=fault.problem.code)
    return await _page(visit, {}, HTTPStatus.CREATED, report=report)


async def _file_part(visit: Visit, asked: dict[str, str]) -> BodyPartReader:
    """Read the fields into `asked`, and return the file that follows them. Raises `Fault`."""
    if not visit.request.content_type.startswith("multipart/"):
        raise Fault(400, "request.invalid", "Send the form with its file.")
    reader = await visit.request.multipart()
    try:
        async with asyncio.timeout(visit.app.config.settings.limits.read_seconds):
            for _ in range(_MOST_FIELDS):
                part = await reader.next()
                if part is None or isinstance(part, MultipartReader):
                    break
                if part.name == "file":
                    visit.check(asked.pop(TOKEN, ""))
                    return part
                asked[part.name or ""] = (await _text(part)).strip()
    except TimeoutError:
        raise http_body.late() from None
    visit.check(asked.pop(TOKEN, ""))
    raise Fault(400, "list.unreadable", "Choose a file.", field="file")


async def _text(part: BodyPartReader) -> str:
    body = await part.read_chunk(_FIELD_BYTES)
    if await part.read_chunk(1):
        raise Fault(413, "request.too_large", "A field is too long.")
    return body.decode("utf-8", "replace")


def _request(asked: dict[str, str]) -> ListRequest:
    names = ("id", "basis", "collected_by", "collected_on", "source", "controller")
    fields: dict[str, Any] = {name: asked.get(name, "") for name in names}
    campaigns = [asked["campaign"]] if asked.get("campaign") else []
    return convert({**fields, "campaigns": campaigns, "channel": "console"}, ListRequest)


async def preview(visit: Visit) -> web.StreamResponse:
    asked = await visit.form()
    name, campaign = visit.request.match_info["id"], asked.get("campaign", "")
    found = next(
        (each for each in await visit.app.registrar.call_lists.lists(visit.client) if each.id == name), None
    )
    if found is None or campaign not in visit.campaigns():
        raise Fault(404, "list.unknown", "No list of yours has this id.", field="id")
    async with visit.request.app[PREVIEWING].of(visit.client.name):
        told = await previewing.preview(visit.app.config, visit.client, name, campaign, visit.app.gate.now())
    if not isinstance(told, Preview):
        return await _page(visit, {}, HTTPStatus.SERVICE_UNAVAILABLE, error=told.error)
    return visit.show("preview", "lists", told=told, info=found)


async def _page(
    visit: Visit,
    asked: dict[str, str],
    status: int = 200,
    *,
    report: ListReport | None = None,
    error: str = "",
) -> web.Response:
    found: list[ListInfo] = await visit.app.registrar.call_lists.lists(visit.client)
    return visit.show(
        "lists",
        "lists",
        status,
        asked=asked,
        lists=sorted(found, key=lambda each: each.loaded_at, reverse=True),
        campaigns=visit.campaigns(),
        bases=get_args(Basis),
        report=report,
        error=error,
    )
