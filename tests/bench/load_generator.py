"""Load generators in separate processes. A generator is a module of this package that calls `main`."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

import msgspec
import uvloop

from tests.bench import ROOT
from tests.bench.http_load import Load
from tests.bench.servers import Server

Request = TypeVar("Request")
Responses: TypeAlias = list[tuple[float, bool]]  # the duration in seconds, and whether the call was allowed


def run(name: str, server: Server, concurrent: int, numbers: Iterable[int]) -> Load:
    """Run the generator `name` against a server, with at most `concurrent` calls at a time."""
    words = [sys.executable, "-m", f"tests.bench.{name}", str(server.port), str(concurrent)]
    lines = "".join(f"+{number}\n" for number in numbers).encode()
    ran = subprocess.run(words, input=lines, check=True, stdout=subprocess.PIPE, cwd=ROOT)
    return msgspec.json.decode(ran.stdout, type=Load)


def main(
    send: Callable[[int, Iterator[Request], Responses], Awaitable[None]], prepare: Callable[[str], Request]
) -> None:
    """Read called numbers from stdin, one per line, and print a `Load` as JSON. The arguments are PORT CONCURRENT.

    `prepare` turns each number into a request before the clock starts. `send` is then started CONCURRENT times. It sends
    requests to the port, one after another, and appends each response. A request without a response has failed.
    """
    port, concurrent = map(int, sys.argv[1:])
    requests = [prepare(number) for number in sys.stdin.read().split()]
    responses: Responses = []

    async def drive() -> float:
        ahead, began = iter(requests), time.perf_counter()
        await asyncio.gather(*(send(port, ahead, responses) for _ in range(concurrent)))
        return time.perf_counter() - began

    seconds = uvloop.run(drive())
    waits = sorted(wait for wait, _ in responses)
    load = Load(
        requests=len(waits),
        failed=len(requests) - len(waits),
        allowed=sum(is_allowed for _, is_allowed in responses),
        seconds=seconds,
        p50=waits[len(waits) // 2] * 1e6,
        p99=waits[len(waits) * 99 // 100] * 1e6,
        slowest=waits[-1] * 1e6,
    )
    sys.stdout.buffer.write(msgspec.json.encode(load))
