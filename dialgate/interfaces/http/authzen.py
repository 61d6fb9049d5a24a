"""The check in OpenID AuthZEN Authorization API 1.0 format.

    | AuthZEN | dialgate |
    |---|---|
    | `subject` of type `campaign`, `properties.caller_id` | the campaign, and the caller ID to show |
    | `action` named `call` | the only action |
    | `resource` of type `phone_number` | the number to dial |
    | `context.call_id`, `context.call_type` | the same as for `POST /v1/check`; optional |

All other properties and context fields are ignored, as the standard requires. `decision` is true only if the call is
allowed and the decision is on disk.
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
from dialgate.interfaces.http.check import CheckRequest, call, refuse_throttled
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.errors import AGAIN, Fault, convert

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
CONFIGURATION: Final = "/.well-known/authzen-configuration"
_INTERFACE: Final = "authzen"
_REQUEST_ID: Final = "X-Request-ID"
_LONGEST_ID: Final = 128

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


class Subject(Struct, frozen=True, kw_only=True):
    """The campaign for the call. `properties.caller_id` is the caller ID to show."""

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
    """A batch of evaluations and their default values. Without `evaluations`, the defaults form a single evaluation."""

    subject: dict[str, Any] | None = None
    action: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    evaluations: list[dict[str, Any]] = []
    options: Options = Options()


class Verdict(Struct, frozen=True, omit_defaults=True):
    """The result of an evaluation.

    `context` holds the response fields from `POST /v1/check`, or the `error` for an evaluation in a batch.
    """

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
    return await _one(question(await http_body.read_open(request, app, client, _evaluation)), app, client)


async def evaluations(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    limits = app.config.settings.limits
    whole = await http_body.read_open(request, app, client, _evaluations)
    if not whole.evaluations:
        return await _one(question(convert(_completed({}, whole), Evaluation)), app, client)
    if len(whole.evaluations) > limits.batch_calls:
        raise Fault(
            413,
            "batch.too_large",
            f"The batch has more than {limits.batch_calls} evaluations. Send fewer.",
            field="evaluations",
        )
    completed = (_completed(fields, whole) for fields in whole.evaluations)
    stop = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(
        whole.options.evaluations_semantic
    )
    verdicts = (
        await _in_turn(completed, app, client, stop)
        if stop is not None
        else await _at_once(completed, app, client, request.app[BULK])
    )
    return http_body.reply_json(Verdicts(verdicts))


async def configuration(request: web.Request) -> web.StreamResponse:
    """Respond with the URLs for the AuthZEN endpoints on the host that the client used."""
    base = f"{request.scheme}://{request.host}"
    return http_body.reply_json(Configuration(base, base + EVALUATION, base + EVALUATIONS))


async def echo_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Copy the request ID into the response, even if the response is an error (AuthZEN 1.0, 10.1)."""
    request_id = request.headers.get(_REQUEST_ID, "")
    if 0 < len(request_id) <= _LONGEST_ID and request_id.isascii() and request_id.isprintable():
        response.headers[_REQUEST_ID] = request_id


async def _one(check_request: CheckRequest, app: App, client: Client) -> web.StreamResponse:
    answer = await app.gate.check(call(check_request, client, _INTERFACE), client)
    refuse_throttled(answer)
    verdict = verdict_of(answer)
    return http_body.reply_json(verdict) if answer.decision_id else http_body.reply_json(verdict, 503, AGAIN)


async def _at_once(
    evaluations: Iterable[dict[str, Any]], app: App, client: Client, turns: Turns
) -> list[Verdict]:
    submit = partial(_submit, app, client)
    return [
        verdict
        async for chunk in answer_each(turns, client.name, evaluations, submit, verdict_of)
        for verdict in chunk
    ]


async def _in_turn(
    evaluations: Iterable[dict[str, Any]],
    app: App,
    client: Client,
    stop: bool,  # noqa: FBT001 - the verdict to stop at
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for fields in evaluations:
        answer = _submit(app, client, fields)
        verdicts.append(answer if isinstance(answer, Verdict) else verdict_of(await answer))
        if verdicts[-1].decision is stop:
            break
    return verdicts


def _submit(app: App, client: Client, fields: dict[str, Any]) -> asyncio.Future[Answer] | Verdict:
    """Submit an evaluation. If it is malformed, return a denial, so that the other evaluations are still decided."""
    try:
        return app.gate.check(call(question(convert(fields, Evaluation)), client, _INTERFACE), client)
    except Fault as fault:
        problem = msgspec.to_builtins(fault.problem)
        return Verdict(decision=False, context={"error": {"status": fault.status, **problem}})


def _completed(fields: dict[str, Any], whole: Evaluations) -> dict[str, Any]:
    defaults = {name: getattr(whole, name) for name in ("subject", "action", "resource", "context")}
    return {name: value for name, value in defaults.items() if value is not None} | fields


def question(request: Evaluation) -> CheckRequest:
    """Convert an evaluation to a check. Raises `Fault`."""
    for value, required, field in (
        (request.subject.type, "campaign", "subject.type"),
        (request.action.name, "call", "action.name"),
        (request.resource.type, "phone_number", "resource.type"),
    ):
        if value != required:
            raise Fault(400, "request.invalid", f"`{field}` must be `{required}`.", field=field)
    context = request.context
    fields = {
        "to": request.resource.id,
        "from": request.subject.properties.get("caller_id", ""),
        "campaign": request.subject.id,
        **{name: context[name] for name in ("call_id", "call_type") if context.get(name)},
    }
    return convert(fields, CheckRequest)


def verdict_of(answer: Answer) -> Verdict:
    context = msgspec.to_builtins(answer)
    return Verdict(decision=context.pop("decision") == "allow", context=context)
