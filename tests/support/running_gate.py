"""A gate in a child process, and clients that send it checks without a pause."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct

from tests.support.paths import ROOT
from tests.support.world import KEY

CONNECTIONS = 32
# The server ended the connection: a request got no response, or half of one.
HUNG_UP = (ClientConnectionError, ClientPayloadError, ConnectionError)


PROGRAM = (sys.executable, "-m", "dialgate")


def program(*words: str) -> list[str]:
    return [*PROGRAM, *words]


async def spawn(
    config: Path, words: Sequence[str] = PROGRAM, **environment: str
) -> asyncio.subprocess.Process:
    """Start `dialgate serve` in a new process group. It takes some time to become ready."""
    return await asyncio.create_subprocess_exec(
        *words,
        "serve",
        "--config",
        str(config),
        cwd=ROOT,
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process group with SIGKILL, so that the gate cannot flush its buffers or shut down."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()


@asynccontextmanager
async def serving(config: Path, words: Sequence[str] = PROGRAM) -> AsyncIterator["RunningGate"]:
    process = await spawn(config, words)
    try:
        event = await ready(process)
        url = str(event["url"])
        connector = TCPConnector(limit=0)
        headers, timeout = {"Authorization": f"Bearer {KEY}"}, ClientTimeout(total=10)
        async with ClientSession(url, headers=headers, timeout=timeout, connector=connector) as client:
            yield RunningGate(process, client, event)
    finally:
        await kill(process)


class RunningGate(Struct, frozen=True):
    process: asyncio.subprocess.Process
    client: ClientSession
    ready: dict[str, Any]

    def port(self, door: str) -> int:
        """Return the port of the URL `door` in the `ready` event."""
        return int(self.ready[door].rpartition(":")[2])

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with self.client.post(path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status in {200, 201}, answer
            return answer

    def start_load(
        self, ask: Callable[[], dict[str, Any]], answered: Callable[[dict[str, Any], dict[str, Any]], None]
    ) -> "Load":
        """Start `CONNECTIONS` clients. Each checks the calls that `ask` returns, and reports the answers to `answered`."""
        return Load(self, ask, answered)


class Load:
    def __init__(
        self,
        gate: RunningGate,
        ask: Callable[[], dict[str, Any]],
        answered: Callable[[dict[str, Any], dict[str, Any]], None],
    ) -> None:
        self._gate, self._ask, self._answered = gate, ask, answered
        self._stop = asyncio.Event()
        self._callers = [asyncio.create_task(self._call()) for _ in range(CONNECTIONS)]

    async def _call(self) -> None:
        with suppress(*HUNG_UP):
            while not self._stop.is_set():
                body = self._ask()
                self._answered(body, await self._gate.post("/v1/check", body))

    async def wait(self) -> None:
        """Wait until every client has ended. Raises the exception of a client that failed."""
        await asyncio.gather(*self._callers)

    async def stop(self) -> None:
        self._stop.set()
        await self.wait()


async def ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Wait for the `ready` event and return it."""
    assert process.stderr is not None
    output = b""
    async for line in process.stderr:
        output += line
        event: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
        if event.get("event") in {"ready", "listening"}:
            return event
    raise AssertionError(f"the gate did not start. Its output:\n{output.decode()}")
