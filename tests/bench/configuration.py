"""A benchmark for a large configuration: the processor time of a start and a reload, and the memory of a gate.

Each campaign has four caller IDs. A reload follows a change of one controller's file.
"""

import asyncio
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest

from dialgate.app import App
from dialgate.config import content_store, loader
from dialgate.core.model import HOUR
from dialgate.gate.counted_campaigns import StoredCounts
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.garbage_collection import loading_for_long
from dialgate.store import HourCount
from dialgate.store.sqlite import SqliteStore
from tests.bench import COUNTRIES, Figure

_CALLER_IDS: Final = 4
_HOURS: Final = 500  # of calls in the 62 days for which they are counted
_RELOADS: Final = 20
_SETTINGS: Final = """
data: data
countries: {countries}
controllers: controllers
clients:
  - name: bench
    controllers: [{controllers}]
    scopes: [check]
    sources: [127.0.0.1/32]
"""
_CONTROLLER: Final = """
id: {name}
name: Company {name}
country: IT
campaigns:
"""
_CAMPAIGN: Final = """
  - id: {name}
    purpose: sale
    sector: telecommunications
    goods: broadband
    call_type: agent
    callee: consumer
    caller_ids: [{caller_ids}]
    trunk_country: IT
    dial_region: IT
    starts: 2026-01-01
    ends: 2030-12-31
"""


def run(campaigns: int = 50_000, controllers: int = 200, countries: Path = COUNTRIES) -> Iterator[Figure]:
    """Measure with this number of campaigns, spread over controllers. Linux only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _write(folder, campaigns, min(campaigns, controllers), countries)
        yield from asyncio.run(_measure(folder, files, campaigns))


def _write(folder: Path, campaigns: int, controllers: int, countries: Path) -> list[Path]:
    (folder / "controllers").mkdir()
    names = [f"c{place}" for place in range(controllers)]
    settings = _SETTINGS.format(countries=countries, controllers=", ".join(names))
    (folder / "dialgate.yaml").write_text(settings)
    paths = []
    for place, name in enumerate(names):
        own = [
            _CAMPAIGN.format(name=f"{name}-{number}", caller_ids=", ".join(_numbers(number)))
            for number in range(place, campaigns, controllers)
        ]
        paths.append(folder / f"controllers/{name}.yaml")
        paths[-1].write_text(_CONTROLLER.format(name=name) + "".join(own))
    return paths


def _numbers(campaign: int) -> Iterator[str]:
    for place in range(_CALLER_IDS):
        yield f'"+39084{4 if place else 3}{campaign * _CALLER_IDS + place:06}"'


async def _measure(folder: Path, files: list[Path], campaigns: int) -> list[Figure]:
    path, registry = folder / "dialgate.yaml", CollectorRegistry()
    before = _memory()
    with loading_for_long():
        config, load = _timed(time.process_time, lambda: loader.load(path))
    loaded = _memory()
    begin = time.process_time()
    app = await App.open(config, registry=registry)
    opened = time.process_time() - begin
    reloads, memory = [], []
    for number in range(_RELOADS):
        with files[0].open("a") as file:
            file.write(f"# version {number}\n")
        reloads.append(_reload(app, path))
        await app.tick()
        memory.append(_memory())
    _, scrape = _timed(time.process_time, lambda: generate_latest(registry))
    await app.close()
    return [
        Figure("configuration.start_cpu", round(load + opened, 2), "s"),
        Figure("configuration.reload_cpu", round(max(whole for whole, _ in reloads), 2), "s"),
        Figure("configuration.reload_loop", round(max(loop for _, loop in reloads) * 1e3, 1), "ms"),
        Figure("configuration.scrape_cpu", round(scrape, 2), "s"),
        Figure("configuration.campaign", round((loaded - before) / campaigns), "B"),
        Figure("configuration.counts", round(await _counts(folder)), "B"),
        Figure("configuration.reload_growth", round((memory[-1] - memory[_RELOADS // 2]) / 1e6, 1), "MB"),
    ]


def _reload(app: App, path: Path) -> tuple[float, float]:
    """Reload as `dialgate serve` does. Return the processor time of all and of the event loop's part, in seconds."""
    with loading_for_long():
        config, load = _timed(time.process_time, lambda: loader.load(path, app.config))
        _, keep = _timed(time.process_time, lambda: content_store.keep(config.data / "kept", config))
        _, swap = _timed(time.thread_time, lambda: app.reload(config))
    return load + keep + swap, swap


def _timed(clock: Callable[[], float], work: Callable[[], Any]) -> tuple[Any, float]:
    begin = clock()
    return work(), clock() - begin


async def _counts(folder: Path) -> float:
    """Return the bytes of memory for the counts of a campaign with calls in `_HOURS` hours."""
    store, campaigns = SqliteStore.open(folder / "counts.db"), 200
    now = wall_clock() // HOUR
    for number in range(campaigns):
        await store.put_counts([HourCount(now - 2 * hour, f"c{number}", 40, 1) for hour in range(_HOURS)])
    stored = StoredCounts()
    tracemalloc.start()
    await stored.read(store)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await store.close()
    return used / campaigns


def _memory() -> int:
    """Return the private memory of this process in bytes."""
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) << 10
