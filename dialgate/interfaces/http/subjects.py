"""The endpoints for data-subject requests: access, portability, rectification and erasure, and their deadlines."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate import texts
from dialgate.app import App
from dialgate.audit.lookups import LookupReason
from dialgate.cluster.personal_data import CaseInfo
from dialgate.config.clients import Client
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.endpoint import EndpointGroup, Media
from dialgate.interfaces.http.own_processes import run_for
from dialgate.ledger.schemas import described
from dialgate.subjects import letter
from dialgate.subjects.casework import report_letter
from dialgate.subjects.schemas import (
    MISSING_HEADER,
    CaseRequest,
    Cases,
    CaseStep,
    Erasure,
    ErasurePreview,
    ErasureRequest,
    ExecutionRequest,
    LetterRequest,
    Portable,
    RectificationRequest,
    Rectified,
    Report,
    SubjectCase,
)

PAGE: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

PDF: Final = "application/pdf"
CSV: Final = "text/csv; charset=utf-8"

_LOOKING: Final = ("number.invalid", "controller.unknown", "lookup.throttled")
_ACTING: Final = ("number.invalid", "controller.unknown", "subject.unknown", "subject.closed")
_CASE: Final = ("subject.unknown", "lookup.throttled")
_rectification: Final = msgspec.json.Decoder(RectificationRequest)

SUBJECTS: Final = EndpointGroup(
    "Data-subject requests",
    "Access, portability, rectification and erasure of the data about a number, and the deadlines of requests.",
    scope="subjects",
    in_path={"number": "The data subject's number, in E.164.", "id": "Request ID."},
    errors=("store.unavailable", "gate.unavailable"),
)


LookupPurpose: TypeAlias = Annotated[
    LookupReason, described("Reason for the look-up. It is recorded, and the data subject may see it.")
]
OnlyController: TypeAlias = Annotated[str, described("Required only if the client has several controllers.")]


class _Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: LookupPurpose
    controller: OnlyController = ""


class _ReportQuery(_Query, frozen=True, kw_only=True):
    language: Annotated[texts.Language | None, described("Respond with an HTML page in this language.")] = (
        None
    )


@SUBJECTS.endpoint(
    "GET",
    "/v1/subjects/{number}",
    answer=Report,
    also_answers=(Media(name=PAGE["Content-Type"], kind=None),),
    errors=_LOOKING,
)
async def get_subject_data(
    request: web.Request, app: App, client: Client, *, query: _ReportQuery
) -> web.StreamResponse:
    """Return all data about a number, and the clients that looked it up (GDPR Article 15).

    As JSON, or as a page in Italian or English.
    """
    report = await app.subjects.report(client, query.controller, request.match_info["number"], query.purpose)
    if query.language is None and "text/html" not in request.headers.get("Accept", ""):
        return http_body.reply_json(report)
    language = query.language or texts.preferred(request.headers.get("Accept-Language", ""), "it")
    return _page(
        letter.render(report_letter(report, language, app.gate.now()), letters_of(app)), report.missing
    )


def letters_of(app: App) -> Path:
    """Return the operator's folder of letter templates, which need not exist."""
    return app.config.folder / letter.FOLDER


def _page(text: str, missing: Collection[str] = ()) -> web.Response:
    """Return a letter as a page. A header names the gates whose data it lacks."""
    return web.Response(
        text=text, headers=PAGE | ({MISSING_HEADER: ", ".join(sorted(missing))} if missing else {})
    )


@SUBJECTS.endpoint("GET", "/v1/subjects/{number}/portability", errors=_LOOKING)
async def export_subject_data(request: web.Request, app: App, client: Client, *, query: _Query) -> Portable:
    """Return the data that the data subject provided, for another controller (GDPR Article 20)."""
    number = request.match_info["number"]
    return await app.subjects.export_portable(client, query.controller, number, query.purpose)


@SUBJECTS.endpoint(
    "POST", "/v1/subjects/{number}/requests", status=201, errors=("number.invalid", "controller.unknown")
)
async def add_subject_request(
    request: web.Request, app: App, client: Client, *, ask: CaseRequest
) -> CaseInfo:
    """Record a data-subject request, and how the person's identity was checked. It is due within a month (GDPR Article 12(3))."""
    return await app.subjects.record_request(client, request.match_info["number"], ask)


@SUBJECTS.endpoint(
    "POST",
    "/v1/subjects/{number}/rectification",
    ask=RectificationRequest,
    status=201,
    errors=(*_ACTING, "ledger.unknown"),
)
async def rectify_subject_data(request: web.Request, app: App, client: Client) -> Rectified:
    """Correct a consent, contract or call request by adding a new entry (GDPR Article 16). The wrong entry stays in the history.

    The request stays open for the answer to the person.
    """
    rectification = await http_body.read_open(request, app, client, _rectification)
    return await app.subjects.rectify(client, request.match_info["number"], rectification)


@SUBJECTS.endpoint("POST", "/v1/subjects/{number}/erasure", errors=_ACTING)
async def erase_subject_data(
    request: web.Request, app: App, client: Client, *, ask: ErasureRequest
) -> Erasure:
    """Erase the data about a number, and suppress the number (GDPR Article 17).

    Data that must be kept is restricted instead. The response gives the reason for each item. The request stays open for the answer
    to the person.
    """
    return await app.subjects.erasing.erase(client, request.match_info["number"], ask)


@SUBJECTS.endpoint("GET", "/v1/subject-requests")
async def list_subject_requests(_: web.Request, app: App, client: Client) -> Cases:
    """Return the open data-subject requests, the most urgent first."""
    return Cases(await app.subjects.deadlines.open_cases(client))


@SUBJECTS.endpoint("GET", "/v1/subject-register", also_answers=(Media(name=CSV, kind=bytes),))
async def export_subject_register(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Return the register of data-subject requests as CSV: what was requested, when, what was answered and by whom. It has no number."""
    return web.Response(text=await app.casework.register(client), headers=PAGE | {"Content-Type": CSV})


class _CaseQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: Annotated[
        LookupReason | None,
        described(
            "Reason for showing the number and the address. It is recorded. Without it, they are left out."
        ),
    ] = None


class PurposeQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: LookupPurpose


@SUBJECTS.endpoint("GET", "/v1/subject-requests/{id}", errors=_CASE)
async def get_subject_request(
    request: web.Request, app: App, client: Client, *, query: _CaseQuery
) -> SubjectCase:
    """Return a data-subject request with its steps. With a purpose, also the number and the person's address."""
    return await app.casework.show(client, request.match_info["id"], query.purpose or "")


@SUBJECTS.endpoint("GET", "/v1/subject-requests/{id}/erasure", errors=_CASE)
async def preview_subject_erasure(
    request: web.Request, app: App, client: Client, *, query: PurposeQuery
) -> ErasurePreview:
    """Return what an erasure would erase, restrict and keep now, and why. Nothing is changed; the look-up is recorded."""
    return await app.casework.preview_erasure(client, request.match_info["id"], query.purpose)


@SUBJECTS.endpoint(
    "POST",
    "/v1/subject-requests/{id}/execution",
    errors=("subject.unknown", "subject.closed", "ledger.unknown"),
)
async def execute_subject_request(
    request: web.Request, app: App, client: Client, *, ask: ExecutionRequest
) -> SubjectCase:
    """Do what a rectification, erasure, restriction or objection asks for. The request stays open for the answer to the person.

    An objection or a restriction stops the controller's calls to the number. It can be repeated if it was interrupted.
    """
    return await app.casework.execute(client, request.match_info["id"], ask)


@SUBJECTS.endpoint("POST", "/v1/subject-requests/{id}", errors=("subject.unknown", "subject.closed"))
async def update_subject_request(
    request: web.Request, app: App, client: Client, *, ask: CaseStep
) -> CaseInfo:
    """Close a data-subject request as answered, refused or withdrawn, extend its deadline by two months, or add a remark.

    The `reason` records the response to the person, or the remark.
    """
    return await app.subjects.deadlines.move(client, request.match_info["id"], ask)


@SUBJECTS.endpoint(
    "POST",
    "/v1/subject-requests/{id}/letter",
    also_answers=(Media(name=PAGE["Content-Type"], kind=None), Media(name=PDF, kind=bytes)),
    errors=("subject.unknown", "subject.premature", "subject.template", "extra.missing", "lookup.throttled"),
)
async def export_subject_letter(
    request: web.Request, app: App, client: Client, *, ask: LetterRequest
) -> web.StreamResponse:
    """Return a letter about a data-subject request, to sign and send: as a page, or as PDF.

    The request fixes the controller and the number. The look-up is recorded.
    """
    name = request.match_info["id"]
    draft = await app.casework.write_letter(client, name, ask)
    return await render_letter(request, app, client, draft, name, ask.form)


async def render_letter(
    request: web.Request, app: App, client: Client, draft: letter.Letter, name: str, form: str
) -> web.Response:
    """Return a letter as a page, or as PDF with a file name for `name`. Raises `Refused`."""
    text = letter.render(draft, letters_of(app))
    if form == "html":
        return _page(text, draft.report.missing if draft.report else ())
    body = await run_for(request, client, partial(letter.pdf, text))
    file = f'inline; filename="{draft.kind}-{name}.pdf"'
    return web.Response(body=body, headers={**PAGE, "Content-Type": PDF, "Content-Disposition": file})
