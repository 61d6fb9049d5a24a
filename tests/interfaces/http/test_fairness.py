"""A client that floods the gate delays only its own calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

from dialgate.store.sqlite import SqliteStore
from tests.support import world
from tests.support.world import CALL, KEY, SCOPES, World

OTHER = "key-of-the-other"
NDJSON = {"Content-Type": "application/x-ndjson"}
LINE = msgspec.json.encode(CALL) + b"\n"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    clients = [world.client("tests", KEY, *SCOPES, "stream"), world.client("other", OTHER, *SCOPES, "stream")]
    async with world.running(tmp_path, clients=clients, limits={"streams": 2}) as made:
        yield made


async def test_a_single_check_is_decided_before_the_rest_of_a_batch(two: World) -> None:
    """The sequence numbers in the decision log show the order."""
    calls = [{**CALL, "to": f"+39064{number:07}"} for number in range(5_000)]
    batch = asyncio.create_task(post(two.client, "/v1/checks", {"calls": calls}))
    for _ in range(100_000):
        if two.sample("dialgate_batch_calls_count"):
            break
        await asyncio.sleep(0)
    async with ClientSession(f"http://127.0.0.1:{two.port}", headers=key(OTHER)) as other:
        single = seq(await post(other, "/v1/check", CALL))
    answers = (await batch)["answers"]
    assert [answer["to"] for answer in answers] == [call["to"] for call in calls]
    after = sum(seq(answer) > single for answer in answers)
    assert after > len(calls) // 2, f"only {after} of {len(calls)} were decided after it"


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def seq(answer: dict[str, Any]) -> int:
    return int(answer["decision_id"].partition("-")[2])


async def post(client: ClientSession, path: str, body: Any) -> Any:
    async with client.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


# ---- streams ---------------------------------------------------------------------------------------------------------


async def test_streams_of_checks_are_limited_per_client(two: World) -> None:
    end = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield LINE
        await end.wait()

    async def open_stream(session: ClientSession) -> tuple[int, str]:
        async with session.post("/v1/checks", data=lines(), headers=NDJSON) as answer:
            if answer.status != 200:
                return answer.status, (await answer.json())["error"]["code"]
            await answer.content.readline()
            ready.set_result(None)
            await answer.content.read()
            return answer.status, ""

    running = []
    for session in (two.client, two.client):
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        running.append(asyncio.create_task(open_stream(session)))
        await ready
    assert await open_stream(two.client) == (429, "streams.too_many")
    async with ClientSession(f"http://127.0.0.1:{two.port}", headers=key(OTHER)) as other:
        ready = asyncio.get_running_loop().create_future()
        running.append(asyncio.create_task(open_stream(other)))
        await ready
        end.set()
        assert await asyncio.gather(*running) == [(200, "")] * 3
    ready = asyncio.get_running_loop().create_future()
    assert await open_stream(two.client) == (200, "")


async def send_until_closed(writer: asyncio.StreamWriter) -> int:
    """Send lines until the connection ends. Return the number of bytes sent."""
    lines, sent = b"%x\r\n%b\r\n" % (len(LINE), LINE) * 1000, 0
    with suppress(ConnectionError):
        while True:
            writer.write(lines)
            await writer.drain()
            sent += len(lines)
    return sent


async def test_the_rest_of_a_refused_stream_is_left_unread(two: World) -> None:
    """The response still arrives, and the connection ends."""

    async def start_stream() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
        head = f"POST /v1/checks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/x-ndjson"
        writer.write(
            f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n%b\r\n" % (len(LINE), LINE)
        )
        return reader, writer

    pairs = [await start_stream() for _ in range(2)]
    for reader, _ in pairs:
        assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    reader, writer = await start_stream()
    assert b" 429 " in await reader.readuntil(b"\r\n\r\n")
    assert b"streams.too_many" in await reader.readuntil(b"}}")
    assert await send_until_closed(writer) < 16 << 20, "more than what lies in the buffers of both ends"
    for _, each in (*pairs, (reader, writer)):
        each.close()


async def test_streams_of_revocations_are_limited_per_client(two: World) -> None:
    path = "/v1/revocations/stream?after=0"
    async with two.client.get(path) as one, two.client.get(path) as another, two.client.get(path) as third:
        assert [one.status, another.status, third.status] == [200, 200, 429]
        assert third.headers["Retry-After"] == "1"


# ---- the store -------------------------------------------------------------------------------------------------------


async def test_a_ledger_write_does_not_wait_for_reads(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    go_on = Event()
    reads = [asyncio.ensure_future(store._lookups.run(lambda _: go_on.wait())) for _ in range(3)]
    written: int = await asyncio.wait_for(store._write(lambda db: db.execute("SELECT 1").fetchone()[0]), 5)
    assert (written, [read.done() for read in reads]) == (1, [False] * 3)
    go_on.set()
    await asyncio.gather(*reads)
    await store.close()


# ---- responses that nobody reads -------------------------------------------------------------------------------------

CALLS = 10_000


async def send_batch(made: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a batch whose answers take more than the buffers of both sockets."""
    body = msgspec.json.encode({"calls": [{**CALL, "to": f"+39064{number:07}"} for number in range(CALLS)]})
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1 << 10)
    writer.write(
        b"POST /v1/checks HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % (KEY.encode(), len(body))
    )
    writer.write(body)
    await writer.drain()
    return reader, writer


async def test_a_batch_whose_answers_are_not_read_is_ended(tmp_path: Path) -> None:
    """The gate kept all its answers, 28 MB, for as long as the connection was open."""
    async with world.running(tmp_path, limits={"read_seconds": 1}) as made:
        reader, writer = await send_batch(made)
        async with asyncio.timeout(60):
            while not made.sample("dialgate_connections_closed_total", why="unread"):  # noqa: ASYNC110 - a metric
                await asyncio.sleep(0)
            with suppress(ConnectionError):
                assert not (await reader.read()).endswith(b"]}\r\n0\r\n\r\n")
        assert 0 < len(made.records()) < CALLS
        writer.close()


async def test_a_batch_whose_answers_are_read_slowly_is_complete(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"read_seconds": 5}) as made:
        reader, writer = await send_batch(made)
        async with asyncio.timeout(120):
            raw = b""
            while part := await reader.read(1 << 16):
                raw += part
                await asyncio.sleep(0)
        assert (raw.startswith(b"HTTP/1.1 200 OK"), raw.endswith(b"]}\r\n0\r\n\r\n")) == (True, True)
        assert len(made.records()) == CALLS
        writer.close()


async def test_a_client_has_a_maximum_of_batches(two: World) -> None:
    """The other client is served."""
    batches = [await send_batch(two) for _ in range(2)]
    async with asyncio.timeout(60):
        while not two.sample("dialgate_batch_calls_count"):  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(0)
        for name, status in ((KEY, 429), (OTHER, 200)):
            async with (
                ClientSession(f"http://127.0.0.1:{two.port}", headers=key(name)) as session,
                session.post("/v1/checks", json={"calls": [CALL]}) as answer,
            ):
                assert answer.status == status
    for _, writer in batches:
        writer.transport.abort()
