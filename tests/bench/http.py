"""A benchmark that compares `dialgate serve` with an aiohttp handler that does nothing.

The gate runs with all features on, and syncs its log. It is asked about new numbers, as on the first day of a campaign
(`http.…`), about numbers that were called before (`http.known.…`), and about as many of each (`http.mixed.…`). A machine's speed
drifts, so each round measures both servers, and the result is the median ratio over all rounds.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
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
PREFIXES = {"new": "http", "known": "http.known", "mixed": "http.mixed"}

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
    """One load on one server: the processor time of the server in seconds, and what a gate wrote to its log in bytes."""

    load: Load
    cpu: float
    log: int = 0


class Round(Struct, frozen=True):
    """The turns of one round: the gate by kind of numbers, and the empty handler."""

    ours: dict[str, Turn]
    theirs: Turn


def run(
    requests: int = 15_000,
    rounds: int = 5,
    known: int = 1_000_000,
    store: Literal["embedded", "redis"] = "embedded",
    countries: Path = COUNTRIES,
) -> Iterator[Figure]:
    """Measure both servers with `requests` requests per turn, after one warm-up round. Linux only.

    The store has `known` numbers. The gate has a turn with new numbers, one with known numbers, and one with as many of each.
    """
    calls = requests * (rounds + 1)
    called = calls + calls // 2
    if known < called:
        raise BenchError(f"known: must be at least {called} for {requests} requests in {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder, store_settings(Path(folder), store) as settings:
        benched = world.build(Path(folder), countries, 2 * called, known=called, stored=known, **settings)
        loads = _loads(benched, requests)
        results = []
        with servers.bare(EMPTY) as theirs, servers.gate(benched.config) as ours:
            for _ in range(rounds + 1):
                bodies = {kind: next(load) for kind, load in loads.items()}
                turns = {kind: run_gate(ours, benched, body) for kind, body in bodies.items()}
                results.append(Round(turns, run_turn(theirs, benched.key, bodies["new"])))
    yield from _figures(results[1:])


def _loads(benched: world.World, requests: int) -> dict[str, Iterator[bytes]]:
    """Return the request bodies of each turn, by kind of numbers. No number is called twice."""
    new, known = iter(benched.new_numbers), iter(benched.known_numbers)
    kinds = {"new": new, "known": known, "mixed": chain.from_iterable(zip(new, known, strict=False))}
    return {kind: map(world.bodies, repeat(numbers), repeat(requests)) for kind, numbers in kinds.items()}


def _rate(turn: Turn) -> float:
    return turn.load.requests / turn.load.seconds


def _cpu(turn: Turn) -> float:
    return turn.cpu / turn.load.requests * 1e6


@contextmanager
def store_settings(folder: Path, store: Literal["embedded", "redis"]) -> Iterator[dict[str, Any]]:
    """Yield the settings for a gate with this store."""
    if store == "embedded":
        yield {}
        return
    with servers.redis(folder) as url:
        yield {"store": {"url": url}}


def run_gate(server: Server, benched: world.World, bodies: bytes) -> Turn:
    log = benched.config.parent / "data" / "log"
    before = _bytes(log)
    turn = run_turn(server, benched.key, bodies)
    return Turn(turn.load, turn.cpu, _bytes(log) - before)


def _bytes(log: Path) -> int:
    return sum(path.stat().st_size for path in log.glob("*.ndjson"))


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
    measures: dict[tuple[str, str], Callable[[Turn], float]] = {
        ("requests", "1/s"): _rate,
        ("p50", "us"): lambda turn: turn.load.p50,
        ("p99", "us"): lambda turn: turn.load.p99,
        ("server_cpu", "us"): _cpu,
    }
    for kind, prefix in PREFIXES.items():
        loads = [turns.ours[kind].load for turns in rounds]
        allowed = sum(load.allowed for load in loads) / sum(load.requests for load in loads)
        if allowed < _MIN_ALLOWED:
            raise BenchError(
                f"only {allowed:.0%} of the calls to {kind} numbers were allowed, so the results would be meaningless"
            )
        for (name, unit), measured in measures.items():
            pairs = [(measured(turns.ours[kind]), measured(turns.theirs)) for turns in rounds]
            yield compare(f"{prefix}.{name}", unit, pairs)
        log = median(turns.ours[kind].log / turns.ours[kind].load.requests for turns in rounds)
        yield Figure(f"{prefix}.log", round(log), "B")
        yield Figure(f"{prefix}.allowed", round(allowed, 3), "share")
    for kind in ("known", "mixed"):
        pairs = [(_cpu(turns.ours[kind]), _cpu(turns.ours["new"])) for turns in rounds]
        yield compare(f"http.{kind}.cpu_beside_new", "us", pairs)


def empty_handler(key: str, bodies: bytes) -> float:
    """Return the requests per second of an aiohttp handler that does nothing.

    This shows the cost of HTTP alone.
    """
    with servers.bare(EMPTY) as server:
        turns = [run_turn(server, key, bodies) for _ in range(3)]
    return median(map(_rate, turns))
