"""What was decided, told to who may read it: all about one number, or one decision by its id.

A client sees the decisions of its own controllers, and those that it asked for itself in a campaign that nobody has;
of others it is told what it would be told if there were none.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct, structs

from dialgate import texts
from dialgate.app import App
from dialgate.audit import explanation, number_history
from dialgate.audit.explanation import Account
from dialgate.audit.lookups import Reason
from dialgate.audit.number_history import BEGINNING, Found, Inquiry, Sees
from dialgate.cluster.decision_search import DecisionSearch
from dialgate.cluster.peer_questions import FindDecisions
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.decision_ids import PATTERN, owner_of
from dialgate.core.name_suggestions import choose
from dialgate.crypto.keys import Keys
from dialgate.interfaces.http import body
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.errors import Fault, convert
from dialgate.interfaces.http.openapi import Endpoint, Parameter
from dialgate.interfaces.http.subjects import PURPOSE
from dialgate.texts import Language

_T = TypeVar("_T")
_encode: Final = msgspec.json.Encoder().encode
# One at a time: reading the log must not take the machine from those who ask before a call.
TURN: Final = web.AppKey("TURN", Turns)


class Accounts(Struct, frozen=True, kw_only=True):
    """Newest first, of every gate on the store. `more`: there are older ones; ask again with `before`. `notices` say in words what
    is not there: that nothing was decided, that the keys of `retired_months` are gone, or that the gates in `missing` could not be
    asked, each with why."""

    decisions: list[Account]
    more: bool
    retired_months: list[str]
    notices: list[str]
    language: Language
    missing: Mapping[str, str] = {}


class _AboutNumber(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: str
    purpose: Reason
    controller: str = ""
    language: Language | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[str, Meta(pattern=f"^({PATTERN})?$")] = ""


class _OneDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    language: Language | None = None


async def about_number(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    fields = dict(body.query(request))
    if fields.get("number", "").startswith(" "):  # a plus that was not encoded
        fields["number"] = f"+{fields['number'][1:]}"
    asked = convert(fields, _AboutNumber)
    language = asked.language or _preferred(request)
    number = _number(asked, client, app.config)
    sees = Sees.of(client.name, client.controllers, asked.controller)
    await app.subjects.saw(client, asked.controller, number, "decisions", asked.purpose)
    logs = everywhere(request.app, app, client.name)
    question = FindDecisions(number=number, sees=sees, most=asked.limit + 1)
    if asked.before:
        before, unheard = await logs.position(app.registrar.ids.inside(client, asked.before), sees)
        if before is None and unheard:
            known(None, unheard)
        question = structs.replace(question, before=before or BEGINNING)
    decisions, missing = await logs.about(question)
    told = [told_outside(app, each, language) for each in decisions.found[: asked.limit]]
    answer = Accounts(
        decisions=told,
        more=len(decisions.found) > asked.limit,
        retired_months=decisions.retired,
        notices=explanation.notices(
            language, decisions.retired, missing, nothing=not told and not asked.before
        ),
        language=language,
        missing=missing,
    )
    return body.reply(_encode(answer))


async def one_decision(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked = convert(dict(body.query(request)), _OneDecision)
    sees = Sees.of(client.name, client.controllers)
    name = app.registrar.ids.inside(client, request.match_info["id"])
    logs = everywhere(request.app, app, client.name)
    found, missing = await logs.one(name, sees) if name else (None, {})
    told = told_outside(app, known(found, missing), asked.language or _preferred(request))
    return body.reply(_encode(structs.replace(told, missing=missing)))


def everywhere(site: web.Application, app: App, client: str) -> DecisionSearch:
    return DecisionSearch(partial(inquire, site, app, client), app.subjects.peers)


def told_outside(app: App, found: Found, language: Language) -> Account:
    """An account as a client sees it: where several controllers share the gate, its place in the log is left out."""
    told = explanation.account(found, language, _names(app.config))
    if not app.config.shared:
        return told
    record = found.record
    owner = owner_of(record.facts.controller.id, record.client)
    return structs.replace(
        told,
        decision_id=app.registrar.ids.outside(record.id, owner),
        seq=0,
        reasons=app.registrar.ids.worded(told.reasons),
    )


def known(found: Found | None, missing: Mapping[str, str]) -> Found:
    """Raises `Fault` where there is none, or where that cannot be told."""
    if found is not None:
        return found
    if missing:
        raise Fault(
            503,
            "peer.unheard",
            f"Nothing here has this id, and these gates could not be asked: {', '.join(missing)}.",
        )
    raise Fault(404, "decision.unknown", "No decision of yours has this id; mend it.", field="id")


async def inquire(site: web.Application, app: App, client: str, look_up: Callable[[Inquiry], _T], /) -> _T:
    data = app.config.data

    def run() -> _T:
        return look_up(Inquiry(data, Keys.open(data / "keys.json")))

    async with site[TURN].of(client):
        return await asyncio.to_thread(run)


def _preferred(request: web.Request) -> Language:
    return texts.preferred(request.headers.get("Accept-Language", ""))


def _names(config: Config) -> dict[str, str]:
    return {controller.id: controller.name for controller in config.controllers.values()}


def _number(asked: _AboutNumber, client: Client, config: Config) -> str:
    """In E.164; without a country code it is read as one of the controller's country."""
    owned = [name for name in client.controllers if asked.controller in {"", name}]
    if not owned:
        text = choose("Name one of your controllers", client.controllers)
        raise Fault(404, "controller.unknown", text, field="controller")
    try:
        return number_history.e164(asked.number, config.controllers[owned[0]].country)
    except number_history.NumberUnreadable as problem:
        raise Fault(
            400, "number.invalid", f"The number {problem}; send it in E.164.", field="number"
        ) from None


_EXAMPLE: Final = {
    "decision_id": "9f2c01ab-4712",
    "at": "2026-11-24T09:00:00.000Z",
    "decision": "deny",
    "controller": "acme",
    "campaign": "acme-fibre",
    "caller_id": "+390844123456",
    "call_type": "agent",
    "reasons": [
        {
            "code": "registry.listed",
            "severity": "statute",
            "law": "D.P.R. 26/2022 art. 8 c. 2",
            "text": "enrolled, by rpo consultation rpo-2026-11-20",
        }
    ],
    "basis": None,
    "registries": [
        {
            "registry": "rpo",
            "answer": "listed",
            "consulted_at": "2026-11-20T06:00:00.000Z",
            "consultation": "rpo-2026-11-20",
            "receipt": "4711",
        }
    ],
    "lists": [],
    "outcomes": [],
    "checks": [
        {
            "rule": "registry_clear",
            "about": "That the opposition register was asked and says no.",
            "result": "deny",
        }
    ],
    "client": "dialer-7",
    "interface": "http",
    "seq": 4712,
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "law": "5f0c0d2b6f9e7a2f2a0d4c7c8c1e8e5d9a1c3b7f6e5d4c3b2a19080706050403",
    "config": "0b3a1f5c8e7d6c5b4a392817161514131211100f0e0d0c0b0a09080706050403",
    "snapshot": "0123456789abcdef",
    "words": ["On 24 November 2026 at 10:00 (Europe/Rome) a call to this number … was refused."],
}
_LANGUAGE: Final = Parameter(
    name="language",
    about="Of the words: `it` or `en`; else as `Accept-Language` says.",
    example="it",
    schema={"enum": list(texts.LANGUAGES)},
)
_GROUP: Final = "Decisions"
_ERRORS: Final = ("gate.unavailable",)

DECISIONS: Final = (
    Endpoint(
        method="GET",
        path="/v1/decisions",
        group=_GROUP,
        about=(
            "Every decision about a number, newest first, in words for the person it was about. Also those of retired "
            "lists and past campaigns; not those of months whose keys are retired, which it says."
        ),
        serve=about_number,
        scope="read",
        parameters=(
            Parameter(name="number", about="The person's number.", example="+390612345678", required=True),
            PURPOSE,
            Parameter(name="controller", about="Of this controller only.", example="acme"),
            _LANGUAGE,
            Parameter(name="limit", about="At most so many; 100 if not given, 1000 at most.", example="100"),
            Parameter(name="before", about="Older than this decision.", example="9f2c01ab-4712"),
        ),
        answer=Accounts,
        answer_example={
            "decisions": [_EXAMPLE],
            "more": False,
            "retired_months": [],
            "notices": [],
            "language": "en",
        },
        errors=("number.invalid", "controller.unknown", "lookup.throttled", *_ERRORS),
    ),
    Endpoint(
        method="GET",
        path="/v1/decisions/{id}",
        group=_GROUP,
        about="One decision, with what became of the call.",
        serve=one_decision,
        scope="read",
        parameters=(
            Parameter(name="id", about="The decision.", example="9f2c01ab-4712", required=True, place="path"),
            _LANGUAGE,
        ),
        answer=Account,
        answer_example=_EXAMPLE,
        errors=("decision.unknown", "peer.unheard", *_ERRORS),
    ),
)
