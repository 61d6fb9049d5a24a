"""The page with the report on shadow mode: coverage, what would be refused, and what to do about it."""

from typing import Any, Final, get_args

import msgspec
from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.interfaces.console.reports import period_in
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, serves_form
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.reports import ShadowReportRequest, shadow_report
from dialgate.report.rendering import MEDIA, ShadowForm, render_shadow
from dialgate.report.shadow_tables import lay_out_shadow

_FILES: Final = get_args(ShadowForm)


async def show_form(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    today = day_in(visit.zone(), visit.app.gate.now())
    values = {"day": today.isoformat(), "span": "day", **fields}
    return visit.show("shadow", here="reports", fields=values, files=_FILES, **{"layout": None, **context})


@serves_form(show_form)
async def show_report(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Return the page with the report, or the report as a file if `form` names a format."""
    period = period_in(fields)
    campaign, language = fields.get("campaign", ""), visit.words.language
    ask = ShadowReportRequest(
        controller=fields.get("controller", ""),
        campaigns=(campaign,) if campaign else (),
        day=period.get("day", ""),
        week=period.get("week", ""),
        month=period.get("month", ""),
        language=language,
    )
    report = await shadow_report(visit.request, visit.app, visit.client, ask)
    form = fields.get("form", "")
    if form not in _FILES:
        return await show_form(visit, fields, layout=lay_out_shadow(report, language))
    form_: ShadowForm = msgspec.convert(form, ShadowForm)
    body = render_shadow(report, form_, language)
    return as_file(body, f"dialgate-shadow-{report.period.name}.{form}", MEDIA[form_])
