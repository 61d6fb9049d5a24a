"""The page on past decisions. Its filters are in its address, so that it can be reloaded and passed on."""

from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from dialgate.interfaces.console.bar_chart import bar_chart
from dialgate.interfaces.console.periods import PERIODS, days_of
from dialgate.interfaces.console.visit import Fields, Visit, shown
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.decision_search import zone_of
from dialgate.interfaces.http.errors import FAILURES, convert
from dialgate.interfaces.http.history import PastDecisionsQuery, get_history
from dialgate.interfaces.http.reports import controller_of
from dialgate.report.history import SECTIONS, history_csv
from dialgate.report.rendering import MEDIA

_FIELDS: Final = ("controller", "campaign", "from_hour", "to_hour", "agent")


async def show_history(visit: Visit) -> web.StreamResponse:
    """Show past decisions, or with `csv` return one of the tables as a file."""
    given = {name: value.strip() for name, value in visit.request.query.items()}
    fields = {"period": "today", "from_hour": "0", "to_hour": "24", **given}
    try:
        owner = controller_of(fields.get("controller") or visit.client.controllers[0], visit.client)
        zone = zone_of(owner, visit.client, visit.app.config)
        fields |= {"controller": owner, **days_of(fields, zone, visit.app.gate.now())}
        query = convert(
            {name: fields[name] for name in (*_FIELDS, "first", "last") if fields.get(name)},
            PastDecisionsQuery,
        )
        history = await get_history(visit.request, visit.app, visit.client, query=query)
    except FAILURES as error:
        return _page(visit, fields, **shown(error))
    for section in SECTIONS:
        if section == given.get("csv"):
            name = f"dialgate-{history.controller}-{section}-{history.first}-{history.last}.csv"
            return as_file(history_csv(history, section).encode(), name, MEDIA["csv"])
    return _page(visit, fields, history=history, chart=bar_chart(history.slots))


def _page(visit: Visit, fields: Fields, **context: Any) -> web.Response:
    kept = {name: fields[name] for name in ("period", *_FIELDS) if fields.get(name)}
    if fields["period"] == "range":
        kept |= {name: fields.get(name, "") for name in ("first", "last")}
    return visit.show(
        "history",
        **{
            "fields": {"first": "", "last": "", **fields},
            "periods": (*PERIODS, "range"),
            "kept": urlencode(kept),
            "campaigns": sorted({*visit.campaigns(), *filter(None, [fields.get("campaign")])}),
            "history": None,
            **context,
        },
    )
