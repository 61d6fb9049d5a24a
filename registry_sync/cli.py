"""The command `registry-sync`. Exit 0: done; 1: refused, nothing changed; 2: misuse."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dialgate import settings
from dialgate.model import Instant
from dialgate.numberset import DamagedFile
from registry_sync import job
from registry_sync.checks import Refused
from registry_sync.formats.rpo import FaultyFile

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def registry_sync() -> None:
    """Takes in what an opposition registry answered and publishes it to the gate.

    A running gate takes the new publication up within seconds, without a pause."""


def _instant(text: str) -> Instant:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("not a date and time such as 2026-11-20T08:00:00+01:00") from None
    if at.tzinfo is None:
        raise typer.BadParameter("says no offset from UTC: write 2026-11-20T08:00:00+01:00, or end it in Z")
    return int(at.timestamp() * 1000)


def _controller(text: str) -> str:
    # It becomes part of a file's name, where a dot separates.
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("has other characters than letters, digits, - and _")
    return text


def _folder_of(path: Path, controller: str) -> Path:
    """Where the gate of this configuration looks for answers; an answer for a controller it does not know is lost."""
    try:
        config = settings.load(path)
    except settings.ConfigError as error:
        hint = "give the gate's configuration with --config, or a folder with --snapshots"
        raise typer.BadParameter(f"{'; '.join(error.problems)}; {hint}", param_hint="--config") from None
    if controller not in config.controllers:
        known = ", ".join(sorted(config.controllers))
        raise typer.BadParameter(f"{controller} is none of {known}", param_hint="--controller")
    return config.data / "snapshots"


def _receipt(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("is empty: the receipt is the proof that the registry was asked")
    return text.strip()


Registry = Annotated[Literal["rpo"], typer.Option(help="Which registry answered.")]
Controller = Annotated[
    str,
    typer.Option(parser=_controller, metavar="ID", help="On whose behalf it was asked. It serves no other."),
]
Request = Annotated[
    Path,
    typer.Option(
        exists=True, dir_okay=False, help="What was asked: one national number a line; .txt, or a .zip of it."
    ),
]
Answer = Annotated[
    Path,
    typer.Option(exists=True, dir_okay=False, help="What came back: NUMBER,1 (enrolled) or NUMBER,0 a line."),
]
ConsultedAt = Annotated[
    Instant,
    typer.Option(
        parser=_instant,
        metavar="TIME",
        help="When the request was submitted, with offset: 2026-11-20T08:00:00+01:00. The 15 days run from here.",
    ),
]
AnsweredAt = Annotated[
    Instant | None,
    typer.Option(parser=_instant, metavar="TIME", help="When the answer came, if it is known."),
]
Receipt = Annotated[
    str, typer.Option(parser=_receipt, metavar="TICKET", help="The registry's receipt for the consultation.")
]
Snapshots = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="The folder to publish to, instead of that of the configuration's gate."
    ),
]
ConfigPath = Annotated[
    Path,
    typer.Option(
        "--config",
        envvar="DIALGATE_CONFIG",
        dir_okay=False,
        help="The gate's configuration: where it looks for answers, and its controllers.",
    ),
]
MaxChange = Annotated[
    float,
    typer.Option(
        min=0,
        max=100,
        help="Refuse when more than this per cent of the numbers known before changed their answer.",
    ),
]
SameAnswer = Annotated[
    bool,
    typer.Option(
        "--same-answer", help="Asked again, with a new receipt, the registry gave the very same answer."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Report as one JSON object.")]


@app.command("import")
def import_(
    *,
    registry: Registry,
    controller: Controller,
    request: Request,
    answer: Answer,
    consulted_at: ConsultedAt,
    receipt: Receipt,
    answered_at: AnsweredAt = None,
    snapshots: Snapshots = None,
    config: ConfigPath = Path("config/dialgate.yaml"),
    max_change: MaxChange = 20,
    same_answer: SameAnswer = False,
    as_json: Json = False,
) -> None:
    """Import one answer of the registry: whole or not at all.

    Every number of the request must have one answer, and no other any.
    Per number the newest consultation counts, in whatever order they come.
    To import the same again changes nothing.

    Example: registry-sync import --registry rpo --controller acme
    --request asked.txt --answer answer.zip --receipt RPO-2026-000123
    --consulted-at 2026-11-20T08:00:00+01:00"""
    order = job.Order(
        registry=registry,
        controller=controller,
        request=request,
        answer=answer,
        submitted_at=consulted_at,
        answered_at=answered_at or 0,
        receipt=receipt,
        folder=snapshots or _folder_of(config, controller),
        max_change=max_change,
        same_answer=same_answer,
    )
    try:
        with _bars() as bar:
            report = job.run(order, bar)
    except (Refused, FaultyFile, DamagedFile, OSError) as error:
        _refuse(str(error), as_json=as_json)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(report, order.folder)


@contextmanager
def _bars() -> Iterator[job.Bar]:
    """Progress bars on a terminal's error stream; elsewhere nothing."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def start(what: str, size: int) -> Callable[[int], None]:
            task = progress.add_task(what, total=size)
            return lambda done: progress.advance(task, done)

        yield start


def _refuse(message: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            msgspec.json.encode({"error": {"code": "refused", "message": message, "field": ""}}).decode()
        )
    else:
        typer.echo(f"refused: {message}", err=True)


def _show(report: job.Report, folder: Path) -> None:
    table = Table(title=f"{report.registry} / {report.controller}: {report.outcome}", show_header=False)
    rows: dict[str, str | int] = {
        "receipt": report.receipt,
        "consultation": report.consultation,
        "consulted at": _local(report.consulted_at),
        "valid until": _local(report.valid_until),
        "lines": report.lines,
        "listed": report.listed,
        "clear": report.clear,
        "known before": report.known,
        "clear before, listed now": report.newly_listed,
        "listed before, clear now": report.newly_clear,
        "numbers in all": report.numbers,
        "version": report.version,
        "published to": str(folder),
    }
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else value)
    Console().print(table)


def _local(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def main() -> None:
    os.umask(0o077)  # what a registry answered is its owner's alone
    app()


if __name__ == "__main__":
    main()
