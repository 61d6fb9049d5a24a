"""Benchmarks: `python -m tests.bench NAME --json`.

A benchmark is a module with a generator `run` that yields one `Figure` per measurement. The parameters of `run` are the
options of the benchmark.
"""

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

ROOT: Final = Path(__file__).parent.parent.parent
COUNTRIES: Final = ROOT / "config" / "countries"


class Figure(Struct, frozen=True, omit_defaults=True):
    """One measured value. `ratio` is `value` divided by `baseline`, if the figure has a baseline."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None


class BenchError(Exception):
    """Raised by a benchmark that did not measure what it should."""


def compare(name: str, unit: str, pairs: Iterable[tuple[float, float]]) -> Figure:
    """Return the medians of the values and of their baselines, with the median of their ratios."""
    values, baselines = zip(*pairs, strict=True)
    ratio = median(value / baseline for value, baseline in zip(values, baselines, strict=True))
    return Figure(name, round(median(values), 1), unit, round(median(baselines), 1), round(ratio, 3))
