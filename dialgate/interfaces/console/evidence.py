"""The page on evidence: whether the log of this gate is proved, and the evidence about an authority's list of numbers."""

from typing import Any, Final

from aiohttp import web

from dialgate.core.local_time import rfc3339
from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.administration import get_log_verification, verify_log
from dialgate.interfaces.http.administration_schemas import EvidenceRequest
from dialgate.interfaces.http.body import as_file
from dialgate.interfaces.http.decisions import parse_number
from dialgate.interfaces.http.errors import Fault, convert
from dialgate.interfaces.http.reports import ZIP, evidence_file
from dialgate.report import day

_COPIED: Final = ("purpose", "addressee", "controller", "place", "protocol", "language")


async def show_evidence(visit: Visit, fields: Fields = EMPTY, **context: Any) -> web.Response:
    verification = await get_log_verification(visit.request, visit.app, visit.client)
    return visit.show(
        "evidence",
        proof=verification.last,
        nightly=visit.app.config.settings.verify_log_nightly,
        fields=fields,
        **{"lines": [], **context},
    )


@serves_form(show_evidence)
async def verify(visit: Visit, _: Fields) -> web.StreamResponse:
    """Verify the log now. The page then shows the result."""
    await verify_log(visit.request, visit.app, visit.client)
    return redirect(f"{ROOT}/evidence")


@serves_form(show_evidence)
async def download(visit: Visit, fields: Fields) -> web.StreamResponse:
    """Return evidence about a list of numbers as a zip file. The disclosure is recorded for each number."""
    written = [(place, line.strip()) for place, line in enumerate(fields.get("numbers", "").split("\n"), 1)]
    wrong = [place for place, line in written if line and not _is_number(visit, line)]
    if wrong:
        return await show_evidence(visit, fields, status=400, error="console.lines", lines=wrong)
    values: dict[str, Any] = {name: fields[name] for name in _COPIED if fields.get(name)}
    ask = convert(
        values | _span(visit, fields) | {"numbers": [line for _, line in written if line], "format": "zip"},
        EvidenceRequest,
    )
    body = await evidence_file(visit.request, visit.app, visit.client, ask)
    return as_file(body, "evidence.zip", ZIP)


def _is_number(visit: Visit, line: str) -> bool:
    try:
        parse_number(line, visit.app.config, visit.client.controllers)
    except Fault:
        return False
    return True


def _span(visit: Visit, fields: Fields) -> dict[str, str]:
    """Return the period of the decisions, without an end that the form leaves open. Raises `Fault`."""
    try:
        first, last = (
            day(fields[name], visit.zone()) if fields.get(name) else None for name in ("first", "last")
        )
    except ValueError:
        raise Fault(400, "request.invalid", "This is not a day.", field="first") from None
    return ({"since": rfc3339(first.since)} if first else {}) | (
        {"until": rfc3339(last.until)} if last else {}
    )
