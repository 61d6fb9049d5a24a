"""The cost of several workers: processor time per decision, compared with one worker.

The benchmark also measures an empty handler in the same number of processes, because context switches cost time on a
machine with fewer cores than processes. All servers run during the whole benchmark. Each round measures them in turn,
because the speed of a machine drifts.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.bench import COUNTRIES, Figure, compare, servers, world
from tests.bench.http import CONNECTIONS, EMPTY, run_turn
from tests.bench.servers import Server

_COUNTS: Final = (1, 2, 4)


class _Times(Struct, frozen=True):
    """Processor time per request in microseconds, one value per turn."""

    gate: list[float]
    empty: list[float]


def run(requests: int = 6_000, rounds: int = 15, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure `requests` per worker and round, after one uncounted round.

    The store is Redis, whose processor time is not counted. The number of connections and calls grows in proportion to
    the number of workers, so that batches have the same size.
    """
    measured = {count: _Times([], []) for count in _COUNTS}
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
                measured[count].gate.append(_processor_time([gates[count]], made.key, bodies, connections))
                measured[count].empty.append(_processor_time(bare[count], made.key, bodies, connections))
    alone = measured[_COUNTS[0]]
    for count, times in measured.items():
        yield compare(f"workers.{count}.server_cpu", "us", zip(times.gate[1:], alone.gate[1:], strict=True))
        yield compare(f"workers.{count}.empty_cpu", "us", zip(times.empty[1:], alone.empty[1:], strict=True))


def _world(folder: Path, countries: Path, url: str, count: int, size: int) -> world.World:
    own = folder / str(count)
    own.mkdir()
    return world.build(own, countries, size, store={"url": url, "name": f"workers-{count}"})


def _bare(running: ExitStack, count: int) -> list[Server]:
    """Start `count` servers with an empty handler on one port."""
    first = running.enter_context(servers.bare(EMPTY))
    return [first, *(running.enter_context(servers.bare(EMPTY, first.port)) for _ in range(count - 1))]


def _processor_time(on: list[Server], key: str, bodies: bytes, connections: int) -> float:
    before = sum(server.cpu() for server in on)
    load = run_turn(on[0], key, bodies, connections).load
    return (sum(server.cpu() for server in on) - before) / load.requests * 1e6
