"""The picture of the packages, drawn from the layers that `make lint` checks. `make reference` writes it."""

import tomllib
from pathlib import Path
from typing import Final

PICTURE: Final = Path(__file__).parent / "packages.svg"
_WIDTH, _ROW, _GAP, _MARGIN = 720, 26, 5, 10


def packages_picture() -> str:
    project = tomllib.loads((PICTURE.parent.parent / "pyproject.toml").read_text("utf-8"))
    rows = [row.split(" | ") for row in project["tool"]["importlinter"]["contracts"][0]["layers"]]
    shapes = []
    for place, row in enumerate(rows):
        width = (_WIDTH - 2 * _MARGIN + _GAP) / len(row)
        top = _MARGIN + place * (_ROW + _GAP)
        for number, name in enumerate(row):
            left = _MARGIN + number * width
            shapes.append(
                f'<rect x="{left:.0f}" y="{top}" width="{width - _GAP:.0f}" height="{_ROW}" rx="4" fill="#dcebf3"/>'
                f'<text x="{left + (width - _GAP) / 2:.0f}" y="{top + 18}">{name}</text>'
            )
    height = 2 * _MARGIN + len(rows) * (_ROW + _GAP) - _GAP
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">
<title>The packages of dialgate: each imports only packages in the rows below it</title>
<style>text{{font:15px system-ui,sans-serif;text-anchor:middle;fill:#14313f}}</style>
<rect width="100%" height="100%" rx="6" fill="#f5f9fb"/>
{"".join(shapes)}
</svg>
"""
