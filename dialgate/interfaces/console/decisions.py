"""The page that finds past decisions. Its filters and its place are in its address, so that it can be reloaded and passed on."""

from datetime import date, timedelta
from typing import Any, Final, get_args
from urllib.parse import urlencode

from aiohttp import web
from msgspec import structs

from dialgate.audit.decision_pages import DecisionPage, DecisionRow
from dialgate.core import local_time
from dialgate.core.model import RESULT_RANK
from dialgate.core.reasons import REASONS
from dialgate.interfaces.console.periods import PERIODS, days_of
from dialgate.interfaces.console.visit import Fields, Visit, shown
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.decision_search import DecisionAnswer, DecisionSearch, search_decisions, zone_of
from dialgate.interfaces.http.errors import FAILURES, Fault, convert
from dialgate.report.rendering import MEDIA
from dialgate.runtime import csv_text

_ROWS: Final = 100
_CSV_ROWS: Final = 10_000
_CRITERIA: Final = (
    "controller", "campaign", "list", "caller_id", "reason", "decision", "outcome", "client", "agent", "from_hour", "to_hour",
)  # fmt: skip


async def show_decisions(visit: Visit) -> web.StreamResponse:
    """Show a page of decisions, newest first, or with `csv` return up to 10,000 from there as a file."""
    given = {name: value.strip() for name, value in visit.request.query.items()}
    fields = {"period": "today", "from_hour": "0", "to_hour": "24", **given}
    as_csv = bool(given.get("csv"))
    try:
        zone = zone_of(fields.get("controller", ""), visit.client, visit.app.config)
        query = convert(_query(visit, fields, zone), DecisionSearch)
        query = structs.replace(query, limit=_CSV_ROWS if as_csv else _ROWS)
        page = await search_decisions(visit.request, visit.app, visit.client, query=query)
    except FAILURES as error:
        return _page(visit, fields, visit.zone(), **shown(error))
    if as_csv:
        return as_file(_csv(page).encode(), "dialgate-decisions.csv", MEDIA["csv"])
    return _page(visit, fields, zone, page=page)


def _query(visit: Visit, fields: dict[str, str], zone: str) -> Fields:
    days = days_of(fields, zone, visit.app.gate.now())
    fields |= days
    since, until = _day(days, "first"), _day(days, "last") + timedelta(days=1)
    limits = {"since": local_time.midnight(zone, since), "until": local_time.midnight(zone, until)}
    return {
        **{name: fields[name] for name in (*_CRITERIA, "before") if fields.get(name)},
        **{name: local_time.rfc3339(at) for name, at in limits.items()},
    }


def _day(days: Fields, field: str) -> date:
    try:
        return date.fromisoformat(days[field])
    except ValueError:
        raise Fault(400, "request.invalid", "Enter a day, such as 2026-11-24.", field=field) from None


def _page(visit: Visit, fields: Fields, zone: str, **context: Any) -> web.Response:
    kept = {name: fields[name] for name in ("period", *_CRITERIA) if fields.get(name)}
    if fields["period"] == "range":
        kept |= {name: fields.get(name, "") for name in ("first", "last")}
    config, asked = visit.app.config, fields.get
    own = {number for name in visit.campaigns() for number in config.lines[name].caller_ids}
    return visit.show(
        "decisions",
        **{
            "fields": {"first": "", "last": "", "before": "", **fields},
            "periods": (*PERIODS, "range"),
            "kept": urlencode(kept),
            "campaigns": sorted({*visit.campaigns(), *filter(None, [asked("campaign")])}),
            "caller_ids": sorted({*own, *filter(None, [asked("caller_id")])}),
            "reasons": sorted({*REASONS, *filter(None, [asked("reason")])}),
            "answers": get_args(DecisionAnswer),
            "outcomes": [name for name in RESULT_RANK if name != "pending"],
            "zone": zone,
            "page": None,
            "csv_rows": _CSV_ROWS,
            **context,
        },
    )


def _csv(page: DecisionPage) -> str:
    """Return the rows as CSV. Its column names are English and do not change; more may be added."""
    names = DecisionRow.__struct_fields__
    lines = [names, *([_cell(value) for value in structs.astuple(row)] for row in page.decisions)]
    return csv_text.table(lines)


def _cell(value: object) -> object:
    return " ".join(value) if isinstance(value, list) else value
