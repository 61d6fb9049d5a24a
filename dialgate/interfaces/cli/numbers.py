"""`dialgate number`: wrong-number reports."""

from typing import Annotated

import typer

from dialgate.interfaces.cli.gate_client import GateClient, asks_gate
from dialgate.interfaces.cli.ledger_access import record
from dialgate.interfaces.cli.options import AsJson
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger.schemas import NumberConfirmation

app = typer.Typer()
number_app = typer.Typer(no_args_is_help=True)
app.add_typer(number_app, name="number")


@number_app.command("confirm")
@options_of(NumberConfirmation, fixed={"controller": ""})
@asks_gate
def number_confirm(
    confirmation: NumberConfirmation,
    *,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="`seq` of the wrong-number report.")],
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Lift a wrong-number report. Consents, contracts and call requests for the number take effect again.

    dialgate number confirm 4711 --ground confirmed --reason "read back a code sent to the number" --actor dpo
    """
    record(gate, f"/v1/wrong-numbers/{seq}/lift", confirmation, "lifted", as_json=as_json)
