"""The check in the words of OpenID AuthZEN Authorization API 1.0, for clients that know that and nothing of us.

| AuthZEN | here |
|---|---|
| `subject` of type `campaign`, `properties.caller_id` | the campaign, and the number to be shown |
| `action` named `call` | the only one |
| `resource` of type `phone_number` | the number to be dialled |
| `context.call_id`, `context.call_type` | as in `POST /v1/check`; may be left out |

What else stands in properties or context is ignored, as the standard wants. `decision` is true only for an allow that is
on the disk.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.core.responses import Answer
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.bulk import BULK, answer_each
from dialgate.interfaces.http.check import CheckRequest, call
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.errors import JSON_HEADERS, Fault, convert, decode

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
CONFIGURATION: Final = "/.well-known/authzen-configuration"
_INTERFACE: Final = "authzen"
_REQUEST_ID: Final = "X-Request-ID"
_LONGEST_ID: Final = 128
_AGAIN: Final = {"Retry-After": "1"}

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


class Subject(Struct, frozen=True, kw_only=True):
    """`properties.caller_id` is the number that the called person will see."""

    type: str
    id: str
    properties: dict[str, Any] = {}


class Action(Struct, frozen=True, kw_only=True):
    name: str
    properties: dict[str, Any] = {}


class Resource(Struct, frozen=True, kw_only=True):
    type: str
    id: str
    properties: dict[str, Any] = {}


class Evaluation(Struct, frozen=True, kw_only=True):
    subject: Subject
    action: Action
    resource: Resource
    context: dict[str, Any] = {}


class Options(Struct, frozen=True):
    evaluations_semantic: Semantic = "execute_all"


class Evaluations(Struct, frozen=True, kw_only=True):
    """What an evaluation leaves out is taken from the whole. Without any, the whole is the one evaluation."""

    subject: dict[str, Any] | None = None
    action: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    evaluations: list[dict[str, Any]] = []
    options: Options = Options()


class Verdict(Struct, frozen=True, omit_defaults=True):
    """`context` holds what `POST /v1/check` tells, or the `error` of an evaluation among many."""

    decision: bool
    context: dict[str, Any] = {}


class Verdicts(Struct, frozen=True):
    evaluations: list[Verdict]


class Configuration(Struct, frozen=True):
    policy_decision_point: str
    access_evaluation_endpoint: str
    access_evaluations_endpoint: str


_evaluation: Final = msgspec.json.Decoder(Evaluation)
_evaluations: Final = msgspec.json.Decoder(Evaluations)


async def evaluation(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = await http_body.whole(request, app.config.settings.limits)
    return await _one(question(body), app, client)


def question(body: bytes) -> CheckRequest:
    """Raises `Fault`."""
    return _question(decode(_evaluation, body))


async def evaluations(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    limits = app.config.settings.limits
    whole = decode(_evaluations, await http_body.whole(request, limits))
    if not whole.evaluations:
        return await _one(_question(convert(_completed({}, whole), Evaluation)), app, client)
    if len(whole.evaluations) > limits.batch_calls:
        raise Fault(
            413, "batch.too_large", f"Send at most {limits.batch_calls} evaluations.", field="evaluations"
        )
    each = (_completed(one, whole) for one in whole.evaluations)
    stop = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(
        whole.options.evaluations_semantic
    )
    verdicts = (
        await _in_turn(each, app, client, stop)
        if stop is not None
        else await _at_once(each, app, client, request.app[BULK])
    )
    return web.Response(body=msgspec.json.encode(Verdicts(verdicts)), headers=JSON_HEADERS)


async def configuration(request: web.Request) -> web.StreamResponse:
    """By the name that it was asked by; behind a proxy, that which the proxy hands on."""
    base = f"{request.scheme}://{request.host}"
    told = Configuration(base, base + EVALUATION, base + EVALUATIONS)
    return web.Response(body=msgspec.json.encode(told), headers=JSON_HEADERS)


async def echo_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Whatever is answered: a client that names its request must find the name again (AuthZEN 1.0, 10.1)."""
    given = request.headers.get(_REQUEST_ID, "")
    if 0 < len(given) <= _LONGEST_ID and given.isascii() and given.isprintable():
        response.headers[_REQUEST_ID] = given


async def _one(asked: CheckRequest, app: App, client: Client) -> web.StreamResponse:
    answer = await app.gate.check(call(asked, client, _INTERFACE), client)
    decided = bool(answer.decision_id)
    return web.Response(
        body=msgspec.json.encode(_verdict(answer)),
        status=200 if decided else 503,
        headers=JSON_HEADERS if decided else {**JSON_HEADERS, **_AGAIN},
    )


async def _at_once(each: Iterable[dict[str, Any]], app: App, client: Client, turns: Turns) -> list[Verdict]:
    submit = partial(_submitted, app, client)
    return [
        verdict async for some in answer_each(turns, client.name, each, submit, _verdict) for verdict in some
    ]


async def _in_turn(each: Iterable[dict[str, Any]], app: App, client: Client, stop: bool) -> list[Verdict]:  # noqa: FBT001 - the verdict to stop at
    told: list[Verdict] = []
    for one in each:
        answer = _submitted(app, client, one)
        told.append(answer if isinstance(answer, Verdict) else _verdict(await answer))
        if told[-1].decision is stop:
            break
    return told


def _submitted(app: App, client: Client, one: dict[str, Any]) -> asyncio.Future[Answer] | Verdict:
    """The answer to come, or the verdict on what is no question: a denial in its place, and the others are served."""
    try:
        return app.gate.check(call(_question(convert(one, Evaluation)), client, _INTERFACE), client)
    except Fault as fault:
        problem = msgspec.to_builtins(fault.problem)
        return Verdict(decision=False, context={"error": {"status": fault.status, **problem}})


def _completed(one: dict[str, Any], whole: Evaluations) -> dict[str, Any]:
    defaults = {name: getattr(whole, name) for name in ("subject", "action", "resource", "context")}
    return {name: value for name, value in defaults.items() if value is not None} | one


def _question(asked: Evaluation) -> CheckRequest:
    for given, wanted, field in (
        (asked.subject.type, "campaign", "subject.type"),
        (asked.action.name, "call", "action.name"),
        (asked.resource.type, "phone_number", "resource.type"),
    ):
        if given != wanted:
            raise Fault(400, "request.invalid", f"This gate knows only `{wanted}` here.", field=field)
    fields = {
        "to": asked.resource.id,
        "from": asked.subject.properties.get("caller_id", ""),
        "campaign": asked.subject.id,
        **{name: asked.context[name] for name in ("call_id", "call_type") if asked.context.get(name)},
    }
    return convert(fields, CheckRequest)


def _verdict(answer: Answer) -> Verdict:
    told = msgspec.to_builtins(answer)
    return Verdict(decision=told.pop("decision") == "allow", context=told)
