"""A report as one HTML file without scripts or external resources, to read, print or mail."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from dialgate.report.figures import Slot
from dialgate.report.tables import Figure, ReportTable, TableLayout

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6875;--line:#dfe4ea;--paper:#fff;--tint:#f5f7fa;--good:#1a7f4b;--deny:#c2410c;--warn:#9a6700;--bad:#b42318;--bar:#4a7fb5}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa7b4;--line:#2c3742;--paper:#12181f;--tint:#1a222b;--good:#4cc38a;--deny:#f08a4b;--warn:#e2b341;--bad:#ff8f85;--bar:#6ba3d9}}
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:2rem 1.25rem 4rem;font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--paper)}
header{border-bottom:3px solid var(--good);padding-bottom:1rem;margin-bottom:1.5rem}h1{font-size:1.7rem;line-height:1.2;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2.25rem 0 .5rem}
p{margin:.25rem 0}.soft{color:var(--soft);font-size:.875rem}.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:0;padding:0}
.figures div{background:var(--tint);border:1px solid var(--line);border-radius:.5rem;padding:.75rem .9rem}.figures dt{color:var(--soft);font-size:.8rem}.figures dd{margin:.1rem 0 0;font-size:1.55rem;font-weight:650;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}.a{fill:var(--good)}.d{fill:var(--deny)}.g{stroke:var(--line)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:left;vertical-align:top;padding:.4rem .7rem .4rem 0;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:600;font-size:.8rem}
td.n,th.n{text-align:right;white-space:nowrap}td.code{font-family:ui-monospace,monospace;font-size:.85rem;white-space:nowrap}.bar{height:.45rem;border-radius:.25rem;background:var(--bar);min-width:2px;margin-top:.3rem}.bar.b{background:var(--deny)}
footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.75rem}@media (max-width:40rem){body{padding-top:1.2rem}svg{min-width:38rem}td.code{white-space:normal;overflow-wrap:anywhere;min-width:7rem}.scroll td:nth-child(2):not(.n){min-width:11rem}}
@media print{body{max-width:none;padding:0}h2{break-after:avoid}tr,svg,.figures div{break-inside:avoid}}
"""  # fmt: skip

_WIDTH, _HEIGHT, _LEFT, _BELOW, _LINES = 960, 240, 48, 24, 4


def page(layout: TableLayout) -> str:
    tables = "".join(_table(table, layout.nothing) for table in layout.tables)
    return f"""<!doctype html>
<html lang="{layout.language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(layout.title)}: {escape(layout.subtitle)}</title><style>{_STYLE}</style></head><body>
<header><h1>{escape(layout.title)}</h1><p>{escape(layout.subtitle)}</p><p class="soft">{escape(layout.made)}</p></header>
<main><dl class="figures">{"".join(_figure(figure) for figure in layout.figures)}</dl>
<h2>{escape(layout.chart_title)}</h2><div class="scroll">{_chart(layout)}</div>{tables}</main>
<footer class="soft"><p>{escape(layout.note)}</p></footer>
</body></html>
"""


def _figure(figure: Figure) -> str:
    return f'<div><dt>{escape(figure.name)}</dt><dd class="{figure.tone}">{escape(figure.value)}</dd></div>'


def _table(table: ReportTable, nothing: str) -> str:
    head = f"<h2>{escape(table.title)}</h2>"
    if not table.rows:
        return f'{head}<p class="soft">{escape(nothing)}</p>'
    columns = "".join(
        f'<th scope="col"{_align(table, column)}>{escape(name)}</th>'
        for column, name in enumerate(table.columns)
    )
    rows = "".join(_rows(table))
    note = f'<p class="soft">{escape(table.note)}</p>' if table.note else ""
    return f'{head}<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div>{note}'


def _rows(table: ReportTable) -> Iterator[str]:
    most = max(table.weights, default=0)
    for place, row in enumerate(table.rows):
        cells = [
            f"<td{_align(table, column)}>{escape(cell)}{_bar(table, place, most) if not column else ''}</td>"
            for column, cell in enumerate(row)
        ]
        if table.tones:
            cells[-1] = f'<td class="n {table.tones[place]}">{escape(row[-1])}</td>'
        yield f"<tr>{''.join(cells)}</tr>"


def _align(table: ReportTable, column: int) -> str:
    if not column:
        return ' class="code"' if table.names else ""
    return ' class="n"' if table.is_number(column) else ""


def _bar(table: ReportTable, place: int, most: int) -> str:
    if not table.weights or not most:
        return ""
    return f'<div class="bar{" b" if table.bad else ""}" style="width:{100 * table.weights[place] / most:.1f}%"></div>'


# ---- the chart -------------------------------------------------------------------------------------------------------


def _chart(layout: TableLayout) -> str:
    """Return the chart as SVG, with one column per hour or day: allowed calls below, denied calls on top."""
    top = axis_end(max((slot.allowed + slot.denied for slot in layout.chart), default=0))
    label = f"{layout.chart_title}: {layout.legend[0]}, {layout.legend[1]}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _BELOW + 20}" role="img" aria-label="{escape(label)}">'
        f"{''.join(_grid(top))}{''.join(_columns(layout.chart, top))}{_legend(layout.legend)}</svg>"
    )


def axis_end(most: int) -> int:
    """Return the upper end of an axis: a round number of at least `most`, divisible by the number of grid lines."""
    step = 1
    while step * 10 < most:
        step *= 10
    return next((size for factor in (1, 2, 4, 8) if (size := step * factor) >= max(most, _LINES)), step * 12)


def _grid(top: int) -> Iterator[str]:
    for line in range(_LINES + 1):
        y = _HEIGHT - line * (_HEIGHT - 10) / _LINES
        yield f'<line class="g" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * line // _LINES}</text>'


def _columns(slots: Sequence[Slot], top: int) -> Iterator[str]:
    wide = (_WIDTH - _LEFT) / len(slots)
    for place, slot in enumerate(slots):
        x, scale = _LEFT + place * wide + wide * 0.15, (_HEIGHT - 10) / top
        allowed, denied = slot.allowed * scale, slot.denied * scale
        yield f"<g><title>{slot.name}: {slot.allowed} + {slot.denied}</title>"
        yield f'<rect class="a" x="{x:.1f}" y="{_HEIGHT - allowed:.1f}" width="{wide * 0.7:.1f}" height="{allowed:.1f}"/>'
        yield f'<rect class="d" x="{x:.1f}" y="{_HEIGHT - allowed - denied:.1f}" width="{wide * 0.7:.1f}" height="{denied:.1f}"/>'
        yield f'<text x="{x + wide * 0.35:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{slot.name}</text></g>'


def _legend(names: tuple[str, str]) -> str:
    y = _HEIGHT + _BELOW + 8
    return "".join(
        f'<rect class="{mark}" x="{x}" y="{y}" width="10" height="10"/><text x="{x + 16}" y="{y + 9}">{escape(name)}</text>'
        for mark, x, name in (("a", _LEFT, names[0]), ("d", _LEFT + 160, names[1]))
    )
