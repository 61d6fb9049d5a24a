"""The `registry-sync import` command, which imports one answer from a registry."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from dialgate.config.configuration import ConfigError
from dialgate.core.model import DAY, Instant
from dialgate.crypto.publisher_signature import SnapshotSigner
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import bars, show_fields, show_json, utc
from registry_sync import disconnection, manual_import
from registry_sync.cli_options import AsJson, Snapshots, load, reporting
from registry_sync.config import find_registries, load_gate
from registry_sync.formats.layout import LAYOUTS
from registry_sync.formats.table import TableFormat
from registry_sync.manual_import import AnswerImport, ImportReport
from registry_sync.publication import PublishTarget

app = typer.Typer()
_VALIDITY_RPO = 15 * DAY  # DPR 26/2022 art. 8 c. 2, for calls; the gate's own limit is in its configuration


def _instant(text: str) -> Instant:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("not a date and time such as 2026-11-20T08:00:00+01:00") from None
    if at.tzinfo is None:
        raise typer.BadParameter("has no UTC offset; write 2026-11-20T08:00:00+01:00, or append Z for UTC")
    return int(at.timestamp() * 1000)


def _controller(text: str) -> str:
    # Without dots, because a dot separates the parts of a file name.
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("may contain only letters, digits, - and _")
    return text


def _folder_of(path: Path, controller: str) -> Path:
    """Return the configured gate's snapshot folder.

    Raises BadParameter if the configuration is not usable or does not contain the controller.
    """
    try:
        config = load_gate(path)
    except ConfigError as error:
        hint = "specify dialgate.yaml or registries.yaml with --config, or a folder with --snapshots"
        raise typer.BadParameter(f"{'; '.join(error.problems)}; {hint}", param_hint="--config") from None
    if controller not in config.controllers:
        known = ", ".join(sorted(config.controllers))
        raise typer.BadParameter(
            f"unknown controller {controller}; known: {known}", param_hint="--controller"
        )
    return config.data / "snapshots"


def _receipt(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter(
            "must not be empty. Give the registry's receipt; it proves that the registry was consulted"
        )
    return text.strip()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("enter a date, for example 2026-11-20") from None


def _answer_terms(
    path: Path, registry: str, controller: str, since: date | None
) -> tuple[TableFormat, Instant, Instant]:
    """Return the registry's file format, the validity of its answers, and the start of the period that answers cover.

    The start is computed from the day `since`. It is 0 if the registry is not asked about disconnections.
    Raises BadParameter.
    """
    if registry == "rpo":
        _require_day(since, is_asked=False)
        return TableFormat(LAYOUTS["rpo"]), _VALIDITY_RPO, 0
    path = find_registries(path)
    plan = load(path, "--config")
    for asked in plan.registries.asked:
        if (asked.registry, asked.controller) == (registry, controller):
            _require_day(since, is_asked=registry in plan.about_disconnection)
            asked_since = disconnection.since_day(since) if since else 0
            return TableFormat(asked.used_layout), plan.validity[registry], asked_since
    raise typer.BadParameter(
        f"{path.name} has no entry for registry {registry} and controller {controller} under `asked`; add one with its"
        " file format",
        param_hint="--registry",
    )


def _require_day(since: date | None, *, is_asked: bool) -> None:
    """Raise BadParameter if a required day is missing, or if a day is given for a registry that needs none."""
    if is_asked != (since is not None):
        wanted = "is required for this registry" if since is None else "is not for this registry"
        raise typer.BadParameter(wanted, param_hint="--since")


Registry = Annotated[
    str,
    typer.Option(
        metavar="ID", help="Registry that answered: rpo, or another entry under `asked` in registries.yaml."
    ),
]
Controller = Annotated[
    str,
    typer.Option(
        parser=_controller,
        metavar="ID",
        help="Controller that consulted the registry. The answer is valid only for this controller.",
    ),
]
Request = Annotated[
    Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="The submitted request file. For rpo: a .txt with one national number on each line, or a .zip that contains it.",
    ),
]
Answer = Annotated[
    Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Answer file from the registry. For rpo: NUMBER,1 (enrolled) or NUMBER,0 (not enrolled) on each line.",
    ),
]
ConsultedAt = Annotated[
    Instant,
    typer.Option(
        parser=_instant,
        metavar="TIME",
        help="Time of submission with UTC offset: 2026-11-20T08:00:00+01:00. The answer is valid from this time.",
    ),
]
AnsweredAt = Annotated[
    Instant | None,
    typer.Option(parser=_instant, metavar="TIME", help="Time at which the answer arrived, if known."),
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
        help="Path of dialgate.yaml or registries.yaml. The file gives the snapshot folder, the controllers, and the file formats of registries other than rpo.",
    ),
]
MaxChange = Annotated[
    float,
    typer.Option(
        min=0,
        max=100,
        help="Two people must release the import if it changes more than this percentage of the earlier answers.",
    ),
]
SameAnswer = Annotated[
    bool,
    typer.Option(
        "--same-answer",
        help="Confirm that this query has its own receipt, even though its answer is identical to an earlier one.",
    ),
]
Expired = Annotated[
    bool,
    typer.Option(
        "--expired",
        help="Import the answer even if it has expired. An expired answer blocks the numbers that it lists, but permits no calls.",
    ),
]
Correct = Annotated[
    bool,
    typer.Option("--correct", help="Correct the date of an answer that was imported with the wrong date."),
]
Since = Annotated[
    date | None,
    typer.Option(
        parser=_day,
        metavar="DATE",
        help="Day named in the query. The answer covers disconnections since this day. Required for registries that report disconnections, not allowed for others.",
    ),
]
SigningKey = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Sign the publication with this Ed25519 key (PEM)."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the changes without publishing them.")]


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
    since: Since = None,
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
    """Import one answer from a registry, in full or not at all.

    The answer must contain exactly the numbers in the request, with one status for each. If the file format has no
    statuses, requested numbers that are missing from the answer are treated as listed. If a number has several answers,
    the newest consultation decides, regardless of the import order. Importing the same answer again changes nothing.

    Example: registry-sync import --registry rpo --controller acme
    --request asked.txt --answer answer.zip --receipt RPO-2026-000123
    --consulted-at 2026-11-20T08:00:00+01:00
    """
    with reporting(as_json=as_json):
        target = PublishTarget(
            folder=snapshots or _folder_of(config, controller),
            sign=SnapshotSigner.open(signing_key).sign if signing_key else None,
        )
        format_, validity, asked_since = _answer_terms(config, registry, controller, since)
    order = AnswerImport(
        registry=registry,
        controller=controller,
        request=request,
        answer=answer,
        submitted_at=consulted_at,
        answered_at=answered_at or 0,
        receipt=receipt,
        target=target,
        max_change=max_change,
        format=format_,
        validity=validity,
        since=asked_since,
        same_answer=same_answer,
        expired=expired,
        correct=correct,
        dry=dry_run,
    )
    with reporting(as_json=as_json), bars() as progress:
        report = manual_import.run(order, progress, wall_clock())
    if as_json:
        show_json(report)
    else:
        _show(report, target.folder)


_SHOWN = {
    "receipt": "receipt", "consultation": "consultation", "consulted_at": "consulted at", "valid_until": "valid until",
    "lines": "lines", "listed": "listed", "clear": "clear", "known": "known before",
    "newly_listed": "clear before, listed now", "newly_clear": "listed before, clear now", "numbers": "total numbers",
    "version": "version",
}  # fmt: skip


def _show(report: ImportReport, folder: Path) -> None:
    instants = {name: utc(report[name]) for name in ("consulted_at", "valid_until")}
    fields = {shown: (report | instants)[name] for name, shown in _SHOWN.items()}
    title = f"{report['registry']} / {report['controller']}: {report['outcome']}"
    show_fields(title, fields | {"published to": str(folder)})
