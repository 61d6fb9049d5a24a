"""The geometry of a bar chart that the server draws as SVG. One high bar does not flatten the others: it is cut off."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from dialgate.report.history import HistoryRow
from dialgate.report.page import axis_end

LEFT, WIDTH, BASE, HEIGHT = 56, 904, 240, 212
_LINES: Final = 4
_LABELS: Final = 16  # names that fit below the chart
_FAR: Final = 4  # a bar so many times as high as nine of ten others is cut off


class Bar(Struct, frozen=True):
    """One bar: `allowed` and `denied` are heights, `before` is the height of the mark for the weeks before."""

    row: HistoryRow
    x: float
    allowed: float
    denied: float
    before: float
    is_cut: bool
    is_named: bool


class BarChart(Struct, frozen=True):
    """The bars, the width of each, and the lines of the axis with their numbers."""

    bars: list[Bar]
    width: float
    lines: list[tuple[float, int]]


def bar_chart(rows: Sequence[HistoryRow]) -> BarChart:
    """Return the chart of at least one row."""
    top, step = axis_end(_highest(rows)), WIDTH / len(rows)
    every = -(-len(rows) // _LABELS)
    bars = []
    for place, row in enumerate(rows):
        scale = HEIGHT / max(row.checked, top)
        bars.append(
            Bar(
                row,
                round(LEFT + (place + 0.14) * step, 1),
                round(row.allowed * scale, 1),
                round(row.denied * scale, 1),
                round(min(row.before, top) * HEIGHT / top, 1),
                is_cut=row.checked > top,
                is_named=place % every == 0,
            )
        )
    lines = [(round(BASE - HEIGHT * line / _LINES, 1), top * line // _LINES) for line in range(_LINES + 1)]
    return BarChart(bars, round(step * 0.72, 1), lines)


def _highest(rows: Sequence[HistoryRow]) -> int:
    """Return the number that the axis must reach."""
    numbers = sorted(filter(None, (row.checked for row in rows))) or [0]
    usual, most = numbers[(len(numbers) - 1) * 9 // 10], numbers[-1]
    return most if most <= _FAR * usual else 2 * usual
