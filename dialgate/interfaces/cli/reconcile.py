"""`dialgate reconcile`: the calls that left against those that were allowed. It reads the data folder, beside a running gate
or without one."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from dialgate.audit.reconciliation import cdr, matching
from dialgate.audit.reconciliation.cdr import Calls, CdrUnreadable, Columns, Format
from dialgate.audit.reconciliation.cdr_asterisk import Trunks, masked
from dialgate.audit.reconciliation.matching import KINDS, Finding, Node, Report
from dialgate.config import content_store
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.faults import Unavailable
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.interfaces.cli.subjects import act
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, NO, console, show_json, show_table, utc

_MOST_NAMES = 12

app = typer.Typer()
_ColumnName = Annotated[
    str, typer.Option(metavar="COLUMN", help="Name of a column, if it is not the format's.")
]

_Only: TypeAlias = Annotated[
    list[str],
    typer.Option(metavar="COLUMN=VALUE", help="Only rows that have this value there. May be repeated."),
]
_Also: TypeAlias = Annotated[
    list[Path],
    typer.Option(exists=True, file_okay=False, help="Data folder of another gate of the same trunk."),
]
_Textfile: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="For the node exporter, as /var/lib/node_exporter/reconcile.prom."),
]
_TrunkNames: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--trunk",
        metavar="NAME",
        help="Asterisk: the endpoint of a trunk, as trunk or PJSIP/trunk. Only its channels count. May be repeated.",
    ),
]
_Incoming: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="CONTEXT",
        help="Asterisk: a context in which calls from the trunk end, as dialgate-recall or ivr/s. May be repeated.",
    ),
]
_Files: TypeAlias = Annotated[
    list[Path], typer.Argument(exists=True, dir_okay=False, help="Call detail records of the trunk.")
]


@app.command("reconcile")
def reconcile_files(
    files: _Files,
    *,
    format_: Annotated[Format, typer.Option("--format", help="What wrote them.")],
    time: _ColumnName = "",
    called: _ColumnName = "",
    caller: _ColumnName = "",
    call_id: _ColumnName = "",
    decision: _ColumnName = "",
    status: _ColumnName = "",
    only: _Only = [],
    timezone: Annotated[str, typer.Option(help="Of times without an offset, as Europe/Rome.")] = "UTC",
    home: Annotated[str, typer.Option(help="Country of numbers without a country code, as IT.")] = "",
    trunk: _TrunkNames = [],
    incoming: _Incoming = [],
    strip: Annotated[str, typer.Option(help="A prefix that the trunk has before each called number.")] = "",
    skew: Annotated[float, typer.Option(min=0, max=3600, help="Seconds by which the clocks may differ.")] = 5,
    also: _Also = [],
    textfile: _Textfile = None,
    show: Annotated[bool, typer.Option("--show", help="With the called numbers. Needs --purpose.")] = False,
    purpose: Annotated[str, typer.Option(help="Why you look; it is recorded, and the person may ask.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many. All with --json.")] = 100,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Find every call that passed by the gate: that left without a decision, with another number or caller ID than was
    decided, after its allow had ended, or as the second on one allow. With --trunk also calls that were originated at the
    trunk, past the dialplan.

    Exit 0: every call had its allow. 1: some had none.

    dialgate reconcile Master.csv --format asterisk --trunk trunk --incoming dialgate-recall --timezone Europe/Rome --textfile /var/lib/node_exporter/reconcile.prom

    dialgate reconcile trunk.csv --format csv --time start --called dst --caller cli"""
    columns = Columns(
        time=time, called=called, caller=caller, call_id=call_id, decision=decision, status=status, only=_pairs(only)
    )  # fmt: skip
    trunks = _trunks(trunk, incoming, format_)
    with reporting(as_json=as_json), _reading(), console(stderr=True).status("reconciling"):
        if show and not purpose.strip():
            raise Failure(
                "request.invalid", "Say with --purpose why you look.", field="purpose", status=MISUSE
            )
        loaded = load_config(config)
        home = home or _home(loaded)
        nodes = [node for data in (loaded.data, *also) for node in _nodes(data)]
        calls = [cdr.read(path, format_, columns, timezone, strip, trunks) for path in files]
        _check_seen(calls, trunks)
        own = frozenset(number for line in loaded.lines.values() for number in line.caller_ids)
        report = matching.reconcile(calls, nodes, home=home, own=own, skew=int(skew * SECOND))
        if textfile is not None:
            _tell(report, textfile)
        numbers = _noted(config, report.findings[: None if as_json else limit], home, purpose) if show else {}
        found = [_Told.of(each, home, own, numbers) for each in report.findings]
        hints = _hints(report, calls, trunks, format_)
    if as_json:
        show_json(_as_builtins(report, found, hints))
    else:
        _show(report, found, hints, limit)
    raise typer.Exit(NO if report.findings else 0)


def _pairs(only: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(each.split("=", 1)) for each in only]
    if any(len(pair) < 2 for pair in pairs):  # noqa: PLR2004 - a name and a value
        raise typer.BadParameter("write it as COLUMN=VALUE", param_hint="--only")
    return tuple((name, value) for name, value in pairs)


def _trunks(names: list[str], incoming: list[str], format_: Format) -> Trunks:
    if (names or incoming) and format_ != "asterisk":
        raise typer.BadParameter("only for --format asterisk; use --only COLUMN=VALUE", param_hint="--trunk")
    if incoming and not names:
        raise typer.BadParameter("name the trunk with --trunk too", param_hint="--incoming")
    return Trunks(names=tuple(names), incoming=tuple(incoming))


def _check_seen(calls: list[Calls], trunks: Trunks) -> None:
    """A misspelt trunk must not look like a day without a by-pass. Raises `CdrUnreadable`."""
    channels = _channels(calls)
    if trunks.names and not any(trunks.has(name) for name in channels):
        raise CdrUnreadable(
            f"no call used the trunk {', '.join(trunks.names)}; check --trunk. Channels in these files: {_listed(channels)}"
        )


def _channels(calls: list[Calls]) -> Counter[str]:
    return sum((each.seen.channels for each in calls), Counter[str]())


def _listed(counts: Counter[str]) -> str:
    """The most frequent names."""
    named = [f"{masked(name)} ({count:,})" for name, count in counts.most_common(_MOST_NAMES)]
    return ", ".join(named) or "none"


def _hints(report: Report, calls: list[Calls], trunks: Trunks, format_: Format) -> list[str]:
    """List options that are wrong or missing, with what the files show."""
    hints = []
    if report.offset:
        hints.append(
            f"Most of these calls are off by exactly {_span(report.offset)} from an allow. Check --timezone."
            + (
                " Does cdr.conf say usegmtime=yes? Then leave --timezone out."
                if format_ == "asterisk"
                else ""
            )
        )
    if format_ == "asterisk" and not trunks.names:
        hints.append(
            "Without --trunk every Dial counts, also one to an extension, and calls that were originated at the trunk are "
            f"missed. Channels in these files: {_listed(_channels(calls))}"
        )
    contexts = sum((each.seen.contexts for each in calls), Counter[str]())
    if contexts:
        hints.append(
            "Calls at the trunk without a Dial were in these contexts: "
            f"{_listed(contexts)}. If one holds incoming calls, name it with --incoming."
        )
    return hints


def _span(offset: Instant) -> str:
    return f"{abs(offset) / HOUR:g} h"


def _home(config: Config) -> str:
    homes = {each.country for each in config.controllers.values()}
    return homes.pop() if len(homes) == 1 else ""


def _nodes(data: Path) -> list[Node]:
    path = data / "keys.json"
    if not path.is_file() or not (data / "log").is_dir():  # to open the keys would make some
        raise Failure("log.unreadable", f"{data} holds no log with its keys; has a gate ever run here?")
    return Node.all(data)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except CdrUnreadable as error:
        raise Failure("cdr.unreadable", str(error), status=MISUSE) from None
    except Unavailable as fault:
        raise Failure(f"{fault.component}.unavailable", str(fault)) from None
    except content_store.NotKept as fault:
        raise Failure("config.missing", str(fault)) from None
    except OSError as error:
        raise Failure("file.unusable", f"{error.filename}: {error.strerror}") from None


# ---- telling ---------------------------------------------------------------------------------------------------------


def _tell(report: Report, textfile: Path) -> None:
    """For the node exporter, whole at once: every kind, so that one which is over goes back to 0."""
    registry = CollectorRegistry()
    Gauge("reconcile_run_timestamp_seconds", "When calls were last reconciled.", registry=registry).set(
        wall_clock() / SECOND
    )
    calls = Gauge(
        "dialgate_reconcile_calls",
        "Calls that left, by whether they had their allow.",
        ["allowed"],
        registry=registry,
    )
    calls.labels("yes").set(report.matched)
    calls.labels("no").set(len(report.findings))
    findings = Gauge(
        "dialgate_reconcile_findings",
        "Calls that passed by the gate. Alarm on any.",
        ["kind"],
        registry=registry,
    )
    for kind, count in report.counts.items():
        findings.labels(kind).set(count)
    textfile.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(textfile), registry)
    textfile.chmod(0o644)  # the exporter runs as somebody else; there is no number in it


def _noted(config: Path, findings: list[Finding], home: str, purpose: str) -> dict[tuple[str, int], str]:
    """The numbers, once it is on the disk that they were looked at. What is no number stays unsaid."""
    numbers: dict[tuple[str, int], str] = {}
    for each in findings:
        try:
            numbers[each.file, each.line] = phone.parse(each.number, home).e164
        except phone.NotANumber:
            continue

    async def note(subjects: Any, client: Any) -> None:
        for number in dict.fromkeys(numbers.values()):
            await subjects.record_lookup(client, "", number, "reconciliation", purpose)

    act(config, note)
    return numbers


class _Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finding as it is shown. `caller_id`: one of the controllers' own, or `other`: it may be anybody's number. The last
    two only to who gave a purpose."""

    kind: str
    file: str
    line: int
    at: str
    caller_id: str
    decision: str
    number: str = ""
    call_id: str = ""

    @classmethod
    def of(
        cls, found: Finding, home: str, own: frozenset[str], numbers: dict[tuple[str, int], str]
    ) -> "_Told":
        shown = phone.parse_caller_id(found.caller_id, home).number
        number = numbers.get((found.file, found.line), "")
        return cls(
            kind=found.kind, file=found.file, line=found.line, at=utc(found.at),
            caller_id=shown if shown in own else "other", decision=found.decision, number=number,
            call_id=found.call_id if number else "",
        )  # fmt: skip


def _as_builtins(report: Report, found: list[_Told], hints: list[str]) -> dict[str, object]:
    return {
        "ok": not found,
        "calls": report.calls,
        "allowed": report.matched,
        "legs": report.legs,
        "own": report.own,
        "decisions": report.decisions,
        "counts": report.counts,
        "findings": found,
        "hints": hints,
    }


def _show(report: Report, found: list[_Told], hints: list[str], limit: int) -> None:
    typer.echo(
        f"{report.calls:,} calls, {report.matched:,} allowed, {len(found):,} that passed by the gate"
        f" ({report.legs:,} rows were further legs of a call, {report.own:,} calls to your own numbers)"
    )
    for hint in hints:
        typer.echo(f"Hint: {hint}")
    if not found:
        return
    counts = [(kind, f"{count:,}", KINDS[kind]) for kind, count in report.counts.items() if count]
    show_table("By kind", ("kind", "calls", ""), counts)
    rows = [
        (f"{each.file}:{each.line}", each.at, each.kind, each.caller_id, each.decision, each.number)
        for each in found[:limit]
    ]
    show_table("Which", ("row", "at (UTC)", "kind", "caller ID", "decision", "number"), rows)
    if len(found) > limit:
        typer.echo(f"and {len(found) - limit:,} more: raise --limit, or use --json")
