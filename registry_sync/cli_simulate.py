"""The `registry-sync simulate` command, which runs a simulated registry."""

from pathlib import Path
from typing import Annotated

import typer

from registry_sync.simulator import FAULTS, SimulatedRegistry

app = typer.Typer()


def _fault(text: str) -> str:
    if text and text not in FAULTS:
        raise typer.BadParameter(f"must be one of {', '.join(FAULTS)}")
    return text


@app.command("simulate")
def simulate(
    *,
    folder: Annotated[
        Path,
        typer.Argument(
            file_okay=False,
            help="Folder with the subfolders `outbox` and `inbox`. Missing folders are created.",
            show_default=False,
        ),
    ],
    fault: Annotated[
        str, typer.Option(parser=_fault, metavar="FAULT", help=f"Simulate a fault: {', '.join(FAULTS)}.")
    ] = "",
) -> None:
    """Answer every package in a folder's outbox with simulated answers, for trying out the nightly job.

    The answers are invented. Do not place calls based on them.

    Example: registry-sync simulate .data/rpo --fault partial
    """
    answered = SimulatedRegistry(folder, fault).work()
    packages = "1 package" if answered == 1 else f"{answered} packages"
    typer.echo(f"Wrote simulated answers for {packages}. Do not place calls based on them", err=True)
