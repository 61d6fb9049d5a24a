"""Commands about a number whose holder is in doubt."""

from typing import Annotated

import typer

from dialgate.interfaces.cli.ledger_access import note
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger.schemas import NumberConfirmation

app = typer.Typer()
number_app = typer.Typer(no_args_is_help=True, help="Numbers that were reported to be another person's.")
app.add_typer(number_app, name="number")


@number_app.callback()
def _number() -> None:
    """Keep `confirm` a command of its own: Typer merges a single command into its group."""


@number_app.command("confirm")
@options_of(NumberConfirmation, fixed={"controller": ""})
def number_confirm(
    ask: NumberConfirmation,
    *,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="The ledger entry of the report.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lift a wrong-number report: consents, contracts and call requests of the number open calls again.

    dialgate number confirm 4711 --ground confirmed --reason "read back a code sent to the number" --actor dpo"""
    note(
        config,
        lambda registrar, client: registrar.wrong_numbers.confirm_number(client, seq, ask),
        "lifted",
        as_json=as_json,
    )
