"""A benchmark of ten open consoles. The same load runs alternately with ten live boards and with none."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from msgspec import Struct

from tests.bench import COUNTRIES, Figure, background, compare, http, servers, world
from tests.bench.http import Turn
from tests.bench.servers import Server

CONSOLES = 10

# Logs in, opens the boards, prints a line once each has received an event, and reads on until it is killed.
_WATCHING = """
import asyncio, sys
from aiohttp import ClientSession, ClientTimeout, CookieJar, TCPConnector
async def watch(session, received):
    async with session.get("/console/events") as stream:
        async for line in stream.content:
            received.set()
async def main():
    port, key, consoles = sys.argv[1], sys.argv[2], int(sys.argv[3])
    url = f"http://127.0.0.1:{port}"
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True), connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None)) as session:
        async with session.post("/console/login", data={"key": key}) as answer:
            answer.raise_for_status()
        received = [asyncio.Event() for _ in range(consoles)]
        watching = [asyncio.create_task(watch(session, event)) for event in received]
        await asyncio.gather(*(event.wait() for event in received))
        print("watching", flush=True)
        await asyncio.gather(*watching)
asyncio.run(main())
"""


class Round(Struct, frozen=True):
    watched: Turn
    alone: Turn


def run(requests: int = 20_000, rounds: int = 5, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure `requests` checks with open consoles and `requests` checks without, in each round. Linux only.

    An additional first round is a warm-up and is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = world.build(Path(folder), countries, 2 * requests * (rounds + 1))
        numbers = iter(made.numbers)

        def turn() -> Turn:
            return http.run_turn(gate, made.key, world.bodies(numbers, requests))

        with servers.gate(made.config) as gate:
            done = [_round(gate.port, made.key, turn, first=at % 2 == 0) for at in range(rounds + 1)]
            alone = _resting(gate, seconds=rounds)
            with _watching(gate.port, made.key):
                watched = _resting(gate, seconds=rounds)
    measures: tuple[tuple[str, str, Callable[[Turn], float]], ...] = (
        ("requests", "1/s", lambda turn: turn.load.requests / turn.load.seconds),
        ("p99", "us", lambda turn: turn.load.p99),
        ("server_cpu", "us", lambda turn: turn.cpu / turn.load.requests * 1e6),
    )
    for name, unit, measure in measures:
        pairs = [(measure(turns.watched), measure(turns.alone)) for turns in done[1:]]
        yield compare(f"console.{name}", unit, pairs)
    yield Figure(
        "console.resting_cpu", round(watched, 1), "ms/s", round(alone, 1), round(watched / (alone or 1), 3)
    )


def _resting(gate: Server, seconds: int) -> float:
    """Return the processor time of an idle gate, in milliseconds per second."""
    before = gate.cpu()
    time.sleep(seconds)
    return (gate.cpu() - before) / seconds * 1000


def _round(port: int, key: str, turn: Callable[[], Turn], *, first: bool) -> Round:
    """Measure with and without consoles. The order alternates, because a gate slows down as its log and store grow."""
    if first:
        with _watching(port, key):
            watched = turn()
        return Round(watched, turn())
    alone = turn()
    with _watching(port, key):
        return Round(turn(), alone)


def _watching(port: int, key: str) -> AbstractContextManager[None]:
    return background("-c", _WATCHING, str(port), key, str(CONSOLES))
