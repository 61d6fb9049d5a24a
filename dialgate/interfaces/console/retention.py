"""The page on retention: what went, what would go now, and the months of decisions whose keys can be destroyed."""

from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.administration import list_removals, retire_months
from dialgate.interfaces.http.administration_schemas import RetirementRequest
from dialgate.interfaces.http.errors import Fault
from dialgate.subjects.letter_words import LetterWords

_COUNT: Final = "count"


async def show_retention(visit: Visit) -> web.StreamResponse:
    """Show the last runs. With `count` in the address, also count, which reads the ledger and the log."""
    return await _page(visit, counts=_COUNT in visit.request.query)


async def _page(visit: Visit, _: Fields = EMPTY, *, counts: bool = True, **context: Any) -> web.Response:
    counted: dict[str, Any] = {"due": None, "months": None}
    if counts:
        ask = RetirementRequest(dry_run=True)
        found = await retire_months(visit.request, visit.app, visit.client, ask=ask)
        counted["months"] = sorted((*found.months, *found.kept), key=lambda month: month.month)
        counted["due"] = await visit.app.subjects.retire(visit.app.gate.now(), drop=False)
    runs = (await list_removals(visit.request, visit.app, visit.client)).runs
    destroyed = visit.request.query.get("destroyed", "")
    return visit.show(
        "retention",
        runs=runs,
        daily=visit.app.config.settings.storage.daily,
        destroyed=destroyed if any(destroyed in run.months for run in runs) else "",
        say_kind=LetterWords(visit.words.language, visit.zone()).say,
        **counted,
        **context,
    )


@serves_form(_page)
async def destroy_keys(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Destroy the keys of one month whose term is over. The officer confirms with the month's name."""
    month = fields.get("month", "")
    if not month or fields.get("confirm") != month:
        raise Fault(400, "console.month", "Enter the month as it is shown.", field="confirm")
    ask = RetirementRequest(months=(month,))
    done = await retire_months(visit.request, visit.app, visit.client, ask=ask)
    if not done.months:
        raise Fault(409, "console.not_over", "This month's term is not over.", field="month")
    return redirect(f"{ROOT}/retention?{_COUNT}=1&destroyed={quote(month, safe='')}")
