"""`dialgate scrub`: a verdict for every number in a file."""

from pathlib import Path
from typing import Annotated

import typer

from dialgate.core.name_suggestions import choose
from dialgate.interfaces.cli.files import Column, Encoding, Separator, Yes, confirm, reading
from dialgate.interfaces.cli.instants import optional_instant
from dialgate.interfaces.cli.ledger_access import Actor, Proof, Time, show_note, write
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.ledger import export
from dialgate.lists import tabular
from dialgate.runtime.garbage_collection import spare_collector
from dialgate.runtime.terminal import MISUSE, show_fields, show_json

app = typer.Typer()


@app.command()
def scrub(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="IN", exists=True, dir_okay=False, help="Text, CSV or XLSX file with one number per row."
        ),
    ],
    campaign: Annotated[str, typer.Option(help="The campaign that would call the numbers.")],
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="CSV file to write.")],
    at: Time = "",
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    proof: Proof = "",
    actor: Actor = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write a copy of a list with a verdict on every row: allow, later or deny, with code, valid_until and not_before.

    Check again before each call, even if the verdict is allow, because the data subject can opt out at any time. If
    nothing else changes, a call with the verdict allow is lawful until valid_until. The export is recorded in the
    ledger, with --actor and --proof, before the output file is created.

    dialgate scrub november.csv --campaign acme-fibre -o november-scrubbed.csv --proof ticket-4711
    """
    with reporting(as_json=as_json):
        lines = load_config(config).lines
        line = lines.get(campaign)
        if line is None:
            text = choose("Use one of the configured campaigns", lines)
            raise Failure("campaign.unknown", text, field="campaign")
        hints = tabular.Hints(encoding=encoding, separator=separator, column=column)
        home = line.dial_region or line.home
        confirm(file, hints, home, ask=not (yes or as_json))
        order = export.ScrubOrder(
            campaign=campaign, at=optional_instant(at, "at") or 0, actor=actor, proof=proof
        )
        spare_collector()
        try:
            with reading(file) as opened:
                scrubbed = write(
                    config,
                    lambda registrar, client: export.scrub(registrar, client, order, opened, out, hints),
                )
        except OSError as error:
            raise Failure("request.invalid", f"{out}: {error.strerror}", field="out", status=MISUSE) from None
    if as_json:
        show_json(scrubbed)
    else:
        _show(scrubbed, out)


def _show(scrubbed: export.Scrubbed, out: Path) -> None:
    verdicts = {name: getattr(scrubbed, name) for name in ("rows", "allow", "later", "deny")}
    entry = {"ledger entry": str(scrubbed.seq), "sha256": scrubbed.sha256}
    show_fields(f"{out}, at {scrubbed.at}", verdicts | scrubbed.codes | entry)
    show_note(scrubbed.note)
