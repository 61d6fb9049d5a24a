"""The pages for call lists: viewing loaded lists, loading, replacing and retiring a list, and previewing its callable numbers."""

import asyncio
import base64
import csv
import io
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from dialgate.core.model import Basis, OriginKind
from dialgate.interfaces.console.file_form import file_part
from dialgate.interfaces.console.list_counts import LIST_COUNTS, CountKey
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form, shown
from dialgate.interfaces.http import body as http_body
from dialgate.interfaces.http.errors import FAILURES, Fault, convert, fault_of
from dialgate.interfaces.http.uploads import UPLOADS, Gone, gone
from dialgate.ledger.job_kinds import PreviewList
from dialgate.ledger.list_exports import Preview
from dialgate.ledger.schemas import ListInfo, ListRequest
from dialgate.lists.call_list import RowProblem
from dialgate.lists.tabular import Hints

_TRANSFERS: Final = 3  # cessions that the form has fields for; a longer chain is sent over HTTP or by command
_MOST_REJECTED: Final = 20_000  # rows that the page offers as CSV: less than 2 MB
_row: Final = msgspec.json.Decoder(RowProblem)


async def load(visit: Visit) -> web.StreamResponse:
    """Load the call list in the uploaded form.

    The form sends its fields before the file, so the token is checked before any part of the file is read.
    """
    fields: dict[str, str] = {}
    spool, call_lists = visit.request.app[UPLOADS], visit.app.registrar.call_lists
    try:
        part = await file_part(visit, fields)
        read = partial(part.read_chunk, http_body.READ_BYTES)
        with spool.temporary() as skipped:
            async with spool.received(visit.client.name, read, gone(visit.request)) as upload:
                build = upload.build(visit.app, visit.client, skipped)
                hints = Hints(column=fields.get("column", ""))
                report = await call_lists.load_from(visit.client, _request(fields), build, hints)
            rejected = await asyncio.to_thread(_rejected_rows, skipped, visit)
    except FAILURES as error:
        return await show_lists(visit, fields, **shown(error), field=fault_of(error).problem.field)
    return await show_lists(visit, status=HTTPStatus.CREATED, report=report, rejected=rejected)


def _rejected_rows(path: str, visit: Visit) -> str:
    """Return the rows that were left out as the URL of a CSV file, or "" if there are none. They contain no number."""
    try:
        with Path(path).open("rb") as file:
            rows = [_row.decode(line) for line in islice(file, _MOST_REJECTED)]
    except FileNotFoundError:
        return ""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([visit.words("lists.row"), visit.words("lists.problem")])
    writer.writerows((row.line, visit.words.finding(row.problem)) for row in rows)
    encoded = base64.b64encode(text.getvalue().encode("utf-8-sig")).decode()
    return f"data:text/csv;charset=utf-8;base64,{encoded}" if rows else ""


def _request(fields: dict[str, str]) -> ListRequest:
    names = ("id", "basis", "collected_by", "collected_on", "source", "origin", "controller", "replaces")
    values: dict[str, Any] = {name: fields.get(name, "") for name in names}
    campaigns = [fields["campaign"]] if fields.get("campaign") else []
    transfers = [
        {**step, "subjects_told": fields.get(f"transfer_told_{at}") == "yes"}
        for at in range(1, _TRANSFERS + 1)
        if any(
            (step := {name: fields.get(f"transfer_{name}_{at}", "") for name in ("by", "to", "on")}).values()
        )
    ]
    return convert(
        {**values, "campaigns": campaigns, "transfers": transfers, "channel": "console"}, ListRequest
    )


async def preview(visit: Visit) -> web.StreamResponse:
    """Count how many numbers of a list are callable, and why the others are not. The page of the result has an address.

    A client must not learn the verdict on a number of its choice without a recorded look-up (D.P.R. 26/2022 art. 8
    c. 1 and 3). So a preview needs the scope of simulations and a list that is not short, and is recorded.
    """
    info, campaign = await _previewed(visit, (await visit.form()).get("campaign", ""))
    key = CountKey(info.controller, info.id, campaign)
    try:
        counted = await _count(visit, key, gone(visit.request))
    except FAILURES as error:
        return await show_lists(visit, **shown(error))
    visit.request.app[LIST_COUNTS].keep(key, counted)
    return redirect(f"{ROOT}/lists/{quote(info.id)}/preview?{urlencode({'campaign': campaign})}")


async def _count(visit: Visit, key: CountKey, is_gone: Gone = lambda: False) -> Preview:
    job = PreviewList(key.list, (key.campaign,))
    report = await visit.request.app[UPLOADS].run(visit.app, visit.client, job, gone=is_gone)
    (counted,) = msgspec.json.decode(report, type=list[Preview])
    return counted


async def show_preview(visit: Visit) -> web.StreamResponse:
    """Show the newest preview of a list for a campaign, as counted by this gate since its start."""
    info, campaign = await _previewed(visit, visit.request.query.get("campaign", ""))
    counted = visit.request.app[LIST_COUNTS].find(CountKey(info.controller, info.id, campaign))
    if counted is None:
        raise Fault(
            404,
            "list.unknown",
            "This gate has not counted this list for the campaign. Preview it on the page of call lists.",
        )
    return visit.show("preview", here="lists", preview=counted, info=info)


async def _previewed(visit: Visit, campaign: str) -> tuple[ListInfo, str]:
    """Return the list in the path, if the visitor may preview it for the campaign. Raises `Fault`."""
    if not visit.may("simulate"):
        raise Fault(403, "auth.scope", "A preview needs the scope `simulate` as well as `lists`.")
    owner = visit.app.config.lines[campaign].controller.id if campaign in visit.campaigns() else ""
    for info in await visit.app.registrar.call_lists.lists(visit.client):
        if (info.id, info.controller) == (visit.item, owner):
            return info, campaign
    text = "This client has no call list with this id. Check `id` and `campaign`."
    raise Fault(404, "list.unknown", text, field="id")


@serves_form(lambda visit, _, **context: show_lists(visit, **context))  # the page has no form with its fields
async def retire(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Retire a list: no call is made from it any more."""
    await visit.app.registrar.call_lists.retire_list(visit.client, visit.item, fields.get("controller", ""))
    return redirect(f"{ROOT}/lists")


async def show_lists(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    infos: list[ListInfo] = await visit.app.registrar.call_lists.lists(visit.client)
    counted = visit.app.gate.counted
    paused = await asyncio.to_thread(visit.app.registrar.campaigns.paused, visit.client, counted)
    counts = _renewed_counts(visit, infos) if visit.may("simulate") else {}
    return visit.show(
        "lists",
        fields=fields,
        lists=sorted(infos, key=lambda info: info.loaded_at, reverse=True),
        campaigns=visit.campaigns(),
        paused={campaign.id for campaign in paused},
        counts=counts,
        bases=get_args(Basis),
        origins=get_args(OriginKind),
        transfers=range(1, _TRANSFERS + 1),
        **{"report": None, "rejected": "", **context},
    )


def _renewed_counts(visit: Visit, infos: Sequence[ListInfo]) -> dict[str, list[Preview]]:
    """Return the counts of the lists in force by list, and have the old ones counted again for the next page."""
    kept, campaigns = visit.request.app[LIST_COUNTS], set(visit.campaigns())
    keys = [
        CountKey(info.controller, info.id, campaign)
        for info in infos
        if not info.retired_at
        for campaign in info.campaigns
        if campaign in campaigns
    ]
    kept.renew(keys, partial(_count, visit))
    counts: dict[str, list[Preview]] = {}
    for key in keys:
        if (counted := kept.find(key)) is not None:
            counts.setdefault(f"{key.controller} {key.list}", []).append(counted)
    return counts
