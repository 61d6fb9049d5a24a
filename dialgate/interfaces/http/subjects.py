"""The rights of the person called: what may be asked for a number, and what is open."""

from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.audit.lookups import Reason
from dialgate.cluster.personal_data import CaseInfo
from dialgate.config.clients import Client
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import convert, decode
from dialgate.interfaces.http.openapi import Endpoint, Parameter
from dialgate.subjects import page
from dialgate.subjects.page import LANGUAGES, Language
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

_encode: Final = msgspec.json.Encoder().encode
_PAGE: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class _Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: Reason
    controller: str = ""


class _AskedReport(_Asked, frozen=True, kw_only=True):
    language: Language | None = None


async def report(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """As a page where one is asked for, by `language` or by `Accept`."""
    asked = convert(dict(http_body.query(request)), _AskedReport)
    told = await app.subjects.report(client, asked.controller, request.match_info["number"], asked.purpose)
    if asked.language is None and "text/html" not in request.headers.get("Accept", ""):
        return http_body.reply(_encode(told))
    language = asked.language or _preferred(request.headers.get("Accept-Language", ""))
    return web.Response(text=page.page(told, language), headers=_PAGE)


def _preferred(accepted: str) -> Language:
    """The first of ours that is named; browsers write them in the order of preference."""
    for part in accepted.lower().split(","):
        for language in LANGUAGES:
            if part.strip().startswith(language):
                return language
    return "it"


async def portable(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked = convert(dict(http_body.query(request)), _Asked)
    number = request.match_info["number"]
    told = await app.subjects.portable(client, asked.controller, number, asked.purpose)
    return http_body.reply(_encode(told))


_case: Final = msgspec.json.Decoder(CaseRequest)
_step: Final = msgspec.json.Decoder(CaseStep)
_rectification: Final = msgspec.json.Decoder(RectificationRequest)
_erasure: Final = msgspec.json.Decoder(ErasureRequest)


async def ask(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = decode(_case, await http_body.whole(request, app.config.settings.limits))
    told = await app.subjects.ask(client, request.match_info["number"], body)
    return http_body.reply(_encode(told), 201)


async def rectify(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = decode(_rectification, await http_body.whole(request, app.config.settings.limits))
    told = await app.subjects.rectify(client, request.match_info["number"], body)
    return http_body.reply(_encode(told), 201)


async def erase(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = decode(_erasure, await http_body.whole(request, app.config.settings.limits))
    told = await app.subjects.erasing.erase(client, request.match_info["number"], body)
    return http_body.reply(_encode(told))


async def cases(_: web.Request, app: App, client: Client) -> web.StreamResponse:
    return http_body.reply(_encode(Cases(await app.subjects.deadlines.open_cases(client))))


async def move(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = decode(_step, await http_body.whole(request, app.config.settings.limits))
    told = await app.subjects.deadlines.move(client, request.match_info["id"], body)
    return http_body.reply(_encode(told))


# ---- what /openapi.json says of them -----------------------------------------------------------------------------------

_GROUP: Final = "The person called"
_AT: Final = "2026-11-24T09:00:00.000Z"
_PERSON: Final = "+390612345678"
_ID: Final = "5f0c2a9be41d7703"
_NUMBER: Final = Parameter(
    name="number", about="The person's number.", example=_PERSON, required=True, place="path"
)
PURPOSE: Final = Parameter(
    name="purpose",
    about="Why it is looked up; the person may ask.",
    example=f"request {_ID}",
    required=True,
)
_CONTROLLER: Final = Parameter(
    name="controller", about="May be left out by a client of one controller.", example="acme"
)
_LANGUAGE: Final = Parameter(
    name="language",
    about="As a page to read, in this language.",
    example="it",
    schema={"enum": list(LANGUAGES)},
)
_CASE: Final = {
    "id": _ID,
    "controller": "acme",
    "kind": "erasure",
    "received_at": _AT,
    "due_at": "2026-12-24T09:00:00.000Z",
    "days_left": 30,
    "identified": "code sent to the number and read back",
    "actor": "dpo",
    "channel": "pec",
    "proof": "pec/2026-0417",
}
_CONSENT_HELD: Final = {
    "id": "web-2026-000123",
    "collected_at": _AT,
    "purposes": ["sale"],
    "call_types": ["agent"],
}
_HEAD: Final = {"number": _PERSON, "controller": "acme", "controller_name": "Acme S.p.A.", "made_at": _AT}
_REPORT: Final = {
    **_HEAD,
    "ledger": [
        {
            "seq": 812,
            "at": _AT,
            "kind": "consent",
            "controller": "acme",
            "actor": "ops",
            "channel": "web",
            "proof": "",
            "details": _CONSENT_HELD,
        }
    ],
    "restricted": [],
    "lists": [],
    "registries": [],
    "decisions": [],
    "lookups": [{"at": _AT, "client": "dpo", "what": "everything", "purpose": f"request {_ID}"}],
    "requests": [_CASE],
    "days_of_storage": {"consents": 1826},
    "missing": {},
    "controller_contact": "Via Esempio 1, 00100 Roma, privacy@acme.example",
    "officer": "Dott.ssa Maria Esempio, dpo@acme.example",
    "zone": "Europe/Rome",
}
_RECEIPT: Final = {"seq": 813, "at": _AT}
_ERASURE: Final = {
    "request": _ID,
    "suppression": _RECEIPT,
    "items": [
        {
            "what": "consent",
            "name": "web-2026-000123",
            "done": "erased",
            "why": "no call that may have to be proved was based on it",
            "law": "GDPR art. 17(1)(b)-(c)",
            "until": "",
        }
    ],
}
_LOOKING: Final = (
    "number.invalid",
    "controller.unknown",
    "lookup.throttled",
    "store.unavailable",
    "gate.unavailable",
)
_BODY: Final = ("request.not_json", "request.too_large", "request.timeout")
_ACTING: Final = (
    *_BODY, "number.invalid", "controller.unknown", "subject.unknown", "subject.closed", "store.unavailable",
    "gate.unavailable",
)  # fmt: skip


def _of(method: str, path: str, about: str, serve: Any, answer: Any, example: Any, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        group=_GROUP,
        about=about,
        serve=serve,
        scope="subjects",
        answer=answer,
        answer_example=example,
        **more,
    )


SUBJECT_ENDPOINTS: Final = (
    _of("GET", "/v1/subjects/{number}",
        "Everything held about a number, and who saw it (GDPR 15): as JSON, or as a page in Italian or English.",
        report, Report, _REPORT, parameters=(_NUMBER, PURPOSE, _CONTROLLER, _LANGUAGE), errors=_LOOKING),
    _of("GET", "/v1/subjects/{number}/portability", "What the person provided, for another controller (GDPR 20).",
        portable, Portable,
        {"format": "dialgate-portability-1", **_HEAD, "consents": [_CONSENT_HELD], "contracts": [], "call_requests": []},
        parameters=(_NUMBER, PURPOSE, _CONTROLLER), errors=_LOOKING),
    _of("POST", "/v1/subjects/{number}/requests",
        "Note that the person asked, and how it was established that the number is theirs. A month runs (GDPR 12(3)).",
        ask, CaseInfo, _CASE, parameters=(_NUMBER,), status=201, ask=CaseRequest,
        ask_example={name: _CASE[name] for name in ("kind", "identified", "channel", "proof")},
        errors=(*_BODY, "number.invalid", "controller.unknown", "store.unavailable", "gate.unavailable")),
    _of("POST", "/v1/subjects/{number}/rectification",
        "Set a consent, contract or call request right by a later entry (GDPR 16). The wrong one stays in the history.",
        rectify, Rectified, {"request": _ID, "of": 812, "receipt": _RECEIPT}, parameters=(_NUMBER,), status=201,
        ask=RectificationRequest, ask_example={"request": _ID, "of": 812, "fields": {"goods": ["broadband"]}},
        errors=(*_ACTING, "ledger.unknown")),
    _of("POST", "/v1/subjects/{number}/erasure",
        "Erase what may go, put out of use what must stay, and suppress the number (GDPR 17). Says which and why.",
        erase, Erasure, _ERASURE, parameters=(_NUMBER,), ask=ErasureRequest, ask_example={"request": _ID},
        errors=_ACTING),
    _of("GET", "/v1/subject-requests", "The open requests, the most urgent first.", cases, Cases,
        {"requests": [_CASE]}, errors=("store.unavailable", "gate.unavailable")),
    _of("POST", "/v1/subject-requests/{id}",
        "Answer or refuse a request, or take two more months for it; with what the person was told.",
        move, CaseInfo, {**_CASE, "closed_at": _AT, "outcome": "sent by pec", "days_left": 0},
        parameters=(Parameter(name="id", about="The request.", example=_ID, required=True, place="path"),),
        ask=CaseStep, ask_example={"outcome": "answered", "reason": "sent by pec"},
        errors=(*_BODY, "subject.unknown", "subject.closed", "store.unavailable", "gate.unavailable")),
)  # fmt: skip
