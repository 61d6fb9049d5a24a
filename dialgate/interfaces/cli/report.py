"""`dialgate report`: a report on a controller's calls for a day, a week or a month, as a file or, of shadow mode, as tables."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

import msgspec
import typer

from dialgate.interfaces.cli.command import show_rows
from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate, misuse_of
from dialgate.interfaces.cli.options import Failure, reporting
from dialgate.interfaces.http.reports import ScheduledReports
from dialgate.report.mailing import ScheduledReport
from dialgate.report.rendering import Form, ShadowForm
from dialgate.report.shadow import ShadowReport, TrunkCoverage
from dialgate.report.shadow_tables import lay_out_shadow
from dialgate.runtime.terminal import MISUSE, console, show_json, show_table
from dialgate.texts import Language

app = typer.Typer()
_ReportForm: TypeAlias = Annotated[
    Form | None,
    typer.Option("--format", help="Default: the extension of --out, or html."),
]
_Shadow: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--shadow",
        help="Report what shadow mode let through, for all controllers or one, as tables unless --format or --out is given.",
    ),
]
_Campaigns: TypeAlias = Annotated[
    list[str] | None, typer.Option("--campaign", help="With --shadow: only this campaign. May be repeated.")
]
_Scheduled: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--scheduled",
        help="Show the reports that the gate sends by mail, and the last that it sent. With --format json, as JSON.",
    ),
]
_CoverageFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--coverage",
        exists=True,
        dir_okay=False,
        allow_dash=True,
        help="With --shadow: what `dialgate reconcile --json` printed about the trunk's call records, or - for standard input.",
    ),
]


@app.command()
@asks_gate
def report(
    *,
    controller: Annotated[
        str, typer.Option(help="The controller. Required only if the configuration has several.")
    ] = "",
    day: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="Day to report on. Default: yesterday.")
    ] = "",
    week: Annotated[
        str, typer.Option(metavar="YYYY-Www", help="Week to report on, from Monday, instead of a day.")
    ] = "",
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="Month to report on, instead of a day.")] = "",
    form: _ReportForm = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Output file. Default: standard output.")
    ] = None,
    language: Annotated[Language, typer.Option(help="Report language.")] = "it",
    shadow: _Shadow = False,
    campaign: _Campaigns = None,
    coverage: _CoverageFile = None,
    scheduled: _Scheduled = False,
    gate: GateClient,
) -> None:
    """Report on a controller's calls for a day, a week or a month.

    The report counts checks, permitted calls, and denials by reason. It also shows registry consultations, abandoned
    calls by campaign, and how long revocations took to take effect. Days are in the time zone of the controller's
    country. Reports that the setting `mail` names are sent by the gate; --scheduled shows them.

    With --shadow, it reports what the gate would have refused in shadow mode, what to do about each reason, and how many of
    the trunk's calls the gate saw.

    dialgate report --controller acme --month 2026-10 --out october.pdf

    dialgate reconcile trunk.csv --format csv --json | dialgate report --shadow --day 2026-11-24 --coverage -
    """
    if scheduled:
        _show_scheduled(gate, as_json=form == "json")
        return
    query = {"controller": controller, "day": day, "week": week, "month": month, "language": language}
    if shadow:
        ask = {**query, "campaigns": campaign or []}
        with reporting(as_json=form == "json"), misuse_of("controller.unknown", "campaign.unknown"):
            _report_shadow(gate, ask, form or (_form_of(out) if out else None), coverage, out)
        return
    if campaign or coverage:
        raise typer.BadParameter("requires --shadow", param_hint="--campaign" if campaign else "--coverage")
    form = form or _form_of(out)
    with reporting(as_json=form == "json"), misuse_of("controller.unknown", "extra.missing"):
        with (
            console(stderr=True).status("reading the decision log"),
            gate.open("GET", "/v1/report", query={**query, "format": form}) as response,
        ):
            content = response.read()
        _write(out, content)


def _show_scheduled(gate: GateClient, *, as_json: bool) -> None:
    with reporting(as_json=as_json):
        found = gate.send("GET", "/v1/report/scheduled", ScheduledReports)
    if as_json:
        show_json(found)
        return
    columns: dict[str, str | Callable[[ScheduledReport], object]] = {
        "name": "name", "controller": "controller", "report": "report", "each": "period", "last": "last", "sent": "sent_at",
        "to": lambda report: " ".join(report.recipients),
    }  # fmt: skip
    show_rows("By mail", found.reports, columns, whole=6)
    for report in found.reports:
        if report.problem:
            typer.echo(f"{report.name}: {report.problem}")


def _report_shadow(
    gate: GateClient, ask: Mapping[str, Any], form: Form | None, coverage: Path | None, out: Path | None
) -> None:
    if form not in {None, *get_args(ShadowForm)}:
        text = f"a report on shadow mode is one of {', '.join(get_args(ShadowForm))}"
        raise typer.BadParameter(text, param_hint="--format")
    body = {**ask, "format": form or "json", "coverage": _read_coverage(coverage) if coverage else None}
    with (
        console(stderr=True).status("reading the decision log"),
        gate.open("POST", "/v1/report/shadow", body) as response,
    ):
        content = response.read()
    if form:
        _write(out, content)
        return
    layout = lay_out_shadow(msgspec.json.decode(content, type=ShadowReport), ask["language"])
    typer.echo("\n".join([layout.lead, "", f"{layout.title}: {layout.subtitle}", ""]))
    show_table("", ("", ""), [(figure.name, figure.value) for figure in layout.figures])
    for table in layout.tables:
        if table.rows:
            show_table(table.title, table.columns, table.rows, whole=int(table.names))
            console().print(table.note)


def _read_coverage(path: Path) -> TrunkCoverage:
    text = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
        fields = {name: found[name] for name in TrunkCoverage.__struct_fields__ if name in found}
        return msgspec.convert(fields, TrunkCoverage)
    except msgspec.DecodeError:
        message = "this is not the output of `dialgate reconcile --json`"
        raise Failure("request.invalid", message, field="--coverage", status=MISUSE) from None


def _form_of(out: Path | None) -> Form:
    forms: dict[str, Form] = {f".{form}": form for form in get_args(Form)}
    return forms.get(out.suffix.lower() if out else "", "html")


def _write(out: Path | None, content: bytes) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    write_out(out, content)
    typer.echo(f"written: {out}", err=True)
