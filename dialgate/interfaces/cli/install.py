"""`dialgate install`: the gate as a service of systemd."""

import subprocess
from collections.abc import Iterator
from typing import Annotated

import typer

from dialgate.interfaces.cli.options import Failure, reporting
from dialgate.runtime.terminal import MISUSE
from dialgate.tools.installation import CONFIG, DATA, SETTINGS, USER, Installation, InstallationStep

app = typer.Typer()


@app.command()
def install(
    *,
    answers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- OPTIONS]", help="Options of `dialgate init` for the first configuration."
        ),
    ] = None,
    enable: Annotated[
        list[str], typer.Option(metavar="UNIT", help="Unit to enable and start. Can be repeated.")
    ] = ["dialgate.service", "registry-sync.timer"],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Remove the installation, but neither data, keys nor configuration."),
    ] = False,
    delete_data: Annotated[
        bool,
        typer.Option("--delete-data", help="With --undo: also delete data, keys, configuration and user."),
    ] = False,
) -> None:
    """Install this gate as a service of systemd, or remove it.

    Creates the user `dialgate`, folders, units and the commands in /usr/local/bin, asks for a first configuration if there is
    none, and starts the gate. Prints each step. What is already there is left as it is, so the command can be repeated, for
    example after an upgrade.

    dialgate install --dry-run
    """
    with reporting(as_json=False):
        installation = Installation()
        if problem := installation.refusal():
            raise Failure("install.refused", problem)
        if delete_data and not undo:
            raise Failure(
                "install.invalid", "data is deleted only with --undo", field="--delete-data", status=MISUSE
            )
        if answers and (undo or CONFIG.exists()):
            text = f"{CONFIG} is not written again. Edit it, and leave out the options after --"
            raise Failure("install.invalid", text, status=MISUSE)
        if delete_data and not dry_run:
            _confirm()
        steps = (
            installation.removal(with_data=delete_data) if undo else installation.steps(answers or [], enable)
        )
        changes = _run(steps, dry_run=dry_run)
    if not changes:
        typer.echo("Nothing to change.")
    if undo and not delete_data:
        typer.echo(f"Kept: {SETTINGS}, {DATA} and the user {USER}.")


def _run(steps: Iterator[InstallationStep], *, dry_run: bool) -> int:
    """Do the steps, print each, and return how many were not done before. Raises `Failure`."""
    changes = 0
    for step in steps:
        try:
            if is_done := step.is_done():
                state = "already done"
            elif dry_run:
                state = "to do"
            else:
                step.do()
                state = "done"
        except subprocess.CalledProcessError as error:
            output = " ".join((error.stderr or "see above").split()).rstrip(".")
            text = f"{step.text}: `{' '.join(error.cmd)}` failed: {output}. Then run the command again"
            raise Failure("install.failed", text) from None
        except OSError as error:
            raise Failure("install.failed", f"{step.text}: {error}. Then run the command again") from None
        changes += not is_done
        typer.echo(f"{step.text}: {state}")
    return changes


def _confirm() -> None:
    text = f"{DATA} contains the proof for every call that was placed. Type its path to delete it"
    if typer.prompt(text, err=True) != str(DATA):
        raise Failure("install.cancelled", "nothing was removed")
