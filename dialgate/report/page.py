"""A report as one HTML file (`page.html`) without scripts or external resources, to read, print or mail."""

import re
from base64 import b64encode
from hashlib import sha256
from typing import Final

from dialgate.report.tables import TableLayout
from dialgate.runtime import templates

_LINES: Final = 4  # of the chart, above its base


def page(layout: TableLayout) -> str:
    top = axis_end(max((slot.allowed + slot.denied for slot in layout.chart), default=0))
    template = templates.environment(__package__).get_template("page.html")
    return template.render(layout=layout, top=top)


def style_source(body: bytes) -> str:
    """Return the source that a Content-Security-Policy needs for the page's styles, which are in one element."""
    styles = re.search(b"<style>(.*?)</style>", body, re.DOTALL)
    return f"'sha256-{b64encode(sha256(styles[1]).digest()).decode()}'" if styles else "'none'"


def axis_end(most: int) -> int:
    """Return the upper end of an axis: a round number of at least `most`, divisible by the number of grid lines."""
    step = 1
    while step * 10 < most:
        step *= 10
    return next((size for factor in (1, 2, 4, 8) if (size := step * factor) >= max(most, _LINES)), step * 12)
