"""The law page, which shows a country's law on a given day and its changes between two days."""

from datetime import date

from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.interfaces.console.visit import Visit
from dialgate.report.law_page import changes, law_page, name_of


async def show(visit: Visit) -> web.StreamResponse:
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
    return visit.show(
        "law",
        "law",
        status=200 if is_valid else 400,
        error="" if is_valid else "request.invalid",
        countries=sorted((name_of(law, language), code) for code, law in laws.items()),
        country=law.country if law else home,
        day=day or today,
        since=since,
        page=law_page(law, day, language) if law and is_valid else None,
        changes=changes(law, since, day, language) if law and day and since else None,
    )


def _day(text: str, default: date | None) -> date | None:
    """Parse the day in a field. Return `default` if the field is empty, and None if it is invalid."""
    try:
        return date.fromisoformat(text) if text else default
    except ValueError:
        return None
