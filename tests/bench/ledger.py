"""The cost of a long ledger of revocations: its import from a file by the operator's command, its size, and the start of a gate.

By default the benchmark needs 5 GB of disk.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from tests.bench import COUNTRIES, Figure, http, servers, world

_PREFIXES = (320, 328, 329, 333, 335, 338, 339, 340, 347, 348, 349)  # mobile prefixes in use


def run(
    revocations: int = 10_000_000,
    store: Literal["embedded", "redis"] = "embedded",
    countries: Path = COUNTRIES,
) -> Iterator[Figure]:
    """Run the benchmark. Raises `CalledProcessError` if a command fails. Linux only."""
    with tempfile.TemporaryDirectory() as name, http.store_settings(Path(name), store) as settings:
        folder = Path(name)
        config = world.write_config(folder, countries, **settings)
        url = settings["store"]["url"] if settings else ""
        empty = _memory(url) if url else 0
        yield Figure(
            "ledger.revocations", round(revocations / _import_seconds(config, revocations)), "rows/s"
        )
        if url:
            yield Figure("ledger.memory", round((_memory(url) - empty) / revocations, 1), "B/entry")
        files = (folder / "appendonlydir").iterdir() if url else [folder / "data/store.db"]
        size = sum(path.stat().st_size for path in files)
        yield Figure("ledger.bytes", round(size / revocations, 1), "B/entry")
        began = time.perf_counter()
        with servers.gate(config):
            yield Figure("ledger.start", round(time.perf_counter() - began, 2), "s")


def _memory(url: str) -> int:
    """Return the bytes that a Redis on a socket uses."""
    return int(servers.redis_report(url)["used_memory"])


def _rows() -> Iterator[str]:
    draw, at = random.Random(1), 0
    while True:
        instant = f"2026-{1 + at % 10:02}-{1 + at % 28:02}T{at % 24:02}:{at // 24 % 60:02}:{at % 59:02}+01:00"
        yield f"+39{draw.choice(_PREFIXES)}{draw.randrange(10_000_000):07},{instant}\n"
        at += 1


def _import_seconds(config: Path, rows: int) -> float:
    file = config.parent / "stops.csv"
    with file.open("w", encoding="ascii") as opened:
        opened.write("number,at\n")
        opened.writelines(islice(_rows(), rows))
    words = [sys.executable, "-m", "dialgate", "revoke", "import", str(file), "--proof", "exports/bench"]
    with servers.gate(config):
        began = time.perf_counter()
        subprocess.run(
            [*words, "--config", str(config), "--json"],
            stdin=subprocess.DEVNULL, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - began
