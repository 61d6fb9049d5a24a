"""The handlers for checks before calls: in JSON, as text for dialplans, in batches and streams, and as simulations."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta, Struct, structs

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.model import AUTO, OPTIONAL_CALL_FIELDS, Call
from dialgate.core.reasons import classify
from dialgate.core.responses import Answer, Simulation
from dialgate.gate.admission_queue import AnswerFuture
from dialgate.gate.client_limits import THROTTLED
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.access import admit
from dialgate.interfaces.http.answer_types import Deny
from dialgate.interfaces.http.bulk import BULK, CHECK_STREAMS, answer_each, too_many_streams
from dialgate.interfaces.http.connection import connection_of
from dialgate.interfaces.http.endpoint import BODY_ERRORS, FORM, NDJSON, EndpointGroup, Media, parameters_of
from dialgate.interfaces.http.errors import (
    AGAIN,
    FAILURES,
    JSON_HEADERS,
    Failed,
    Fault,
    convert,
    decode,
    encoded,
    fault_of,
)
from dialgate.ledger.repeated_names import find_repeated_at_top

_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
_FORM: Final = {"Content-Type": FORM, "Cache-Control": "no-store"}
_NDJSON: Final = {"Content-Type": NDJSON, "Cache-Control": "no-store"}


class SimulateRequest(Call, frozen=True, kw_only=True, gc=False):
    """A call to simulate. `at` is the time of the call in RFC 3339 format. Default: now."""

    at: Annotated[datetime, Meta(tz=True)] | None = None


class ChecksRequest(Struct, frozen=True, forbid_unknown_fields=True):
    calls: list[Call]


class _RawChecks(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch whose calls are decoded one by one, so that one malformed call does not fail the others."""

    calls: list[msgspec.Raw]


_Item = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "anyOf": [{"$ref": "#/components/schemas/Answer"}, {"$ref": "#/components/schemas/Failed"}]
        }
    ),
]


class Answers(Struct, frozen=True):
    """The answers, in the order of the calls. A malformed call gets an error instead."""

    answers: list[_Item]


_TOO_MANY: Final = (
    "This client checks more calls than its setting `calls_per_second`. Repeat the request in a second."
)
_PART_BYTES: Final = 64 << 10
_check: Final = msgspec.json.Decoder(Call)
_checks: Final = msgspec.json.Decoder(_RawChecks)
_encode: Final = msgspec.json.Encoder().encode
CHECKS: Final = EndpointGroup(
    "The check",
    "Check calls, one at a time or in batches. Simulate calls. Report the outcomes of allowed calls.",
    scope="check",
)
_CANNOT_DECIDE: Final = "The gate cannot decide. Do not call; repeat the request."


@CHECKS.endpoint(
    "POST",
    "/v1/check",
    ask=Call,
    answer=Answer,
    other_statuses=((503, _CANNOT_DECIDE, Deny),),
    errors=("rate.exceeded",),
)
async def check_call(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Check whether a call may be placed. The decision is on disk before the response is sent."""
    body = await http_body.whole(request, app.config.settings.limits)
    status, encoded_answer, headers = encode_answer(await _decide(decode(_check, body), app, client, "http"))
    return http_body.reply(encoded_answer, status, headers)


def submit(body: bytes, app: App, client: Client, answer: AnswerFuture) -> None:
    """Decode a request and submit its call. The gate later sets the result on `answer`. Raises `Fault`."""
    app.gate.enqueue(decode(_check, body), client, "http", answer)


async def _decide(call: Call, app: App, client: Client, interface: str) -> Answer:
    answer = await app.gate.check(call, client, interface)
    refuse_throttled(answer)
    return answer


def encode_answer(answer: Answer) -> tuple[int, bytes, Mapping[str, str]]:
    """Return the status, the body and the additional headers of the response."""
    if answer.decision_id:
        return 200, _encode(answer), {}
    try:
        refuse_throttled(answer)
    except Fault as fault:
        return fault.status, encoded(fault.problem), fault.headers
    return 503, _encode(answer), AGAIN


def refuse_throttled(answer: Answer) -> None:
    """Raise `Fault` if the gate made no decision because the client exceeded `calls_per_second`."""
    if not answer.decision_id and answer.reasons[0].code == THROTTLED:
        raise Fault(429, THROTTLED, _TOO_MANY, headers=AGAIN)


# ---- dialplans -------------------------------------------------------------------------------------------------------


async def check_text(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Respond in plain text, without a line break, because a dialplan compares the whole body with `allow`."""
    answer = await _decide(await _from_parameters(request, app.config), app, client, "http.txt")
    return _plain(request, as_text(answer), answer, _TEXT)


def as_text(answer: Answer) -> str:
    if answer.decision != "allow":
        return f"deny {answer.reasons[0].code}"
    # A dialplan that compares the text with `allow` cannot present the number, so it places no call.
    return f"allow {answer.from_}" if answer.caller_id_chosen else "allow"


async def check_form(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    answer = await _decide(await _from_parameters(request, app.config), app, client, "http.form")
    return _plain(request, as_form(answer), answer, _FORM)


def as_form(answer: Answer) -> str:
    fields = {
        "decision": answer.decision,
        "decision_id": answer.decision_id,
        "to": answer.to,
        "from": answer.from_,
        "reason": answer.reasons[0].code if answer.reasons else "",
        "valid_until": answer.valid_until,
        "not_before": answer.not_before,
        "reason_class": answer.reason_class,
        "would": answer.would,
        "caller_id_chosen": answer.caller_id_chosen,
    }
    return urlencode({name: value for name, value in fields.items() if value})


def _plain(request: web.Request, text: str, answer: Answer, headers: dict[str, str]) -> web.Response:
    """Return the response. A denied HEAD request gets status 403, because its response has no body."""
    headers = {**headers, "Dialgate-Decision": answer.decision}
    if answer.reason_class:
        headers["Dialgate-Class"] = answer.reason_class
    if answer.would:
        headers["Dialgate-Would"] = answer.would
    if not answer.decision_id:
        return web.Response(body=text.encode(), status=503, headers=headers | AGAIN)
    refused = request.method == "HEAD" and answer.decision != "allow"
    return web.Response(body=text.encode(), status=403 if refused else 200, headers=headers)


def refuse_text(fault: Fault) -> web.Response:
    """Return an error as text. It begins with `deny`, so a dialplan that reads only the first word places no call."""
    text = f"deny {fault.problem.code} {fault.problem.message}"
    return web.Response(body=text.encode(), status=fault.status, headers={**_TEXT, **fault.headers})


def refuse_form(fault: Fault) -> web.Response:
    problem = fault.problem
    fields = {"decision": "deny", "error": problem.code, "message": problem.message}
    fields["reason_class"] = classify([problem.code])
    return web.Response(
        body=urlencode(fields).encode(), status=fault.status, headers={**_FORM, **fault.headers}
    )


async def _from_parameters(request: web.Request, config: Config) -> Call:
    pairs = http_body.query(request)
    if request.method == "POST":
        body = await http_body.whole(request, config.settings.limits)
        pairs += http_body.parameters(body.decode("ascii", "replace"))
    call = from_pairs(pairs)
    if call.from_ == AUTO and request.method == "HEAD":
        raise Fault(400, "request.invalid", "HEAD cannot name the caller ID. Use GET.", field="from")
    return call


def from_pairs(pairs: Sequence[tuple[str, str]]) -> Call:
    """Convert query or form parameters to a request. Raises `Fault`."""
    http_body.require_unique([name for name, _ in pairs])
    # If a dialplan has no value for a parameter, it sends an empty one.
    fields = {
        name: http_body.restore_plus(value) if name in {"to", "from"} else value
        for name, value in pairs
        if value or name not in OPTIONAL_CALL_FIELDS
    }
    return convert(fields, Call)


_PARAMETERS: Final = parameters_of(Call)


def _dialplan(method: str, name: str, kind: str, serve: Any, refuse: Any) -> None:
    """Add an endpoint for dialplans.

    For POST, no query parameter is required, because the client can send the parameters in a form instead.
    """
    is_posted = method == "POST"
    parameters = tuple(structs.replace(parameter, required=False) for parameter in _PARAMETERS)
    CHECKS.add(
        method=method,
        path=f"/v1/check.{kind}",
        name=name,
        about=(
            f"Check a call, with a response in {'plain text' if kind == 'txt' else 'form encoding'} for dialplans. Send the parameters "
            "in the query or in a posted form. If the request is invalid, the response still begins with a denial."
        ),
        serve=serve,
        refuse=refuse,
        media="text/plain; charset=utf-8" if kind == "txt" else FORM,
        query=Call,
        parameters=parameters if is_posted else _PARAMETERS,
        also_asks=(Media(name=FORM, kind=Call),) if is_posted else (),
        other_statuses=((503, _CANNOT_DECIDE, None),),
        headers={
            "Dialgate-Decision": "`allow` or `deny`, also for HEAD, which answers 403 to a denied call.",
            "Dialgate-Class": "The `reason_class` of a denial.",
            "Dialgate-Would": "The decision on a call in shadow mode, which `Dialgate-Decision` permits.",
        },
        errors=(*(BODY_ERRORS if is_posted else ()), "rate.exceeded"),
    )


_dialplan("GET", "checkCallAsText", "txt", check_text, refuse_text)
_dialplan("POST", "checkPostedCallAsText", "txt", check_text, refuse_text)
_dialplan("GET", "checkCallAsForm", "form", check_form, refuse_form)
_dialplan("POST", "checkPostedCallAsForm", "form", check_form, refuse_form)


# ---- many at once ----------------------------------------------------------------------------------------------------


@CHECKS.endpoint(
    "POST",
    "/v1/checks",
    ask=ChecksRequest,
    also_asks=(Media(name=NDJSON, kind=bytes, lines=(Call,)),),
    answer=Answers,
    also_answers=(Media(name=NDJSON, kind=bytes, lines=(Answer, Failed)),),
    errors=("batch.too_large", "streams.too_many"),
)
async def check_calls(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """Check many calls.

    The answers are in the order of the calls; a malformed call gets `{"error": …}`. Calls sent as application/x-ndjson, one per
    line, are answered line by line, without a limit on their number.
    """
    most = app.config.settings.limits.streams
    check = _streamed if request.content_type == NDJSON else _batch
    try:
        with request.app[CHECK_STREAMS].one(client.name, most, too_many_streams(most)):
            return await check(request, app, client)
    except Fault:
        connection_of(request).stop_reading()  # the body may be endless, and reading it delays other clients
        raise


async def _batch(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    limits, turns = app.config.settings.limits, request.app[BULK]
    body = await http_body.whole(request, limits)
    async with turns.hold(client.name):
        calls = decode(_checks, body, find_repeated_at_top).calls
        await asyncio.sleep(0)
    if len(calls) > limits.batch_calls:
        raise Fault(
            413,
            "batch.too_large",
            f"The batch has more than {limits.batch_calls} calls. Send fewer, or send one per line as application/x-ndjson.",
            field="calls",
        )
    return await _send_batch(
        request, answer_each(turns, client.name, calls, partial(_submit, app, client), _encode)
    )


async def _send_batch(request: web.Request, chunks: AsyncIterator[list[bytes]]) -> web.StreamResponse:
    """Send the answers in parts, because 10,000 answers to a client that does not read them take 28 MB.

    A batch with few answers is sent in one part. `write` waits for a client that reads slowly; connection.py closes the
    connection of a client that does not read.
    """
    response, unsent, comma = None, b'{"answers":[', b""
    try:
        async for answers in chunks:
            unsent += comma + b",".join(answers)
            comma = b","
            if len(unsent) > _PART_BYTES:
                if response is None:
                    response = web.StreamResponse(headers=JSON_HEADERS)
                    await response.prepare(request)
                await response.write(unsent)
                unsent = b""
    except FAILURES as error:
        if response is None:
            raise
        raise ConnectionError("part of the answers was sent, so no error can be sent") from error
    if response is None:
        return http_body.reply(unsent + b"]}")
    await response.write_eof(unsent + b"]}")
    return response


async def _streamed(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    response = web.StreamResponse(headers=_NDJSON)
    await response.prepare(request)
    try:
        await _answer_lines(request, response, app, client)
    except FAILURES as error:  # the status was sent already, so the last line holds the error
        await response.write(encoded(fault_of(error).problem) + b"\n")
        response.force_close()
    await response.write_eof()
    return response


async def _answer_lines(request: web.Request, response: web.StreamResponse, app: App, client: Client) -> None:
    """Answer the calls line by line, in order. If the client stops reading the answers, stop reading its calls."""
    turns, submit_line = request.app[BULK], partial(_submit, app, client)
    async for lines in http_body.lines(request, app.config.settings.limits):
        admit(request, app, "check")  # the key may have been disabled meanwhile
        calls = (line for line in lines if line.strip())
        async for answers in answer_each(turns, client.name, calls, submit_line, _encode):
            await response.write(b"".join([answer + b"\n" for answer in answers]))


def _submit(app: App, client: Client, raw: bytes | msgspec.Raw) -> asyncio.Future[Answer] | bytes:
    """Submit a call. If it is malformed, return the encoded error, so that the other calls are still decided."""
    try:
        return app.gate.check(decode(_check, raw), client, "http")
    except Fault as fault:
        return encoded(fault.problem)


# ---- simulations -----------------------------------------------------------------------------------------------------


@CHECKS.endpoint(
    "POST",
    "/v1/simulate",
    scope="simulate",
    errors=("lookup.throttled", "store.unavailable", "gate.unavailable"),
)
async def simulate_call(_: web.Request, app: App, client: Client, *, ask: SimulateRequest) -> Simulation:
    """Simulate a check, now or at another time.

    Returns the outcome of every rule, and does not count as an attempt.
    """
    at = ask.at
    if at is not None and not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise Fault(
            400, "request.invalid", f"`at` must have a year from {_FIRST_YEAR} to {_LAST_YEAR}.", field="at"
        )
    instant = None if at is None else int(at.timestamp() * 1000)
    await app.subjects.record_simulation(client, ask.campaign, ask.to)
    return await app.gate.simulate(ask, client, instant)
