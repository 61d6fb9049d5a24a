"""Connections from unknown clients do not delay known clients. Some tests use real sockets and limit open files."""

import asyncio
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from dialgate.interfaces.connections import Connections
from dialgate.tools.conformance.asterisk import Channel, agi
from tests.support import pbx, world
from tests.support.pbx import decision_and_reason
from tests.support.running_gate import PROGRAM, RunningGate, serving
from tests.support.world import CALL, CALLER, CLEAR, KEY, LISTED, SCOPES

IDLE = 2_000
FEW_FILES = ("prlimit", "--nofile=1024:1024", *PROGRAM)


# ---- eviction --------------------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, *, idle: bool = True) -> None:
        self.idle, self.dropped = idle, False

    def is_idle(self) -> bool:
        return self.idle

    def drop(self) -> None:
        self.dropped = True


def open_holders(connections: Connections, count: int, *, idle: bool = True) -> list[Holder]:
    holders = [Holder(idle=idle) for _ in range(count)]
    assert all(connections.open(holder) for holder in holders)
    return holders


def test_the_oldest_idle_stranger_is_closed_first() -> None:
    closed: list[str] = []
    connections = Connections(6, closed.append)
    known = open_holders(connections, 1)
    connections.admit(known[0], "a")
    busy, *idle = open_holders(connections, 1, idle=False) + open_holders(connections, 2)
    open_holders(connections, 2)
    assert [holder.dropped for holder in (*known, busy, *idle)] == [False, False, True, True]
    assert closed == ["evicted"] * 2


def test_if_all_strangers_are_busy_the_oldest_is_closed() -> None:
    connections = Connections(6, lambda _: None)
    first, *others = open_holders(connections, 3, idle=False)
    open_holders(connections, 1)
    assert [first.dropped, *(holder.dropped for holder in others)] == [True, False, False]


def test_known_clients_are_never_closed_for_a_new_connection() -> None:
    closed: list[str] = []
    connections = Connections(6, closed.append)
    known = open_holders(connections, 3)
    for holder in known:
        connections.admit(holder, "a")
    known += open_holders(connections, 3)
    for holder in known:
        connections.admit(holder, "b")
    assert not connections.open(Holder())
    assert closed == ["refused"]
    connections.close(known[0])
    assert connections.open(Holder())
    assert not any(holder.dropped for holder in known)


def test_a_client_with_half_of_the_connections_replaces_its_own() -> None:
    closed: list[str] = []
    connections = Connections(6, closed.append)
    own = open_holders(connections, 1, idle=False) + open_holders(connections, 1)
    for holder in own:
        connections.admit(holder, "a")
    for _ in range(2):
        own += open_holders(connections, 1)
        connections.admit(own[-1], "a")
        connections.admit(own[-1], "a")  # a later request on the same connection
    assert [holder.dropped for holder in own] == [False, True, False, False]
    (other,) = open_holders(connections, 1)
    connections.admit(other, "b")
    connections.close(own[0])
    (more,) = open_holders(connections, 1)
    connections.admit(more, "a")
    assert not any(holder.dropped for holder in (other, more))
    assert closed == ["evicted"]


# ---- real sockets ----------------------------------------------------------------------------------------------------


@contextmanager
def open_idle_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open `count` idle connections. The gate may close some of them at once."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets: list[socket.socket] = []
    try:
        sockets += [socket.create_connection(("127.0.0.1", port), 10) for _ in range(count)]
        yield sockets
    finally:
        for one in sockets:
            one.close()


@asynccontextmanager
async def few_files(folder: Path, **changes: object) -> AsyncIterator[RunningGate]:
    """Run `dialgate serve` with at most 1,024 open files and long timeouts."""
    changes = {"limits": {"first_byte_seconds": 60, "read_seconds": 60}, **changes}
    async with serving(world.write_folder(folder, **changes), FEW_FILES) as gate:
        yield gate


def port_of(gate: RunningGate) -> int:
    return int(gate.ready["url"].rpartition(":")[2])


async def check_call(gate: RunningGate) -> None:
    answer = await gate.post("/v1/check", {**CALL, "to": "+390612340000"})
    assert answer["decision_id"], answer


async def test_thousands_of_idle_strangers_delay_no_decision(tmp_path: Path) -> None:
    """The open connection of a known client stays open, new connections are served, and a revocation is recorded."""
    async with few_files(tmp_path) as gate:
        before = await asyncio.open_connection("127.0.0.1", port_of(gate))
        assert b'"decision_id"' in await request_check(before)
        with open_idle_connections(port_of(gate), IDLE):
            for _ in range(20):
                await asyncio.gather(*(check_call(gate) for _ in range(10)))
            await gate.post("/v1/revocations", {"number": CLEAR, "channel": "mail", "proof": "mail/1"})
            assert b"revocation.revoked" in await request_check(before)
            async with gate.client.get("/readyz") as answer:
                assert (await answer.json())["problems"].keys() == {"snapshot"}  # no snapshot was published
            async with gate.client.get("/metrics") as answer:
                assert 'dialgate_connections_closed_total{why="evicted"}' in await answer.text()
        before[1].close()


async def request_check(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """Return the response to a check on this connection."""
    reader, writer = connection
    body = msgspec.json.encode(CALL)
    head = f"POST /v1/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    response = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return await reader.readexactly(int(response.partition(b"Content-Length: ")[2].split()[0]))


async def test_unfinished_handshakes_delay_no_decision(tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": 0, **world.write_certificate(tmp_path)}
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    async with few_files(tmp_path, listen=listen) as gate:
        with open_idle_connections(port_of(gate), IDLE):
            for _ in range(20):
                headers = {"Authorization": f"Bearer {KEY}"}
                url = f"https://127.0.0.1:{port_of(gate)}/v1/check"
                async with gate.client.post(url, json=CALL, headers=headers, ssl=context) as answer:
                    assert (await answer.json())["decision_id"]


async def test_strangers_at_the_agi_port_delay_no_decision(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *SCOPES), pbx.PBX]
    async with few_files(tmp_path, clients=clients, fastagi={"port": 0, "deadline_seconds": 10}) as gate:
        with open_idle_connections(gate.port("fastagi"), IDLE):
            for _ in range(20):
                await check_call(gate)


async def test_strangers_over_http_delay_no_call_over_agi(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *SCOPES), pbx.PBX]
    async with few_files(tmp_path, clients=clients, fastagi={"port": 0, "deadline_seconds": 10}) as gate:
        with open_idle_connections(port_of(gate), IDLE):
            channel = Channel(extension=LISTED, caller=CALLER)
            await agi(channel, f"agi://127.0.0.1:{gate.port('fastagi')}/check", LISTED, CALLER, "acme-fibre")
            assert decision_and_reason(channel)[0] == "deny"
            assert channel.variables["DG_DECISION_ID"]


async def test_a_silent_new_connection_is_closed_soon(tmp_path: Path) -> None:
    """A connection that has made a request is kept."""
    async with world.running(tmp_path, limits={"first_byte_seconds": 0.2, "read_seconds": 30}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        silent, closing = await asyncio.open_connection("127.0.0.1", running.port)
        assert await asyncio.wait_for(silent.read(), 5) == b""
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"ok")
        closing.close()
        writer.close()


async def test_an_incomplete_head_has_the_full_request_timeout(tmp_path: Path) -> None:
    async with world.running(tmp_path, limits={"first_byte_seconds": 0.1, "read_seconds": 0.5}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        begun = asyncio.get_running_loop().time()
        writer.write(b"GET /healthz HT")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")
        assert asyncio.get_running_loop().time() - begun > 0.4
        writer.close()
