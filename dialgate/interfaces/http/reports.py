"""The endpoints that return files made from the log: reports on a controller's calls, and evidence for decisions."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Annotated, Final, TypeVar, get_args

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.audit.evidence_files import EvidenceOrder, make_evidence
from dialgate.audit.legal_holds import HoldRefused
from dialgate.audit.lookups import instant
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.local_time import day_in
from dialgate.core.model import Instant
from dialgate.core.name_suggestions import choose
from dialgate.interfaces.http.administration import OFFICER
from dialgate.interfaces.http.administration_schemas import EvidenceRequest
from dialgate.interfaces.http.decisions import parse_number
from dialgate.interfaces.http.endpoint import NDJSON, EndpointGroup, Media
from dialgate.interfaces.http.errors import Fault
from dialgate.interfaces.http.own_processes import run_for
from dialgate.interfaces.http.subjects import letters_of
from dialgate.ledger.schemas import described
from dialgate.report import PERIODS, Period
from dialgate.report.mailing import ScheduledReport
from dialgate.report.rendering import MEDIA, Form, ReportOrder, ShadowForm, make_report, render_shadow
from dialgate.report.shadow import ShadowReport, ShadowReportOrder, TrunkCoverage, gather_shadow
from dialgate.runtime.extras import require
from dialgate.subjects.evidence_package import EvidencePackageOrder, make_package
from dialgate.subjects.letter import Letter
from dialgate.texts import Language

T = TypeVar("T")
ZIP: Final = "application/zip"
_EXAMPLE: Final = date(2026, 10, 31)

REPORTS: Final = EndpointGroup(
    "Reports", "Reports on a controller's calls, and evidence for recorded decisions."
)


class _ReportQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    controller: Annotated[str, described("Required only if the client has several controllers.")] = ""
    day: Annotated[str, described("Day to report on. Default: yesterday.")] = ""
    week: Annotated[str, described("Week to report on, from Monday, instead of a day.")] = ""
    month: Annotated[str, described("Month to report on, instead of a day.")] = ""
    form: Annotated[Form, described("Format.")] = msgspec.field(default="html", name="format")
    language: Annotated[Language, described("Report language.")] = "it"


@REPORTS.endpoint(
    "GET",
    "/v1/report",
    scope="watch",
    also_answers=tuple(
        Media(name=name, kind=dict if form == "json" else bytes if form == "pdf" else None)
        for form, name in MEDIA.items()
    ),
    errors=("controller.unknown", "extra.missing", "store.unavailable", "gate.unavailable"),
)
async def get_report(
    request: web.Request, app: App, client: Client, *, query: _ReportQuery
) -> web.StreamResponse:
    """Return a report on a controller's calls for a day, a week or a month: checks, permitted calls, denials by reason, registry consultations, abandoned calls and revocations.

    It contains no called number.
    """
    owner = controller_of(query.controller, client)
    now = app.gate.now()
    order = ReportOrder(
        controller=owner,
        period=period_of(app.config, owner, now, day=query.day, week=query.week, month=query.month),
        form=query.form,
        language=query.language,
        made_at=now,
    )
    headers = {"Content-Type": MEDIA[query.form], "Cache-Control": "no-store"}
    return web.Response(body=await render(request, app, client, order), headers=headers)


class ScheduledReports(Struct, frozen=True):
    reports: list[ScheduledReport]


@REPORTS.endpoint("GET", "/v1/report/scheduled", scope="watch", errors=("store.unavailable",))
async def list_scheduled_reports(_: web.Request, app: App, client: Client) -> ScheduledReports:
    """Return which reports on the client's controllers are sent by mail, to whom, when the last was sent, and why the next was not."""
    return ScheduledReports(await app.report_mailing.scheduled(client.controllers))


async def render(request: web.Request, app: App, client: Client, order: ReportOrder) -> bytes:
    if order.form == "pdf":
        require("reports", "A report as PDF")  # before a process is started
    return await run_for(request, client, partial(make_report, app.config, order))


class ShadowReportRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    controller: Annotated[str, described("Only this controller. Default: all of the client's.")] = ""
    campaigns: Annotated[tuple[str, ...], described("Only these campaigns. Default: all.")] = ()
    day: Annotated[str, described("Day to report on. Default: yesterday.")] = ""
    week: Annotated[str, described("Week to report on, from Monday, instead of a day.")] = ""
    month: Annotated[str, described("Month to report on, instead of a day.")] = ""
    form: Annotated[ShadowForm, described("Format.")] = msgspec.field(default="html", name="format")
    language: Annotated[Language, described("Report language.")] = "it"
    coverage: Annotated[
        TrunkCoverage | None, described("What `dialgate reconcile --json` found in the trunk's call records.")
    ] = None


@REPORTS.endpoint(
    "POST",
    "/v1/report/shadow",
    scope="watch",
    also_answers=tuple(
        Media(name=MEDIA[form], kind=dict if form == "json" else None) for form in get_args(ShadowForm)
    ),
    errors=("controller.unknown", "campaign.unknown", "gate.unavailable"),
)
async def get_shadow_report(
    request: web.Request, app: App, client: Client, *, ask: ShadowReportRequest
) -> web.StreamResponse:
    """Report on calls in shadow mode: how many of the trunk's calls the gate saw, what it would have refused, and what to do about it.

    It contains no called number. Without `coverage`, it says that coverage is unknown.
    """
    report = await shadow_report(request, app, client, ask)
    headers = {"Content-Type": MEDIA[ask.form], "Cache-Control": "no-store"}
    return web.Response(body=render_shadow(report, ask.form, ask.language), headers=headers)


async def shadow_report(
    request: web.Request, app: App, client: Client, ask: ShadowReportRequest
) -> ShadowReport:
    """Return the figures, from a process of its own. Raises `Fault`."""
    owners = (controller_of(ask.controller, client),) if ask.controller else client.controllers
    known = sorted(name for name, line in app.config.lines.items() if line.controller.id in owners)
    if set(ask.campaigns) - set(known):
        raise Fault(404, "campaign.unknown", choose("Use your campaigns", known), field="campaigns")
    now = app.gate.now()
    order = ShadowReportOrder(
        controllers=owners,
        period=period_of(app.config, owners[0], now, day=ask.day, week=ask.week, month=ask.month),
        made_at=now,
        campaigns=ask.campaigns,
        coverage=ask.coverage,
    )
    return await run_for(request, client, partial(gather_shadow, app.config, order))


def period_of(config: Config, controller: str, now: Instant, **named: str) -> Period:
    """Return the `day`, `week` or `month` in the controller's country, or yesterday if all are empty. Raises `Fault`."""
    zone = config.laws[config.controllers[controller].country].zone
    field, *more = [name for name, text in named.items() if text] or ["day"]
    if more:
        text = "Send only one of `day`, `week` and `month`."
        raise Fault(400, "request.invalid", text, field=more[0])
    read, form = PERIODS[field]
    try:
        return read(named.get(field) or (day_in(zone, now) - timedelta(days=1)).isoformat(), zone)
    except ValueError:
        text = f"This is not a valid {field}. Example: {_EXAMPLE:{form}}"
        raise Fault(400, "request.invalid", text, field=field) from None


def controller_of(name: str, client: Client) -> str:
    """Return the controller to report on. An empty `name` means the client's only one. Raises `Fault`."""
    names = client.controllers
    name = name or (names[0] if len(names) == 1 else "")
    if name not in names:
        raise Fault(
            404, "controller.unknown", choose("Use one of your controllers", names), field="controller"
        )
    return name


# ---- evidence --------------------------------------------------------------------------------------------------------


@REPORTS.endpoint(
    "POST",
    "/v1/evidence",
    scope="admin",
    also=OFFICER,
    whole_gate=True,
    also_answers=(Media(name=NDJSON, kind=bytes), Media(name=ZIP, kind=bytes)),
    errors=(
        "number.invalid",
        "controller.unknown",
        "evidence.missing",
        "subject.template",
        "store.unavailable",
        "gate.unavailable",
    ),
)
async def export_evidence(
    request: web.Request, app: App, client: Client, *, ask: EvidenceRequest
) -> web.StreamResponse:
    """Return signed evidence for a decision, or for all decisions about numbers, one bundle per line.

    It contains the called numbers, so the disclosure is recorded. `verify_evidence.py` verifies it without a gate. With `format: zip`,
    one file for an authority: the bundles, the verifier, a readable report, and a cover letter to sign. Needs a client with every controller.
    """
    body = await evidence_file(request, app, client, ask)
    headers = {"Content-Type": ZIP if ask.form == "zip" else NDJSON, "Cache-Control": "no-store"}
    return web.Response(body=body, headers=headers)


async def evidence_file(request: web.Request, app: App, client: Client, ask: EvidenceRequest) -> bytes:
    """Return the evidence in the form that `ask` names, and record the disclosure before. Raises `Fault`."""
    if bool(ask.decision) == bool(ask.numbers):
        raise Fault(400, "request.invalid", "Send either `decision` or `numbers`.", field="decision")
    if ask.decision and (ask.since or ask.until):
        raise Fault(400, "request.invalid", "`since` and `until` need `numbers`.", field="since")
    order = EvidenceOrder(
        decision=ask.decision or "",
        numbers=tuple(
            dict.fromkeys(parse_number(raw, app.config, client.controllers) for raw in ask.numbers)
        ),
        since=instant(ask.since) if ask.since else None,
        until=instant(ask.until) if ask.until else None,
    )
    if ask.form == "zip":
        body, numbers = await _packed(request, app, client, ask, order)
    else:
        bundles, numbers = await make_bundles(request, app, client, order)
        body = b"".join(bundles)
    await app.subjects.record_disclosure(client, {*order.numbers, *numbers}, ask.purpose)
    return body


async def _packed(
    request: web.Request, app: App, client: Client, ask: EvidenceRequest, order: EvidenceOrder
) -> tuple[bytes, set[str]]:
    if not order.numbers:
        raise Fault(400, "request.invalid", "A zip file needs `numbers`.", field="numbers")
    if not ask.addressee.strip():
        raise Fault(400, "request.invalid", "The letter needs an addressee.", field="addressee")
    owner = app.config.controllers[controller_of(ask.controller, client)]
    cover = Letter(
        kind="authority",
        language=ask.language,
        controller_name=owner.name,
        controller_contact=owner.contact,
        officer=owner.officer,
        country=owner.country,
        zone=app.config.laws[owner.country].zone,
        number="",
        made_at=app.gate.now(),
        addressee=ask.addressee,
        place=ask.place,
        protocol=ask.protocol,
        reasons=ask.purpose,
    )
    packing = EvidencePackageOrder(evidence=order, letter=cover, own=letters_of(app))
    return await _run_evidence(request, client, partial(make_package, app.config, packing, app.gate.now()))


async def make_bundles(
    request: web.Request, app: App, client: Client, order: EvidenceOrder
) -> tuple[list[bytes], set[str]]:
    """Return evidence bundles, and the called numbers in them. Raises `Fault` if there is no evidence."""
    return await _run_evidence(request, client, partial(make_evidence, app.config, order, app.gate.now()))


async def _run_evidence(request: web.Request, client: Client, work: Callable[[], T]) -> T:
    try:
        return await run_for(request, client, work)
    except HoldRefused as error:
        raise Fault(409, "evidence.missing", str(error)) from None
