"""The cost of a long ledger when the operator's commands import it, when the gate starts, and when calls are checked.

The speed of checks is compared with the speed before the import. A call list of a million rows is also scrubbed, on
one core, as if the other cores were busy. With `store` set to `redis`, the benchmark imports only revocations. It
then measures only import speed, memory, file size and startup. By default the benchmark needs 10 GB of disk and a
quarter of an hour.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

from tests.bench import COUNTRIES, BenchError, Figure, http, servers, world

_ROUNDS = 3
_SCRUBBED = 1_000_000
# Mobile prefixes in use. The benchmark calls only landlines, so no call concerns a ledger entry.
_PREFIXES = (320, 328, 329, 333, 335, 338, 339, 340, 347, 348, 349)
_SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def run(
    revocations: int = 10_000_000,
    consents: int = 5_000_000,
    requests: int = 15_000,
    store: Literal["embedded", "redis"] = "embedded",
    countries: Path = COUNTRIES,
) -> Iterator[Figure]:
    """Run the benchmark. Raises `CalledProcessError` if a command fails. Linux only."""
    if store == "redis":
        yield from _shared(countries, revocations)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = world.build(folder, countries, requests * (3 * _ROUNDS + 2))
        calls = iter(made.numbers)
        before = http.ratio(http.measure(made, calls, requests, _ROUNDS))
        yield _import(made, ["revoke"], folder / "stops.csv", _stops(revocations), "ledger.revocations")
        yield _import(made, ["consent"], folder / "consents.csv", _consents(consents), "ledger.consents")
        size = (folder / "data/store.db").stat().st_size
        yield Figure("ledger.bytes", round(size / (revocations + consents), 1), "B/entry")
        yield Figure("ledger.start", round(_start_seconds(made), 2), "s")
        for when, after in zip(
            ("http_at_once", "http"), _ratios_with_ledger(made, calls, requests), strict=True
        ):
            yield Figure(
                f"ledger.{when}",
                round(after, 3),
                "of an empty handler",
                round(before, 3),
                round(after / before, 3),
            )
        yield from _scrub(made, folder, min(_SCRUBBED, revocations))


def _shared(countries: Path, revocations: int) -> Iterator[Figure]:
    """Measure only the revocations, on a Redis that syncs once a second."""
    with tempfile.TemporaryDirectory() as name, servers.redis(Path(name)) as url:
        folder = Path(name)
        config = world.write_config(folder, countries, store={"url": url})
        made = world.World(config, "", [], [])
        empty = _memory(url)
        yield _import(
            made, ["revoke"], folder / "stops.csv", _stops(revocations), "ledger.shared_revocations"
        )
        yield Figure("ledger.shared_memory", round((_memory(url) - empty) / revocations, 1), "B/entry")
        size = sum(path.stat().st_size for path in (folder / "appendonlydir").iterdir())
        yield Figure("ledger.shared_file", round(size / revocations, 1), "B/entry")
        yield Figure("ledger.shared_start", round(_start_seconds(made), 2), "s")


def _memory(url: str) -> int:
    """Return the bytes that a Redis on a socket uses."""
    words = ["redis-cli", "-s", url.removeprefix("unix://"), "info", "memory"]
    report = subprocess.run(
        words, stdin=subprocess.DEVNULL, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return int(dict(line.split(":", 1) for line in report.splitlines() if ":" in line)["used_memory"])


def _mobiles(seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    while True:
        yield f"+39{draw.choice(_PREFIXES)}{draw.randrange(10_000_000):07}"


def _stops(rows: int) -> Iterator[str]:
    yield "number,at\n"
    for at, number in enumerate(islice(_mobiles(1), rows)):
        yield f"{number},{_instant(at)}\n"


def _consents(rows: int) -> Iterator[str]:
    yield "number,id,collected_at,purposes,call_types,artefact,artefact_sha256\n"
    for at, number in enumerate(islice(_mobiles(2), rows)):
        yield f"{number},web-{at},{_instant(at)},sale,agent,forms/{at},{_SHA}\n"


def _instant(at: int) -> str:
    return f"2026-{1 + at % 10:02}-{1 + at % 28:02}T{at % 24:02}:{at // 24 % 60:02}:{at % 59:02}+01:00"


def _import(made: world.World, group: list[str], file: Path, rows: Iterator[str], name: str) -> Figure:
    with file.open("w", encoding="ascii") as opened:
        opened.writelines(rows)
    count = sum(1 for _ in file.open("rb")) - 1
    words = [
        sys.executable,
        "-m",
        "dialgate",
        *group,
        "import",
        str(file),
        "--config",
        str(made.config),
        "--json",
    ]
    with servers.gate(made.config):
        began = time.perf_counter()
        subprocess.run(
            [*words, "--proof", "exports/bench"],
            stdin=subprocess.DEVNULL,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        took = time.perf_counter() - began
    file.unlink()
    return Figure(name, round(count / took), "rows/s")


def _ratios_with_ledger(made: world.World, calls: Iterator[int], requests: int) -> Iterator[float]:
    """Yield the ratio of the gate's request rate to that of an empty handler, twice.

    The first ratio is measured right after startup, the second after the gate's background startup work.
    """
    with servers.bare(http.EMPTY) as theirs, servers.gate(made.config) as ours:

        def ratio(rounds: int) -> float:
            bodies = (world.bodies(calls, requests) for _ in range(rounds))
            return http.ratio([http.run_round(ours, theirs, made.key, body) for body in bodies])

        ratio(1)  # not counted
        yield ratio(_ROUNDS)
        ours.settle()
        yield ratio(_ROUNDS)


def _start_seconds(made: world.World) -> float:
    began = time.perf_counter()
    with servers.gate(made.config):
        return time.perf_counter() - began


def _scrub(made: world.World, folder: Path, rows: int) -> Iterator[Figure]:
    file = folder / "calls.csv"
    with file.open("w", encoding="ascii") as opened:
        opened.write("number\n")
        opened.writelines(f"{number}\n" for number in islice(_mobiles(3), rows // 2))
        opened.writelines(f"+{number}\n" for number in islice(cycle(made.numbers), rows - rows // 2))
    words = [sys.executable, "-m", "dialgate", "scrub", str(file), "--campaign", world.CAMPAIGN, "--yes"]
    with servers.gate(made.config):
        began = time.perf_counter()
        process = subprocess.run(
            [*words, "--config", str(made.config), "--out", str(folder / "out.csv")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        took = time.perf_counter() - began
    if process.returncode not in {0, 1}:
        raise BenchError("the list could not be scrubbed")
    yield Figure("ledger.scrub", round(rows / took), "rows/s")
