"""`registry-sync simulate`: a registry that is none."""

from pathlib import Path
from typing import Annotated

import typer

from registry_sync.simulator import FAULTS, Registry

app = typer.Typer()


def _fault(text: str) -> str:
    if text and text not in FAULTS:
        raise typer.BadParameter(f"is none of {', '.join(FAULTS)}")
    return text


@app.command("simulate")
def simulate(
    *,
    folder: Annotated[
        Path, typer.Argument(file_okay=False, help="With the outbox and the inbox.", show_default=False)
    ],
    fault: Annotated[
        str, typer.Option(parser=_fault, metavar="FAULT", help=f"Go wrong: {', '.join(FAULTS)}.")
    ] = "",
) -> None:
    """Answer every package in a folder's outbox, as a registry might. The answers are made up: to try the job, never to
    call anybody.

    Example: registry-sync simulate .data/rpo --fault partial"""
    answered = Registry(folder, fault).work()
    packages = "1 package" if answered == 1 else f"{answered} packages"
    typer.echo(f"{packages} answered with made-up answers: call nobody on them", err=True)
