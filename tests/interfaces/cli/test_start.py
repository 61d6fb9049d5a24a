"""Signals during the start of a gate, and reloads.

SIGTERM ends a starting gate cleanly. A reload waits until the gate has started, and also loads a renewed certificate.
"""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from dialgate.core.model import DAY
from dialgate.runtime.clock import wall_clock
from tests.support import world
from tests.support.running_gate import kill, spawn
from tests.support.world import CLEAR

# Before the first import, and after the gate has opened its files but before it is ready.
MOMENTS = ("held", "snapshot in use")


class Start:
    """A `dialgate serve` process that is starting, with the events that it has logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[str] = []

    async def until(self, moment: str) -> None:
        if moment == "held":
            while not self._is_held():
                pass
        else:
            await self.hears(moment)

    def _is_held(self) -> bool:
        """Return whether the gate blocks SIGHUP but not SIGINT.

        A check of SIGHUP alone is not enough, because all signals are blocked between fork and exec.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
        blocked = [bool(int(mask, 16) >> (number - 1) & 1) for number in (signal.SIGHUP, signal.SIGINT)]
        return blocked == [True, False]

    async def hears(self, event: str) -> dict[str, Any]:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            said: dict[str, Any] = json.loads(line)
            self.events.append(said["event"])
            if said["event"] == event:
                return said
        raise AssertionError(f"it never said {event!r}: {self.events}, {await self.process.wait()}")


@asynccontextmanager
async def starting(folder: Path, **changes: Any) -> AsyncIterator[Start]:
    path = world.write_folder(folder, **changes)
    world.publish_answers(folder / "data", {CLEAR: False}, wall_clock() - DAY)
    process = await spawn(path)
    try:
        yield Start(process)
    finally:
        await kill(process)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_reload_during_the_start_happens_after_it(tmp_path: Path, moment: str) -> None:
    async with starting(tmp_path) as gate:
        await gate.until(moment)
        gate.process.send_signal(signal.SIGHUP)
        await gate.hears("ready")
        if "configuration in force" not in gate.events:
            await gate.hears("configuration in force")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_sigterm_during_the_start_ends_it_cleanly(tmp_path: Path, moment: str) -> None:
    async with starting(tmp_path) as gate:
        await gate.until(moment)
        gate.process.send_signal(signal.SIGTERM)
        await gate.hears("stopped")
        assert await gate.process.wait() == 0


async def test_a_reload_uses_a_renewed_certificate_and_refuses_a_bad_pair(
    tmp_path: Path,
) -> None:
    listen = {"host": "127.0.0.1", "port": 0, **world.write_certificate(tmp_path)}
    async with starting(tmp_path, listen=listen) as gate:
        port = int((await gate.hears("ready"))["url"].rpartition(":")[2])

        async def read_certificate() -> str:
            return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))

        first = (tmp_path / "cert.pem").read_text()
        assert await read_certificate() == first
        world.write_certificate(tmp_path, days=400)
        second = (tmp_path / "cert.pem").read_text()
        assert await read_certificate() == first, "not before it is told to"
        gate.process.send_signal(signal.SIGHUP)
        await gate.hears("configuration in force")
        assert await read_certificate() == second
        key = (tmp_path / "key.pem").read_bytes()
        world.write_certificate(tmp_path)
        (tmp_path / "key.pem").write_bytes(key)
        gate.process.send_signal(signal.SIGHUP)
        said = await gate.hears("configuration rejected; the previous one stays in use")
        assert "listen.tls_certificate: the key does not belong to the certificate" in said["problem"]
        assert await read_certificate() == second
        (tmp_path / "cert.pem").write_text("no PEM")
        gate.process.send_signal(signal.SIGHUP)
        await gate.hears("configuration rejected; the previous one stays in use")
        assert await read_certificate() == second


def test_a_gate_on_sqlite_does_not_load_the_client_of_redis() -> None:
    """Loading it takes a tenth of a second per command, and 8 MB per process."""
    said = "import sys, dialgate.interfaces.cli.serve; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0


async def test_the_event_ready_follows_readyz(tmp_path: Path) -> None:
    """A gate without a snapshot listens, and is ready once the nightly job has published one."""
    process = await spawn(world.write_folder(tmp_path))
    try:
        gate = Start(process)
        event = await gate.hears("listening")
        assert "snapshot" in event["problems"]
        async with ClientSession(event["url"]) as client:
            async with client.get("/readyz") as answer:
                assert answer.status == 503
            assert "ready" not in gate.events
            world.publish_answers(tmp_path / "data", {CLEAR: False}, wall_clock() - DAY)
            await gate.hears("ready")
            async with client.get("/readyz") as answer:
                assert answer.status == 200
    finally:
        await kill(process)


async def test_a_gate_can_decide_at_once_and_while_it_drains_but_then_is_not_ready(tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": 0, "drain_seconds": 2}
    async with starting(tmp_path, listen=listen) as gate:
        listening = await gate.hears("listening")
        assert listening["problems"] == {}
        url = (await gate.hears("ready"))["url"]
        assert url == listening["url"]
        headers = {"Authorization": f"Bearer {world.KEY}"}
        async with ClientSession(url, headers=headers) as client:
            async with client.get("/readyz") as response:
                assert response.status == 200
            gate.process.send_signal(signal.SIGTERM)
            await gate.hears("draining")
            async with client.get("/readyz") as response:
                assert response.status == 503
                assert (await response.json())["problems"] == {"listen": "the gate is about to stop"}
            async with client.post("/v1/check", json=world.CALL) as response:
                assert (response.status, bool((await response.json())["decision_id"])) == (200, True)
        await gate.hears("stopped")
        assert await gate.process.wait() == 0
