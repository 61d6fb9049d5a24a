"""A report in one of its formats, for a process of its own: reading a month of the log takes a while."""

import asyncio
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.report import figures
from dialgate.report.export import pdf, spreadsheet
from dialgate.report.figures import Period
from dialgate.report.page import page
from dialgate.report.shadow import ShadowReport
from dialgate.report.shadow_tables import lay_out_shadow, shadow_spreadsheet
from dialgate.report.tables import lay_out
from dialgate.store import factory
from dialgate.texts import Language

Form: TypeAlias = Literal["html", "pdf", "csv", "json"]
ShadowForm: TypeAlias = Literal["html", "csv", "json"]
MEDIA: Final[dict[Form, str]] = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}


class ReportOrder(Struct, frozen=True, kw_only=True):
    """What a report is about, and its format."""

    controller: str
    period: Period
    form: Form
    language: Language
    made_at: Instant


def make_report(config: Config, order: ReportOrder) -> bytes:
    """Return a report as a file. Raises `LogDamaged`, `StoreUnavailable`, `MissingExtra`."""
    content = asyncio.run(gather_calls(config, order.controller, order.period, order.made_at))
    layout = lay_out(content, order.language)
    match order.form:
        case "html":
            return page(layout).encode()
        case "pdf":
            return pdf(layout, order.made_at)
        case "csv":
            return spreadsheet(content).encode()
        case "json":
            return figures.as_json(content)


def render_shadow(report: ShadowReport, form: ShadowForm, language: Language) -> bytes:
    match form:
        case "html":
            return page(lay_out_shadow(report, language)).encode()
        case "csv":
            return shadow_spreadsheet(report).encode()
        case "json":
            return msgspec.json.encode(report) + b"\n"


async def gather_calls(
    config: Config, controller: str, period: Period, made_at: Instant
) -> figures.CallReport:
    """Collect the figures of a report, as a reader of the store. Raises `LogDamaged`, `StoreUnavailable`."""
    store = await factory.open_reader(config)
    try:
        return await figures.gather(config, store, controller, period, made_at)
    finally:
        await store.close()
