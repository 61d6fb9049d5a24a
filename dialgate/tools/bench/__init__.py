"""Benchmarks. Each module has a function `run` that yields one `Figure` per measurement."""

from msgspec import Struct


class Figure(Struct, frozen=True, omit_defaults=True):
    """One measured value. `ratio` is `value` divided by `baseline`, if the figure has a baseline."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None


class BenchError(Exception):
    """Raised by a benchmark that did not measure what it should."""
