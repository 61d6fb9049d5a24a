"""A load generator in its own process.

Each keep-alive connection sends one request after another. `python -m tests.bench.http_load PORT
CONNECTIONS` reads one request body per line from stdin, takes the API key from DIALGATE_KEY and prints a
`Load` as JSON.

To measure the server and not itself, the generator uses as little processor time as possible. It encodes the
requests before the clock starts, and reads only the status, length and decision of each response.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

HOST = "127.0.0.1"


class Load(Struct, frozen=True):
    """The result of a load test. `p50`, `p99` and `slowest` are in microseconds.

    `seconds` is the time from the first request to the last response. `failed` counts responses other than
    200.
    """

    requests: int
    failed: int
    allowed: int
    seconds: float
    p50: float
    p99: float
    slowest: float


class _Caller(asyncio.Protocol):
    """One connection. `waits` contains the response times in seconds."""

    def __init__(self, requests: Iterator[bytes], waits: list[float]) -> None:
        self._requests, self._waits = requests, waits
        self._received = b""
        self.failed = self.allowed = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        begins = data.find(b"\r\n\r\n") + 4
        length = data.find(b"Content-Length: ") + 16
        if begins == 3 or len(data) < begins + int(data[length : data.find(b"\r", length)]):
            self._received = data
            return
        self._received = b""
        self._waits.append(time.perf_counter() - self._sent)
        self.failed += not data.startswith(b"HTTP/1.1 200")
        self.allowed += b'"decision":"allow"' in data
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))


def request(body: bytes, key: str) -> bytes:
    return (
        f"POST /v1/check HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def drive(port: int, connections: int, requests: list[bytes]) -> Load:
    loop = asyncio.get_running_loop()
    unsent = iter(requests)
    waits: list[float] = []
    callers = [
        (await loop.create_connection(lambda: _Caller(unsent, waits), HOST, port))[1]
        for _ in range(connections)
    ]
    began = time.perf_counter()
    for caller in callers:
        caller.send()
    await asyncio.gather(*(caller.done for caller in callers))
    seconds = time.perf_counter() - began
    waits.sort()
    return Load(
        requests=len(waits),
        failed=sum(caller.failed for caller in callers),
        allowed=sum(caller.allowed for caller in callers),
        seconds=seconds,
        p50=waits[len(waits) // 2] * 1e6,
        p99=waits[len(waits) * 99 // 100] * 1e6,
        slowest=waits[-1] * 1e6,
    )


def main() -> None:
    port, connections = sys.argv[1:]
    # This process represents other machines. Linux would wake it on the processor of the server that responded, which takes time
    # from that server even if another processor is idle.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    key = os.environ["DIALGATE_KEY"]
    requests = [request(line.rstrip(b"\n"), key) for line in sys.stdin.buffer]
    load = uvloop.run(drive(int(port), int(connections), requests))
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    main()
