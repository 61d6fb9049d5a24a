"""A TCP proxy in front of a server's socket that simulates network faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_CHUNK = 1 << 16


class Proxy:
    """A proxy that injects a fault into requests.

    If `only` is not empty, the fault affects only requests that contain those bytes. `fault` is the kind of fault:

    - `delay`: forward each request after `seconds`
    - `half_open`: forward nothing and keep the connection open
    - `reset`: close the connection in the middle of a reply
    - `lost`: discard replies
    - `away`: close every connection at once
    - `held`: forward the request after `heal`
    - `dropped`: hold the request until `heal`, then close the connection without forwarding it
    - `broken`: forward the request, hold its reply until `heal`, then close the connection

    `reads` counts the replies to MGET that were forwarded.
    """

    def __init__(self, target: Path) -> None:
        self.port = 0
        self.fault = ""
        self.only = b""
        self.seconds = 0.5
        self.healed = asyncio.Event()
        self.arrived = asyncio.Event()  # the server has answered a held request
        self.caught = asyncio.Event()  # the fault has affected a request
        self.reads = 0
        self._passed = asyncio.Event()
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()

    def fail(self, fault: str, only: bytes = b"") -> None:
        self.fault, self.only = fault, only
        self.healed.clear()
        self.caught.clear()
        if fault == "away":
            for writer in self._writers:
                writer.transport.abort()

    def count_read(self) -> None:
        self.reads += 1
        self._passed.set()

    async def reads_reach(self, reads: int) -> None:
        while self.reads < reads:
            self._passed.clear()
            await self._passed.wait()

    def heal(self) -> None:
        self.fault = ""
        self.healed.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "away":
            writer.transport.abort()
            return
        back, there = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, there}
        state = _Connection(self)
        try:
            await asyncio.gather(state.requests(reader, there), state.replies(back, writer))
        except (ConnectionError, asyncio.CancelledError):  # CancelledError: the test has ended
            pass
        finally:
            for end in (writer, there):
                self._writers.discard(end)
                end.transport.abort()


class _Connection:
    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.hit, self.held, self.reading = proxy, False, False, False

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy = self.proxy
        while data := await reader.read(_CHUNK):
            self.reading = b"\nMGET\r" in data  # not HMGET, which reads terms
            self.hit = bool(proxy.fault) and proxy.only in data
            if self.hit and proxy.fault != "broken":
                proxy.caught.set()
            if self.hit and proxy.fault == "dropped":
                await proxy.healed.wait()
                raise ConnectionResetError
            if self.hit and proxy.fault == "half_open":
                continue
            if self.hit and proxy.fault == "held":  # even if the client has disconnected
                self.held = True
                await proxy.healed.wait()
            if self.hit and proxy.fault == "delay":
                with suppress(TimeoutError):
                    await asyncio.wait_for(proxy.healed.wait(), proxy.seconds)
            writer.write(data)
            await writer.drain()

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy = self.proxy
        while data := await reader.read(_CHUNK):
            if self.held:
                proxy.arrived.set()
            if self.hit and proxy.fault == "lost":
                continue
            if self.hit and proxy.fault == "broken":
                proxy.caught.set()
                await proxy.healed.wait()
                writer.transport.abort()
                return
            if self.hit and proxy.fault == "reset":
                writer.write(data[: len(data) // 2])
                await writer.drain()
                writer.transport.abort()
                return
            writer.write(data)
            if self.reading:
                proxy.count_read()
            self.reading = False
            await writer.drain()


@asynccontextmanager
async def proxied(target: Path) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.heal()
        proxy.fail("away")
        server.close()
