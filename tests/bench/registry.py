"""The cost of the nightly job: a full American list, also beside a gate under load.

Each run of the job is a separate process, as in production. The time to generate the files is not measured. Linux only; needs
5 GB of disk.
"""

import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.lists.number_set import NumberSet
from registry_sync.formats.layout import LAYOUTS
from registry_sync.formats.table import TableFormat
from tests.bench import COUNTRIES, BenchError, Figure, http, numberset, servers, world
from tests.support import yaml_files

MOST_AREAS, EXCHANGES, AN_AREA = 200, 800, 1_250_000
_CALLS = 20_000
Numbers = NDArray[np.uint64]
RPO = TableFormat(LAYOUTS["rpo"])


class Job(Struct, frozen=True):
    """One run of the job.

    `seconds` is the elapsed time. `processor` is the processor time in seconds, which depends less on other load than
    the elapsed time does. `peak` is the peak memory in MB.
    """

    seconds: float
    processor: float
    peak: float


def run(
    numbers: int = 250_000_000,
    countries: Path = COUNTRIES,
) -> Iterator[Figure]:
    """Measure the import of a full list, alone and beside a gate.

    `numbers` is the size of the list. By default it contains about one in six of the 1.6 billion possible numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield from _list(Path(folder), countries, numbers)


def _list(folder: Path, countries: Path, numbers: int) -> Iterator[Figure]:
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    areas = max(2, min(MOST_AREAS, numbers // AN_AREA))
    made = world.build(folder, countries, min(_CALLS, numbers // 100))
    prefixes = _configure(folder, areas)
    random = np.random.default_rng(1)
    listed = [_area(folder, prefix, numbers // areas, str(yesterday), random) for prefix in prefixes]
    done = _job(folder)
    path, total = _find_snapshot(folder)
    yield Figure("registry.list_numbers", total, "numbers")
    yield Figure("registry.list_import", round(done.seconds, 1), "s", 180, round(done.seconds / 180, 3))
    yield Figure("registry.list_processor", round(done.processor, 1), "s")
    yield Figure("registry.list_peak", round(done.peak), "MB", 1500, round(done.peak / 1500, 3))
    size = path.stat().st_size / total
    yield Figure("registry.list_size", round(size, 3), "bytes/number", 1.1, round(size / 1.1, 3))
    yield Figure("registry.list_lookup", _lookup(path, listed, random), "us")
    for path, prefix in zip(sorted((folder / "inbox").iterdir()), prefixes, strict=True):
        path.unlink()
        _area(folder, prefix, numbers // areas, str(today), random)
    yield from _beside_a_gate(folder, made)
    if _find_snapshot(folder)[1] == total:
        raise BenchError(f"the next day's list left {total:,} numbers")


def _beside_a_gate(folder: Path, made: world.World) -> Iterator[Figure]:
    """Measure a gate under constant load while the job runs and until the new snapshot is in use.

    The gate's decisions must not change.
    """
    bodies = world.bodies(iter(made.numbers), len(made.numbers))
    with servers.gate(made.config) as gate, ThreadPoolExecutor(1) as pool:
        usual = [http.run_turn(gate, made.key, bodies).load for _ in range(3)]
        running = pool.submit(_job, folder)
        beside = []
        while not running.done():
            beside.append(http.run_turn(gate, made.key, bodies).load)
        beside += [http.run_turn(gate, made.key, bodies).load for _ in range(3)]
        running.result()
    if {load.allowed for load in (*usual, *beside)} != {usual[0].allowed}:
        raise BenchError("the gate decided differently while the list was replaced")
    for name in ("p99", "slowest"):
        before, then = (max(getattr(load, name) for load in some) / 1e3 for some in (usual, beside))
        yield Figure(f"registry.swap_{name}", round(then, 1), "ms", round(before, 1), round(then / before, 2))


def _configure(folder: Path, areas: int) -> list[str]:
    prefixes = [f"1{area}" for area in range(201, 201 + areas)]
    (folder / "inbox").mkdir()
    listed: dict[str, Any] = {
        "registry": "us_dnc",
        "format": "us_dnc",
        "source": {"kind": "folder", "inbox": "inbox", "settle_seconds": 0},
        "coverage": prefixes,
        "max_age_days": 31,
        "max_added": 100,
        "max_removed": 100,
    }
    yaml_files.write(folder / "registries.yaml", {"work": "work", "listed": [listed]})
    return prefixes


def _area(folder: Path, prefix: str, count: int, day: str, random: np.random.Generator) -> Numbers:
    """Write a zip file of about `count` numbers. Return the numbers."""
    share = count / (EXCHANGES * 10_000)
    chosen = np.flatnonzero(random.random(EXCHANGES * 10_000, np.float32) < share) + 2_000_000
    name = f"{day}_{prefix[1:]}_bench.txt"
    with zipfile.ZipFile(
        folder / "inbox" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        archive.writestr(name, _lines(f"{prefix[1:]},", chosen, 7, b"\r\n"))
    numbers: Numbers = chosen.astype(np.uint64) + np.uint64(int(prefix) * 10_000_000)
    return numbers


def _lines(start: str, numbers: NDArray[np.int64], digits: int, end: bytes) -> bytes:
    """Format one line per number: `start` and the number padded to `digits`."""
    head = start.encode()
    rows = np.empty((len(numbers), len(head) + digits + len(end)), np.uint8)
    rows[:, : len(head)] = np.frombuffer(head, np.uint8)
    rest = numbers.copy()
    for column in range(len(head) + digits - 1, len(head) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        rows[:, column] = digit + ord("0")
    rows[:, len(head) + digits :] = np.frombuffer(end, np.uint8)
    return rows.tobytes()


# The job reports its own peak memory: the value that the system reports for a child includes memory of its parent.
NIGHT = """
import os, resource, sys
os.nice(10)  # as in its systemd unit, so that the gate has priority
from registry_sync.cli import app
try:
    app(["run", "--once", "--json", "--registries", sys.argv[1]])
finally:
    status = dict(line.split(":") for line in open("/proc/self/status"))
    used = resource.getrusage(resource.RUSAGE_SELF)
    open(sys.argv[2], "w").write(f'{status["VmHWM"].split()[0]} {used.ru_utime + used.ru_stime}')
"""


def _job(folder: Path) -> Job:
    """Run `registry-sync run --once`. Raises `BenchError` if it fails."""
    command = [sys.executable, "-c", NIGHT, str(folder / "registries.yaml"), str(folder / "peak")]
    began = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise BenchError((done.stdout + done.stderr)[:500])
    peak, processor = (folder / "peak").read_text().split()
    return Job(seconds, float(processor), int(peak) / 1e3)


def _find_snapshot(folder: Path) -> tuple[Path, int]:
    path = max((folder / "data" / "snapshots").glob("*.numbers"), key=lambda path: path.stat().st_mtime_ns)
    opened = NumberSet.open(path)
    try:
        return path, len(opened)
    finally:
        opened.close()


def _lookup(path: Path, listed: list[Numbers], random: np.random.Generator) -> float:
    opened = NumberSet.open(path)
    try:
        asked = np.concatenate([random.choice(some, numberset.LOOKUPS // len(listed)) for some in listed])
        return numberset.lookup(opened, random.permutation(asked))
    finally:
        opened.close()
