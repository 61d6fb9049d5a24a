"""The operations endpoints: without a key, with a key, and on the operations listener."""

import json
import select
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from dialgate.config.listeners import Operations
from dialgate.interfaces import http_application
from tests.support import world
from tests.support.ports import free_port
from tests.support.running_gate import serving, spawn
from tests.support.world import KEY, World

NARROW, METRICS = "key-that-checks", "key-that-scrapes"
CLIENTS = [
    world.client("tests", KEY, *world.SCOPES),
    world.client("narrow", NARROW, "check"),
    world.client("prometheus", METRICS, "metrics") | {"controllers": []},
]
# The status of each path on the API port, by key.
BESIDE = {
    "": {"/metrics": 401, "/openapi.json": 401, "/docs": 401, "/healthz": 200, "/readyz": 200},
    "wrong": {"/metrics": 401, "/openapi.json": 401, "/docs": 401, "/healthz": 200, "/readyz": 200},
    NARROW: {"/metrics": 403, "/openapi.json": 200, "/docs": 200, "/healthz": 200, "/readyz": 200},
    METRICS: {"/metrics": 200, "/openapi.json": 200, "/docs": 200, "/healthz": 200, "/readyz": 200},
}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=CLIENTS, operations={"port": 0}) as made:
        yield made


async def got(port: int, path: str, key: str = "") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"http://127.0.0.1:{port}{path}"
    async with ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("key", BESIDE)
async def test_the_operations_endpoints_need_a_key_on_the_api_port(gate: World, key: str) -> None:
    found = {path: (await got(gate.port, path, key))[0] for path in BESIDE[key]}
    assert found == BESIDE[key]


@pytest.mark.parametrize("key", ["", "wrong", NARROW])
async def test_readiness_has_no_details_without_a_key(gate: World, key: str) -> None:
    assert await got(gate.port, "/readyz", key) == (200, b'{"ready":true}')
    await gate.app._store.close()
    await gate.app.tick()
    assert await got(gate.port, "/readyz", key) == (503, b'{"ready":false}')
    status, body = await got(gate.port, "/readyz", METRICS)
    assert (status, "store" in json.loads(body)["problems"]) == (503, True)


async def test_the_operations_listener_needs_no_key(gate: World) -> None:
    runner = await http_application.start_operations(gate.app, gate.registry)
    try:
        port = runner.addresses[0][1]
        assert json.loads((await got(port, "/readyz"))[1])["node"] == "gate"
        assert b"dialgate_ready" in (await got(port, "/metrics"))[1]
        assert (await got(port, "/"))[1].startswith(b"<!doctype html>")
        assert json.loads((await got(port, "/openapi.json"))[1])["openapi"]
        assert (await got(port, "/v1/lists", KEY))[0] == 404
    finally:
        await runner.cleanup()


# ---- with real processes ---------------------------------------------------------------------------------------------


@contextmanager
def in_use(port: int) -> Iterator[None]:
    """Occupy a port during the `with` block. Wait if a gate of another test still uses the port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + 60
        while True:
            try:
                taken.bind(("127.0.0.1", port))
                taken.listen()
                break
            except OSError:
                assert time.monotonic() < deadline, f"port {port} stays in use"
                select.select([], [], [], 0.02)
        yield


async def test_serve_names_the_operations_listener(tmp_path: Path) -> None:
    async with serving(world.write_folder(tmp_path, operations={"port": 0})) as gate:
        assert gate.ready["operations"].startswith("http://127.0.0.1:")
        status, body = await got(gate.port("operations"), "/metrics")
        assert (status, b"dialgate_ready" in body) == (200, True)


async def test_without_the_setting_a_second_gate_on_the_machine_still_starts(tmp_path: Path) -> None:
    with in_use(Operations().port):
        async with serving(world.write_folder(tmp_path)) as gate:
            assert "operations" not in gate.ready
            async with gate.client.get("/metrics") as answer:
                assert answer.status == 200


async def test_the_warning_about_the_default_port_names_cause_and_remedy(tmp_path: Path) -> None:
    with in_use(Operations().port):
        process = await spawn(world.write_folder(tmp_path))
        assert process.stderr is not None
        async for line in process.stderr:
            if b"operations listener" in line:
                break
        process.terminate()
        await process.communicate()
    assert b"port 9464 of the operations listener is in use by another program" in line
    assert b"Set `operations.port` to a free port." in line


async def test_a_browser_without_a_key_gets_the_address_of_the_docs(gate: World) -> None:
    assert b"operations listener" in (await got(gate.port, "/docs"))[1]
    assert b"operations listener" not in (await got(gate.port, "/openapi.json"))[1]


async def test_a_configured_port_in_use_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with in_use(port):
        process = await spawn(world.write_folder(tmp_path, operations={"port": port}))
        _, said = await process.communicate()
    assert process.returncode == 1
    assert f"operations: 127.0.0.1 port {port}: ".encode() in said
    assert b"Stop the program that listens there" in said
