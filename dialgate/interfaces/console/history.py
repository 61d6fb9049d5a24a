"""The page on past decisions. Its filters are in its address, so that it can be reloaded and passed on."""

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.interfaces.console.bar_chart import bar_chart
from dialgate.interfaces.console.reports import as_file
from dialgate.interfaces.console.visit import Fields, Visit
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.interfaces.http.history import PastDecisionsQuery, count_history
from dialgate.interfaces.http.reports import controller_of
from dialgate.report.history import SECTIONS, history_csv
from dialgate.report.rendering import MEDIA

# The first and the last day of each period, counted back from today. Another period is given by its days.
PERIODS: Final = {"today": (0, 0), "yesterday": (1, 1), "7d": (6, 0), "30d": (29, 0)}
_FIELDS: Final = ("controller", "campaign", "from_hour", "to_hour")


async def show_history(visit: Visit) -> web.StreamResponse:
    """Show past decisions, or with `csv` return one of the tables as a file."""
    given = {name: value.strip() for name, value in visit.request.query.items()}
    fields = {"period": "today", "from_hour": "0", "to_hour": "24", **given}
    try:
        fields |= _days(visit, fields)
        query = convert(
            {name: fields[name] for name in (*_FIELDS, "first", "last") if fields.get(name)},
            PastDecisionsQuery,
        )
        history = await count_history(visit.request, visit.app, visit.client, query)
    except FAILURES as error:
        fault = fault_of(error)
        return _page(visit, fields, fault.status, error=fault.problem.code)
    for section in SECTIONS:
        if section == given.get("csv"):
            name = f"dialgate-{history.controller}-{section}-{history.first}-{history.last}.csv"
            return as_file(history_csv(history, section).encode(), name, MEDIA["csv"])
    return _page(visit, fields, history=history, chart=bar_chart(history.slots))


def _page(visit: Visit, fields: Fields, status: int = 200, **context: object) -> web.Response:
    kept = {name: fields[name] for name in ("period", *_FIELDS) if fields.get(name)}
    if fields["period"] == "range":
        kept |= {name: fields.get(name, "") for name in ("first", "last")}
    return visit.show(
        "history",
        "history",
        status,
        **{
            "fields": {"first": "", "last": "", **fields},
            "periods": (*PERIODS, "range"),
            "kept": urlencode(kept),
            "campaigns": sorted({*visit.campaigns(), *filter(None, [fields.get("campaign")])}),
            "history": None,
            **context,
        },
    )


def _days(visit: Visit, fields: Fields) -> Fields:
    """Return the controller, and the first and the last day of the period."""
    owner = controller_of(fields.get("controller") or visit.client.controllers[0], visit.client)
    if fields["period"] == "range":
        days = {name: fields.get(name, "") for name in ("first", "last")}
    elif fields["period"] in PERIODS:
        zone = visit.app.config.laws[visit.app.config.controllers[owner].country].zone
        today = day_in(zone, visit.app.gate.now())
        back = dict(zip(("first", "last"), PERIODS[fields["period"]], strict=True))
        days = {name: (today - timedelta(days=number)).isoformat() for name, number in back.items()}
    else:
        raise Fault(400, "request.invalid", "Choose one of the periods.", field="period")
    return {"controller": owner, **days}
