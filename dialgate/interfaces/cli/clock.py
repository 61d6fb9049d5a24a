"""`dialgate clock`: confirmation that the clock is correct after a jump."""

from typing import Annotated

import typer

from dialgate.core.responses import when
from dialgate.interfaces.cli.ledger_access import Actor
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.instants import KeptInstants
from dialgate.runtime.terminal import show_json

app = typer.Typer()
clock_app = typer.Typer(no_args_is_help=True, help="Confirm that a gate's clock is correct after a jump.")
app.add_typer(clock_app, name="clock")


@clock_app.command("confirm")
def clock_confirm(
    *,
    by: Actor,
    reason: Annotated[str, typer.Option(help="Why the clock jumped, such as 'the gate was off for a week'.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Confirm that the system clock is correct after a jump of more than a day, so that retention continues.

    If the gate was off for more than a day, the next start also counts as a jump. If the clock was fast and has been
    corrected, confirm the jump and restart the gate. The confirmation is recorded in `clock.ndjson` in the data folder.

    dialgate clock confirm --by anna --reason 'the gate was off for a week'
    """
    with reporting(as_json=as_json):
        if not by.strip() or not reason.strip():
            raise Failure(
                "request.invalid", "--by and --reason must not be empty. Enter your name and the reason"
            )
        try:
            confirmed = KeptInstants(load_config(config).data).confirm(wall_clock(), by, reason)
        except OSError as error:
            raise Failure("clock.unwritable", f"{error.filename}: {error.strerror}") from None
    if as_json:
        show_json({"since": when(confirmed.since), "at": when(confirmed.at)})
    else:
        typer.echo(
            f"Confirmed: the clock jumped from {when(confirmed.since)} to {when(confirmed.at)}. Retention continues."
        )
