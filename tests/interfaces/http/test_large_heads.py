"""Strangers can make a gate keep little of a head, and nothing after their connections have closed."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dialgate.interfaces.http.connection import Connection, Handler
from tests.support import world
from tests.support.running_gate import serving
from tests.support.world import CALL, KEY, World

LIMIT = 32 << 10
CLOSE = b"Connection: close\r\n"
BODY = b'{"calls":[]}'
KEYED = b"Host: gate\r\nAuthorization: Bearer %b\r\n" % KEY.encode()
BATCH = b"POST /v1/checks HTTP/1.1\r\n" + KEYED
FIXED = BATCH + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = BATCH + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
TRAILED = BATCH + (
    b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n%b\r\n%X\r\n%b\r\n000\r\nA: b\r\n\r\n"
    % (BODY[:1], len(BODY) - 1, BODY[1:])
)
CALLS = msgspec.json.encode({"calls": [CALL] * 50})
SLOW = BATCH + b"Content-Length: %d\r\n\r\n" % len(CALLS) + CALLS
FOREIGN_CHUNKS = CHUNKED.replace(KEYED, b"Host: gate\r\n")
FOREIGN = b"POST /v1/checks HTTP/1.1\r\nHost: gate\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


def get(length: int, *, last: bool = True) -> bytes:
    """Return a request with a head of `length` bytes, in headers of at most 15,000 bytes."""
    head = b"GET /healthz HTTP/1.1\r\nHost: gate\r\n" + (CLOSE if last else b"")
    for name in (b"A", b"B", b"C"):
        size = min(15_000, length - len(head) - len(b"A: \r\n\r\n"))
        head += name + b": " + b"x" * size + b"\r\n" if size > 0 else b""
    assert len(head) + 2 == length
    return head + b"\r\n"


@asynccontextmanager
async def connected(made: World) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def statuses(raw: bytes) -> list[int]:
    return [int(part[:3]) for part in raw.split(b"HTTP/1.1 ")[1:]]


SMALL = get(200)
REQUESTS: list[tuple[list[bytes], list[int]]] = [
    ([get(LIMIT)], [200]),
    ([get(39_000)], [431]),
    ([get(39_000)[:-4]], [431]),
    ([b"\r\n\r\n" + get(LIMIT - 4)], [200]),
    # After another request, sent at once.
    ([get(200, last=False), get(LIMIT)], [200, 200]),
    ([FIXED, get(LIMIT)], [200, 200]),
    ([FOREIGN, get(LIMIT)], [401, 200]),
    ([FIXED] * 5 + [SMALL], [200] * 6),
    ([CHUNKED, SMALL], [200, 200]),
    ([TRAILED, TRAILED, get(LIMIT)], [200, 200, 200]),
    ([FOREIGN_CHUNKS, SMALL], [401, 200]),
    # More than the maximum of a head while the gate is busy.
    ([FIXED] + [get(30_000, last=False)] * 9 + [SMALL], [200] * 11),
]


@pytest.mark.parametrize(("requests", "wanted"), REQUESTS)
async def test_a_head_has_a_maximum_length(
    running: World, requests: Sequence[bytes], wanted: list[int]
) -> None:
    """The requests arrive in parts that end within heads and bodies."""
    sent = b"".join(requests)
    async with connected(running) as (reader, writer), asyncio.timeout(10):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(sent), 4_001):
            writer.write(sent[begin : begin + 4_001])
            for _ in range(3):  # turns of the loop, in which the gate reads this part alone
                await asyncio.sleep(0)
        assert statuses(await reader.read()) == wanted


async def test_a_body_is_no_head(running: World) -> None:
    """A body of 500 KB arrives with its head, or byte by byte after it."""
    body = b'{"calls":[%b{}]}' % (b" " * 500_000)
    sent = BATCH + b"Content-Length: %d\r\n\r\n" % len(body) + body + SMALL
    async with connected(running) as (reader, writer), asyncio.timeout(10):
        writer.write(sent)
        assert statuses(await reader.read()) == [200, 200]
    async with connected(running) as (reader, writer), asyncio.timeout(10):
        for part in (SLOW, sent):  # the second arrives while the gate is busy
            writer.write(part)
            for _ in range(3):
                await asyncio.sleep(0)
        assert statuses(await reader.read()) == [200, 200, 200]
    async with connected(running) as (reader, writer), asyncio.timeout(10):
        for begin in range(400):
            writer.write(sent[begin : begin + 1])
            await asyncio.sleep(0)
        writer.write(sent[400:])
        assert statuses(await reader.read()) == [200, 200]


async def test_uploads_follow_one_another_on_a_connection(tmp_path: Path) -> None:
    """Uvloop reads much of a body in the turn of the loop in which its head arrived."""
    body = b'{"calls":[%b{}]}' % (b" " * 4_000_000)
    upload = BATCH + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with serving(world.write_folder(tmp_path / "gate", limits={"body_bytes": len(body)})) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port("url"))
        for _ in range(10):
            writer.write(upload)
            async with asyncio.timeout(30):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            assert statuses(head) == [200]
        writer.close()
        await writer.wait_closed()


async def test_a_busy_connection_keeps_few_bytes_of_the_next_requests(tmp_path: Path) -> None:
    """Behind a stream that never ends, 16 requests with heads of 1 MiB arrive."""
    head = b"GET /healthz HTTP/1.1\r\nHost: gate\r\n" + b"".join(
        b"A%d: %b\r\n" % (place, b"x" * 16_000) for place in range(60)
    )
    clients = [world.client("tests", KEY, "stream")]
    async with world.running(tmp_path, clients=clients) as made, connected(made) as (reader, writer):
        writer.write(b"GET /v1/revocations/stream?after=0 HTTP/1.1\r\n" + KEYED + b"\r\n")
        assert b" 200 OK" in await reader.readline()
        writer.transport.set_write_buffer_limits(0)
        writer.write((head + b"\r\n") * 16)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await writer.drain()
        writer.transport.abort()


async def test_a_head_that_begins_while_the_gate_is_busy_has_a_timeout(tmp_path: Path) -> None:
    """Three turns of the loop let the gate begin the first request, but not answer it."""
    async with (
        world.running(tmp_path, limits={"read_seconds": 0.3, "idle_seconds": 90}) as made,
        connected(made) as (reader, writer),
        asyncio.timeout(10),
    ):
        for part in (SLOW, get(200)[:-3]):
            writer.write(part)
            for _ in range(3):
                await asyncio.sleep(0)
        assert statuses(await reader.read()) == [200, 408]


def count_connections() -> int:
    return sum(isinstance(item, Connection | Handler) for item in gc.get_objects())


@pytest.mark.parametrize("sent", [SMALL, get(LIMIT)[:-3], FIXED, FOREIGN, b"x", get(200, last=False) * 3])
async def test_closed_connections_leave_nothing_for_the_garbage_collector(
    running: World, sent: bytes
) -> None:
    """The collector is late while thousands of connections open and close."""
    gc.collect()
    gc.freeze()  # counts skip the objects of other tests, of which there may be a million
    gc.disable()
    try:
        assert count_connections() == 0
        for _ in range(20):
            async with connected(running) as (_, writer):
                writer.write(sent)
                await writer.drain()
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while count_connections():  # noqa: ASYNC110 - counted by the collector, without an event
                await asyncio.sleep(0)
    finally:
        gc.enable()
