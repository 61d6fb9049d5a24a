"""The law page, which shows a country's law on a given day and its changes between two days, and the changes that an officer acknowledges."""

from datetime import date
from urllib.parse import urlencode

from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.errors import convert
from dialgate.report.law_page import changes, law_page, name_of
from dialgate.report.law_review import LawReadRequest


async def show(
    visit: Visit, fields: Fields = EMPTY, status: int = 200, error: str = "", field: str = ""
) -> web.Response:
    config, query, language = visit.app.config, visit.request.query, visit.words.language
    laws = {**config.laws, **config.drafts}
    owners = (
        config.controllers[name].country for name in visit.client.controllers if name in config.controllers
    )
    home = next(owners, next(iter(laws)))
    law = laws.get(query.get("country", home))
    today = day_in((law or laws[home]).zone, visit.app.gate.now())
    day, since = _day(query.get("day", ""), today), _day(query.get("since", ""), None)
    is_valid = law is not None and day is not None and (since is not None or not query.get("since"))
    country = law.country if law else home
    reviews = await visit.app.law_reading.review(visit.client.controllers, language, country)
    return visit.show(
        "law",
        status=status if is_valid else 400,
        error=error if is_valid else "request.invalid",
        field=field,
        fields=fields,
        reviews=reviews.laws,
        done=query.get("done") == "read",
        countries=sorted((name_of(law, language), code) for code, law in laws.items()),
        country=country,
        day=day or today,
        since=since,
        page=law_page(law, day, language) if law and is_valid else None,
        changes=changes(law, since, day, language) if law and day and since else None,
    )


@serves_form(show)
async def acknowledge(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Record that the officer has read what changes in a country's law."""
    ask = convert({name: value for name, value in fields.items() if value}, LawReadRequest)
    await visit.app.law_reading.acknowledge(visit.client, ask)
    return redirect(f"{ROOT}/law?{urlencode({'country': ask.country, 'done': 'read'})}")


def _day(text: str, default: date | None) -> date | None:
    """Parse the day in a field. Return `default` if the field is empty, and None if it is invalid."""
    try:
        return date.fromisoformat(text) if text else default
    except ValueError:
        return None
