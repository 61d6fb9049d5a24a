"""Every failed request gets an error in the common format, `{"error": {"code", "message", "field"}}`.

The code is published and determines the HTTP status. No error contains the called number.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
import pytest_asyncio
from aiohttp import ClientSession
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dialgate import ledger
from dialgate.interfaces.http.check import SimulateRequest
from dialgate.interfaces.http.error_codes import CODES
from dialgate.interfaces.http.errors import Failed, Fault, Problem, decode
from tests.support import world
from tests.support.world import CALL, CLEAR, LIST, LISTED, World

SOURCES = [path.read_text("utf-8") for path in Path(ledger.__path__[0]).glob("*.py")]
NARROW = "key-with-few-scopes"
LIMITS = {"body_bytes": 2048, "header_bytes": 2048, "batch_calls": 3, "read_seconds": 1, "idle_seconds": 90}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Run a gate with tight limits. All tests share the gate, because failed requests do not change its state."""
    clients = [world.client("tests", world.KEY, *world.SCOPES), world.client("narrow", NARROW, "simulate")]
    async with world.running(tmp_path_factory.mktemp("gate"), clients=clients, limits=LIMITS) as made:
        yield made


def shaped(status: int, body: bytes, code: str) -> Problem:
    problem = msgspec.json.decode(body, type=Failed).error
    assert problem.code == code, problem
    assert CODES[code].status == status
    assert len(problem.message) > 10
    for number in (CLEAR, LISTED):
        assert number.removeprefix("+39") not in body.decode()
    return problem


def but(**changes: Any) -> dict[str, Any]:
    """Return a valid call with `changes` applied. The value `None` removes a field."""
    return {name: value for name, value in (CALL | changes).items() if value is not None}


TWICE = msgspec.json.encode(CALL).replace(b"{", b'{"to":"+390698765432",', 1)
WRONG: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("POST", "/v1/check", {"data": b""}, "request.not_json", ""),
    ("POST", "/v1/check", {"data": b'{"to":'}, "request.not_json", ""),
    ("POST", "/v1/check", {"data": b"nonsense"}, "request.not_json", ""),
    ("POST", "/v1/check", {"data": b'{"to":"\xff"}'}, "request.not_json", ""),
    ("POST", "/v1/check", {"data": b'{"to":"\\ud800"}'}, "request.not_json", ""),
    ("POST", "/v1/checks", {"data": b'{"calls":[' + b"[" * 1900}, "request.not_json", ""),
    ("POST", "/v1/check", {"data": b"[]"}, "request.invalid", ""),
    ("POST", "/v1/check", {"json": but(to=None)}, "request.invalid", "to"),
    ("POST", "/v1/check", {"json": but(campaign=None)}, "request.invalid", "campaign"),
    ("POST", "/v1/check", {"json": but(to=390612345678)}, "request.invalid", "to"),
    ("POST", "/v1/check", {"json": but(to="1" * 257)}, "request.invalid", "to"),
    ("POST", "/v1/check", {"json": but(call_type=CLEAR)}, "request.invalid", "call_type"),
    ("POST", "/v1/check", {"json": but(call_type=3)}, "request.invalid", "call_type"),
    ("POST", "/v1/check", {"json": but(phone="x")}, "request.invalid", "phone"),
    ("POST", "/v1/check", {"json": but(client="x")}, "request.invalid", "client"),
    ("POST", "/v1/check", {"json": {**CALL, CLEAR: "x"}}, "request.invalid", ""),
    ("POST", "/v1/check", {"data": TWICE}, "request.invalid", "to"),
    ("POST", "/v1/check", {"data": TWICE.replace(b"to", rb"\u0074o", 1)}, "request.invalid", "to"),
    ("POST", "/v1/revocations", {"data": b'{"number":"+39055","number":"+39066"}'}, "request.invalid", "number"),
    ("POST", "/v1/check", {"data": b" " * 2049}, "request.too_large", ""),
    ("POST", "/v1/check", {"data": b"{}", "headers": {"Content-Encoding": "gzip"}}, "request.compressed", ""),
    ("POST", "/v1/checks", {"json": {"calls": 1}}, "request.invalid", "calls"),
    ("POST", "/v1/checks", {"json": {"calls": [CALL] * 4}}, "batch.too_large", "calls"),
    ("POST", "/v1/simulate", {"json": but(at="yesterday")}, "request.invalid", "at"),
    ("POST", "/v1/simulate", {"json": but(at="2026-11-24T10:00:00")}, "request.invalid", "at"),
    ("POST", "/v1/outcomes", {"json": {"decision_id": "a-1", "outcome": "eaten"}}, "request.invalid", "outcome"),
    ("POST", "/v1/outcomes", {"json": {"decision_id": "a-1", "outcome": "busy"}}, "decision.unknown", "decision_id"),
    ("POST", "/v1/revocations", {"json": {"number": "12"}}, "number.invalid", "number"),
    ("POST", "/v1/revocations", {"json": {"at": "now"}}, "request.invalid", "number"),
    ("POST", "/v1/revocations", {"json": {"number": ["12"]}}, "request.invalid", "number"),
    ("POST", "/v1/revocations", {"json": [CLEAR]}, "request.invalid", ""),
    ("POST", "/v1/revocations", {"json": {"number": CLEAR, "controller": "other"}}, "controller.unknown", "controller"),
    ("POST", "/v1/revocations", {"json": {"number": CLEAR, "scope": "everyone"}}, "auth.scope", "scope"),
    ("POST", "/v1/revocations/9/lift", {"json": {"ground": "error", "reason": "x"}}, "revocation.unknown", "seq"),
    ("POST", "/v1/revocations/9/lift", {"json": {"ground": "whim", "reason": "x"}}, "request.invalid", "ground"),
    ("POST", "/v1/revocations/x/lift", {"json": {}}, "path.unknown", ""),
    ("GET", "/v1/revocations", {}, "request.invalid", "number"),
    ("GET", "/v1/revocations?number=12&purpose=test", {}, "number.invalid", "number"),
    ("GET", "/v1/revocations?number=%ff", {}, "request.invalid", ""),
    ("GET", "/v1/revocations?" + "&".join(["number=1"] * 33), {}, "request.invalid", ""),
    ("POST", "/v1/consents", {"json": {"number": CLEAR, "id": "c"}}, "request.invalid", "collected_at"),
    ("POST", "/v1/consents", {"json": {"artefact_sha256": "9f86"}}, "request.invalid", "artefact_sha256"),
    ("POST", "/v1/consents/withdraw", {"json": {"number": CLEAR, "id": "c"}}, "ledger.unknown", "id"),
    ("POST", "/v1/contracts", {"json": {"number": CLEAR, "id": "c", "starts": "soon"}}, "request.invalid", "starts"),
    ("POST", "/v1/contracts/end", {"json": {"number": CLEAR, "id": "c", "ends": "2026-01-01"}}, "ledger.unknown", "id"),
    ("POST", "/v1/call-requests", {"json": {"number": CLEAR}}, "request.invalid", "id"),
    ("POST", "/v1/caller-ids/proofs", {"json": {"caller_id": "anonymous", "kind": "probe"}}, "caller_id.invalid", "caller_id"),
    ("POST", "/v1/lists", {"json": {**LIST, "numbers": ["x"]}}, "list.unreadable", "numbers"),
    ("POST", "/v1/lists", {"json": {**LIST, "campaigns": ["other"]}}, "campaign.unknown", "campaigns"),
    ("POST", "/v1/lists", {"json": {**LIST, "id": "../x"}}, "request.invalid", "id"),
    ("POST", "/v1/lists?id=a", {"data": CLEAR, "headers": {"Content-Type": "text/csv"}}, "request.invalid", "campaigns"),
    ("GET", "/v1/lists/none", {}, "list.unknown", "id"),
    ("POST", "/v1/lists/none/retire", {}, "list.unknown", "id"),
    ("GET", "/v1/nothing", {}, "path.unknown", ""),
    ("GET", f"/{CLEAR}", {}, "path.unknown", ""),
    ("GET", "/v1/check", {}, "method.not_allowed", ""),
    ("DELETE", "/v1/revocations", {}, "method.not_allowed", ""),
    ("PUT", "/metrics", {}, "method.not_allowed", ""),
    ("POST", "/v1/check?token=x", {"json": CALL}, "auth.in_url", ""),
    ("GET", f"/v1/revocations?number={CLEAR}&purpose=test&API_KEY=x", {}, "auth.in_url", ""),
    ("POST", "/v1/check", {"json": CALL, "headers": {"Authorization": "Bearer other"}}, "auth.unknown", ""),
    ("POST", "/v1/check", {"json": CALL, "headers": {"Authorization": f"Basic {world.KEY}"}}, "auth.unknown", ""),
    ("POST", "/v1/check", {"json": CALL, "headers": {"Authorization": ""}}, "auth.unknown", ""),
    ("POST", "/v1/check", {"json": CALL, "headers": {"Authorization": f"Bearer {NARROW}"}}, "auth.scope", ""),
    ("POST", "/v1/check", {"json": CALL, "headers": {"Expect": "a miracle"}}, "request.expectation", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/v1/check", "/v1/lists", "/v1/nothing", "/peer", "/console", "/console/lists", "/healthz"]
)
async def test_two_authorization_headers_are_refused_on_every_path(running: World, path: str) -> None:
    """A proxy in front might check one of them, and the gate the other."""
    for second in (world.KEY, NARROW, ""):
        two = [("Authorization", f"Bearer {world.KEY}"), ("Authorization", f"Bearer {second}")]
        async with running.client.post(path, json=CALL, headers=two) as answer:
            assert shaped(answer.status, await answer.read(), "request.invalid").field == "Authorization"


@pytest.mark.parametrize(
    ("method", "path", "request_", "code", "field"), WRONG, ids=[f"{row[3]} {row[1][:40]}" for row in WRONG]
)
async def test_a_wrong_request(
    running: World, method: str, path: str, request_: dict[str, Any], code: str, field: str
) -> None:
    """The response is an error in the common format, with the faulty field."""
    async with running.client.request(method, path, **request_) as answer:
        problem = shaped(answer.status, await answer.read(), code)
        assert answer.content_type == "application/json"
        assert problem.field == field
        assert ("Allow" in answer.headers) == (answer.status == 405)
        assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"call_type": CLEAR}, "Must be one of the permitted values; send one of agent, automated, "),
        ({"to": 390612345678}, "Must be text, not a whole number."),
        ({"to": None}, "Missing field `to`."),
        ({"phone": "x"}, "Unknown field `phone`."),
        ({"campain": "x"}, "Unknown field `campain`; did you mean `campaign`?"),
    ],
    ids=str,
)
async def test_a_message_says_what_to_send(running: World, wrong: dict[str, Any], message: str) -> None:
    async with running.client.post("/v1/check", json=but(**wrong)) as answer:
        problem = shaped(answer.status, await answer.read(), "request.invalid")
    assert problem.message.startswith(message)
    assert "`str`" not in problem.message


async def test_a_file_without_its_type_gets_the_way_to_send_it(running: World) -> None:
    async with running.client.post("/v1/lists?id=winter", data=b"number;name\n") as answer:
        problem = shaped(answer.status, await answer.read(), "request.not_json")
    assert "`Content-Type` (text/csv, " in problem.message


_TRICKS = st.sampled_from(
    [
        "",
        " - at `$.",
        "` - at `",
        " - at `key in $.",
        "`",
        "'",
        "call_type",
        "to",
        "x",
        "\n",
        "RFC3339 encoded date",
    ]
)
_SENT = st.builds(
    "".join, st.lists(st.one_of(_TRICKS, st.just(CLEAR), st.just(CLEAR[1:]), st.text(max_size=3)), max_size=6)
)


@hypothesis.given(st.dictionaries(st.one_of(_SENT, st.sampled_from([*CALL, "call_type"])), _SENT, max_size=6))
async def test_no_error_repeats_a_number_that_was_sent(sent: dict[str, str]) -> None:
    """The number may be a value, a key, or part of a text that looks like a msgspec error message."""
    decoder = msgspec.json.Decoder(SimulateRequest)
    try:
        decode(decoder, msgspec.json.encode(sent))
    except Fault as fault:
        assert CLEAR[1:] not in f"{fault} {fault.problem}"  # noqa: PT017 - most of what is sent is wrong
    else:
        assert sent.keys() >= CALL.keys()


async def test_every_error_code_of_the_ledger_is_published() -> None:
    refused = {code for source in SOURCES for code in re.findall(r'Refused\(\s*"([a-z_.]+)"', source)}
    assert len(refused) > 5
    assert refused <= set(CODES)


async def test_a_request_without_a_key(running: World) -> None:
    """The source address is not assigned to any client either."""
    async with (
        ClientSession() as stranger,
        stranger.post(f"http://127.0.0.1:{running.port}/v1/check", json=CALL) as answer,
    ):
        shaped(answer.status, await answer.read(), "auth.missing")


HEAD = b"Host: x\r\nAuthorization: Bearer " + world.KEY.encode() + b"\r\n"
RAW: list[tuple[str, bytes, str]] = [
    ("no HTTP at all", b"\x16\x03\x01 garbage " + CLEAR.encode() + b"\r\n\r\n", "request.not_http"),
    ("a header without a colon", b"GET / HTTP/1.1\r\n" + CLEAR.encode() + b"\r\n\r\n", "request.not_http"),
    ("an endless request line", b"GET /?to=" + CLEAR.encode() * 300 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", "request.headers_too_large"),
    ("an endless header", b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"x" * 4000 + b"\r\n\r\n", "request.headers_too_large"),
    ("a head that stops", b"POST /v1/check HTTP/1.1\r\nHost:", "request.timeout"),
    ("a body that stops", b"POST /v1/check HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\n{", "request.timeout"),
    ("a list that stops", b"POST /v1/lists?id=a&campaigns=acme-fibre&basis=consent&collected_by=x&collected_on=2026-01-01"
     b" HTTP/1.1\r\n" + HEAD + b"Content-Type: text/csv\r\nContent-Length: 9\r\n\r\n+", "request.timeout"),
    ("two lengths", b"POST /v1/check HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "request.not_http"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "code"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
async def test_malformed_http(running: World, sent: bytes, code: str) -> None:
    """The response is an error in the common format, and the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(sent)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    shaped(int(head.split()[1]), body, code)


@pytest.mark.parametrize("path", ["/v1/check", "/v1/checks", "/v1/consents"])
async def test_a_client_that_disconnects_within_a_body_is_no_error_of_the_gate(
    running: World, path: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"POST {path} HTTP/1.1\r\n".encode() + HEAD + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n{"
    with capture_logs() as lines:
        writer.write(head)
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.close()
        await writer.wait_closed()
        await running.get("/readyz")  # the gate has noticed it before this response
    assert lines == []
