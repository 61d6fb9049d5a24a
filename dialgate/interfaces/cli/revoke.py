"""`dialgate revoke`: revocations, entered individually or imported from a file."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from msgspec import Struct
from typer.core import TyperGroup

from dialgate.config.configuration import Config
from dialgate.core.local_time import rfc3339
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.files import (
    Column,
    Encoding,
    Reasons,
    Separator,
    Yes,
    hints_of,
    send_file,
    show_import,
)
from dialgate.interfaces.cli.gate_client import GateClient, GateUnreachable
from dialgate.interfaces.cli.ledger_access import (
    Actor,
    Channel,
    ControllerId,
    Proof,
    Time,
    fields_of,
    operator_name,
    request,
    show_receipt,
)
from dialgate.interfaces.cli.options import AsJson, Failure, load_config, number_given
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger import pending_stops
from dialgate.ledger.import_reports import RevocationsReport
from dialgate.ledger.pending_stops import PendingStops
from dialgate.ledger.schemas import LiftRequest, Receipt, RevocationRequest, RevocationsRequest
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.gate_address import GateAddress
from dialgate.runtime.terminal import MISUSE

_TRIES, _TRY_SECONDS = 50, 0.2


class KeptFile(Struct, frozen=True):
    """A file of revocations that waits for the next gate, and what the user is told."""

    kept: str
    note: str


class _Revoke(TyperGroup):
    """A group that treats `revoke NUMBER` as `revoke add NUMBER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["add", *args]
        return super().parse_args(ctx, args)


_COUNTS = {
    "rows": "rows",
    "revoked": "revoked",
    "revoked before": "known",
    "duplicates": "duplicates",
    "skipped": "refused",
}
app = typer.Typer()
revoke_app = typer.Typer(
    cls=_Revoke, no_args_is_help=True, help="Record and lift revocations. `add` is the default command."
)
app.add_typer(revoke_app, name="revoke")


def _show(done: tuple[str, Receipt]) -> None:
    show_receipt(*done)


@revoke_app.command("add")
@command(_show, data=lambda done: done[1])
def revoke_add(
    *,
    number: Annotated[
        str,
        typer.Argument(
            help="The data subject's number, preferably with its country code (+39…). Use - to read it from standard input.",
            show_default=False,
            callback=number_given,
        ),
    ] = "",
    controller: ControllerId = "",
    scope: Annotated[
        str,
        typer.Option(
            metavar="campaign|controller|everyone",
            help="Scope of the revocation: campaign, controller or everyone.",
        ),
    ] = "controller",
    campaign: Annotated[str, typer.Option(help="With --scope campaign: the campaign ID.")] = "",
    at: Time = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "",
    seq: Annotated[
        int | None,
        typer.Option("--lift", metavar="SEQ", min=1, help="Lift the revocation with this `seq`."),
    ] = None,
    ground: Annotated[
        Literal["error", "new_consent"] | None,
        typer.Option(help="With --lift: `error` (recorded in error) or `new_consent` (consented again)."),
    ] = None,
    reason: Annotated[str, typer.Option(help="With --lift: why the revocation is lifted.")] = "",
    consent: Annotated[str, typer.Option(help="With --ground new_consent: ID of the new consent.")] = "",
    gate: GateClient,
) -> tuple[str, Receipt]:
    """Record a revocation: the data subject wants no more calls.

    When the command has succeeded, the revocation overrides every consent in its scope. If no gate runs, the revocation is
    kept, and in force before the gate decides its next call. Options that cannot be read are
    ignored, and a time in the future means now; a note says so. `--lift SEQ` does the same as `dialgate revoke lift SEQ`.

    dialgate revoke add +390612345678 --channel letter --proof archive/2026/4711.pdf
    """
    options = locals()
    if (seq is None) == (not number):
        raise Failure("request.invalid", "give either a NUMBER or --lift SEQ", status=MISUSE)
    if seq is None:
        return "revoked", record_stop(gate, fields_of(RevocationRequest, options))
    return "lifted", _lift(gate, seq, request(LiftRequest, options))


def record_stop(gate: GateClient, stop: dict[str, Any]) -> Receipt:
    """Record a revocation. If no gate runs, keep it for the next one."""
    try:
        return gate.send("POST", "/v1/revocations", Receipt, stop)
    except GateUnreachable as unreachable:
        if gate.url:
            raise
        return _keep(gate.config, stop, str(unreachable))


def _lift(gate: GateClient, seq: int, lifting: LiftRequest) -> Receipt:
    return gate.send("POST", f"/v1/revocations/{seq}/lift", Receipt, lifting)


def _keep(path: Path, stop: dict[str, Any], why: str) -> Receipt:
    """Keep a revocation for the next gate. Raises `Failure` and `Refused` if a gate could not enter it."""
    config, at = load_config(path), rfc3339(wall_clock())
    pending_stops.refuse_unreadable(config, stop.get("controller", ""), str(stop["number"]))
    kept = pending_stops.keep(config.data, PendingStops(actor=operator_name(), stop={"at": at, **stop}))
    return Receipt(0, at, f"{why} The revocation is kept, and {in_force_since(config, kept)}.")


def in_force_since(config: Config, kept: Path) -> str:
    """Return since when a kept stop is in force. Raises `Failure` if a gate may decide calls without it.

    A gate opens its socket, then enters what was kept, then decides calls. So a gate that cannot be reached now will find the
    file, and one that can be reached has found it or soon does.
    """
    if config.settings.store is not None:
        raise Failure(
            "gate.unreachable",
            f"the stop is kept in {kept}, but other gates on this store do not know of it until the gate of this folder starts."
            " Start it, or enter the stop at a gate that runs, with --url",
        )
    for _ in range(_TRIES):
        if not kept.exists():
            return "in force now"
        if not GateAddress(config.data).answers():
            return "in force before the gate decides a call"
        time.sleep(_TRY_SECONDS)
    raise Failure(
        "gate.unreachable",
        f"the stop is kept in {kept}, and not in force yet: a gate runs, but has not entered it. /readyz says why",
    )


@revoke_app.command("lift")
@command(partial(show_receipt, "lifted"))
@options_of(LiftRequest)
def revoke_lift(
    lifting: LiftRequest,
    *,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="`seq` of the revocation.")],
    at: Annotated[str, typer.Option(hidden=True, help="Ignored.")] = "",  # noqa: ARG001
    gate: GateClient,
) -> Receipt:
    """Lift a revocation that was recorded by mistake, or that a later consent supersedes.

    dialgate revoke lift 4711 --ground error --reason "another person's letter"
    """
    return _lift(gate, seq, lifting)


def _show_import(report: RevocationsReport | KeptFile) -> None:
    if isinstance(report, KeptFile):
        typer.echo(report.note)
    else:
        show_import("Revocations", _COUNTS, report)


@revoke_app.command("import")
@command(_show_import, data=lambda report: {"kept": report.kept} if isinstance(report, KeptFile) else report)
@options_of(RevocationsRequest, channel="crm")
def revoke_import(
    import_request: RevocationsRequest,
    *,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Text, CSV or XLSX file with one number per row."),
    ],
    controller: str,
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    reasons: Reasons = None,
    gate: GateClient,
    as_json: AsJson = False,
) -> RevocationsReport | KeptFile:
    """Record the revocations in a file. The optional column `at` holds the time of each revocation.

    Every row with a number is revoked, whatever else is wrong with it. Rows without a number are skipped and reported. A time in
    the future means now. Revocations are written in batches, and each batch takes effect immediately. If the import is
    interrupted, run it again: no revocation is recorded twice.

    dialgate revoke import stops.csv --channel crm --proof exports/2026-11-24.csv --reasons bad.csv
    """
    options = locals()
    try:
        return send_file(
            gate, "/v1/revocations/import", RevocationsReport, import_request, options, lenient=True
        )
    except GateUnreachable as unreachable:
        if gate.url:
            raise
        return _keep_file(gate.config, import_request, options, str(unreachable))


def _keep_file(path: Path, import_request: RevocationsRequest, options: dict[str, Any], why: str) -> KeptFile:
    """Keep a file of revocations for the next gate. Raises `Refused` if a gate could not enter it."""
    config, rows, hints = load_config(path), options["file"].read_bytes(), hints_of(options)
    pending_stops.refuse_unreadable_file(config, import_request.controller, rows, hints)
    stops = PendingStops(actor=operator_name(), request=import_request, hints=hints, rows=rows)
    kept = pending_stops.keep(config.data, stops)
    return KeptFile(str(kept), f"{why} The file is kept, and {in_force_since(config, kept)}.")
