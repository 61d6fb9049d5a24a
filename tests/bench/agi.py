"""The cost of a decision over FastAGI: a real `dialgate serve` against two stubs that decide nothing.

The gate runs with all features on and a synced log. All three servers get the same calls, one server after another. One
stub sets the variables one by one, as FastAGI servers usually do. The other stub sends the same commands as the gate
(`same_talk`).
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from msgspec import Struct

from tests.bench import COUNTRIES, BenchError, Figure, compare, load_generator, servers, world
from tests.bench.http_load import Load
from tests.bench.servers import Server

_CONCURRENT = (25, 500)
_ALLOWED_AT_LEAST = 0.8

# Reads the environment, then sends the responses of the gate to an allowed call, each command after the reply to the previous one.
_STUB = """
import asyncio, uvloop
NAMES = [("DG_DECISION", "deny"), ("DG_REASON", ""), ("DG_DECISION_ID", "9f2c01ab-4711"), ("DG_NOT_BEFORE", ""),
         ("DG_DECISION", "allow")]
async def call(reader, writer):
    try:
        while (await reader.readline()).strip():
            pass
        for name, value in NAMES:
            writer.write(b'SET VARIABLE %b "%b"\\n' % (name.encode(), value.encode()))
            await reader.readline()
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(call, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""
_ONE_BY_ONE = _STUB[_STUB.index("NAMES") : _STUB.index("async def call")]
_AT_ONCE = """NAMES = [("DG_DECISION", "deny"),
         ("ARRAY(DG_REASON,DG_DECISION_ID,DG_NOT_BEFORE,DG_DECISION)", ",9f2c01ab-4711,,allow")]
"""
_SAME_TALK = _STUB.replace(_ONE_BY_ONE, _AT_ONCE)


class _Round(Struct, frozen=True):
    ours: Load
    theirs: Load
    same: Load


def run(calls: int = 3_000, rounds: int = 5, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure `calls` per server, round and concurrency level, after one uncounted round. Linux only."""
    with tempfile.TemporaryDirectory() as folder:
        made = world.build(Path(folder), countries, calls * (rounds + 1) * len(_CONCURRENT))
        numbers = iter(made.numbers)
        with (
            servers.bare(_STUB) as theirs,
            servers.bare(_SAME_TALK) as same,
            servers.gate(made.config, "fastagi") as ours,
        ):
            for concurrent in _CONCURRENT:
                done = [_round((ours, theirs, same), numbers, calls, concurrent) for _ in range(rounds + 1)]
                yield from _figures(done[1:], concurrent)


def _round(servers_: tuple[Server, ...], numbers: Iterator[int], calls: int, concurrent: int) -> _Round:
    chosen = list(islice(numbers, calls))
    return _Round(*[load_generator.run("agi_load", server, concurrent, chosen) for server in servers_])


def _figures(rounds: list[_Round], concurrent: int) -> Iterator[Figure]:
    allowed = sum(turns.ours.allowed for turns in rounds) / sum(turns.ours.requests for turns in rounds)
    if allowed < _ALLOWED_AT_LEAST:
        raise BenchError(
            f"only {allowed:.0%} of the calls were allowed, so the figures would not be representative"
        )
    rates = [
        [load.requests / load.seconds for load in (turns.ours, turns.theirs, turns.same)] for turns in rounds
    ]
    yield compare(f"agi.calls_{concurrent}", "1/s", [(ours, theirs) for ours, theirs, _ in rates])
    yield compare(f"agi.calls_{concurrent}_same_talk", "1/s", [(ours, same) for ours, _, same in rates])
    yield compare(f"agi.p50_{concurrent}", "us", [(turns.ours.p50, turns.theirs.p50) for turns in rounds])
    yield compare(f"agi.p99_{concurrent}", "us", [(turns.ours.p99, turns.theirs.p99) for turns in rounds])
    yield Figure(f"agi.allowed_{concurrent}", round(allowed, 3), "share")
