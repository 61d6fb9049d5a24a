"""`dialgate clock`: confirmation that the clock is correct after a jump."""

from typing import Annotated

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger_access import Actor
from dialgate.interfaces.http.administration_schemas import ClockConfirmation, ConfirmedClock

app = typer.Typer()
clock_app = typer.Typer(no_args_is_help=True, help="Confirm that a gate's clock is correct after a jump.")
app.add_typer(clock_app, name="clock")


def _show(confirmed: ConfirmedClock) -> None:
    typer.echo(f"Confirmed: the clock jumped from {confirmed.since} to {confirmed.at}. Retention continues.")


@clock_app.command("confirm")
@command(_show)
def clock_confirm(
    *,
    by: Actor,
    reason: Annotated[str, typer.Option(help="Why the clock jumped, such as 'the gate was off for a week'.")],
    gate: GateClient,
) -> ConfirmedClock:
    """Confirm that the system clock is correct after a jump of more than a day, so that retention continues.

    If the gate was off for more than a day, the next start also counts as a jump. If the clock was fast and has been
    corrected, confirm the jump and restart the gate. The confirmation is recorded in `clock.ndjson` in the data folder.

    dialgate clock confirm --by anna --reason 'the gate was off for a week'
    """
    return gate.ask("POST", "/v1/clock/confirm", ConfirmedClock, ClockConfirmation(by, reason))
