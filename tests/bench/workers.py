"""What several workers cost: processor time for each decision, against that of one, and the same of an empty handler in as
many processes, for a machine with fewer cores than processes charges everybody for changing between them.

All are there from the first to the last turn, and asked in turns, because a machine's speed drifts.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

from dialgate.tools.bench import Figure, servers, world
from dialgate.tools.bench.http import CONNECTIONS, EMPTY, run_turn
from dialgate.tools.bench.servers import Server
from tests.bench import COUNTRIES

_COUNTS: Final = (1, 2, 4)


class _Asked(Struct, frozen=True):
    """Microseconds of processor time a request, by turns."""

    gate: list[float]
    empty: list[float]


def run(requests: int = 6_000, rounds: int = 15, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """`requests` to each worker in each round; a first round is not counted. On a Redis, whose own time is not in it. Each worker has
    as many connections as the one alone, and as much to do on each, so that it finds as many calls for a batch."""
    asked = {count: _Asked([], []) for count in _COUNTS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        url = running.enter_context(servers.redis(Path(folder)))
        worlds = {
            count: _world(Path(folder), countries, url, count, requests * count * (rounds + 1))
            for count in _COUNTS
        }
        numbers = {count: iter(made.numbers) for count, made in worlds.items()}
        gates = {
            count: running.enter_context(servers.gate(made.config, workers=count))
            for count, made in worlds.items()
        }
        bare = {count: _bare(running, count) for count in _COUNTS}
        for _ in range(rounds + 1):
            for count, made in worlds.items():
                bodies, connections = world.bodies(numbers[count], requests * count), CONNECTIONS * count
                asked[count].gate.append(_spent([gates[count]], made.key, bodies, connections))
                asked[count].empty.append(_spent(bare[count], made.key, bodies, connections))
    alone = asked[_COUNTS[0]]
    for count, each in asked.items():
        yield _compared(f"workers.{count}.server_cpu", each.gate[1:], alone.gate[1:])
        yield _compared(f"workers.{count}.empty_cpu", each.empty[1:], alone.empty[1:])


def _world(folder: Path, countries: Path, url: str, count: int, size: int) -> world.World:
    own = folder / str(count)
    own.mkdir()
    return world.build(own, countries, size, store={"url": url, "name": f"workers-{count}"})


def _bare(running: ExitStack, count: int) -> list[Server]:
    """So many processes on one port."""
    first = running.enter_context(servers.bare(EMPTY))
    return [first, *(running.enter_context(servers.bare(EMPTY, first.port)) for _ in range(count - 1))]


def _spent(on: list[Server], key: str, bodies: bytes, connections: int) -> float:
    before = sum(server.cpu() for server in on)
    load = run_turn(on[0], key, bodies, connections).load
    return (sum(server.cpu() for server in on) - before) / load.requests * 1e6


def _compared(name: str, found: list[float], alone: list[float]) -> Figure:
    ratio = median(one / first for one, first in zip(found, alone, strict=True))
    return Figure(name, round(median(found), 1), "us", round(median(alone), 1), round(ratio, 3))
