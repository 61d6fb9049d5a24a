"""Reports on a controller's calls for a day, a week or a month: a form, and each report at an address of its own."""

from datetime import date, timedelta
from typing import Any, Final

from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.interfaces.console.visit import HEADERS, Fields, Visit, shown
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.errors import FAILURES, Fault
from dialgate.interfaces.http.reports import controller_of, period_of, render
from dialgate.report import PERIODS
from dialgate.report.page import style_source
from dialgate.report.rendering import MEDIA, Form, ReportOrder

FORMATS: Final[tuple[Form, ...]] = ("html", "pdf", "csv")


def _fields(visit: Visit) -> Fields:
    yesterday = day_in(visit.zone(), visit.app.gate.now()) - timedelta(days=1)
    return {"day": yesterday.isoformat(), "span": "day", "form": "html", **visit.request.query}


async def _page(visit: Visit, fields: Fields, **context: Any) -> web.Response:
    mailed = await visit.app.report_mailing.scheduled(visit.client.controllers)
    context |= {"fields": fields, "formats": list(FORMATS), "mailed": mailed}
    return visit.show("reports", **context)


async def show_form(visit: Visit) -> web.StreamResponse:
    return await _page(visit, _fields(visit))


async def show_report(visit: Visit) -> web.StreamResponse:
    """Show a report as HTML, or return it as a file. It is made in a process of its own: reading a month of the log takes a while."""
    fields = _fields(visit)
    try:
        order = _order(visit, fields)
        body = await render(visit.request, visit.app, visit.client, order)
    except FAILURES as error:
        return await _page(visit, fields, **shown(error))
    if order.form == "html":
        policy = f"default-src 'none'; style-src {style_source(body)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        headers = {**HEADERS, "Content-Security-Policy": policy, "Content-Type": MEDIA["html"]}
        return web.Response(body=body, headers=headers)
    return as_file(body, f"dialgate-{order.controller}-{order.period.name}.{order.form}", MEDIA[order.form])


def _order(visit: Visit, fields: Fields) -> ReportOrder:
    name, now = fields.get("controller") or visit.client.controllers[0], visit.app.gate.now()
    owner = controller_of(name, visit.client)
    form = _format(fields)
    return ReportOrder(
        controller=owner,
        period=period_of(visit.app.config, owner, now, **period_in(fields)),
        form=form,
        language=visit.words.language,
        made_at=now,
    )


def _format(fields: Fields) -> Form:
    for form in FORMATS:
        if form == fields.get("form"):
            return form
    raise Fault(400, "request.invalid", f"Choose one of {', '.join(FORMATS)}.", field="form")


def period_in(fields: Fields) -> dict[str, str]:
    """Return the `day` (2026-11-24), or its `week` (2026-W48) or `month` (2026-11)."""
    try:
        day = date.fromisoformat(fields.get("day", ""))
    except ValueError:
        raise Fault(400, "request.invalid", "Enter a day, such as 2026-11-24.", field="day") from None
    span = fields.get("span", "")
    span = span if span in PERIODS else "day"
    return {span: day.strftime(PERIODS[span][1])}
