"""The page on who looked at which data. Its filters are in its address, so that it can be reloaded and passed on."""

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from dialgate.core.local_time import day_in, rfc3339
from dialgate.interfaces.console.visit import Fields, Visit, shown
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.errors import FAILURES, Fault, convert
from dialgate.interfaces.http.lookups import MOST, LookupQuery, find_lookups, lookups_csv
from dialgate.interfaces.http.subjects import CSV
from dialgate.report import day
from dialgate.subjects.letter_words import LetterWords

_SPAN: Final = timedelta(days=30)
# The kinds of data that a look-up can show, as `POST /v1/lookups` and the pages record them.
KINDS: Final = (
    "everything", "account", "decisions", "request", "portability", "evidence", "disclosure", "consent", "contract",
    "call_request", "revoked", "wrong_number", "simulation", "reconciliation",
)  # fmt: skip
_KEPT: Final = ("first", "last", "client", "controller", "what")


async def show_lookups(visit: Visit) -> web.StreamResponse:
    """Show a page of look-ups, or with `csv` return the first 10,000 of the filters as a file."""
    today = day_in(visit.zone(), visit.app.gate.now())
    fields = {
        "first": (today - _SPAN).isoformat(),
        "last": today.isoformat(),
        **{name: value.strip() for name, value in visit.request.query.items()},
    }
    try:
        page = await find_lookups(visit.app, visit.client, _query(visit, fields))
    except FAILURES as error:
        return _page(visit, fields, **shown(error))
    if "csv" in fields:
        return as_file(lookups_csv(page.lookups), f"look-ups-{fields['first']}-{fields['last']}.csv", CSV)
    return _page(visit, fields, page=page)


def _query(visit: Visit, fields: Fields) -> LookupQuery:
    try:
        first, last = (day(fields[name], visit.zone()) for name in ("first", "last"))
    except ValueError:
        raise Fault(400, "request.invalid", "Enter the first and the last day.", field="first") from None
    values = {name: fields[name] for name in ("client", "controller", "what", "before") if fields.get(name)}
    span = {"since": rfc3339(first.since), "until": rfc3339(last.until)}
    return convert({**values, **span, **({"limit": str(MOST)} if "csv" in fields else {})}, LookupQuery)


def _page(visit: Visit, fields: Fields, **context: Any) -> web.Response:
    kept = urlencode({name: fields[name] for name in _KEPT if fields.get(name)})
    return visit.show(
        "lookups",
        **{
            "fields": fields,
            "kinds": KINDS,
            "kept": kept,
            "say_what": LetterWords(visit.words.language, visit.zone()).say,
            "page": None,
            **context,
        },
    )
