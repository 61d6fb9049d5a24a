"""Commands that record that people want no more calls: one by hand, or as many as a file holds."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

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
from dialgate.ledger.schemas import LiftRequest, RevocationRequest, RevocationsReport, RevocationsRequest
from dialgate.runtime.terminal import MISUSE, show_fields, show_json

RevocationScope: TypeAlias = Annotated[
    Literal["campaign", "controller", "everyone"], typer.Option(help="Whom it binds.")
]
Lift: TypeAlias = Annotated[
    int | None, typer.Option("--lift", metavar="SEQ", min=1, help="Lift the revocation of this entry.")
]
Ground: TypeAlias = Annotated[
    Literal["error", "new_consent"] | None,
    typer.Option(help="With --lift: entered by mistake, or the person consented again."),
]


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
    scope: RevocationScope = "controller",
    campaign: Annotated[str, typer.Option(help="With --scope campaign: which one.")] = "",
    at: Time = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    seq: Lift = None,
    ground: Ground = None,
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
            _lift(seq, options, config, as_json=as_json)


@revoke_app.command("lift")
def revoke_lift(
    *,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="The ledger entry of the revocation.")],
    ground: Annotated[
        Literal["error", "new_consent"],
        typer.Option(help="Entered by mistake, or the person consented again."),
    ],
    reason: Annotated[str, typer.Option(help="What happened.")],
    consent: Annotated[str, typer.Option(help="With --ground new_consent: its id.")] = "",
    controller: ControllerId = "",
    at: Time = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lift a revocation that was entered by mistake, or after which the person consented again.

    dialgate revoke lift 4711 --ground error --reason "another person's letter" """
    options = locals()
    with reporting(as_json=as_json):
        _lift(seq, options, config, as_json=as_json)


def _lift(seq: int, options: dict[str, Any], config: Path, *, as_json: bool) -> None:
    ask = request(LiftRequest, options)
    note(
        config,
        lambda registrar, client: registrar.revocations.lift(client, seq, ask),
        "lifted",
        as_json=as_json,
    )


@revoke_app.command("import")
def revoke_import(
    *,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Text, CSV or XLSX, a number a row.")
    ],
    scope: RevocationScope = "controller",
    campaign: Annotated[str, typer.Option(help="With --scope campaign: which one.")] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be read.")] = False,
    controller: ControllerId = "",
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    reasons: Reasons = None,
    channel: Channel = "crm",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record every stop of a file; a column `at` may say when each was said.

    The file is read to its end before anything is written, and refused whole if a row cannot be read, unless --skip-bad.
    Each part binds as it is written. Broken off, it is imported again: nobody is revoked twice.

    dialgate revoke import stops.csv --channel crm --proof exports/2026-11-24.csv --reasons bad.csv"""
    options = locals()
    with reporting(as_json=as_json):
        ask = request(RevocationsRequest, options)
        report = taken(
            options, lambda registrar, client, *read: registrar.revocations.revoke_all(client, ask, *read)
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
