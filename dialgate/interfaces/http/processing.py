"""The endpoints for the record of processing activities (GDPR art. 30) and the impact assessment (art. 35)."""

from typing import Annotated, Final, Literal

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.refusal import Refused
from dialgate.interfaces.http.endpoint import EndpointGroup, Media
from dialgate.interfaces.http.subjects import PAGE, PDF, OnlyController, render_letter
from dialgate.ledger.schemas import described
from dialgate.subjects.letter import Letter
from dialgate.subjects.processing import ProcessingDocument, ProcessingRecords, write_documents
from dialgate.texts import Language

PROCESSING: Final = EndpointGroup(
    "Records of processing",
    "The record of processing activities (GDPR Article 30) and the facts for an impact assessment (Article 35), from the configuration.",
    scope="subjects",
    also=("admin",),
    in_path={"id": "`record`, `assessment` or `processor_record`."},
    errors=("store.unavailable",),
)


class _Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    language: Annotated[Language, described("Language of labels and texts.")] = "it"


class DocumentRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document to read, print or file."""

    controller: OnlyController = ""
    language: Annotated[Language, described("Language of the document.")] = "it"
    form: Annotated[Literal["html", "pdf"], described("`pdf` needs the extra `letters`.")] = "html"


@PROCESSING.endpoint("GET", "/v1/records-of-processing")
async def list_records_of_processing(
    _: web.Request, app: App, client: Client, *, query: _Query
) -> ProcessingRecords:
    """Return the record and the assessment of each of the client's controllers, and the record of the company that runs the gate.

    A statement without `text` is one that nobody has made: `setting` is where to make it.
    """
    return ProcessingRecords(await _documents(app, client, query.language))


@PROCESSING.endpoint(
    "GET",
    "/v1/records-of-processing/{id}",
    also_answers=(Media(name=PAGE["Content-Type"], kind=None), Media(name=PDF, kind=bytes)),
    errors=("controller.unknown", "subject.template", "extra.missing", "gate.unavailable"),
)
async def export_record_of_processing(
    request: web.Request, app: App, client: Client, *, query: DocumentRequest
) -> web.StreamResponse:
    """Return one document, as a page to print or as PDF, with a mark for each text that is missing."""
    found = await find_document(app, client, request.match_info["id"], query)
    owner = app.config.controllers.get(found.controller)
    party = owner or app.config.settings.processor
    draft = Letter(
        kind="processing", language=query.language, controller_name=found.name, number="", made_at=app.gate.now(),
        controller_contact=party.contact if party else "", officer=party.officer if party else "", processing=found,
        zone=app.config.laws[owner.country].zone if owner else "UTC",
    )  # fmt: skip
    return await render_letter(request, app, client, draft, f"{found.kind}-{found.controller}", query.form)


async def find_document(app: App, client: Client, kind: str, ask: DocumentRequest) -> ProcessingDocument:
    """Return a document. Raises `Refused` if there is none for this client."""
    owner = "" if kind == "processor_record" else app.registrar.access.controller(client, ask.controller).id
    for document in await _documents(app, client, ask.language):
        if (document.kind, document.controller) == (kind, owner):
            return document
    text = "Use record or assessment, or processor_record if `processor` is set in dialgate.yaml."
    raise Refused("request.invalid", text, "id")


async def _documents(app: App, client: Client, language: Language) -> list[ProcessingDocument]:
    has_person = await app.people.has_person()
    return write_documents(app.config, client.controllers, language, app.gate.now(), has_person=has_person)
