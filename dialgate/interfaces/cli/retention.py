"""`dialgate retention` and `dialgate breach`: removal of expired data, and the scope of a data breach."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate
from dialgate.interfaces.cli.instants import instant
from dialgate.interfaces.cli.options import AsJson, Failure, reporting
from dialgate.interfaces.http.administration_schemas import RetentionRequest, RetentionResult
from dialgate.runtime.terminal import MISUSE, console, show_fields, show_json, show_table
from dialgate.subjects.breach import Exposure

app = typer.Typer()


@app.command()
@asks_gate
def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Remove data whose retention period is over, as the gate does once a day (GDPR art. 5).

    dialgate retention --dry-run
    """
    with reporting(as_json=as_json), console(stderr=True).status("searching for expired data"):
        result = gate.ask("POST", "/v1/retention", RetentionResult, RetentionRequest(dry_run))
    if as_json:
        show_json(result)
        return
    show_table(
        "Removed" if result.removed else "Would be removed",
        ("kind", "count", "use ended before"),
        [(kind.kind, kind.count, kind.before[:10]) for kind in result.kinds],
    )


@app.command()
@asks_gate
def breach(
    *,
    since: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="Start of the breach, for example 2026-11-24T10:00:00+01:00."
        ),
    ],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="End of the breach (exclusive).")],
    key: Annotated[str, typer.Option(help="Name of the client whose key was stolen.")] = "",
    node: Annotated[str, typer.Option(help="Name of the compromised node.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Write the exposed numbers to this file, readable by its owner only."
        ),
    ] = None,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Show the data that a stolen key or a compromised node exposed, for the notification within 72 hours (GDPR art. 33).

    dialgate breach --key dialer-7 --from 2026-11-20T00:00:00+01:00 --to 2026-11-24T12:00:00+01:00 --out numbers.txt
    """
    with reporting(as_json=as_json):
        if bool(key) == bool(node):
            raise Failure("request.invalid", "give either --key NAME or --node NAME", status=MISUSE)
        if instant(until, "--to") <= instant(since, "--from"):
            raise Failure("request.invalid", "--to must be later than --from", field="--to", status=MISUSE)
        query = {"client": key, "node": node, "since": since, "until": until}
        with console(stderr=True).status("reading the decision log"):
            exposure = gate.ask("GET", "/v1/exposure", Exposure, query=query)
        if out is not None:
            write_out(out, "".join(f"{number}\n" for number in exposure.numbers))
        _show_exposure(exposure, as_json=as_json)


def _reach(exposure: Exposure, numbers: str) -> str:
    """Describe how many phone numbers the client or an intruder could have read. `numbers` describes the client's reach.

    A breach notification must not understate this number.
    """
    if exposure.node:
        return "every number: an intruder could read the node's files"
    if exposure.known:
        return numbers
    return "unknown, because the client is no longer configured"


def _show_exposure(exposure: Exposure, *, as_json: bool) -> None:
    if as_json:
        counts = {"numbers": len(exposure.numbers), "lookups": exposure.lookups}
        show_json({**msgspec.structs.asdict(exposure), **counts})
        return
    fields = {
        "of": f"key {exposure.client}" if exposure.client else f"node {exposure.node}",
        "span": f"{exposure.start} to {exposure.end}",
        "configured now": "yes" if exposure.known else "no, so its scopes are unknown",
        "scopes": " ".join(exposure.scopes),
        "controllers": " ".join(exposure.controllers),
        "decisions returned": f"{exposure.decisions:,}, of which {exposure.allows:,} allows",
        "look-ups": len(exposure.lookups),
        "exposed numbers": len(exposure.numbers),
        "decisions from retired months": exposure.unreadable,
        "could have looked up": _reach(exposure, f"{exposure.could_look_up:,} numbers at most"),
        "could have read in the stream": _reach(
            exposure, f"{exposure.could_stream:,} numbers with a revocation"
        ),
    }
    show_fields("Exposed", fields)
    if exposure.lookups:
        show_table(
            "Look-ups",
            ("at", "client", "controller", "what", "purpose"),
            [
                (lookup.at, lookup.client, lookup.controller, lookup.what, lookup.purpose)
                for lookup in exposure.lookups
            ],
        )
    if exposure.node:
        typer.echo("An intruder could read all files on the node, including the keys in its data folder.")
