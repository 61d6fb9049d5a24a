"""What a gate tells the service manager that started it."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dialgate.core.model import DAY
from dialgate.runtime.clock import wall_clock
from tests.support import world
from tests.support.running_gate import kill, spawn

PATIENCE = 60


@asynccontextmanager
async def managed(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, socket.socket]]:
    """Start a gate as systemd would, and yield it with the socket for its messages."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(b"\0dialgate-notify-%d" % id(sock))
        sock.settimeout(0)
        address = sock.getsockname().decode().replace("\0", "@")
        process = await spawn(config, NOTIFY_SOCKET=address, WATCHDOG_USEC="300000")
        try:
            yield process, sock
        finally:
            await kill(process)


async def receive(sock: socket.socket) -> str:
    async with asyncio.timeout(PATIENCE):
        return (await asyncio.get_running_loop().sock_recv(sock, 4096)).decode()


async def test_a_ready_gate_reports_its_start_its_heartbeats_and_its_end(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, operations={"port": 0})
    world.publish_answers(tmp_path / "data", world.ANSWERS, wall_clock() - DAY)
    async with managed(config) as (process, sock):
        assert await receive(sock) == "READY=1"
        loop, times = asyncio.get_running_loop(), []
        for _ in range(10):
            assert await receive(sock) == "WATCHDOG=1\nSTATUS=ready"
            times.append(loop.time())
        assert times[-1] - times[0] < 9 * 0.3
        process.send_signal(signal.SIGTERM)
        while (message := await receive(sock)) != "STOPPING=1":
            assert message == "WATCHDOG=1\nSTATUS=ready"
        assert await process.wait() == 0


async def test_a_gate_that_drains_reports_that_it_still_decides(tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": 0, "drain_seconds": 2}
    config = world.write_folder(tmp_path, operations={"port": 0}, listen=listen)
    world.publish_answers(tmp_path / "data", world.ANSWERS, wall_clock() - DAY)
    async with managed(config) as (process, sock):
        while await receive(sock) != "READY=1":
            pass
        process.send_signal(signal.SIGTERM)
        while await receive(sock) != "STOPPING=1":
            pass
        assert await receive(sock) == "WATCHDOG=1\nSTATUS=decides calls: listen: the gate is about to stop"
        assert await process.wait() == 0


async def test_a_gate_without_registry_answers_starts_late_and_says_why(tmp_path: Path) -> None:
    """The job that gets the answers starts after the gate, so the start must end."""
    config = world.write_folder(tmp_path, operations={"port": 0})
    async with managed(config) as (_, sock):
        begun = asyncio.get_running_loop().time()
        while (message := await receive(sock)) != "READY=1":
            assert message.startswith("WATCHDOG=1\nSTATUS=denies every call: "), message
        assert asyncio.get_running_loop().time() - begun >= 10
