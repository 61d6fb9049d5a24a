"""The endpoints for changes of law, and who has read them."""

from typing import Annotated, Final

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup, Media
from dialgate.interfaces.http.subjects import CSV, PAGE
from dialgate.ledger.schemas import described
from dialgate.report.law_review import LawReadRequest, LawReviews
from dialgate.texts import Language

LAW_CHANGES: Final = EndpointGroup(
    "Changes of law",
    "What changed in the law of the countries that are called, and who has read it.",
    scope="watch",
    errors=("store.unavailable",),
)


class _Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    language: Annotated[Language, described("Language of the sections.")] = "en"
    country: Annotated[
        str, described("Only this country. Default: those of the controllers and their campaigns.")
    ] = ""


@LAW_CHANGES.endpoint("GET", "/v1/law-changes")
async def list_law_changes(_: web.Request, app: App, client: Client, *, query: _Query) -> LawReviews:
    """Return what changed in the law in the last 90 days, what changes in the next 90, and who has acknowledged it."""
    return await app.law_reading.review(client.controllers, query.language, query.country)


@LAW_CHANGES.endpoint("POST", "/v1/law-changes", scope="subjects", status=201)
async def confirm_law_changes(_: web.Request, app: App, client: Client, *, ask: LawReadRequest) -> LawReviews:
    """Acknowledge that the changes of a country's law were read, for each of the client's controllers. Repeated, it changes nothing."""
    return await app.law_reading.acknowledge(client, ask)


@LAW_CHANGES.endpoint("GET", "/v1/law-changes/acknowledgements", also_answers=(Media(name=CSV, kind=bytes),))
async def export_law_acknowledgements(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Return who has acknowledged which changes of law, and when, as CSV for an auditor."""
    return web.Response(
        text=await app.law_reading.export(client.controllers), headers=PAGE | {"Content-Type": CSV}
    )
