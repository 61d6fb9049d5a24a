"""`registry-sync import`: import one answer of a registry by hand."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from dialgate.config.configuration import ConfigError
from dialgate.core.model import Instant
from dialgate.crypto.publisher_signature import Signer
from dialgate.runtime.terminal import bars, show_fields, show_json, utc
from registry_sync import nightly_job
from registry_sync.cli_options import AsJson, Snapshots, reporting
from registry_sync.config import gate_of
from registry_sync.manual_import import Order, Report
from registry_sync.publication import Press

app = typer.Typer()


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
        config = gate_of(path)
    except ConfigError as error:
        hint = "give dialgate.yaml or registries.yaml with --config, or a folder with --snapshots"
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
ConfigPath = Annotated[
    Path,
    typer.Option(
        "--config",
        envvar="DIALGATE_CONFIG",
        dir_okay=False,
        help="dialgate.yaml, or the registries.yaml that names it: where the gate looks for answers, and its controllers.",
    ),
]
MaxChange = Annotated[
    float,
    typer.Option(
        min=0,
        max=100,
        help="Hold it for release by two people when more than this per cent of the numbers known before"
        " changed their answer.",
    ),
]
SameAnswer = Annotated[
    bool,
    typer.Option(
        "--same-answer",
        help="Asked again, or for another controller, with a new receipt, the registry gave the very same answer.",
    ),
]
Expired = Annotated[
    bool,
    typer.Option(
        "--expired", help="Take it though no call may rest on it any more: for those whom it lists."
    ),
]
Correct = Annotated[
    bool, typer.Option("--correct", help="It was imported under a wrong date; this is the right one.")
]
SigningKey = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Sign the publication with this Ed25519 key (PEM)."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it would change, and publish nothing.")]


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
    expired: Expired = False,
    correct: Correct = False,
    signing_key: SigningKey = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import one answer of the registry: whole or not at all.

    Every number of the request must have one answer, and no other any.
    Per number the newest consultation counts, in whatever order they come.
    To import the same again changes nothing.

    Example: registry-sync import --registry rpo --controller acme
    --request asked.txt --answer answer.zip --receipt RPO-2026-000123
    --consulted-at 2026-11-20T08:00:00+01:00"""
    with reporting(as_json=as_json):
        press = Press(
            folder=snapshots or _folder_of(config, controller),
            sign=Signer.open(signing_key).sign if signing_key else None,
        )
    order = Order(
        registry=registry,
        controller=controller,
        request=request,
        answer=answer,
        submitted_at=consulted_at,
        answered_at=answered_at or 0,
        receipt=receipt,
        press=press,
        max_change=max_change,
        same_answer=same_answer,
        expired=expired,
        correct=correct,
        dry=dry_run,
    )
    with reporting(as_json=as_json), bars() as bar:
        report = nightly_job.import_answer(order, bar)
    if as_json:
        show_json(report)
    else:
        _show(report, press.folder)


def _show(report: Report, folder: Path) -> None:
    show_fields(
        f"{report.registry} / {report.controller}: {report.outcome}",
        {
            "receipt": report.receipt,
            "consultation": report.consultation,
            "consulted at": utc(report.consulted_at),
            "valid until": utc(report.valid_until),
            "lines": report.lines,
            "listed": report.listed,
            "clear": report.clear,
            "known before": report.known,
            "clear before, listed now": report.newly_listed,
            "listed before, clear now": report.newly_clear,
            "numbers in all": report.numbers,
            "version": report.version,
            "published to": str(folder),
        },
    )
