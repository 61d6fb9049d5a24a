"""The endpoint that shows who looked at the data of which person, and why."""

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.audit.lookups import LookupFilter, LookupLine, instant
from dialgate.config.clients import Client
from dialgate.core.model import DAY
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.endpoint import EndpointGroup, Media
from dialgate.interfaces.http.reports import controller_of
from dialgate.interfaces.http.subjects import CSV
from dialgate.ledger.schemas import When, described
from dialgate.runtime import csv_text

LOOKUPS: Final = EndpointGroup("Look-ups", "Who looked at the data about people, and why.", scope="subjects")
MOST: Final = 10_000
_DEFAULT_SPAN: Final = 30 * DAY
_ID: Final = r"^\d{1,16}\.\d{1,16}\.[^.].*$"


class LookupQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: Annotated[When | None, described("First instant. Default: 30 days before `until`.")] = None
    until: Annotated[When | None, described("End (exclusive). Default: now.")] = None
    client: Annotated[
        str, described("Only look-ups by this client or person, with or without `person:` before the name.")
    ] = ""
    controller: Annotated[str, described("Only look-ups of this controller's data.")] = ""
    what: Annotated[str, described("Only look-ups of this kind of data, for example `everything`.")] = ""
    before: Annotated[
        Annotated[str, Meta(pattern=_ID)] | None,
        described("The `id` of the last look-up of the page before. Default: begin with the newest."),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=MOST, description="Look-ups in a page, 1 to 10,000.")] = 100
    form: Annotated[Literal["json", "csv"], described("Format.")] = msgspec.field(
        default="json", name="format"
    )


class LookupList(Struct, frozen=True):
    """Look-ups, newest first. `more`: there are older ones. `missing` gives the reason for each gate that did not answer."""

    lookups: list[LookupLine]
    more: bool
    missing: dict[str, str]


@LOOKUPS.endpoint(
    "GET",
    "/v1/lookups",
    answer=LookupList,
    also_answers=(Media(name=CSV, kind=bytes),),
    errors=("controller.unknown", "store.unavailable", "gate.unavailable"),
)
async def list_lookups(_: web.Request, app: App, client: Client, *, query: LookupQuery) -> web.StreamResponse:
    """Return who looked at the data of the client's controllers, at all gates, the newest first: when, what, for which purpose. Numbers are masked."""
    page = await find_lookups(app, client, query)
    if query.form == "csv":
        return web.Response(body=lookups_csv(page.lookups), headers={"Content-Type": CSV})
    return http_body.reply_json(page)


async def find_lookups(app: App, client: Client, query: LookupQuery) -> LookupList:
    """Return a page of the look-ups. Raises `Fault` for a controller that is not the client's."""
    until = instant(query.until) if query.until else app.gate.now() + 1
    wanted = LookupFilter(
        since=instant(query.since) if query.since else until - _DEFAULT_SPAN,
        until=until,
        controllers=(controller_of(query.controller, client),) if query.controller else client.controllers,
        client=query.client,
        what=query.what,
        before=query.before or "",
        most=query.limit + 1,
    )
    found, missing = await app.subjects.find_lookups(wanted)
    return LookupList(found[: query.limit], len(found) > query.limit, missing)


def lookups_csv(lookups: list[LookupLine]) -> bytes:
    names = LookupLine.__struct_fields__
    rows = [names, *([getattr(lookup, name) for name in names] for lookup in lookups)]
    return csv_text.table(rows).encode()
