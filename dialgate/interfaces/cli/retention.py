"""`dialgate retention` and `dialgate breach`: removal of expired data, and the scope of a data breach."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.http.administration_schemas import RetentionRequest, RetentionResult
from dialgate.runtime.terminal import console, show_fields
from dialgate.subjects.breach import Exposure

app = typer.Typer()


def _show_removed(result: RetentionResult) -> None:
    show_rows(
        "Removed" if result.removed else "Would be removed",
        result.kinds,
        {"kind": "kind", "count": "count", "use ended before": lambda kind: kind.before[:10]},
    )


def _reach(exposure: Exposure, numbers: str) -> str:
    """Describe how many phone numbers the client or an intruder could have read. `numbers` describes the client's reach.

    A breach notification must not understate this number.
    """
    if exposure.node:
        return "every number: an intruder could read the node's files"
    if exposure.known:
        return numbers
    return "unknown, because the client is no longer configured"


def _exposure_as_builtins(exposure: Exposure) -> dict[str, object]:
    return {**msgspec.structs.asdict(exposure), "numbers": len(exposure.numbers)}


def _show_exposure(exposure: Exposure) -> None:
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
        show_rows(
            "Look-ups",
            exposure.lookups,
            {name: name for name in ("at", "client", "controller", "what", "purpose")},
        )
    if exposure.node:
        typer.echo("An intruder could read all files on the node, including the keys in its data folder.")


@app.command()
@command(_show_removed)
def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    gate: GateClient,
) -> RetentionResult:
    """Remove data whose retention period is over, as the gate does once a day (GDPR art. 5).

    dialgate retention --dry-run
    """
    with console(stderr=True).status("searching for expired data"):
        return gate.send("POST", "/v1/retention", RetentionResult, RetentionRequest(dry_run))


@app.command()
@command(_show_exposure, data=_exposure_as_builtins)
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
) -> Exposure:
    """Show the data that a stolen key or a compromised node exposed, for the notification within 72 hours (GDPR art. 33).

    dialgate breach --key dialer-7 --from 2026-11-20T00:00:00+01:00 --to 2026-11-24T12:00:00+01:00 --out numbers.txt
    """
    query = {"client": key, "node": node, "since": since, "until": until}
    with console(stderr=True).status("reading the decision log"):
        exposure = gate.send("GET", "/v1/exposure", Exposure, query=query)
    if out is not None:
        write_out(out, "".join(f"{number}\n" for number in exposure.numbers))
    return exposure
