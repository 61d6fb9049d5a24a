"""What a decision costs without a server in front: `Gate.check` in full batches, each decision reserved, recorded and
synced before its answer. The baseline is what an aiohttp handler that does nothing answers over HTTP."""

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
from dialgate.tools.bench import BenchError, Figure, world
from dialgate.tools.bench.http import empty_handler

_ALLOWED_AT_LEAST = 0.8
_CARRIED = 15_000
_AHEAD = 4


def run(countries: Path, batch: int, calls: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        made = world.build(Path(folder), countries, calls + batch)
        seconds, processor, allowed = uvloop.run(_measured(made, batch))
        carried = empty_handler(made.key, world.bodies(iter(made.numbers), min(calls, _CARRIED)))
    if allowed < _ALLOWED_AT_LEAST * calls:
        raise BenchError(
            f"only {allowed} of {calls} calls were allowed: the figures would not be of real work"
        )
    rate = calls / seconds
    yield Figure("batch.decisions", round(rate), "1/s", round(carried), round(rate / carried, 2))
    yield Figure("batch.processor", round(processor / calls * 1e6, 2), "us")
    yield Figure("batch.allowed", round(allowed / calls, 3), "share")


async def _measured(made: world.World, batch: int) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of the processor in all threads, and how many calls were allowed."""
    config = loader.load(made.config)
    client = config.settings.clients[0]
    app = await App.open(config, registry=CollectorRegistry())
    gate = app.gate
    calls = [_call(f"+{number}", at) for at, number in enumerate(made.numbers)]
    await _allowed([gate.check(call, client) for call in calls[:batch]])  # loads what is loaded once
    spare_collector()  # as `serve` does
    allowed = 0
    began, worked = time.perf_counter(), time.process_time()
    # Several batches are on their way at any time, as under load: one is decided while others are synced.
    ahead: deque[list[asyncio.Future[Answer]]] = deque()
    for start in range(batch, len(calls), batch):
        ahead.append([gate.check(call, client) for call in calls[start : start + batch]])
        if len(ahead) == _AHEAD:
            allowed += await _allowed(ahead.popleft())
    for asked in ahead:
        allowed += await _allowed(asked)
    ended, rested = time.perf_counter(), time.process_time()
    await app.close()
    return ended - began, rested - worked, allowed


async def _allowed(asked: list[asyncio.Future[Answer]]) -> int:
    return sum([(await answer).decision == "allow" for answer in asked])


def _call(to: str, at: int) -> Call:
    return Call(
        to=to,
        from_=world.CALLER_ID,
        campaign=world.CAMPAIGN,
        call_id=str(at),
        client=world.CLIENT,
        interface="http",
    )
