"""Commands that record that people want no more calls: one by hand, or as many as a file holds."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from dialgate.interfaces.cli.files import Column, Encoding, Reasons, Separator, Yes, taken
from dialgate.interfaces.cli.ledger_access import Actor, Channel, ControllerId, Proof, Time, note, request
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    number_given,
    reporting,
)
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger.schemas import LiftRequest, RevocationRequest, RevocationsReport, RevocationsRequest
from dialgate.runtime.terminal import MISUSE, show_fields, show_json


class _Revoke(TyperGroup):
    """`revoke NUMBER` is `revoke add NUMBER`: what is said in a hurry is short."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["add", *args]
        return super().parse_args(ctx, args)


app = typer.Typer()
revoke_app = typer.Typer(
    cls=_Revoke, no_args_is_help=True, help="Stops: people who told you not to call. `add` may be left out."
)
app.add_typer(revoke_app, name="revoke")


@revoke_app.command("add")
def revoke_add(
    *,
    number: Annotated[
        str,
        typer.Argument(
            help="Whose wish it is, best as +39…; - reads it from standard input.",
            show_default=False,
            callback=number_given,
        ),
    ] = "",
    controller: ControllerId = "",
    scope: Annotated[
        Literal["campaign", "controller", "everyone"], typer.Option(help="Whom it binds.")
    ] = "controller",
    campaign: Annotated[str, typer.Option(help="With --scope campaign: which one.")] = "",
    at: Time = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    seq: Annotated[
        int | None,
        typer.Option("--lift", metavar="SEQ", min=1, help="Lift the revocation of this entry."),
    ] = None,
    ground: Annotated[
        Literal["error", "new_consent"] | None,
        typer.Option(help="With --lift: entered by mistake, or the person consented again."),
    ] = None,
    reason: Annotated[str, typer.Option(help="With --lift: what happened.")] = "",
    consent: Annotated[str, typer.Option(help="With --ground new_consent: its id.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record that a person told you to stop calling. It beats every consent, from the moment it is acknowledged.

    dialgate revoke add +390612345678 --channel letter --proof archive/2026/4711.pdf

    `--lift SEQ` does the same as `dialgate revoke lift SEQ`."""
    options = locals()
    with reporting(as_json=as_json):
        if (seq is None) == (not number):
            raise Failure("request.invalid", "give a NUMBER to revoke, or --lift SEQ", status=MISUSE)
        if seq is None:
            ask = request(RevocationRequest, options)
            note(
                config,
                lambda registrar, client: registrar.revocations.revoke(client, ask),
                "revoked",
                as_json=as_json,
            )
        else:
            _lift(request(LiftRequest, options), seq, config, as_json=as_json)


@revoke_app.command("lift")
@options_of(LiftRequest)
def revoke_lift(
    ask: LiftRequest,
    *,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="The ledger entry of the revocation.")],
    at: Annotated[str, typer.Option(hidden=True, help="Accepted and ignored, as before.")] = "",  # noqa: ARG001
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lift a revocation that was entered by mistake, or after which the person consented again.

    dialgate revoke lift 4711 --ground error --reason "another person's letter" """
    _lift(ask, seq, config, as_json=as_json)


def _lift(ask: LiftRequest, seq: int, config: Path, *, as_json: bool) -> None:
    note(
        config,
        lambda registrar, client: registrar.revocations.lift(client, seq, ask),
        "lifted",
        as_json=as_json,
    )


@revoke_app.command("import")
@options_of(RevocationsRequest, channel="crm")
def revoke_import(
    ask: RevocationsRequest,
    *,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Text, CSV or XLSX, a number a row.")
    ],
    controller: str,
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    reasons: Reasons = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record every stop of a file; a column `at` may say when each was said.

    The file is read to its end before anything is written, and refused whole if a row cannot be read, unless --skip-bad.
    Each part binds as it is written. Broken off, it is imported again: nobody is revoked twice.

    dialgate revoke import stops.csv --channel crm --proof exports/2026-11-24.csv --reasons bad.csv"""
    report = taken(
        locals(), lambda registrar, client, *read: registrar.revocations.revoke_all(client, ask, *read)
    )
    if as_json:
        show_json(report)
    else:
        _show(report)


def _show(report: RevocationsReport) -> None:
    counts = {
        "rows": report.rows,
        "revoked": report.revoked,
        "revoked before": report.known,
        "duplicates": report.duplicates,
        "left out": report.refused,
    }
    fields = {name: f"{count:,}" for name, count in counts.items()} | {"binds after": report.at}
    show_fields("Revocations", fields)
