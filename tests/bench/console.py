"""A benchmark of what the console costs: a gate under load, alone and with supervisors at the live board and the history, in turns."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec

from tests.bench import COUNTRIES, BenchError, Figure, compare, servers, world
from tests.bench.console_viewers import Viewed
from tests.bench.http import run_turn
from tests.bench.servers import Server


def run(
    requests: int = 100_000, rounds: int = 3, viewers: int = 10, countries: Path = COUNTRIES
) -> Iterator[Figure]:
    """Ask a gate about `requests` new numbers per turn, after one warm-up round. `viewers` have the console open in every other turn."""
    quiet, busy, viewed = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        benched = world.build(Path(folder), countries, 2 * requests * (rounds + 1))
        numbers = iter(benched.numbers)
        with servers.gate(benched.config) as gate:
            for _ in range(rounds + 1):
                quiet.append(run_turn(gate, benched.key, world.bodies(numbers, requests)))
                with _viewers(gate, benched.key, viewers) as seen:
                    busy.append(run_turn(gate, benched.key, world.bodies(numbers, requests)))
                viewed += seen
    turns = list(zip(busy[1:], quiet[1:], strict=True))
    yield compare(
        "console.requests",
        "1/s",
        ((requests / one.load.seconds, requests / two.load.seconds) for one, two in turns),
    )
    yield compare("console.p99", "us", ((one.load.p99, two.load.p99) for one, two in turns))
    yield compare(
        "console.server_cpu",
        "us",
        ((one.cpu / requests * 1e6, two.cpu / requests * 1e6) for one, two in turns),
    )
    yield Figure("console.page", median(seen.p50 for seen in viewed), "ms")
    yield Figure("console.slowest_page", max(seen.slowest for seen in viewed), "ms")
    yield Figure("console.messages", sum(seen.messages for seen in viewed), "count")


@contextmanager
def _viewers(gate: Server, key: str, viewers: int) -> Iterator[list[Viewed]]:
    """Open the console for the block. The list has what the viewers got, after it."""
    words = [sys.executable, "-m", "tests.bench.console_viewers", str(gate.port), str(viewers)]
    environment, seen = {**os.environ, "DIALGATE_KEY": key}, list[Viewed]()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"open\n":
            raise BenchError("the console could not be opened")
        yield seen
        seen.append(msgspec.json.decode(process.communicate()[0], type=Viewed))
