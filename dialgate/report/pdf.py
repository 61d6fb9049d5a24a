"""A report as a PDF on A4: the same figures, chart and tables as the page."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from fpdf import FPDF
from fpdf.enums import TableCellFillMode, TextEmphasis, XPos, YPos
from fpdf.fonts import FontFace

from dialgate.core.model import SECOND, Instant
from dialgate.report.page import nice
from dialgate.report.tables import Figure, Layout, Table, Tone

_INK, _SOFT, _LINE, _TINT = (28, 39, 51), (91, 104, 117), (223, 228, 234), (245, 247, 250)
_GOOD, _DENY = (26, 127, 75), (194, 65, 12)
_TONES: Final[dict[Tone, tuple[int, int, int]]] = {
    "": _INK,
    "good": _GOOD,
    "warn": (154, 103, 0),
    "bad": (180, 35, 24),
}
_HIGH: Final = 48  # millimetres of the chart
_LEFT: Final = 12


def pdf(layout: Layout, made_at: Instant) -> bytes:
    made = _Document(format="A4")
    made.note, made.page_word = layout.note, layout.subtitle
    made.set_creation_date(datetime.fromtimestamp(made_at // SECOND, UTC))
    made.set_title(f"{layout.title}: {layout.subtitle}")
    made.set_lang(layout.language)
    made.set_auto_page_break(auto=True, margin=20)
    made.add_page()
    _head(made, layout)
    _figures(made, layout.figures)
    _chart(made, layout)
    for table in layout.tables:
        _table(made, table, layout.nothing)
    return bytes(made.output())


class _Document(FPDF):
    note = page_word = ""

    def footer(self) -> None:
        self.set_y(-16)
        _font(self, 7, _SOFT)
        self.multi_cell(0, 3.2, _plain(self.note), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.cell(0, 4, f"{_plain(self.page_word)}  -  {self.page_no()} / {{nb}}", align="R")


def _plain(text: str) -> str:
    """The fonts that every reader has know the letters of western Europe; what is not among them becomes a mark."""
    return text.replace("…", "...").replace("\u2019", "'").encode("latin-1", "replace").decode("latin-1")


def _font(made: FPDF, size: float, colour: tuple[int, int, int] = _INK, *, bold: bool = False) -> None:
    made.set_font("Helvetica", style="B" if bold else "", size=size)
    made.set_text_color(*colour)


def _line(made: FPDF, height: float, text: str) -> None:
    made.multi_cell(0, height, _plain(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _head(made: FPDF, layout: Layout) -> None:
    _font(made, 20, bold=True)
    _line(made, 9, layout.title)
    _font(made, 11)
    _line(made, 6, layout.subtitle)
    _font(made, 8, _SOFT)
    _line(made, 5, layout.made)
    made.set_draw_color(*_GOOD)
    made.set_line_width(0.8)
    made.line(made.l_margin, made.y + 1, made.w - made.r_margin, made.y + 1)
    made.set_line_width(0.2)
    made.ln(5)


def _figures(made: FPDF, figures: Sequence[Figure]) -> None:
    wide, top = made.epw / len(figures), made.y
    for place, figure in enumerate(figures):
        x = made.l_margin + place * wide
        made.set_fill_color(*_TINT)
        made.rect(x, top, wide - 2, 17, style="F", round_corners=True, corner_radius=1.5)
        _font(made, 7, _SOFT)
        made.text(x + 2, top + 5, _plain(figure.name))
        _font(made, 14, _TONES[figure.tone], bold=True)
        made.text(x + 2, top + 13, _plain(figure.value))
    made.set_y(top + 20)


def _title(made: FPDF, text: str, room: float) -> None:
    if made.will_page_break(room):
        made.add_page()
    made.ln(4)
    _font(made, 11, bold=True)
    _line(made, 7, text)


def _chart(made: FPDF, layout: Layout) -> None:
    _title(made, layout.chart_title, _HIGH + 24)
    top = nice(max((slot.allowed + slot.denied for slot in layout.chart), default=0))
    begins, floor = made.l_margin + _LEFT, made.y + _HIGH
    _grid(made, floor, top)
    wide = (made.epw - _LEFT) / len(layout.chart)
    for place, slot in enumerate(layout.chart):
        x, base = begins + place * wide + wide * 0.15, floor
        for number, colour in ((slot.allowed, _GOOD), (slot.denied, _DENY)):
            height = number * _HIGH / top
            made.set_fill_color(*colour)
            if number:
                made.rect(x, base - height, wide * 0.7, height, style="F")
            base -= height
        _font(made, 6, _SOFT)
        made.text(x + wide * 0.35 - made.get_string_width(slot.name) / 2, floor + 3.5, slot.name)
    _legend(made, floor + 7, layout.legend)


def _grid(made: FPDF, floor: float, top: int) -> None:
    made.set_draw_color(*_LINE)
    for line in range(5):
        y = floor - line * _HIGH / 4
        made.line(made.l_margin + _LEFT, y, made.w - made.r_margin, y)
        _font(made, 6, _SOFT)
        text = str(top * line // 4)
        made.text(made.l_margin + _LEFT - 2 - made.get_string_width(text), y + 1, text)


def _legend(made: FPDF, y: float, names: tuple[str, str]) -> None:
    for place, (name, colour) in enumerate(zip(names, (_GOOD, _DENY), strict=True)):
        x = made.l_margin + _LEFT + place * 35
        made.set_fill_color(*colour)
        made.rect(x, y - 2.2, 2.6, 2.6, style="F")
        _font(made, 7, _SOFT)
        made.text(x + 4, y, _plain(name))
    made.set_y(y + 2)


def _table(made: FPDF, table: Table, nothing: str) -> None:
    _title(made, table.title, 30)
    _font(made, 8, _SOFT)
    if not table.rows:
        _line(made, 5, nothing)
        return
    made.set_draw_color(*_LINE)
    made.set_fill_color(255)
    _font(made, 8)
    head = FontFace(emphasis=TextEmphasis.B, color=_SOFT, fill_color=_TINT)
    with made.table(
        borders_layout="HORIZONTAL_LINES", headings_style=head, line_height=4.6, col_widths=_widths(table),
        cell_fill_mode=TableCellFillMode.NONE, text_align=tuple("RIGHT" if table.is_number(place) else "LEFT" for place in range(len(table.columns))), first_row_as_headings=True,
    ) as drawn:  # fmt: skip
        for cells in (table.columns, *table.rows):
            row = drawn.row()
            for cell in cells:
                row.cell(_plain(cell))
    if table.note:
        _font(made, 7, _SOFT)
        _line(made, 4, table.note)


def _widths(table: Table) -> tuple[float, ...]:
    """By their longest text, none much narrower or wider than the rest."""
    columns = zip(table.columns, *table.rows, strict=True)
    return tuple(min(max(*map(len, column), 11), 44) for column in columns)
