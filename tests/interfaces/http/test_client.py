"""Tests of the Python client. It returns the gate's answer, and denies the call if the answer is missing or invalid."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import TCPConnector
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgate.client import Dialgate, NotRecorded, Verdict
from dialgate.tools.conformance.gates import Serve, listening
from tests.support.world import CALL, CALLER, CLEAR, KEY, LISTED, NOW, World

ASKED: dict[str, Any] = {"to": CLEAR, "from_": CALLER, "campaign": CALL["campaign"]}
TRUE = {
    "decision": "allow",
    "decision_id": "1-1",
    "to": CLEAR,
    "from": CALLER,
    "valid_until": "2026-11-24T09:15:00.000Z",
}


def client(port: int, **options: Any) -> Dialgate:
    return Dialgate(f"http://127.0.0.1:{port}", KEY, **{"clock": lambda: NOW / 1000, "timeout": 2, **options})


# ---- a gate ----------------------------------------------------------------------------------------------------------


async def test_a_verdict_has_the_number_to_dial_or_the_reasons(running: World) -> None:
    async with client(running.port) as gate:
        verdict = await gate.check(to="06 1234 5678", from_=CALLER, campaign="acme-fibre")
        assert (bool(verdict), verdict.to, verdict.from_, verdict.again) == (True, CLEAR, CALLER, False)
        verdict = await gate.check(to=LISTED, from_=CALLER, campaign="acme-fibre")
        assert (bool(verdict), verdict.reason, verdict.again) == (False, "registry.listed", False)


async def test_connections_are_reused(running: World) -> None:
    async with client(running.port, connections=1) as gate:
        for _ in range(3):
            await gate.check(**ASKED)
        connector = gate._session and gate._session.connector
        assert isinstance(connector, TCPConnector)
        assert len(connector._conns) == 1


async def test_an_undecided_call_may_be_checked_again(running: World) -> None:
    await running.app._store.close()
    async with client(running.port) as gate:
        verdict = await gate.check(**ASKED)
        assert (verdict.allow, verdict.again, verdict.reason) == (False, True, "gate.unavailable")


async def test_a_revocation_during_the_call_applies_to_the_next_check(running: World) -> None:
    async with client(running.port) as gate:
        verdict = await gate.check(**ASKED)
        await gate.outcome(verdict.decision_id, "opt_out")
        assert (await gate.check(**ASKED)).reason == "revocation.revoked"


async def test_a_failed_recording_raises_an_error(running: World) -> None:
    async with client(running.port) as gate:
        with pytest.raises(NotRecorded, match=r"decision\.unknown"):
            await gate.outcome("no-such", "answered")
        await gate.revoke(CLEAR, channel="call", actor="agent-17")
    with pytest.raises(NotRecorded):
        await gate.revoke(CLEAR, channel="call")


async def test_a_wrong_key_or_a_closed_client_is_a_denial(running: World) -> None:
    async with Dialgate(f"http://127.0.0.1:{running.port}", "wrong", timeout=2) as gate:
        assert not await gate.check(**ASKED)
    assert (await gate.check(**ASKED)).reason == "client.unreachable"


# ---- a fake gate -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(serve: Serve) -> AsyncIterator[int]:
    async def handle_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        await serve(reader, writer)

    async with listening(handle_request) as port:
        yield port


def raw(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}\r\n".encode() + body


def raw_answer(status: str = "200 OK", **changes: Any) -> bytes:
    body = json.dumps({**TRUE, **changes}).encode()
    return raw(status, body, f"Content-Length: {len(body)}\r\n")


async def verdict_on(reply: bytes) -> Verdict:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    async with answering(serve) as port, client(port) as gate:
        return await gate.check(**ASKED)


async def test_the_unchanged_answer_is_accepted() -> None:
    assert await verdict_on(raw_answer())


DOUBTFUL = [
    raw_answer("500 Internal Server Error"),
    raw_answer("201 Created"),
    raw_answer("302 Found"),
    raw_answer(decision_id=""),
    raw_answer(decision="yes"),
    raw_answer(decision=True),
    raw_answer(to=LISTED),
    raw_answer(to="390612345678"),
    raw_answer(valid_until=""),
    raw_answer(valid_until="2026-11-24T08:59:59.000Z"),
    raw_answer(valid_until="soon"),
    raw_answer()[:-1],
    raw("200 OK", b"allow", "Content-Length: 5\r\n"),
    raw("200 OK", b'"allow"', "Content-Length: 7\r\n"),
    raw("200 OK", b"", "Content-Length: 0\r\n"),
    raw("200 OK", json.dumps(TRUE).encode()),  # without Content-Length
    raw(
        "200 OK",
        b" " * 70_000 + json.dumps(TRUE).encode(),
        f"Content-Length: {70_000 + len(json.dumps(TRUE))}\r\n",
    ),
    raw("200 OK", b"[" * 5000, "Content-Length: 5000\r\n"),
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"",
]


@pytest.mark.parametrize("reply", DOUBTFUL)
async def test_an_incomplete_outdated_or_unrelated_answer_is_a_denial(reply: bytes) -> None:
    assert not await verdict_on(reply)


async def test_a_silent_or_stopped_gate_is_a_denial_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(silent) as port, client(port, timeout=0.1) as gate:
        assert (await gate.check(**ASKED)).reason == "client.timeout"
    async with client(port) as gate:
        assert (await gate.check(**ASKED)).reason == "client.unreachable"


async def test_a_kept_connection_that_was_closed_is_no_denial() -> None:
    """The check is sent again, with the same call id."""
    bodies: list[bytes] = []

    async def handle_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append((await reader.readuntil(b"}")).rpartition(b"\r\n")[2])
        writer.write(raw_answer())
        if len(bodies) == 1:
            bodies.append((await reader.readuntil(b"}")).rpartition(b"\r\n")[2])

    async with listening(handle_request) as port, client(port) as gate:
        for _ in range(2):
            assert await gate.check(**ASKED)
    assert bodies[0] != bodies[1] == bodies[2], "each call has a name of its own, and keeps it"


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(sorted(TRUE)),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.text(max_size=3))
        ),
        min_size=1,
    )
)
def test_no_damaged_answer_reads_as_an_allow(damage: dict[str, Any]) -> None:
    """A wrong value in any field except `decision_id` and `from` turns the verdict into a denial."""
    body = json.dumps({**TRUE, **damage}).encode()
    verdict = client(1)._verdict(200, body, CLEAR)
    assert not verdict.allow or set(damage) <= {"decision_id", "from"}
