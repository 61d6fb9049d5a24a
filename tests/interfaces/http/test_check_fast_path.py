"""The fast path and aiohttp give the same responses to checks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dialgate.core.responses import Answer
from dialgate.interfaces.http.check_fast_path import Lane
from tests.support import world
from tests.support.world import CALL, CALLER, KEY, LISTED, World

BODY = msgspec.json.encode(CALL)


def request(body: bytes = BODY, *headers: str, path: str = "/v1/check", key: str = KEY) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1", "Host: gate", f"Authorization: Bearer {key}", f"Content-Length: {len(body)}", *headers,
    )  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode() + body


# A header that the lane does not know makes aiohttp serve the request.
ORDINARY = "X-Ordinary: yes"


class Response(Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: Any


async def read_response(reader: asyncio.StreamReader) -> Response:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = json.loads(await reader.readexactly(int(headers["Content-Length"])))
    for varies in ("Date", "Content-Length"):
        headers.pop(varies, None)
    return Response(int(head[0].split()[1]), headers, body)


async def ask(running: World, *requests: bytes) -> list[Response]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.writelines(requests)
    answers = [await read_response(reader) for _ in requests]
    writer.close()
    await writer.wait_closed()
    return answers


def without_ids(answer: Response) -> Response:
    return Response(answer.status, answer.headers, {**answer.body, "decision_id": ""})


ASKED = [
    BODY,
    msgspec.json.encode({**CALL, "to": LISTED}),
    msgspec.json.encode({**CALL, "to": "nonsense"}),
    msgspec.json.encode({**CALL, "campaign": "no-such"}),
    msgspec.json.encode({**CALL, "colour": "red"}),
    msgspec.json.encode({"to": CALLER}),
    b"",
    b"{",
    b"\xff",
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", ASKED, ids=lambda body: repr(body[:30]))
async def test_both_paths_give_the_same_response(running: World, body: bytes) -> None:
    (in_lane,) = await ask(running, request(body))
    (ordinary,) = await ask(running, request(body, ORDINARY))
    assert without_ids(in_lane) == without_ids(ordinary)


@pytest.mark.parametrize("key", ["wrong", "", "\xe9"])
async def test_an_unknown_key_is_refused_on_both_paths(running: World, key: str) -> None:
    (in_lane,) = await ask(running, request(key=key))
    (ordinary,) = await ask(running, request(BODY, ORDINARY, key=key))
    assert in_lane.status == 401
    assert in_lane == ordinary


async def test_an_unexpected_error_is_reported_on_both_paths(running: World) -> None:
    running.hand.at -= 3_600_000
    (in_lane,) = await ask(running, request())
    (ordinary,) = await ask(running, request(BODY, ORDINARY))
    assert (in_lane.status, in_lane.headers["Retry-After"]) == (503, "1")
    assert in_lane == ordinary


async def test_a_body_over_the_limit_is_refused_on_both_paths(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"body_bytes": 1024}) as running:
        (in_lane,) = await ask(running, request(b" " * 1025))
        (ordinary,) = await ask(running, request(b" " * 1025, ORDINARY))
    assert (in_lane.status, in_lane.body) == (ordinary.status, ordinary.body)
    assert in_lane.status == 413


async def test_a_busy_connection_outlives_the_timeout_of_a_request(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"read_seconds": 0.2}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        loop = asyncio.get_running_loop()
        ends = loop.time() + 0.6
        while loop.time() < ends:
            writer.write(request())
            assert (await read_response(reader)).status == 200
        writer.close()
        await writer.wait_closed()


async def test_an_incomplete_request_is_closed(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"read_seconds": 0.2}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request() + request()[:-1])
        assert (await read_response(reader)).status == 200
        assert (await read_response(reader)).status == 408
        assert await reader.read() == b""
        writer.close()


async def test_an_idle_connection_is_kept_and_then_closed(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"idle_seconds": 0.3}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request())
        assert (await read_response(reader)).status == 200
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_hundreds_of_refusals_at_once_are_all_answered(running: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request(key="wrong") * 500)
    assert {(await read_response(reader)).status for _ in range(500)} == {401}
    writer.close()


NOT_FOR_THE_LANE = [
    request(BODY, "Transfer-Encoding: chunked"),
    request(BODY, "Content-Length: 1"),
    request(BODY, "Authorization: Bearer other"),
    request(BODY, "Expect: 100-continue"),
    request(BODY, "Connection: close"),
    request(BODY, "Host: another"),
    request(BODY, "X-Forwarded-For: 1.2.3.4"),
    request(BODY, " folded: yes"),
    request(BODY, "no colon"),
    request(BODY, "Accept: a\n", "Content-Length: 1"),
    request(BODY, "Accept: a\nContent-Length: 1"),
    request(BODY, "Accept: a\r Content-Length: 1"),
    request(BODY, "Accept:\r\n\tb"),
    request(BODY, "Accept: \0"),
    request(BODY, "Accept: \x7f"),
    request(BODY, "Accept\0: a"),
    request(BODY, "Upgrade: h2c", "Connection: upgrade"),
    request(BODY, "Content-Encoding: gzip"),
    request(BODY, "User-Agent: " + "x" * 5_000),
    request().replace(b"Host: gate\r\n", b""),
    request().replace(b"Content-Length: ", b"Content-Length: 0x"),
    request().replace(b"Content-Length: ", b"Content-Length: 0000000"),
    request().replace(b"Content-Length: ", b"Content-Length: +"),
    request().replace(b"Content-Length: ", b"Content-Length: -"),
    request().replace(b"Content-Length", b"Content-Length "),
    request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    request().replace(b"POST ", b"GET "),
    request().replace(b"/v1/check", b"/v1/checks"),
    request().replace(b"/v1/check", b"/v1/check?key=1"),
    request().replace(b"\r\n", b"\n"),
    request().replace(b"Host: gate", b"Host: gate\r"),
    b"\r\n" + request(),
    b"GET / HTTP/1.1\r\n\r\n",
    b"nonsense",
]


class Wire(asyncio.Transport):
    """The other end of a lane, which records what the lane does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, bytes]] = []
        self.handed = b""
        self.left = self.aborted = False
        self.unread = 0
        self.lane = Lane(self, self._ask, lambda _: (200, b"{}", {}), self._hand_over, lambda _: None)

    def feed(self, data: bytes) -> None:
        if self.left:
            self.handed += data
        else:
            self.lane.feed(data)

    def _ask(self, key: bytes, body: bytes, lane: Lane) -> str:
        self.asked.append((key, body))
        assert lane is self.lane
        return "tests"

    def _hand_over(self, data: bytes) -> None:
        self.left, self.handed = True, self.handed + data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True

    def write(self, data: Any) -> None: ...


@pytest.mark.parametrize("data", NOT_FOR_THE_LANE, ids=repr)
async def test_ambiguous_requests_are_handed_over_completely(data: bytes) -> None:
    for size in (len(data), 1):
        wire = Wire()
        for start in range(0, len(data), size):
            wire.feed(data[start : start + size])
        assert wire.asked == []
        assert wire.handed == data


@pytest.mark.parametrize("unread", [64 << 10, (64 << 10) + 1])
async def test_a_client_that_does_not_read_is_disconnected(unread: int) -> None:
    wire = Wire()
    wire.feed(request() * 2)
    wire.unread = unread
    wire.lane.set_result(Answer(decision="deny"))
    await asyncio.sleep(0)
    assert wire.aborted == (unread > 64 << 10)
    assert len(wire.asked) == (1 if wire.aborted else 2)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, len(request())),
    noise=st.binary(max_size=4),
    tail=st.binary(max_size=8),
)
def test_no_byte_is_lost_or_processed_twice(cut: int, noise: bytes, tail: bytes) -> None:
    """The input must equal the processed bytes, followed by the unread bytes and the bytes handed over."""

    async def run() -> None:
        wire = Wire()
        data = request()[:cut] + noise + request()[cut:] + tail
        for byte in range(len(data)):
            wire.feed(data[byte : byte + 1])
        taken = data[: len(data) - len(wire.lane.unread + wire.handed)]
        assert data == taken + wire.lane.unread + wire.handed
        assert len(wire.asked) == bool(taken)
        for key, body in wire.asked:
            assert taken.startswith(b"POST /v1/check HTTP/1.1\r\n")
            assert taken.endswith(b"\r\n\r\n" + body)
            assert key in taken

    asyncio.run(run())
