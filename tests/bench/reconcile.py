"""A million calls against their decisions: `dialgate reconcile` on a log of two months, its full files packed, and a
trunk's file in which a hundred calls passed by the gate, twenty in each way there is."""

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
from dialgate.tools.bench import BenchError, Figure, world
from tests.bench import COUNTRIES
from tests.bench.log import Writing

_EACH = 20
_SEGMENT = 64 << 20
_ALLOWED = 0.8


class _Call(Struct):
    at: Instant
    number: str
    caller: str = world.CALLER_ID


class _Remembering(Writing):
    """What it decided, besides, in `calls` and `denied`."""

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
        took, memory, told = _reconciled(folder / "trunk.csv", config)
    found = {int(each["line"]): each["kind"] for each in told["findings"]}
    yield Figure("reconcile.calls", rows, "1")
    yield Figure("reconcile.decisions", told["decisions"], "1")
    yield Figure("reconcile.seconds", round(took, 2), "s", round(baseline, 2), round(took / baseline, 1))
    yield Figure("reconcile.memory", round(memory / 1024), "MiB")
    yield Figure("reconcile.planted_found", len(found.items() & planted.items()), "1", len(planted))
    yield Figure("reconcile.found_besides", len(found.items() - planted.items()), "1")
    if found != planted:
        raise BenchError("what was found is not what was planted")


def _reconciled(file: Path, config: Path) -> tuple[float, int, dict[str, Any]]:
    """Seconds, the greatest resident memory in KiB, and what it said."""
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
        said = process.stdout.read()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0  # it has been waited for
    return time.perf_counter() - began, used.ru_maxrss, msgspec.json.decode(said)


def _write(path: Path, made: _Remembering) -> dict[int, str]:
    """The calls in the order in which they left, and the by-passes by their lines."""
    draw = random.Random(2)
    rows = [(each.at + draw.randrange(1, 30) * SECOND, each, "") for each in made.calls]
    rows += [(call.at + 40 * SECOND, call, kind) for kind, call in _by_passes(made, draw)]
    # The call that is moved beyond its allow's end is one of those that were allowed.
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
    for call in once[:_EACH]:  # the newest about its number
        yield "twice", call
    for call in once[_EACH:]:
        yield "expired", _Call(call.at + 16 * MINUTE, call.number)
    for call in draw.sample(made.calls, _EACH):
        yield "other_caller_id", _Call(call.at, call.number, "+390699999999")
