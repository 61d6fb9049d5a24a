"""`dialgate reconcile`: comparison of placed calls with allowed calls.

The command reads the data folder, whether or not a gate is running. To show numbers, it needs a gate, which records that.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import typer
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge

from dialgate.audit.reconciliation import cdr, matching
from dialgate.audit.reconciliation.cdr import CallRecords, CdrUnreadable, Columns, Format
from dialgate.audit.reconciliation.cdr_asterisk import Trunks
from dialgate.audit.reconciliation.matching import KINDS, BypassedCall, Node, ReconciliationReport
from dialgate.config import content_store
from dialgate.core import phone
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.crypto.masking import blank_unseparated
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    common_country,
    load_config,
)
from dialgate.interfaces.cli.subjects import Purpose, record_lookups
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.metrics_textfile import write_textfile
from dialgate.runtime.terminal import MISUSE, console, show_table, utc

_MOST_NAMES = 12

app = typer.Typer()
_ColumnName = Annotated[
    str,
    typer.Option(
        metavar="COLUMN", help="Name of this column in the file. Default: the usual name in this file format."
    ),
]

_Only: TypeAlias = Annotated[
    list[str],
    typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value in the column. May be repeated."),
]
_Also: TypeAlias = Annotated[
    list[Path],
    typer.Option(
        exists=True, file_okay=False, help="Data folder of another gate on the same trunk. May be repeated."
    ),
]
_Textfile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="Write metrics for the node exporter, for example /var/lib/node_exporter/reconcile.prom.",
    ),
]
_TrunkNames: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--trunk",
        metavar="NAME",
        help="Asterisk only, and required there: endpoint for a trunk, for example `trunk` or `PJSIP/trunk`. Only calls that leave through these endpoints are compared. May be repeated.",
    ),
]
_Incoming: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="CONTEXT",
        help="Asterisk only: context for incoming calls from the trunk, for example `dialgate-recall` or `ivr/s`. May be repeated.",
    ),
]
_TimeZone: TypeAlias = Annotated[
    str, typer.Option(help="Time zone for times without an offset, for example Europe/Rome.")
]
_Home: TypeAlias = Annotated[
    str, typer.Option(help="Country for numbers without a country code, for example IT.")
]
_Limit: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Maximum calls to show. --json shows all of them.")
]
_Prefix: TypeAlias = Annotated[str, typer.Option(help="Trunk prefix to remove from called numbers.")]
_Skew: TypeAlias = Annotated[
    float, typer.Option(min=0, max=3600, help="Allowed clock difference in seconds.")
]
_Show: TypeAlias = Annotated[
    bool, typer.Option("--show", help="Show the called numbers. Requires --purpose.")
]
_Files: TypeAlias = Annotated[
    list[Path], typer.Argument(exists=True, dir_okay=False, help="Call detail records from the trunk.")
]


# ---- output ----------------------------------------------------------------------------------------------------------


def _write_metrics(report: ReconciliationReport, textfile: Path) -> None:
    """Write a metrics file for the node exporter. Include kinds without findings, so that their count returns to 0."""
    registry = CollectorRegistry()
    Gauge("reconcile_run_timestamp_seconds", "When calls were last reconciled.", registry=registry).set(
        wall_clock() / SECOND
    )
    calls = Gauge(
        "dialgate_reconcile_calls",
        "Placed calls, by whether the gate had allowed them, or only let them through in shadow mode.",
        ["allowed"],
        registry=registry,
    )
    calls.labels("yes").set(report.matched)
    calls.labels("shadow").set(report.shadow)
    calls.labels("no").set(len(report.findings))
    findings = Gauge(
        "dialgate_reconcile_findings",
        "Calls that bypassed the gate. Alert on any.",
        ["kind"],
        registry=registry,
    )
    for kind, count in report.counts.items():
        findings.labels(kind).set(count)
    write_textfile(registry, textfile)


def _look_up_numbers(
    config: Path, findings: list[BypassedCall], home: str, purpose: str
) -> dict[tuple[str, int], str]:
    """Record a look-up of each called number, and return the numbers by file and line. Omit invalid numbers."""
    numbers: dict[tuple[str, int], str] = {}
    for finding in findings:
        try:
            numbers[finding.file, finding.line] = phone.parse(finding.number, home).e164
        except phone.NotANumber:
            continue

    if numbers:
        record_lookups(GateClient(config), [*dict.fromkeys(numbers.values())], purpose, "reconciliation")
    return numbers


class _Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finding as the command prints it.

    `caller_id` is `other` if no controller owns the caller ID, because the number could belong to a private person.
    `number` and `call_id` are set only with --show.
    """

    kind: str
    file: str
    line: int
    at: str
    caller_id: str
    decision: str
    number: str = ""
    call_id: str = ""

    @classmethod
    def from_call(
        cls, finding: BypassedCall, home: str, own: frozenset[str], numbers: dict[tuple[str, int], str]
    ) -> "_Row":
        caller_id = phone.parse_caller_id(finding.caller_id, home).number
        number = numbers.get((finding.file, finding.line), "")
        return cls(
            kind=finding.kind, file=finding.file, line=finding.line, at=utc(finding.at),
            caller_id=caller_id if caller_id in own else "other", decision=finding.decision, number=number,
            call_id=finding.call_id if number else "",
        )  # fmt: skip


class _Reconciled(NamedTuple):
    report: ReconciliationReport
    rows: list[_Row]
    hints: list[str]
    limit: int


def _as_builtins(reconciled: _Reconciled) -> dict[str, object]:
    report, rows, hints, _ = reconciled
    return {
        "ok": not rows,
        "calls": report.calls,
        "allowed": report.matched,
        "shadow": report.shadow,
        "legs": report.legs,
        "own": report.own,
        "decisions": report.decisions,
        "counts": report.counts,
        "findings": rows,
        "hints": hints,
        "since": utc(report.since),
        "until": utc(report.until),
    }


def _show(reconciled: _Reconciled) -> None:
    report, rows, hints, limit = reconciled
    shadow = f"{report.shadow:,} let through in shadow mode, " if report.shadow else ""
    typer.echo(
        f"{report.calls:,} calls, {report.matched:,} allowed, {shadow}{len(rows):,} bypassed the gate"
        f" (not counted: {report.legs:,} retries of unanswered calls, {report.own:,} calls to your own numbers)"
    )
    for hint in hints:
        typer.echo(f"Hint: {hint}")
    if not rows:
        return
    counts = [(kind, count, KINDS[kind]) for kind, count in report.counts.items() if count]
    show_table("By kind", ("kind", "calls", ""), counts)
    cells = [
        (f"{row.file}:{row.line}", row.at, row.kind, row.caller_id, row.decision, row.number)
        for row in rows[:limit]
    ]
    show_table("Calls", ("row", "at (UTC)", "kind", "caller ID", "decision", "number"), cells)
    if len(rows) > limit:
        typer.echo(f"and {len(rows) - limit:,} more: raise --limit, or use --json")


# ---- the command -------------------------------------------------------------------------------------------------------


@app.command("reconcile")
@command(_show, data=_as_builtins, ok=lambda reconciled: not reconciled.rows)
def reconcile_files(
    files: _Files,
    *,
    format_: Annotated[Format, typer.Option("--format", help="File format.")],
    time: _ColumnName = "",
    called: _ColumnName = "",
    caller: _ColumnName = "",
    call_id: _ColumnName = "",
    decision: _ColumnName = "",
    status: _ColumnName = "",
    only: _Only = [],
    timezone: _TimeZone = "UTC",
    home: _Home = "",
    trunk: _TrunkNames = [],
    incoming: _Incoming = [],
    strip: _Prefix = "",
    skew: _Skew = 5,
    also: _Also = [],
    textfile: _Textfile = None,
    show: _Show = False,
    purpose: Purpose = "",
    limit: _Limit = 100,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> _Reconciled:
    """Find the calls that bypassed the gate.

    A call bypassed the gate if no decision allowed its number and caller ID. A decision that had expired, or that
    matches another call, does not count. A call with an unreadable number or time is also reported, and in Asterisk's
    files a call originated at the trunk without Dial. Exit 0: every call was allowed. 1: some were not.

    dialgate reconcile Master.csv --format asterisk --trunk trunk --incoming dialgate-recall --timezone Europe/Rome
    --textfile /var/lib/node_exporter/reconcile.prom

    dialgate reconcile trunk.csv --format csv --time start --called dst --caller cli
    """
    columns = Columns(
        time=time, called=called, caller=caller, call_id=call_id, decision=decision, status=status, only=_pairs(only)
    )  # fmt: skip
    trunks = _trunks(trunk, incoming, format_)
    with _reading(), console(stderr=True).status("reconciling"):
        _require_purpose(purpose, is_required=show)
        loaded = load_config(config)
        home = home or common_country(loaded.controllers.values())
        nodes = [node for data in (loaded.data, *also) for node in _nodes(data)]
        calls = [cdr.read(path, format_, columns, timezone, strip, trunks) for path in files]
        _check_seen(calls, trunks, format_)
        own = frozenset(number for line in loaded.lines.values() for number in line.caller_ids)
        report = matching.reconcile(calls, nodes, home=home, own=own, skew=int(skew * SECOND))
        if textfile is not None:
            _write_metrics(report, textfile)
        shown = report.findings[: None if as_json else limit]
        numbers = _look_up_numbers(config, shown, home, purpose) if show else {}
        rows = [_Row.from_call(finding, home, own, numbers) for finding in report.findings]
        return _Reconciled(report, rows, _hints(report, calls, format_), limit)


def _require_purpose(purpose: str, *, is_required: bool) -> None:
    if is_required and not purpose.strip():
        text = "--show needs a reason, for example --purpose 'audit on 24 November'."
        raise Failure("request.invalid", text, field="purpose", status=MISUSE)


def _pairs(only: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(condition.split("=", 1)) for condition in only]
    if any(len(pair) < 2 for pair in pairs):  # noqa: PLR2004 - a name and a value
        raise typer.BadParameter("write COLUMN=VALUE", param_hint="--only")
    return tuple((name, value) for name, value in pairs)


def _trunks(names: list[str], incoming: list[str], format_: Format) -> Trunks:
    if (names or incoming) and format_ != "asterisk":
        raise typer.BadParameter(
            "works only with --format asterisk. For other formats, select rows with --only COLUMN=VALUE",
            param_hint="--trunk" if names else "--incoming",
        )
    if incoming and not names:
        raise typer.BadParameter(
            "requires --trunk. Name the trunk that the calls come from", param_hint="--incoming"
        )
    return Trunks(names=tuple(names), incoming=tuple(incoming))


def _check_seen(calls: list[CallRecords], trunks: Trunks, format_: Format) -> None:
    """Raise `CdrUnreadable` if no call of an Asterisk used the trunk, because a misspelt trunk name would hide every bypass.

    Without the trunk's name, a call to a telephone is a bypass, and one originated at the trunk is none.
    """
    channels = sum((file.seen.channels for file in calls), Counter[str]())
    if format_ != "asterisk" or any(trunks.has(name) for name in channels):
        return
    problem = (
        f"no call used the trunk {', '.join(trunks.names)}; check --trunk"
        if trunks.names
        else "Name the trunk with --trunk: nothing else tells calls to the trunk from calls between telephones"
    )
    raise CdrUnreadable(f"{problem}. Channels in these files: {_render_counts(channels)}")


def _render_counts(counts: Counter[str]) -> str:
    named = [f"{blank_unseparated(name)} ({count:,})" for name, count in counts.most_common(_MOST_NAMES)]
    return ", ".join(named) or "none"


def _hints(report: ReconciliationReport, calls: list[CallRecords], format_: Format) -> list[str]:
    """Return advice about options that seem wrong or missing, with evidence from the files."""
    hints = []
    if report.offset:
        hints.append(
            f"Most of these calls differ by exactly {_span(report.offset)} from an allow. Check --timezone."
            + (" If cdr.conf has usegmtime=yes, leave --timezone out." if format_ == "asterisk" else "")
        )
    contexts = sum((file.seen.contexts for file in calls), Counter[str]())
    if contexts:
        hints.append(
            "Calls on the trunk without a Dial were in these contexts: "
            f"{_render_counts(contexts)}. If one of them receives incoming calls, name it with --incoming."
        )
    return hints


def _span(offset: Instant) -> str:
    return f"{abs(offset) / HOUR:g} h"


def _nodes(data: Path) -> list[Node]:
    path = data / "keys.json"
    if not path.is_file() or not (data / "log").is_dir():  # opening missing keys would create them
        raise Failure(
            "log.unreadable",
            f"{data} must contain the folder `log` and the file `keys.json`. Check --config and --also, or start the gate once",
        )
    return Node.all(data)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except CdrUnreadable as error:
        raise Failure("cdr.unreadable", str(error), status=MISUSE) from None
    except content_store.NotKept as fault:
        raise Failure("config.missing", str(fault)) from None
