"""A report as CSV for spreadsheets, and as PDF.

The CSV has one figure per row: `controller,period,section,name,measure,value`. Section and measure names are English
and do not change; more may be added.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct, structs

from dialgate.core.model import SECOND, Instant
from dialgate.report.figures import CallReport
from dialgate.report.tables import TableLayout
from dialgate.runtime import csv_text
from dialgate.runtime.extras import require

Row: TypeAlias = tuple[str, str, str, object]
_HEADER = ("controller", "period", "section", "name", "measure", "value")


def spreadsheet(report: CallReport) -> str:
    return as_csv(report.controller, report.period.name, _rows(report))


def as_csv(controller: str, period: str, rows: Iterable[Row]) -> str:
    return csv_text.table([_HEADER, *((controller, period, *row) for row in rows)])


def _rows(report: CallReport) -> Iterator[Row]:
    for measure in ("asked", "allowed", "denied"):
        yield "total", "", measure, getattr(report, measure)
    for section in ("reasons", "outcomes", "bases", "caller_ids", "ledger"):
        for name, number in getattr(report, section).items():
            yield section, name, "count", number
    yield from rows_of(report, {"campaigns": "campaign", "slots": "name", "registries": "registry"})
    stops = report.stops
    yield "stops", "", "revocations", stops.revocations
    yield "stops", "", "median_wait_seconds", stops.median_wait / SECOND
    yield "stops", "", "longest_wait_seconds", stops.longest_wait / SECOND
    for channel, number in stops.by_channel.items():
        yield "stops", channel, "revocations", number


def rows_of(report: Struct, sections: Mapping[str, str]) -> Iterator[Row]:
    """Yield the figures of sections that have a row for each item. `sections` has the field with the item's name."""
    for section, name_field in sections.items():
        for row in getattr(report, section):
            fields = structs.asdict(row)
            name = fields.pop(name_field)
            for measure, value in fields.items():
                yield section, name, measure, " ".join(value) if isinstance(value, tuple) else value


def pdf(layout: TableLayout, made_at: Instant) -> bytes:
    """Return the report as a PDF. Raises `MissingExtra`."""
    require("reports", "A report as PDF")
    from dialgate.report.pdf import pdf as render  # noqa: PLC0415 - in an extra

    return render(layout, made_at)
