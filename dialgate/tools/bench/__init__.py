"""Measurements: each module here has `run`, which yields a Figure for each thing it measured."""

from msgspec import Struct


class Figure(Struct, frozen=True, omit_defaults=True):
    """`ratio` is `value` to `baseline`, where the figure compares."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None


class BenchError(Exception):
    """What was measured is not what was meant to be."""
