"""The cost of shipping decisions, and its effect on the gate.

Each round measures a real `dialgate serve` three times: alone, with a real `dialgate ship`, and with a shipper whose
Redis accepts connections but never responds. The shipper has the lowest priority, as in its systemd unit. Each
measurement with a shipper starts a new shipper process, which must first catch up with earlier decisions.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import redis
from msgspec import Struct

from dialgate.config.shipping import StreamTo
from dialgate.decision_log import archive, durable
from dialgate.decision_log.archive.packing import pack
from dialgate.shipping.cursor import Cursors
from dialgate.shipping.redis_stream import StreamShipping
from dialgate.shipping.segments import SegmentShipping
from dialgate.shipping.target import Folder
from dialgate.tools.bench import BenchError, Figure, servers, world
from dialgate.tools.bench.http import Turn, run_turn
from tests.bench import COUNTRIES, compare
from tests.support import yaml_files

_NAME, _PATIENCE = "bench", 60.0
_ELSEWHERE = "/dev/shm"  # in production, targets are on other machines and not on the disk of the log


class Round(Struct, frozen=True):
    alone: Turn
    shipping: Turn
    hung: Turn
    delay: float


def run(requests: int = 15_000, rounds: int = 3, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure `requests` per turn, after one uncounted round."""
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir=_ELSEWHERE) as elsewhere,
        servers.redis(Path(elsewhere)) as url,
        _silent() as silent,
    ):
        folder, share = Path(name), Path(elsewhere) / "share"
        share.mkdir()
        shipping = {"to": str(share), "at_once": True, "stream": {"url": url, "name": _NAME}}
        size = 3 * requests * (rounds + 1)
        made = world.build(folder, countries, size, log_segment_mb=1, shipping=shipping)
        hung = _config(made.config, shipping | {"stream": {"url": silent}})
        numbers = iter(made.numbers)
        done = []
        with servers.gate(made.config) as gate, redis.Redis.from_url(url) as client:
            # In production Redis is on another machine, so here it must not compete with the gate.
            os.setpriority(os.PRIO_PROCESS, int(client.info("server")["process_id"]), 19)
            for _ in range(rounds + 1):
                ask = (
                    world.bodies(numbers, requests),
                    world.bodies(numbers, requests),
                    world.bodies(numbers, requests),
                )
                alone = run_turn(gate, made.key, ask[0])
                with _shipper(made.config):
                    beside = run_turn(gate, made.key, ask[1])
                    delay = _delay(client, folder / "data" / "log")
                with _shipper(hung):
                    done.append(Round(alone, beside, run_turn(gate, made.key, ask[2]), delay))
        yield from _effect_on_gate(done[1:])
        yield from _without_gate(folder, url)


def _config(path: Path, shipping: dict[str, Any]) -> Path:
    other = path.with_name("hung.yaml")
    yaml_files.write(other, yaml_files.read(path) | {"shipping": shipping})
    return other


@contextmanager
def _silent() -> Iterator[str]:
    """Start a server that accepts connections and never responds. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@contextmanager
def _shipper(config: Path) -> Iterator[None]:
    words = ["nice", "-n", "19", sys.executable, "-m", "dialgate", "ship", "--config", str(config)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()  # wait for its first log line
            yield
        finally:
            process.terminate()


def _delay(client: "redis.Redis", log: Path) -> float:
    """Return the seconds until the stream contains the whole log."""
    began, last = time.perf_counter(), sum(1 for _ in archive.Segments(log).lines())
    header = archive.first_header(log)
    key = f"{{{_NAME}}}:decisions:{header.log if header else ''}"
    while True:
        newest: Any = client.xrevrange(key, count=1)
        if newest and int(newest[0][0].partition(b"-")[0]) >= last:
            return time.perf_counter() - began
        if time.perf_counter() - began > _PATIENCE:
            raise BenchError("the stream did not catch up")
        time.sleep(0.01)


def _effect_on_gate(rounds: list[Round]) -> Iterator[Figure]:
    measures: tuple[tuple[str, str, Callable[[Turn], float]], ...] = (
        ("requests", "1/s", lambda turn: turn.load.requests / turn.load.seconds),
        ("p99", "us", lambda turn: turn.load.p99),
        ("server_cpu", "us", lambda turn: turn.cpu / turn.load.requests * 1e6),
    )
    for which in ("shipping", "hung"):
        for name, unit, measure in measures:
            pairs = [(measure(getattr(turns, which)), measure(turns.alone)) for turns in rounds]
            yield compare(f"ship.beside_{which}.{name}", unit, pairs)
    yield Figure("ship.stream.delay", round(median(turns.delay for turns in rounds), 2), "s")


def _without_gate(folder: Path, url: str) -> Iterator[Figure]:
    """Ship the same log again from its beginning, without a gate."""
    data = folder / "data"
    records = durable(data / "log")
    with redis.Redis.from_url(url) as client:
        client.flushall()
        yield Figure(
            "ship.stream.records",
            round(records / asyncio.run(_stream(data, url, Cursors(folder / "1.json", "")))),
            "1/s",
        )
        memory = sum(int(client.memory_usage(key, samples=0) or 0) for key in client.keys("*:decisions:*"))
        yield Figure("ship.stream.memory", round(memory / records, 1), "B/record")
        for segment in archive.closed_segments(data / "log", 1 << 60):
            pack(segment)
        client.flushall()
        yield Figure(
            "ship.stream.packed_records",
            round(records / asyncio.run(_stream(data, url, Cursors(folder / "2.json", "")))),
            "1/s",
        )
    (folder / "share-2").mkdir()
    cursors = Cursors(folder / "3.json", "")
    shipping = SegmentShipping(data, "bench", Folder(folder / "share-2"), cursors, at_once=True)
    began = time.perf_counter()
    if not shipping.round():
        raise BenchError(shipping.standings[1].problem)
    taken = time.perf_counter() - began
    yield Figure("ship.segments.records", round(shipping.standings[1].last / taken), "1/s")


async def _stream(data: Path, url: str, cursors: Cursors) -> float:
    stream = StreamShipping(data, "bench", StreamTo(url=url, name=_NAME), url, cursors)
    began = time.perf_counter()
    while await stream.round():
        pass
    taken = time.perf_counter() - began
    await stream.close()
    if stream.standings[1].problem:
        raise BenchError(stream.standings[1].problem)
    return taken
