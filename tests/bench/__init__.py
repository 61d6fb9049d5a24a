"""Benchmarks for developers: `python -m tests.bench NAME --json`. Benchmarks for users are in `dialgate.tools.bench`.

A benchmark is a module with a generator `run` that yields figures. The parameters of `run` are the options of the
benchmark.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from dialgate.tools.bench import BenchError, Figure

ROOT: Final = Path(__file__).parent.parent.parent
COUNTRIES: Final = ROOT / "config" / "countries"


def compare(name: str, unit: str, pairs: Iterable[tuple[float, float]]) -> Figure:
    """Return the medians of the values and of their baselines, with the median of their ratios."""
    values, baselines = zip(*pairs, strict=True)
    ratio = median(value / baseline for value, baseline in zip(values, baselines, strict=True))
    return Figure(name, round(median(values), 1), unit, round(median(baselines), 1), round(ratio, 3))


def compare_times(name: str, times: list[float], baseline: list[float] | None) -> Iterator[Figure]:
    """Yield the 50th and 99th percentile of `times`, which are in seconds."""
    for percent in (50, 99):
        value, usual = _quantile(times, percent), _quantile(baseline, percent) if baseline else None
        ratio = round(value / usual, 2) if usual else None
        yield Figure(f"{name}_p{percent}", value, "ms", usual, ratio)


def _quantile(times: list[float], percent: int) -> float:
    return round(quantiles(times, n=100, method="inclusive")[percent - 1] * 1000, 2)


@contextmanager
def background(*words: str) -> Iterator[None]:
    """Run Python with these arguments, from its first line of output to the end of the `with` block."""
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise BenchError("the background process ended before it was ready")
            yield
        finally:
            process.kill()
