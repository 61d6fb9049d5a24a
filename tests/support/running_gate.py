"""A gate as a process of its own, and callers that ask it without a pause until they are told to stop or hung up on."""

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
# The server is gone: what was asked has no answer, or half of one.
HUNG_UP = (ClientConnectionError, ClientPayloadError, ConnectionError)


PROGRAM = (sys.executable, "-m", "dialgate")


def program(*words: str) -> list[str]:
    return [*PROGRAM, *words]


async def spawn(config: Path, words: Sequence[str] = PROGRAM) -> asyncio.subprocess.Process:
    """`dialgate serve`, which may not be ready for some time. It leads a process group."""
    return await asyncio.create_subprocess_exec(
        *words,
        "serve",
        "--config",
        str(config),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def kill(process: asyncio.subprocess.Process) -> None:
    """As the machine's power would: nothing is flushed, closed or told."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()


@asynccontextmanager
async def serving(config: Path, words: Sequence[str] = PROGRAM) -> AsyncIterator["Gatehouse"]:
    process = await spawn(config, words)
    try:
        ready = await _ready(process)
        url = str(ready["url"])
        connector = TCPConnector(limit=0)
        headers, timeout = {"Authorization": f"Bearer {KEY}"}, ClientTimeout(total=10)
        async with ClientSession(url, headers=headers, timeout=timeout, connector=connector) as client:
            yield Gatehouse(process, client, ready)
    finally:
        await kill(process)


class Gatehouse(Struct, frozen=True):
    process: asyncio.subprocess.Process
    client: ClientSession
    ready: dict[str, Any]

    def port(self, door: str) -> int:
        """Of a URL that the event "ready" names."""
        return int(self.ready[door].rpartition(":")[2])

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with self.client.post(path, json=body) as answer:
            told: dict[str, Any] = await answer.json()
            assert answer.status in {200, 201}, told
            return told

    def hammered(
        self, ask: Callable[[], dict[str, Any]], heard: Callable[[dict[str, Any], dict[str, Any]], None]
    ) -> "Hammering":
        """`CONNECTIONS` callers that ask what `ask` says and hand every question with its answer to `heard`."""
        return Hammering(self, ask, heard)


class Hammering:
    def __init__(
        self,
        gate: Gatehouse,
        ask: Callable[[], dict[str, Any]],
        heard: Callable[[dict[str, Any], dict[str, Any]], None],
    ) -> None:
        self._gate, self._ask, self._heard = gate, ask, heard
        self._stop = asyncio.Event()
        self._callers = [asyncio.create_task(self._call()) for _ in range(CONNECTIONS)]

    async def _call(self) -> None:
        with suppress(*HUNG_UP):
            while not self._stop.is_set():
                body = self._ask()
                self._heard(body, await self._gate.post("/v1/check", body))

    async def ended(self) -> None:
        """When every caller was hung up on, or after `stop`. Raises what a caller met."""
        await asyncio.gather(*self._callers)

    async def stopped(self) -> None:
        self._stop.set()
        await self.ended()


async def _ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The event of this name."""
    assert process.stderr is not None
    said = b""
    async for line in process.stderr:
        said += line
        event: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
        if event.get("event") == "ready":
            return event
    raise AssertionError(f"the gate did not start; it said:\n{said.decode()}")
