"""A benchmark that compares `dialgate serve` with an aiohttp handler that does nothing.

The gate runs with all features on, and syncs its log. A machine's speed drifts, so each round measures both
servers, and the result is the median ratio over all rounds.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tests.bench import COUNTRIES, BenchError, Figure, compare, servers, world
from tests.bench.http_load import Load
from tests.bench.servers import Server

_CONNECTIONS = 32
_MIN_ALLOWED = 0.8

# Prints its port when ready.
EMPTY = """
import asyncio, uvloop
from aiohttp import web
async def empty(request):
    return web.Response(text="ok")
async def main():
    app = web.Application()
    app.router.add_post("/v1/check", empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""


class Turn(Struct, frozen=True):
    load: Load
    cpu: float


class Round(Struct, frozen=True):
    ours: Turn
    theirs: Turn


def run(
    requests: int = 30_000,
    rounds: int = 5,
    store: Literal["embedded", "redis"] = "embedded",
    countries: Path = COUNTRIES,
) -> Iterator[Figure]:
    """Measure both servers with `requests` requests per round, after one warm-up round. Linux only."""
    with tempfile.TemporaryDirectory() as folder, store_settings(Path(folder), store) as settings:
        benched = world.build(Path(folder), countries, requests * (rounds + 1), **settings)
        numbers, results = iter(benched.numbers), []
        with servers.bare(EMPTY) as theirs, servers.gate(benched.config) as ours:
            for _ in range(rounds + 1):
                bodies = world.bodies(numbers, requests)
                turns = [run_turn(server, benched.key, bodies) for server in (ours, theirs)]
                results.append(Round(*turns))
    yield from _figures(results[1:])


def _rate(turn: Turn) -> float:
    return turn.load.requests / turn.load.seconds


@contextmanager
def store_settings(folder: Path, store: Literal["embedded", "redis"]) -> Iterator[dict[str, Any]]:
    """Yield the settings for a gate with this store."""
    if store == "embedded":
        yield {}
        return
    with servers.redis(folder) as url:
        yield {"store": {"url": url}}


def run_turn(server: Server, key: str, bodies: bytes) -> Turn:
    before = server.cpu()
    words = [sys.executable, "-m", "tests.bench.http_load", str(server.port), str(_CONNECTIONS)]
    environment = {**os.environ, "DIALGATE_KEY": key}
    process = subprocess.run(words, input=bodies, env=environment, check=True, stdout=subprocess.PIPE)
    load = msgspec.json.decode(process.stdout, type=Load)
    if load.failed:
        raise BenchError(f"{load.failed} of {load.requests} requests did not get status 200")
    return Turn(load, server.cpu() - before)


def _figures(rounds: list[Round]) -> Iterator[Figure]:
    loads = [turns.ours.load for turns in rounds]
    allowed = sum(load.allowed for load in loads) / sum(load.requests for load in loads)
    if allowed < _MIN_ALLOWED:
        raise BenchError(f"only {allowed:.0%} of the calls were allowed, so the results would be meaningless")
    measures: dict[tuple[str, str], Callable[[Turn], float]] = {
        ("http.requests", "1/s"): _rate,
        ("http.p50", "us"): lambda turn: turn.load.p50,
        ("http.p99", "us"): lambda turn: turn.load.p99,
        ("http.server_cpu", "us"): lambda turn: turn.cpu / turn.load.requests * 1e6,
    }
    for (name, unit), measured in measures.items():
        yield compare(name, unit, [(measured(turns.ours), measured(turns.theirs)) for turns in rounds])
    yield Figure("http.allowed", round(allowed, 3), "share")


def empty_handler(key: str, bodies: bytes) -> float:
    """Return the requests per second of an aiohttp handler that does nothing.

    This shows the cost of HTTP alone.
    """
    with servers.bare(EMPTY) as server:
        turns = [run_turn(server, key, bodies) for _ in range(3)]
    return median(map(_rate, turns))
