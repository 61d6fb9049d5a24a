"""The cost of `dialgate reconcile` for a million calls and a log of two months with packed segments.

The trunk's file contains a hundred calls that bypassed the gate, twenty of each kind.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from dialgate.config import content_store, loader
from dialgate.core import local_time
from dialgate.core.model import MINUTE, SECOND, Decided, Instant
from dialgate.crypto.keys import MonthKeys
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.runtime.clock import wall_clock
from tests.bench import COUNTRIES, BenchError, Figure, world
from tests.bench.log import Writing

_EACH = 20
_SEGMENT = 64 << 20
_ALLOWED = 0.8


class _Call(Struct):
    at: Instant
    number: str
    caller: str = world.CALLER_ID


class _Remembering(Writing):
    """A log writer that keeps its allowed calls in `calls` and its denied ones in `denied`."""

    def __init__(self, folder: Path, countries: Path, records: int) -> None:
        self.calls: list[_Call] = []
        self.denied: list[_Call] = []
        super().__init__(folder, countries, records, _SEGMENT)

    def _decided(
        self, seq: int, index: int, grounds: int, month: MonthKeys, *, allow: bool, at: Instant
    ) -> Decided:
        decided = super()._decided(seq, index, grounds, month, allow=allow, at=at)
        (self.calls if allow else self.denied).append(_Call(at, month.unseal(decided.sealed)))
        return decided


def run(calls: int = 1_000_000, countries: Path = COUNTRIES) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = world.write_config(folder, countries)
        data = folder / "data"
        data.mkdir()
        world.write_config(data, countries)
        made = _Remembering(data, countries, int(calls / _ALLOWED))
        content_store.keep(data / "kept", loader.load(data / "dialgate.yaml"))
        made.all()
        for segment in closed_segments(data / "log", wall_clock()):
            pack(segment)
        planted = _write(folder / "trunk.csv", made)
        began = time.perf_counter()
        with (folder / "trunk.csv").open(newline="") as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        baseline = time.perf_counter() - began
        took, memory, report = _reconcile(folder / "trunk.csv", config)
    findings = {int(finding["line"]): finding["kind"] for finding in report["findings"]}
    yield Figure("reconcile.calls", rows, "1")
    yield Figure("reconcile.decisions", report["decisions"], "1")
    yield Figure("reconcile.seconds", round(took, 2), "s", round(baseline, 2), round(took / baseline, 1))
    yield Figure("reconcile.memory", round(memory / 1024), "MiB")
    yield Figure("reconcile.planted_found", len(findings.items() & planted.items()), "1", len(planted))
    yield Figure("reconcile.found_besides", len(findings.items() - planted.items()), "1")
    if findings != planted:
        raise BenchError("the findings differ from the planted calls")


def _reconcile(file: Path, config: Path) -> tuple[float, int, dict[str, Any]]:
    """Run `dialgate reconcile`. Return the duration in seconds, the peak memory in KiB and the report."""
    words = [
        sys.executable,
        "-m",
        "dialgate",
        "reconcile",
        str(file),
        "--format",
        "csv",
        "--config",
        str(config),
        "--json",
    ]
    began = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0  # os.wait4 has collected its status
    return time.perf_counter() - began, used.ru_maxrss, msgspec.json.decode(output)


def _write(path: Path, made: _Remembering) -> dict[int, str]:
    """Write the calls, ordered by start time. Return the kind of each bypass by line number."""
    draw = random.Random(2)
    rows = [(call.at + draw.randrange(1, 30) * SECOND, call, "") for call in made.calls]
    rows += [(call.at + 40 * SECOND, call, kind) for kind, call in _by_passes(made, draw)]
    # A call moved beyond the expiry of its decision is one of the allowed calls.
    rows.sort(key=lambda row: row[0])
    planted: dict[int, str] = {}
    with path.open("w") as file:
        file.write("time,called,caller,call_id,status\n")
        for line, (at, call, kind) in enumerate(rows, 2):
            file.write(f"{local_time.rfc3339(at)},{call.number},{call.caller},{line}@trunk,200\n")
            if kind:
                planted[line] = kind
    return planted


def _by_passes(made: _Remembering, draw: random.Random) -> Iterator[tuple[str, _Call]]:
    fresh = count(390_650_000_000)
    allowed = {call.number for call in made.calls}
    never = [call for call in made.denied if call.number not in allowed]
    several = {call.number: call for call in made.calls}
    once = draw.sample(list(several.values()), 2 * _EACH)
    for call in draw.sample(made.calls, _EACH):
        yield "undecided", _Call(call.at, f"+{next(fresh)}")
    for call in draw.sample(never, _EACH):
        yield "denied", call
    for call in once[:_EACH]:  # the newest call to its number
        yield "twice", call
    for call in once[_EACH:]:
        yield "expired", _Call(call.at + 16 * MINUTE, call.number)
    for call in draw.sample(made.calls, _EACH):
        yield "other_caller_id", _Call(call.at, call.number, "+390699999999")
