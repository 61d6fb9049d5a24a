"""A report as a PDF on A4: the same figures, chart and tables as the page."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from fpdf import FPDF
from fpdf.enums import TableCellFillMode, TextEmphasis, XPos, YPos
from fpdf.fonts import FontFace

from dialgate.core.model import SECOND, Instant
from dialgate.report.page import axis_end
from dialgate.report.tables import Figure, ReportTable, TableLayout, Tone

_INK, _SOFT, _LINE, _TINT = (28, 39, 51), (91, 104, 117), (223, 228, 234), (245, 247, 250)
_GOOD, _DENY = (26, 127, 75), (194, 65, 12)
_TONES: Final[dict[Tone, tuple[int, int, int]]] = {
    "": _INK,
    "good": _GOOD,
    "warn": (154, 103, 0),
    "bad": (180, 35, 24),
}
_HIGH: Final = 48  # chart size in millimetres
_LEFT: Final = 12


def pdf(layout: TableLayout, made_at: Instant) -> bytes:
    document = _Document(format="A4")
    document.note, document.page_word = layout.note, layout.subtitle
    document.set_creation_date(datetime.fromtimestamp(made_at // SECOND, UTC))
    document.set_title(f"{layout.title}: {layout.subtitle}")
    document.set_lang(layout.language)
    document.set_auto_page_break(auto=True, margin=20)
    document.add_page()
    _head(document, layout)
    _figures(document, layout.figures)
    _chart(document, layout)
    for table in layout.tables:
        _table(document, table, layout.nothing)
    return bytes(document.output())


class _Document(FPDF):
    note = page_word = ""

    def footer(self) -> None:
        self.set_y(-16)
        _font(self, 7, _SOFT)
        self.multi_cell(0, 3.2, _plain(self.note), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.cell(0, 4, f"{_plain(self.page_word)}  -  {self.page_no()} / {{nb}}", align="R")


def _plain(text: str) -> str:
    """Replace the characters that the built-in PDF fonts lack (outside Latin-1)."""
    return text.replace("…", "...").replace("\u2019", "'").encode("latin-1", "replace").decode("latin-1")


def _font(document: FPDF, size: float, colour: tuple[int, int, int] = _INK, *, bold: bool = False) -> None:
    document.set_font("Helvetica", style="B" if bold else "", size=size)
    document.set_text_color(*colour)


def _line(document: FPDF, height: float, text: str) -> None:
    document.multi_cell(0, height, _plain(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _head(document: FPDF, layout: TableLayout) -> None:
    _font(document, 20, bold=True)
    _line(document, 9, layout.title)
    _font(document, 11)
    _line(document, 6, layout.subtitle)
    _font(document, 8, _SOFT)
    _line(document, 5, layout.made)
    document.set_draw_color(*_GOOD)
    document.set_line_width(0.8)
    document.line(document.l_margin, document.y + 1, document.w - document.r_margin, document.y + 1)
    document.set_line_width(0.2)
    document.ln(5)


def _figures(document: FPDF, figures: Sequence[Figure]) -> None:
    wide, top = document.epw / len(figures), document.y
    for place, figure in enumerate(figures):
        x = document.l_margin + place * wide
        document.set_fill_color(*_TINT)
        document.rect(x, top, wide - 2, 17, style="F", round_corners=True, corner_radius=1.5)
        _font(document, 7, _SOFT)
        document.text(x + 2, top + 5, _plain(figure.name))
        _font(document, 14, _TONES[figure.tone], bold=True)
        document.text(x + 2, top + 13, _plain(figure.value))
    document.set_y(top + 20)


def _title(document: FPDF, text: str, room: float) -> None:
    if document.will_page_break(room):
        document.add_page()
    document.ln(4)
    _font(document, 11, bold=True)
    _line(document, 7, text)


def _chart(document: FPDF, layout: TableLayout) -> None:
    _title(document, layout.chart_title, _HIGH + 24)
    top = axis_end(max((slot.allowed + slot.denied for slot in layout.chart), default=0))
    begins, floor = document.l_margin + _LEFT, document.y + _HIGH
    _grid(document, floor, top)
    wide = (document.epw - _LEFT) / len(layout.chart)
    for place, slot in enumerate(layout.chart):
        x, base = begins + place * wide + wide * 0.15, floor
        for number, colour in ((slot.allowed, _GOOD), (slot.denied, _DENY)):
            height = number * _HIGH / top
            document.set_fill_color(*colour)
            if number:
                document.rect(x, base - height, wide * 0.7, height, style="F")
            base -= height
        _font(document, 6, _SOFT)
        document.text(x + wide * 0.35 - document.get_string_width(slot.name) / 2, floor + 3.5, slot.name)
    _legend(document, floor + 7, layout.legend)


def _grid(document: FPDF, floor: float, top: int) -> None:
    document.set_draw_color(*_LINE)
    for line in range(5):
        y = floor - line * _HIGH / 4
        document.line(document.l_margin + _LEFT, y, document.w - document.r_margin, y)
        _font(document, 6, _SOFT)
        text = str(top * line // 4)
        document.text(document.l_margin + _LEFT - 2 - document.get_string_width(text), y + 1, text)


def _legend(document: FPDF, y: float, names: tuple[str, str]) -> None:
    for place, (name, colour) in enumerate(zip(names, (_GOOD, _DENY), strict=True)):
        x = document.l_margin + _LEFT + place * 35
        document.set_fill_color(*colour)
        document.rect(x, y - 2.2, 2.6, 2.6, style="F")
        _font(document, 7, _SOFT)
        document.text(x + 4, y, _plain(name))
    document.set_y(y + 2)


def _table(document: FPDF, table: ReportTable, nothing: str) -> None:
    _title(document, table.title, 30)
    _font(document, 8, _SOFT)
    if not table.rows:
        _line(document, 5, nothing)
        return
    document.set_draw_color(*_LINE)
    document.set_fill_color(255)
    _font(document, 8)
    head = FontFace(emphasis=TextEmphasis.B, color=_SOFT, fill_color=_TINT)
    with document.table(
        borders_layout="HORIZONTAL_LINES", headings_style=head, line_height=4.6, col_widths=_widths(table),
        cell_fill_mode=TableCellFillMode.NONE, text_align=tuple("RIGHT" if table.is_number(place) else "LEFT" for place in range(len(table.columns))), first_row_as_headings=True,
    ) as drawn:  # fmt: skip
        for cells in (table.columns, *table.rows):
            row = drawn.row()
            for cell in cells:
                row.cell(_plain(cell))
    if table.note:
        _font(document, 7, _SOFT)
        _line(document, 4, table.note)


def _widths(table: ReportTable) -> tuple[float, ...]:
    columns = zip(table.columns, *table.rows, strict=True)
    return tuple(min(max(*map(len, column), 11), 44) for column in columns)
