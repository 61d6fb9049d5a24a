"""The endpoints for data-subject requests: access, portability, rectification and erasure, and their deadlines."""

from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate import texts
from dialgate.app import App
from dialgate.audit.lookups import Reason
from dialgate.cluster.personal_data import CaseInfo
from dialgate.config.clients import Client
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.endpoint import JSON_ERRORS, Endpoint, EndpointGroup, Media, Parameter
from dialgate.interfaces.http.errors import convert
from dialgate.subjects import page
from dialgate.subjects.schemas import (
    CaseRequest,
    Cases,
    CaseStep,
    Erasure,
    ErasureRequest,
    Portable,
    RectificationRequest,
    Rectified,
    Report,
)

_PAGE: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_rectification: Final = msgspec.json.Decoder(RectificationRequest)


class _Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: Reason
    controller: str = ""


class _ReportQuery(_Query, frozen=True, kw_only=True):
    language: texts.Language | None = None


async def report(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Send the report about a data subject as JSON, or as HTML if the request has `language` or accepts HTML."""
    query = convert(dict(http_body.query(request)), _ReportQuery)
    content = await app.subjects.report(client, query.controller, request.match_info["number"], query.purpose)
    if query.language is None and "text/html" not in request.headers.get("Accept", ""):
        return http_body.reply_json(content)
    language = query.language or texts.preferred(request.headers.get("Accept-Language", ""), "it")
    return web.Response(text=page.page(content, language), headers=_PAGE)


async def portable(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    query = convert(dict(http_body.query(request)), _Query)
    number = request.match_info["number"]
    data = await app.subjects.export_portable(client, query.controller, number, query.purpose)
    return http_body.reply_json(data)


async def record_request(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = await http_body.read_json(request, app, CaseRequest)
    case = await app.subjects.record_request(client, request.match_info["number"], body)
    return http_body.reply_json(case, 201)


async def rectify(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = await http_body.read_open(request, app, client, _rectification)
    rectified = await app.subjects.rectify(client, request.match_info["number"], body)
    return http_body.reply_json(rectified, 201)


async def erase(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = await http_body.read_json(request, app, ErasureRequest)
    erasure = await app.subjects.erasing.erase(client, request.match_info["number"], body)
    return http_body.reply_json(erasure)


async def cases(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    return http_body.reply_json(Cases(await app.subjects.deadlines.open_cases(client)))


async def move(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = await http_body.read_json(request, app, CaseStep)
    case = await app.subjects.deadlines.move(client, request.match_info["id"], body)
    return http_body.reply_json(case)


# ---- descriptions for /openapi.json ------------------------------------------------------------------------------------

_GROUP: Final = EndpointGroup(
    "Data-subject requests",
    "Access, portability, rectification and erasure of the data about a number, and the deadlines of requests.",
)
_NUMBER: Final = Parameter(
    name="number", about="The data subject's number, in E.164.", required=True, place="path"
)
PURPOSE: Final = Parameter(
    name="purpose",
    about="Reason for the look-up. It is recorded, and the data subject may see it.",
)
_CONTROLLER: Final = Parameter(
    name="controller", about="Required only if the client has several controllers."
)
_LANGUAGE: Final = Parameter(
    name="language",
    about="Respond with an HTML page in this language.",
)
_LOOKING: Final = (
    "number.invalid",
    "controller.unknown",
    "lookup.throttled",
    "store.unavailable",
    "gate.unavailable",
)
_ACTING: Final = (
    *JSON_ERRORS, "number.invalid", "controller.unknown", "subject.unknown", "subject.closed", "store.unavailable",
    "gate.unavailable",
)  # fmt: skip


def _endpoint(method: str, path: str, name: str, about: str, serve: Any, **more: Any) -> Endpoint:
    return Endpoint(
        method=method, path=path, name=name, group=_GROUP, about=about, serve=serve, scope="subjects", **more
    )


SUBJECT_ENDPOINTS: Final = (
    _endpoint("GET", "/v1/subjects/{number}", "getSubjectData",
        "Return all data about a number, and the clients that looked it up (GDPR Article 15). As JSON, or as a page in Italian or English.",
        report, answer=Report, query=_ReportQuery, parameters=(_NUMBER, PURPOSE, _CONTROLLER, _LANGUAGE),
        also_answers=(Media(name=_PAGE["Content-Type"], kind=None),), errors=_LOOKING),
    _endpoint("GET", "/v1/subjects/{number}/portability", "exportSubjectData",
        "Return the data that the data subject provided, for another controller (GDPR Article 20).",
        portable, answer=Portable,
        query=_Query, parameters=(_NUMBER, PURPOSE, _CONTROLLER), errors=_LOOKING),
    _endpoint("POST", "/v1/subjects/{number}/requests", "addSubjectRequest",
        "Record a data-subject request, and how the person's identity was checked. It is due within a month (GDPR Article 12(3)).",
        record_request, answer=CaseInfo, parameters=(_NUMBER,), status=201, ask=CaseRequest,
        errors=(*JSON_ERRORS, "number.invalid", "controller.unknown", "store.unavailable", "gate.unavailable")),
    _endpoint("POST", "/v1/subjects/{number}/rectification", "rectifySubjectData",
        "Correct a consent, contract or call request by adding a new entry (GDPR Article 16). The wrong entry stays in the history.",
        rectify, answer=Rectified, parameters=(_NUMBER,), status=201,
        ask=RectificationRequest,
        errors=(*_ACTING, "ledger.unknown")),
    _endpoint("POST", "/v1/subjects/{number}/erasure", "eraseSubjectData",
        "Erase the data about a number, and suppress the number (GDPR Article 17). Data that must be kept is restricted instead. The "
        "response gives the reason for each item.",
        erase, answer=Erasure, parameters=(_NUMBER,), ask=ErasureRequest,
        errors=_ACTING),
    _endpoint("GET", "/v1/subject-requests", "listSubjectRequests", "Return the open data-subject requests, the most urgent first.", cases,
        answer=Cases, errors=("store.unavailable", "gate.unavailable")),
    _endpoint("POST", "/v1/subject-requests/{id}", "updateSubjectRequest",
        "Close a data-subject request as answered or refused, or extend its deadline by two months. The `reason` records "
        "the response to the person.",
        move, answer=CaseInfo,
        parameters=(Parameter(name="id", about="Request ID.", required=True, place="path"),),
        ask=CaseStep,
        errors=(*JSON_ERRORS, "subject.unknown", "subject.closed", "store.unavailable", "gate.unavailable")),
)  # fmt: skip
