"""The page that shows what would change if the gate loaded the configuration on its disk."""

from typing import Any

from aiohttp import web

from dialgate.interfaces.console.change_sentences import sentence, summary
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, serves_form
from dialgate.interfaces.http.administration import ConfigurationDiffQuery, get_configuration_diff
from dialgate.interfaces.http.errors import Fault

_MOST_DAYS = 366


async def show_form(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    defaults = {"fields": {"days": "7", **fields}, "summary": "", "sentences": []}
    return visit.show("changes", **defaults | context)


@serves_form(show_form)
async def compare(visit: Visit, fields: Fields) -> web.StreamResponse:
    days = fields.get("days", "")
    if not (days.isascii() and days.isdecimal() and 1 <= int(days[:4]) <= _MOST_DAYS):
        raise Fault(400, "request.invalid", f"Enter 1 to {_MOST_DAYS} days.", field="days")
    query = ConfigurationDiffQuery(days=int(days))
    diff = await get_configuration_diff(visit.request, visit.app, visit.client, query=query)
    sentences = [(sentence(change, visit.words), change) for change in diff.changes]
    text = summary(diff, visit.words, visit.zone())
    return await show_form(visit, fields, summary=text, sentences=sentences)
