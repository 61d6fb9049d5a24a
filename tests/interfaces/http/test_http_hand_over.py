"""Connections that the fast path serves first and aiohttp later: pipelined requests, cut at any byte, and timeouts."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from msgspec import Struct

from dialgate.config.listeners import Limits
from dialgate.core.responses import Answer
from dialgate.interfaces.connections import Connections
from dialgate.interfaces.http.check_fast_path import Lane
from dialgate.interfaces.http.connection import Connection, ServerState, note_beginnings
from tests.support import world
from tests.support.world import CALL, KEY, LISTED, World

BODY = msgspec.json.encode(CALL)
OTHER = msgspec.json.encode({**CALL, "to": LISTED})
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n"
UNKNOWN_KEY = b"Authorization: Bearer unknown\r\n"


def check(body: bytes, framing: bytes = b"", rest: bytes | None = None) -> bytes:
    """Return a check. `framing` and `rest` replace Content-Length and the bytes after the headers."""
    framing = framing or b"Content-Length: %d\r\n" % len(body)
    head = b"POST /v1/check HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer %b\r\n%b\r\n" % (
        KEY.encode(),
        framing,
    )
    return head + (body if rest is None else rest)


def chunked(body: bytes) -> bytes:
    half = len(body) // 2
    rest = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (half, body[:half], len(body) - half, body[half:])
    return check(body, b"Transfer-Encoding: chunked\r\n", rest)


class Response(Struct, frozen=True):
    status: int
    body: bytes

    def number(self) -> str:
        return str(msgspec.json.decode(self.body)["to"]) if self.body.startswith(b"{") else self.body.decode()


async def received(reader: asyncio.StreamReader) -> Response:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    status = int(head.split()[1])
    length = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]
    return Response(status, await reader.readexactly(int(length)) if length else b"")


async def exchanged(port: int, parts: list[bytes], count: int) -> list[Response]:
    """Send the parts one by one, and read `count` responses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    responses = [await received(reader) for _ in range(count)]
    writer.close()
    await writer.wait_closed()
    return responses


MIXES = {
    "a check behind another request": ([HEALTH, check(OTHER)], ["ok", LISTED]),
    "another request behind checks": ([check(BODY), HEALTH, check(OTHER)], [CALL["to"], "ok", LISTED]),
    "chunks behind a check": ([check(OTHER), chunked(BODY), check(OTHER)], [LISTED, CALL["to"], LISTED]),
}


@pytest.mark.parametrize("mix", MIXES)
async def test_pipelined_mixes_are_answered_in_order_wherever_they_are_cut(running: World, mix: str) -> None:
    requests, numbers = MIXES[mix]
    data = b"".join(requests)
    for cut in range(1, len(data)):
        responses = await exchanged(running.port, [data[:cut], data[cut:]], len(numbers))
        assert [response.number() for response in responses] == numbers, cut
    single = [data[place : place + 1] for place in range(len(data))]
    assert [r.number() for r in await exchanged(running.port, single, len(numbers))] == numbers


async def test_expect_behind_a_check_is_continued(running: World) -> None:
    expecting = check(OTHER, b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(OTHER))
    responses = await exchanged(running.port, [check(BODY) + expecting], 3)
    assert [response.status for response in responses] == [200, 100, 200]
    assert responses[2].number() == LISTED


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n"
AMBIGUOUS = {
    "length and chunks": check(BODY, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    "two lengths": check(BODY, b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "a signed length": check(BODY, b"Content-Length: +%d\r\n" % len(SMUGGLED), SMUGGLED),
    "a list of lengths": check(BODY, b"Content-Length: 0, %d\r\n" % len(SMUGGLED), SMUGGLED),
    "a folded length": check(BODY, b"Content-Length: 0\r\n %d\r\n" % len(SMUGGLED), SMUGGLED),
    "a space before the colon": check(BODY, b"Content-Length : %d\r\n" % len(SMUGGLED), SMUGGLED),
    "a bare LF": check(BODY, b"Accept: a\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "a bare CR": check(BODY, b"Accept: a\rContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "a NUL": check(BODY, b"Accept: \0\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
}  # fmt: skip


@pytest.mark.parametrize("doubt", AMBIGUOUS)
async def test_a_request_of_ambiguous_length_ends_the_connection(running: World, doubt: str) -> None:
    """Later requests on the connection are not served, whether or not a check came first."""
    for before in (b"", check(BODY)):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(before + AMBIGUOUS[doubt])
        raw = await asyncio.wait_for(reader.read(), 10)
        assert raw.count(b" 200 OK\r\n") == bool(before), raw
        assert raw.count(b" 400 Bad Request\r\n") == 1, raw
        writer.close()


async def test_a_connection_is_kept_after_a_body_that_was_refused_and_came_late(tmp_path: Path) -> None:
    """The late body does not begin a request, so it causes no 408."""
    async with world.running(tmp_path, limits={"read_seconds": 0.3}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        refused = check(BODY, UNKNOWN_KEY + b"X-Ordinary: yes\r\nContent-Length: %d\r\n" % len(BODY)).replace(
            b"Authorization: Bearer %b\r\n" % KEY.encode(), b""
        )
        writer.write(refused[:-1])
        assert (await received(reader)).status == 401
        writer.write(refused[-1:])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.6)
        writer.write(check(OTHER))
        assert (await received(reader)).number() == LISTED
        writer.close()


# ---- a connection without a gate -------------------------------------------------------------------------------------


class Bare(Struct):
    """A connection whose checks are answered by the test, not by a gate. `asked` receives the lane of each check."""

    connection: Connection
    asked: asyncio.Queue[Lane]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self) -> Lane:
        """Send a check, and return the lane that waits for its answer."""
        self.writer.write(check(BODY))
        return await asyncio.wait_for(self.asked.get(), 5)


@asynccontextmanager
async def bare(limits: Limits) -> AsyncIterator[Bare]:
    async def ok(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok")

    server, asked = web.Server(ok), asyncio.Queue[Lane]()

    def ask(_key: bytes, _body: bytes, lane: Lane) -> str:
        asked.put_nowait(lane)
        return "tests"

    note_beginnings(server)
    shared = ServerState(
        server=server,
        limits=limits,
        connections=Connections(10, lambda _: None),
        open_lane=lambda transport, hand_over, watch: Lane(
            transport, ask, lambda _: (200, b"{}", {}), hand_over, watch
        ),
        opened=set(),
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, connection = await loop.connect_accepted_socket(lambda: Connection(shared), ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    yield Bare(connection, asked, reader, writer)
    transport.abort()
    writer.close()
    await server.shutdown()


async def test_a_connection_is_handed_over_while_its_client_reads_slowly() -> None:
    async with bare(Limits()) as made:
        made.connection.pause_writing()
        made.writer.write(HEALTH)
        assert (await received(made.reader)).body == b"ok"
        made.connection.resume_writing()
        made.writer.write(HEALTH)
        assert (await received(made.reader)).body == b"ok"


async def test_a_connection_is_closed_after_the_response_that_is_due() -> None:
    async with bare(Limits()) as made:
        lane = await made.ask()
        ending = asyncio.create_task(made.connection.finish(5))
        await asyncio.sleep(0)
        assert not made.connection.is_idle()
        lane.set_result(Answer(decision="deny"))
        assert (await received(made.reader)).status == 200
        assert await asyncio.wait_for(made.reader.read(), 5) == b""
        await ending


async def test_a_connection_with_a_pending_response_is_not_idle() -> None:
    async with bare(Limits(idle_seconds=0.05)) as made:
        lane = await made.ask()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.reader.read(1), 0.2)
        lane.set_result(Answer(decision="deny"))
        assert (await received(made.reader)).status == 200
        assert await asyncio.wait_for(made.reader.read(), 5) == b""
