"""`dialgate scrub`: a verdict for every number in a file."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.files import (
    Column,
    Encoding,
    Separator,
    Yes,
    confirm_for,
    hints_of,
    media_of,
    query_of,
    receive_copy,
)
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger_access import Actor, Proof, Time, request, show_note
from dialgate.interfaces.cli.options import AsJson
from dialgate.interfaces.http.headers import SCRUBBED
from dialgate.ledger.export_requests import ScrubRequest
from dialgate.ledger.list_exports import Scrubbed
from dialgate.runtime.terminal import sending, show_fields

app = typer.Typer()


def _show(copy: tuple[Path, Scrubbed]) -> None:
    out, scrubbed = copy
    verdicts = {name: getattr(scrubbed, name) for name in ("rows", "allow", "later", "deny")}
    entry = {"ledger entry": str(scrubbed.seq), "sha256": scrubbed.sha256}
    show_fields(f"{out}, at {scrubbed.at}", verdicts | scrubbed.codes | entry)
    show_note(scrubbed.note)


@app.command()
@command(_show, data=lambda done: done[1])
def scrub(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="IN", exists=True, dir_okay=False, help="Text, CSV or XLSX file with one number per row."
        ),
    ],
    campaign: Annotated[str, typer.Option(help="The campaign that would call the numbers.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", dir_okay=False, help="CSV file to write, or XLSX if its name ends with .xlsx."
        ),
    ],
    at: Time = "",
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    proof: Proof = "",
    actor: Actor = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> tuple[Path, Scrubbed]:
    """Write a copy of a list with a verdict on every row: allow, later or deny, with code, valid_until and not_before.

    Check again before each call, even if the verdict is allow, because the data subject can opt out at any time. If
    nothing else changes, a call with the verdict allow is lawful until valid_until. The export is recorded in the
    ledger, with --actor and --proof, before the output file is created. For Excel, write XLSX: it has the numbers in E.164, as
    text, and a sentence for each code.

    dialgate scrub november.csv --campaign acme-fibre -o november-scrubbed.csv --proof ticket-4711
    """
    options = {**locals(), "format": "xlsx" if out.suffix.lower() == ".xlsx" else "csv"}
    ask = request(ScrubRequest, options)
    hints = confirm_for(gate, campaign, file, hints_of(options), ask=not (yes or as_json))
    query = [*query_of(ask), *query_of(hints)]
    with (
        sending(file) as body,
        gate.open("POST", "/v1/scrub", body, query=query, media=media_of(file)) as response,
    ):
        scrubbed = msgspec.json.decode(response.headers[SCRUBBED], type=Scrubbed)
        receive_copy(response, out, scrubbed.sha256)
    return out, scrubbed
