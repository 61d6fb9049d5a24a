"""What the gate adds to an HTTP server: a real `dialgate serve`, everything on and its log synced, against an aiohttp
handler that does nothing, under the same load in turns.

Turns, because a machine's speed drifts: each round asks both, and what is told is the median of the rounds' ratios.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

from dialgate.tools.bench import BenchError, Figure, servers, world
from dialgate.tools.bench.load import Load
from dialgate.tools.bench.servers import Server

CONNECTIONS = 32
_ALLOWED_AT_LEAST = 0.8

# On a port that others may share, or a free one. Prints it once it listens.
EMPTY = """
import asyncio, sys, uvloop
from aiohttp import web
async def empty(request):
    return web.Response(text="ok")
async def main():
    app = web.Application()
    app.router.add_post("/v1/check", empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), reuse_port=True).start()
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


def run(countries: Path, requests: int, rounds: int, *, shared: bool = False) -> Iterator[Figure]:
    """`requests` to each server in each round; a first round is not counted. `shared`: on a Redis. Linux only."""
    with tempfile.TemporaryDirectory() as folder, _store(Path(folder), shared=shared) as store:
        made = world.build(Path(folder), countries, requests * (rounds + 1), **store)
        done = measured(made, iter(made.numbers), requests, rounds)
    yield from _figures(done)


def measured(made: world.World, numbers: Iterator[int], requests: int, rounds: int) -> list[Round]:
    """Of a gate that is started for it. Takes `requests` of the numbers for each round, and for one that is not counted."""
    with servers.bare(EMPTY) as theirs, servers.gate(made.config) as ours:
        done = [round_of(ours, theirs, made.key, world.bodies(numbers, requests)) for _ in range(rounds + 1)]
    return done[1:]


def ratio(rounds: list[Round]) -> float:
    """Of what both answer in a second."""
    speed = [
        tuple(turn.load.requests / turn.load.seconds for turn in (each.ours, each.theirs)) for each in rounds
    ]
    return median(ours / theirs for ours, theirs in speed)


@contextmanager
def _store(folder: Path, *, shared: bool) -> Iterator[dict[str, Any]]:
    if not shared:
        yield {}
        return
    with servers.redis(folder) as url:
        yield {"store": {"url": url}}


def round_of(ours: Server, theirs: Server, key: str, bodies: bytes) -> Round:
    return Round(turn(ours, key, bodies), turn(theirs, key, bodies))


def turn(server: Server, key: str, bodies: bytes, connections: int = CONNECTIONS) -> Turn:
    """Every body once."""
    before = server.cpu()
    words = [sys.executable, "-m", "dialgate.tools.bench.load", str(server.port), str(connections)]
    environment = {**os.environ, "DIALGATE_KEY": key}
    ran = subprocess.run(words, input=bodies, env=environment, check=True, stdout=subprocess.PIPE)
    load = msgspec.json.decode(ran.stdout, type=Load)
    if load.failed:
        raise BenchError(f"{load.failed} of {load.requests} requests were not answered 200")
    return Turn(load, server.cpu() - before)


def _figures(rounds: list[Round]) -> Iterator[Figure]:
    allowed = sum(each.ours.load.allowed for each in rounds) / sum(each.ours.load.requests for each in rounds)
    if allowed < _ALLOWED_AT_LEAST:
        raise BenchError(
            f"only {allowed:.0%} of the calls were allowed: the figures would not be of real work"
        )
    yield _compared("http.requests", "1/s", rounds, lambda turn: turn.load.requests / turn.load.seconds)
    yield _compared("http.p50", "us", rounds, lambda turn: turn.load.p50)
    yield _compared("http.p99", "us", rounds, lambda turn: turn.load.p99)
    yield _compared("http.server_cpu", "us", rounds, lambda turn: turn.cpu / turn.load.requests * 1e6)
    yield Figure("http.allowed", round(allowed, 3), "share")


def _compared(name: str, unit: str, rounds: list[Round], measure: Callable[[Turn], float]) -> Figure:
    pairs = [(measure(each.ours), measure(each.theirs)) for each in rounds]
    return Figure(
        name,
        round(median(ours for ours, _ in pairs), 1),
        unit,
        round(median(theirs for _, theirs in pairs), 1),
        round(median(ours / theirs for ours, theirs in pairs), 3),
    )


def empty_handler(key: str, bodies: bytes) -> float:
    """Requests a second that an aiohttp handler answers which does nothing: what carrying a question costs here."""
    with servers.bare(EMPTY) as server:
        turns = [turn(server, key, bodies) for _ in range(3)]
    return median(turn.load.requests / turn.load.seconds for turn in turns)
