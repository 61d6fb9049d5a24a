"""`dialgate number`: wrong-number reports."""

from functools import partial
from typing import Annotated

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger_access import show_receipt
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger.schemas import NumberConfirmation, Receipt

app = typer.Typer()
number_app = typer.Typer(no_args_is_help=True)
app.add_typer(number_app, name="number")


@number_app.command("confirm")
@command(partial(show_receipt, "lifted"))
@options_of(NumberConfirmation, fixed={"controller": ""})
def number_confirm(
    confirmation: NumberConfirmation,
    *,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="`seq` of the wrong-number report.")],
    gate: GateClient,
) -> Receipt:
    """Lift a wrong-number report. Consents, contracts and call requests for the number take effect again.

    dialgate number confirm 4711 --ground confirmed --reason "read back a code sent to the number" --actor dpo
    """
    return gate.send("POST", f"/v1/wrong-numbers/{seq}/lift", Receipt, confirmation)
