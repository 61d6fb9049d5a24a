"""A benchmark of `Gate.check` without a server.

It measures full batches of calls. The gate reserves the attempts in the store, writes the decisions to the log, and
syncs the log.

The baseline is the request rate of an aiohttp handler that does nothing.
"""

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import Call
from dialgate.core.responses import Answer
from dialgate.runtime.garbage_collection import spare_collector
from tests.bench import COUNTRIES, BenchError, Figure, world
from tests.bench.http import empty_handler

_MIN_ALLOWED = 0.8
_BASELINE_CALLS = 15_000
_AHEAD = 4


def run(batch: int = 256, calls: int = 100_000, countries: Path = COUNTRIES) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        benched = world.build(Path(folder), countries, calls + batch)
        seconds, processor, allowed = uvloop.run(_measure(benched, batch))
        bodies = world.bodies(iter(benched.numbers), min(calls, _BASELINE_CALLS))
        baseline = empty_handler(benched.key, bodies)
    if allowed < _MIN_ALLOWED * calls:
        raise BenchError(f"only {allowed} of {calls} calls were allowed, so the results would be meaningless")
    rate = calls / seconds
    yield Figure("batch.decisions", round(rate), "1/s", round(baseline), round(rate / baseline, 2))
    yield Figure("batch.processor", round(processor / calls * 1e6, 2), "us")
    yield Figure("batch.allowed", round(allowed / calls, 3), "share")


async def _measure(benched: world.World, batch: int) -> tuple[float, float, int]:
    """Return the wall-clock seconds, the processor seconds, and the number of allowed calls."""
    config = loader.load(benched.config)
    client = config.settings.clients[0]
    app = await App.open(config, registry=CollectorRegistry())
    gate = app.gate
    calls = [_call(f"+{number}", at) for at, number in enumerate(benched.numbers)]
    await _count_allowed([gate.check(call, client) for call in calls[:batch]])  # warm-up
    spare_collector()  # as `serve` does
    allowed = 0
    began, processor = time.perf_counter(), time.process_time()
    # Several batches are in flight, as under load: one is decided while others are synced.
    ahead: deque[list[asyncio.Future[Answer]]] = deque()
    for start in range(batch, len(calls), batch):
        ahead.append([gate.check(call, client) for call in calls[start : start + batch]])
        if len(ahead) == _AHEAD:
            allowed += await _count_allowed(ahead.popleft())
    for answers in ahead:
        allowed += await _count_allowed(answers)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    await app.close()
    return seconds, processor, allowed


async def _count_allowed(answers: list[asyncio.Future[Answer]]) -> int:
    return sum([(await answer).decision == "allow" for answer in answers])


def _call(to: str, at: int) -> Call:
    return Call(
        to=to,
        from_=world.CALLER_ID,
        campaign=world.CAMPAIGN,
        call_id=str(at),
    )
