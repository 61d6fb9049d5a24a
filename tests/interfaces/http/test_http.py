"""The HTTP interface, with a real client and real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec
import pytest
from aiohttp import ClientSession
from typer.testing import CliRunner

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core.local_time import rfc3339
from dialgate.core.model import HOUR
from dialgate.interfaces import http_application
from dialgate.interfaces.cli import main
from dialgate.interfaces.http import certificates, openapi
from dialgate.interfaces.http.endpoints import ENDPOINTS
from dialgate.interfaces.http.errors import Fault
from tests.support import world
from tests.support.world import CALL, CALLER, CLEAR, LIST, LISTED, NOW, World, publish_answers

QUERY = f"to={quote(CLEAR)}&from={quote(CALLER)}&campaign=acme-fibre"


# ---- the check -------------------------------------------------------------------------------------------------------


async def test_a_lawful_call_is_allowed_with_the_number_to_dial(running: World) -> None:
    async with running.client.post("/v1/check", json={**CALL, "to": "06 1234 5678"}) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        response = await answer.json()
    assert (response["decision"], response["to"], response["from"]) == ("allow", CLEAR, CALLER)
    assert response["decision_id"]
    assert response["valid_until"] == "2026-11-24T09:15:00.000Z"


async def test_an_unlawful_call_is_denied_with_the_law(running: World) -> None:
    async with running.client.post("/v1/check", json={**CALL, "to": LISTED}) as answer:
        assert answer.status == 200
        response = await answer.json()
    assert response["decision"] == "deny"
    reason = next(reason for reason in response["reasons"] if reason["code"] == "registry.listed")
    assert reason["severity"] == "statute"
    assert "L. 5/2018" in reason["law"]


async def test_an_invalid_number_is_denied_and_not_an_error(running: World) -> None:
    async with running.client.post("/v1/check", json={**CALL, "to": "call me"}) as answer:
        assert answer.status == 200
        response = await answer.json()
    assert response["reasons"][0]["code"] == "number.invalid"
    assert response["decision_id"]


async def test_old_clients_are_answered_too(running: World) -> None:
    """The server closes connections as the protocol version requires.

    An HTTP/1.0 connection is closed after the response unless the client asks for keep-alive. An HTTP/1.1 connection is
    closed if the client sends `Connection: close`.
    """
    body = msgspec.json.encode(CALL)
    for version, connection in (
        ("1.0", ""),
        ("1.0", "Connection: keep-alive\r\n"),
        ("1.1", "Connection: close\r\n"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            f"POST /v1/check HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {world.KEY}\r\n{connection}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert msgspec.json.decode(await reader.readexactly(length))["decision"] == "allow"
        if "keep-alive" in connection:
            assert b"connection: keep-alive" in head.lower()
        else:
            assert await reader.read() == b""
        writer.close()


# ---- dialplans -------------------------------------------------------------------------------------------------------

DIALPLANS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", QUERY, {}),
    ("GET", QUERY.replace("%2B", "+"), {}),  # a plus that was not percent-encoded
    ("GET", f"{QUERY}&call_id=&call_type=", {}),  # empty variables of a dialplan
    ("POST", "", {"data": {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}}),
    ("POST", "campaign=acme-fibre", {"data": {"to": CLEAR, "from": CALLER}}),
]


@pytest.mark.parametrize(("method", "query", "body"), DIALPLANS)
async def test_a_dialplan_may_ask_by_query_or_form(
    running: World, method: str, query: str, body: dict[str, Any]
) -> None:
    """The text response is `allow` without a trailing newline. The form response contains the number to dial."""
    async with running.client.request(method, f"/v1/check.txt?{query}", **body) as answer:
        assert (answer.status, await answer.read()) == (200, b"allow")
    async with running.client.request(method, f"/v1/check.form?{query}", **body) as answer:
        response = parse_qs(await answer.text(), strict_parsing=True)
        assert (response["decision"], response["to"], "reason" in response) == (["allow"], [CLEAR], False)


async def test_a_text_denial_has_the_first_reason(running: World) -> None:
    query = QUERY.replace(quote(CLEAR), quote(LISTED))
    async with running.client.get(f"/v1/check.txt?{query}") as answer:
        assert (answer.status, await answer.text()) == (200, "deny registry.listed")
    async with running.client.get(f"/v1/check.form?{query}") as answer:
        response = parse_qs(await answer.text(), strict_parsing=True)
        assert (response["decision"], response["reason"]) == (["deny"], ["registry.listed"])


ILL_FORMED = [
    ("", "request.invalid"),
    (f"{QUERY}&to={quote(LISTED)}", "request.invalid"),
    (f"{QUERY}&phone=x", "request.invalid"),
    (f"{QUERY}&call_type=loud", "request.invalid"),
    (f"{QUERY}&token=x", "auth.in_url"),
    (f"{QUERY}&call_id=%ff", "request.invalid"),
]


@pytest.mark.parametrize(("query", "code"), ILL_FORMED)
async def test_a_text_error_begins_with_deny(running: World, query: str, code: str) -> None:
    """A dialplan that reads only the first word of an error must not place the call."""
    async with running.client.get(f"/v1/check.txt?{query}") as answer:
        assert answer.status == 400
        assert (await answer.text()).startswith(f"deny {code} ")
    async with running.client.get(f"/v1/check.form?{query}") as answer:
        response = parse_qs(await answer.text(), strict_parsing=True)
        assert (response["decision"], response["error"]) == (["deny"], [code])


# ---- when the gate cannot decide -------------------------------------------------------------------------------------


async def test_a_gate_that_cannot_record_denies_on_every_path(running: World) -> None:
    """The response has status 503, `deny`, no decision id, and Retry-After. Ledger endpoints respond with an error in the common format."""
    await running.app._store.close()
    async with running.client.post("/v1/check", json=CALL) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        reply = await answer.json()
        assert (reply["decision"], reply["reasons"][0]["code"]) == ("deny", "gate.unavailable")
        assert "decision_id" not in reply
    async with running.client.get(f"/v1/check.txt?{QUERY}") as answer:
        assert (answer.status, await answer.text()) == (503, "deny gate.unavailable")
    async with running.client.get(f"/v1/check.form?{QUERY}") as answer:
        assert (answer.status, await answer.text()) == (
            503,
            "decision=deny&reason=gate.unavailable&reason_class=gate",
        )
    async with running.client.post("/v1/revocations", json={"number": CLEAR}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await answer.json())["error"]["code"] == "store.unavailable"


async def test_while_the_clock_steps_back_calls_are_denied_and_revocations_recorded(running: World) -> None:
    async with running.client.post("/v1/check", json=CALL):
        running.hand.at -= 3_600_000
    async with running.client.post("/v1/simulate", json=CALL) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "gate.unavailable")
    async with running.client.post("/v1/revocations", json={"number": CLEAR}) as answer:
        assert answer.status == 201


async def test_an_unexpected_error_is_reported_without_request_data(running: World) -> None:
    """The response is a 500 in the common format, without data from the request. The gate answers the next request."""
    keys, running.app.registrar.access.keys = running.app.registrar.access.keys, None  # type: ignore[assignment] # the damage
    async with running.client.post("/v1/revocations", json={"number": CLEAR}) as answer:
        text = await answer.text()
        assert (answer.status, msgspec.json.decode(text)["error"]["code"]) == (500, "gate.error")
        assert CLEAR.removeprefix("+39") not in text
    running.app.registrar.access.keys = keys
    assert (await decision(running))["decision"] == "allow"


# ---- batches and streams ---------------------------------------------------------------------------------------------

MANY = [CALL, {**CALL, "to": LISTED}, {"to": CLEAR}, {**CALL, "to": "x"}]
FIRST_WORDS = ["allow", "deny", "request.invalid", "deny"]


def first_word(item: dict[str, Any]) -> str:
    return str(item.get("decision") or item["error"]["code"])


async def test_a_batch_is_answered_in_order(running: World) -> None:
    """A malformed call gets an error, and the others are answered."""
    async with running.client.post("/v1/checks", json={"calls": MANY}) as answer:
        assert answer.status == 200
        assert [first_word(item) for item in (await answer.json())["answers"]] == FIRST_WORDS


async def test_a_stream_is_answered_while_it_is_sent(running: World) -> None:
    """The first responses arrive before the last calls are sent.

    A malformed line gets an error response. An empty line gets no response.
    """
    go_on = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        for call in MANY:
            yield msgspec.json.encode(call) + b"\r\n\n"
        await go_on.wait()
        yield b"nonsense\n" + msgspec.json.encode(CALL) + b"\n"
        yield msgspec.json.encode(CALL).replace(b"{", b'{"to":"+390698765432",', 1)

    headers = {"Content-Type": "application/x-ndjson"}
    async with running.client.post("/v1/checks", data=lines(), headers=headers) as answer:
        early = [msgspec.json.decode(await answer.content.readline()) for _ in MANY]
        go_on.set()
        late = [msgspec.json.decode(line) async for line in answer.content]
    assert [first_word(answer) for answer in early] == FIRST_WORDS
    assert [first_word(answer) for answer in late] == ["request.not_json", "allow", "request.invalid"]


async def test_a_long_stream_is_answered_completely(running: World) -> None:
    """The stream has more calls than can be in progress at once, and is answered in order."""
    numbers = [f"+3906{at:07}" for at in range(1000)]
    body = b"\n".join(msgspec.json.encode({**CALL, "to": number}) for number in numbers)
    headers = {"Content-Type": "application/x-ndjson"}
    async with running.client.post("/v1/checks", data=body, headers=headers) as answer:
        assert [msgspec.json.decode(line)["to"] async for line in answer.content] == numbers


async def test_a_stream_that_stops_is_ended_with_an_error_line(tmp_path: Path) -> None:
    limits = {"idle_seconds": 0.1}

    async def lines() -> AsyncIterator[bytes]:
        yield msgspec.json.encode(CALL) + b"\n"
        await asyncio.Event().wait()

    async with world.running(tmp_path, limits=limits) as made:
        headers = {"Content-Type": "application/x-ndjson"}
        async with made.client.post("/v1/checks", data=lines(), headers=headers) as answer:
            response = [msgspec.json.decode(line) async for line in answer.content]
    assert [first_word(entry) for entry in response] == ["deny", "request.timeout"]


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_a_line_over_the_limit_ends_the_stream(tmp_path: Path, end: bytes) -> None:
    """The limit also applies to a line that arrives completely in one chunk. The calls before it are answered."""
    call = msgspec.json.encode(CALL)
    body = b"\n".join([call, call.ljust(1024), call.ljust(1025)]) + end
    async with world.running(tmp_path, limits={"body_bytes": 1024}) as made:
        headers = {"Content-Type": "application/x-ndjson"}
        async with made.client.post("/v1/checks", data=body, headers=headers) as answer:
            response = [msgspec.json.decode(line) async for line in answer.content]
    assert [first_word(entry) for entry in response] == ["deny", "deny", "request.too_large"]


# ---- the ledger ------------------------------------------------------------------------------------------------------


async def decision(made: World, **changes: Any) -> Any:
    return await made.post("/v1/check", {**CALL, **changes}, 200)


ENTRIES: list[tuple[str, dict[str, Any], str, dict[str, Any], list[str]]] = [
    (
        "/v1/consents",
        {"number": CLEAR, "id": "x", "collected_at": "2026-01-01T00:00:00Z", "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"]},
        "/v1/consents/withdraw",
        {"number": CLEAR, "id": "x"},
        ["consent", "consent_withdrawn"],
    ),
    (
        "/v1/contracts",
        {"number": CLEAR, "id": "x", "starts": "2026-01-01"},
        "/v1/contracts/end",
        {"number": CLEAR, "id": "x", "ends": "2026-10-01"},
        ["contract", "contract_ended"],
    ),
    (
        "/v1/call-requests",
        {"number": CLEAR, "id": "x", "requested_at": "2026-11-23T10:00:00Z", "expires_at": "2026-12-01T00:00:00Z"},
        "/v1/call-requests",
        {"number": CLEAR, "id": "y", "requested_at": "2026-11-23T10:00:00Z", "expires_at": "2026-12-01T00:00:00Z"},
        ["call_request", "call_request"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "first", "second_path", "second", "kinds"), ENTRIES, ids=[row[0] for row in ENTRIES]
)
async def test_ledger_entries_can_be_read(
    running: World, path: str, first: Any, second_path: str, second: Any, kinds: list[str]
) -> None:
    """Each entry has the `seq` of its receipt. A look-up of consents does not return revocations."""
    await running.post("/v1/revocations", {"number": CLEAR})
    receipts = [await running.post(path, first), await running.post(second_path, second)]
    entries = (await running.get(f"{path}?number={quote(CLEAR)}&purpose=test"))["entries"]
    assert [entry["kind"] for entry in entries] == kinds
    assert [entry["seq"] for entry in entries] == [receipt["seq"] for receipt in receipts]


async def test_the_state_of_a_consent_has_its_last_use(running: World) -> None:
    given = {
        **ENTRIES[0][1], "double_opt_in": True, "profiling": True, "collection_channel": "form",
        "artefact": "a.pdf", "artefact_sha256": "0" * 64,
    }  # fmt: skip
    mobile = {"number": "+393281234567"}
    await running.post("/v1/consents", given | mobile)
    publish_answers(running.app.config.data, {mobile["number"]: False}, NOW - HOUR)
    await running.app.tick()
    assert (await decision(running, to=mobile["number"]))["reasons"][-1]["code"] == "consent.void"
    await running.post("/v1/consents/confirm", {**mobile, "id": "x"})
    assert (await decision(running, to=mobile["number"]))["decision"] == "allow"
    response = await running.get(f"/v1/consents?number={quote(mobile['number'])}&purpose=test")
    assert [entry["kind"] for entry in response["entries"]] == ["consent", "consent_confirmed"]
    assert response["entries"][0]["details"]["collection_channel"] == "form"
    (held,) = response["consents"]
    assert (held["proved"], held["profiling"], held["third_party"]) == (True, True, False)
    assert (held["confirmed_at"], held["last_used_at"], held["withdrawn_at"]) == (
        rfc3339(NOW),
        rfc3339(NOW),
        "",
    )


# ---- call lists ------------------------------------------------------------------------------------------------------


async def test_a_controller_has_as_many_lists_in_force_as_the_setting_permits(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"lists": 2}) as made:
        for name in ("one", "two"):
            await made.post("/v1/lists", {**LIST, "id": name})
        assert (await made.post("/v1/lists", {**LIST, "id": "one"}, 409))["error"]["code"] == "list.exists"
        error = (await made.post("/v1/lists", {**LIST, "id": "three"}, 409))["error"]
        assert (error["code"], error["field"]) == ("list.too_many", "id")
        await made.post("/v1/lists/one/retire", {}, 200)
        await made.post("/v1/lists", {**LIST, "id": "three"})
        error = (await made.post("/v1/lists", {**LIST, "id": "four"}, 409))["error"]
        assert error["code"] == "list.too_many"


# ---- authorisation ---------------------------------------------------------------------------------------------------


async def test_a_client_is_known_by_its_address_unless_it_came_through_a_proxy(tmp_path: Path) -> None:
    """A request with a wrong key is refused, even from an address that needs no key."""
    switch = {"name": "switch", "controllers": ["acme"], "scopes": ["check"], "sources": ["127.0.0.0/8"]}
    async with world.running(tmp_path, clients=[switch]) as made, ClientSession() as plain:
        url = f"http://127.0.0.1:{made.port}/v1/check"
        for headers, status in (
            ({}, 200),
            ({"X-Forwarded-For": "127.0.0.1"}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
        ):
            async with plain.post(url, json=CALL, headers=headers) as answer:
                assert answer.status == status, headers


async def test_every_path_under_v1_needs_a_key_and_its_scope(running: World) -> None:
    """The test sends a request without a key to every endpoint, and checks that each endpoint declares a scope.

    FreeSWITCH gets a 200 with a hang-up instead of an error. In messages of platforms, the signature takes the place of a key.
    """
    assert [endpoint.name for endpoint in ENDPOINTS if not endpoint.keyed] == ["sendWebhook"]
    async with ClientSession(f"http://127.0.0.1:{running.port}") as stranger:
        for endpoint in filter(attrgetter("keyed"), ENDPOINTS):
            path = openapi.plain(endpoint.path).format(
                seq=1, id="x", name="x", node="x", profile="x", number="1", sha256="a"
            )
            async with stranger.request(endpoint.method, path) as answer:
                assert answer.status == endpoint.refuse(Fault(401, "", "")).status, path
                assert b"auth.missing" in await answer.read() or endpoint.method == "HEAD"
            assert endpoint.scope is not None


async def test_a_removed_key_is_refused_at_once(running: World) -> None:
    assert (await decision(running))["decision"] == "allow"
    running.app.reload(loader.load(_without_clients(running.folder)))
    async with running.client.post("/v1/check", json=CALL) as answer:
        assert answer.status == 401


def _without_clients(folder: Path) -> Path:
    path = folder / "dialgate.yaml"
    path.write_text(path.read_text().replace(world.client("x", world.KEY)["key_sha256"], "f" * 64))
    return path


# ---- operations ------------------------------------------------------------------------------------------------------


async def test_the_docs_page_needs_no_other_server(running: World) -> None:
    async with running.client.get("/") as answer:
        assert answer.url.path == "/docs"
        page = await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "http://" not in page
    assert "https://" not in page


# ---- the server ------------------------------------------------------------------------------------------------------


async def test_tls_is_offered_where_a_certificate_is_configured(tmp_path: Path) -> None:
    """The server requires TLS 1.2 or newer."""
    listen = {"host": "127.0.0.1", "port": 0, **world.write_certificate(tmp_path)}
    async with world.running(tmp_path, listen=listen) as made:
        trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        async with (
            ClientSession() as client,
            client.get(f"https://127.0.0.1:{made.port}/healthz", ssl=trust) as answer,
        ):
            assert await answer.text() == "ok"
        certificate = certificates.load(made.app.config)
        assert certificate is not None
        assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2
        response = made.sample("dialgate_tls_certificate_expiry_timestamp_seconds", listener="listen")
        assert response == datetime(2125, 12, 8, tzinfo=UTC).timestamp()


UNUSABLE = [
    ({"host": "203.0.113.1"}, "listen: 203.0.113.1 port 0: "),
    ({"tls_certificate": "none.pem"}, "listen.tls_certificate: No such file"),
]


@pytest.mark.parametrize(("listen", "problem"), UNUSABLE)
async def test_a_server_that_cannot_listen_names_the_setting(
    running: World, tmp_path: Path, listen: dict[str, str], problem: str
) -> None:
    settings_file = world.write_folder(tmp_path / "other", listen={"port": 0, **listen})
    running.app.gate.config = loader.load(settings_file)
    with pytest.raises(ConfigError, match=problem):
        await http_application.start(running.app, running.registry)


@pytest.mark.parametrize(
    ("days", "key", "code", "output"),
    [
        (36_500, "key.pem", 0, "is valid"),
        (1, "key.pem", 0, "Warning: listen.tls_certificate: expired"),
        (36_500, "none.pem", 1, "listen.tls_certificate: No such file"),
    ],
)
def test_config_check_reads_the_certificate(
    tmp_path: Path, days: int, key: str, code: int, output: str
) -> None:
    listen = {**world.write_certificate(tmp_path, days), "tls_key": key}
    file = world.write_folder(tmp_path, listen=listen)
    checked = CliRunner().invoke(main.app, ["config", "check", "--config", str(file)])
    assert checked.exit_code == code
    assert output in checked.output
