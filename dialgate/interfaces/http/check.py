"""The question before every call: in JSON, as plain text or a form for dialplans, many at once, and as a rehearsal."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.model import Call, CallType
from dialgate.core.reasons import classify
from dialgate.core.responses import Answer
from dialgate.gate.admission_queue import AnswerFuture
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http import server
from dialgate.interfaces.http.bulk import BULK, CHECK_STREAMS, answer_each, too_many_streams
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, decode, encoded, fault_of

_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Cache-Control": "no-store"}
_NDJSON: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
_AGAIN: Final = {"Retry-After": "1"}

# Longer than any of these is in practice; what is stored with a decision must have an end.
_Number = Annotated[str, Meta(max_length=256)]
_Name = Annotated[str, Meta(max_length=128)]


class CheckRequest(
    Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """`to` is dialled, `from` is shown to the person. The same `call_id` with the same content within a day is the same
    question and counts once. `call_type` may only be stricter than the campaign's."""

    to: _Number
    from_: _Number
    campaign: _Name
    call_id: Annotated[str, Meta(max_length=256)] = ""
    call_type: CallType | None = None


class SingleRequest(CheckRequest, frozen=True, kw_only=True, gc=False):
    """`permit`: an allow shall carry a permit, which a Kamailio in front of the trunk honours once, for seconds."""

    permit: bool = False


class SimulateRequest(CheckRequest, frozen=True, kw_only=True, gc=False):
    """`at`: the instant to judge the call at (RFC 3339); now, if left out."""

    at: Annotated[datetime, Meta(tz=True)] | None = None


class ChecksRequest(Struct, frozen=True, forbid_unknown_fields=True):
    calls: list[CheckRequest]


class _RawChecks(Struct, frozen=True, forbid_unknown_fields=True):
    """Decoded one by one, so that one ill-formed call does not spoil the others."""

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
    """In the order of the calls. An ill-formed call has its error in its place."""

    answers: list[_Item]


_check: Final = msgspec.json.Decoder(CheckRequest)
_single: Final = msgspec.json.Decoder(SingleRequest)
_checks: Final = msgspec.json.Decoder(_RawChecks)
_simulate: Final = msgspec.json.Decoder(SimulateRequest)
_encode: Final = msgspec.json.Encoder().encode


async def check(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    body = await http_body.whole(request, app.config.settings.limits)
    status, told, headers = tell(await _asked(decode(_single, body), app, client, "http"))
    return http_body.reply(told, status, headers)


def ask(body: bytes, app: App, client: Client, answer: AnswerFuture) -> None:
    """Raises `Fault` where the body is not a question."""
    asked = decode(_single, body)
    if asked.permit:
        _asked(asked, app, client, "http").add_done_callback(lambda done: answer.set_result(done.result()))
    else:
        app.gate.ask(call(asked, client, "http"), client, answer)


def _asked(asked: SingleRequest, app: App, client: Client, interface: str) -> asyncio.Future[Answer]:
    answer = app.gate.check(call(asked, client, interface), client)
    if not asked.permit:
        return answer
    carrying: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def answered(done: asyncio.Future[Answer]) -> None:
        if not carrying.done():
            carrying.set_result(app.gate.with_permit(done.result()))

    answer.add_done_callback(answered)
    return carrying


def tell(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    """Status, body, and the headers besides the usual."""
    return (200, _encode(answer), {}) if answer.decision_id else (503, _encode(answer), _AGAIN)


async def simulate(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    asked = decode(_simulate, await http_body.whole(request, app.config.settings.limits))
    if asked.at is not None and not _FIRST_YEAR <= asked.at.year <= _LAST_YEAR:
        raise Fault(
            400, "request.invalid", f"Give an instant from {_FIRST_YEAR} to {_LAST_YEAR}.", field="at"
        )
    at = None if asked.at is None else int(asked.at.timestamp() * 1000)
    await app.subjects.simulated(client, asked.campaign, asked.to)
    simulation = await app.gate.simulate(call(asked, client, "http"), client, at)
    return http_body.reply(_encode(simulation))


def call(asked: CheckRequest, client: Client, interface: str) -> Call:
    return Call(
        to=asked.to,
        from_=asked.from_,
        campaign=asked.campaign,
        call_id=asked.call_id,
        call_type=asked.call_type,
        client=client.name,
        interface=interface,
    )


# ---- dialplans -------------------------------------------------------------------------------------------------------


async def check_text(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    """No line end: a dialplan compares the whole with `allow`."""
    answer = await _asked(await _from_parameters(request, app.config), app, client, "http.txt")
    text = "allow" if answer.decision == "allow" else f"deny {answer.reasons[0].code}"
    return _plain(
        request, text, answer, _TEXT | ({"Dialgate-Permit": answer.permit} if answer.permit else {})
    )


async def check_form(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    answer = await _asked(await _from_parameters(request, app.config), app, client, "http.form")
    told = {
        "decision": answer.decision,
        "decision_id": answer.decision_id,
        "to": answer.to,
        "from": answer.from_,
        "reason": answer.reasons[0].code if answer.reasons else "",
        "valid_until": answer.valid_until,
        "not_before": answer.not_before,
        "permit": answer.permit,
        "reason_class": answer.reason_class,
    }
    return _plain(request, urlencode({name: value for name, value in told.items() if value}), answer, _FORM)


def _plain(request: web.Request, text: str, answer: Answer, headers: dict[str, str]) -> web.Response:
    """Who sends HEAD sees no more than the status: for them a denial has one of its own."""
    headers = {**headers, "Dialgate-Decision": answer.decision}
    if answer.reason_class:
        headers["Dialgate-Class"] = answer.reason_class
    if not answer.decision_id:
        return web.Response(body=text.encode(), status=503, headers=headers | _AGAIN)
    refused = request.method == "HEAD" and answer.decision != "allow"
    return web.Response(body=text.encode(), status=403 if refused else 200, headers=headers)


def refuse_text(fault: Fault) -> web.Response:
    """`deny` stands first, so that a dialplan that looks no further stays closed."""
    text = f"deny {fault.problem.code} {fault.problem.message}"
    return web.Response(body=text.encode(), status=fault.status, headers={**_TEXT, **fault.headers})


def refuse_form(fault: Fault) -> web.Response:
    told = {"decision": "deny", "error": fault.problem.code, "message": fault.problem.message}
    told["reason_class"] = classify([fault.problem.code])
    return web.Response(
        body=urlencode(told).encode(), status=fault.status, headers={**_FORM, **fault.headers}
    )


async def _from_parameters(request: web.Request, config: Config) -> SingleRequest:
    pairs = http_body.query(request)
    if request.method == "POST":
        body = await http_body.whole(request, config.settings.limits)
        pairs += http_body.parameters(body.decode("ascii", "replace"))
    return from_pairs(pairs)


def from_pairs(pairs: Sequence[tuple[str, str]]) -> SingleRequest:
    """Of a query and a form together. Raises `Fault`."""
    # A dialplan sends empty what it does not have. In a query a plus that was not encoded arrives as a space.
    asked = {
        name: f"+{value[1:]}" if name in {"to", "from"} and value.startswith(" ") else value
        for name, value in pairs
        if value or name not in {"call_id", "call_type", "permit"}
    }
    if len({name for name, _ in pairs}) < len(pairs):
        raise Fault(
            400, "request.invalid", "Send each parameter once: what is checked must be what is dialled."
        )
    return convert(asked, SingleRequest)


# ---- many at once ----------------------------------------------------------------------------------------------------


async def checks(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    if request.content_type == "application/x-ndjson":
        return await _stream(request, app, client)
    limits, turns = app.config.settings.limits, request.app[BULK]
    body = await http_body.whole(request, limits)
    async with turns.of(client.name):
        calls = decode(_checks, body, depth=1).calls
        await asyncio.sleep(0)
    if len(calls) > limits.batch_calls:
        raise Fault(
            413,
            "batch.too_large",
            f"Send at most {limits.batch_calls} calls at once, or a stream of application/x-ndjson.",
            field="calls",
        )
    answers = [
        answer
        async for some in answer_each(turns, client.name, calls, partial(_submit, app, client), _encode)
        for answer in some
    ]
    return http_body.reply(b'{"answers":[%b]}' % b",".join(answers))


async def _stream(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    most = app.config.settings.limits.streams
    try:
        with request.app[CHECK_STREAMS].one(client.name, most, too_many_streams(most)):
            return await _streamed(request, app, client)
    except Fault:
        server.stop_reading(request)  # the body has no end, and reading it on would take time from others
        raise


async def _streamed(request: web.Request, app: App, client: Client) -> web.StreamResponse:
    response = web.StreamResponse(headers=_NDJSON)
    await response.prepare(request)
    try:
        await _answer_lines(request, response, app, client)
    except FAILURES as error:  # the status has gone out: the last line tells it
        await response.write(encoded(fault_of(error).problem) + b"\n")
        response.force_close()
    await response.write_eof()
    return response


async def _answer_lines(request: web.Request, response: web.StreamResponse, app: App, client: Client) -> None:
    """Answer line by line, in order. Nothing more is read while a client leaves its answers unread."""
    turns, submit = request.app[BULK], partial(_submit, app, client)
    async for some in http_body.lines(request, app.config.settings.limits):
        calls = (line for line in some if line.strip())
        async for answers in answer_each(turns, client.name, calls, submit, _encode):
            await response.write(b"".join([answer + b"\n" for answer in answers]))


def _submit(app: App, client: Client, raw: bytes | msgspec.Raw) -> asyncio.Future[Answer] | bytes:
    """An ill-formed call is answered in its place; the others are served."""
    try:
        return app.gate.check(call(decode(_check, raw), client, "http"), client)
    except Fault as fault:
        return encoded(fault.problem)
