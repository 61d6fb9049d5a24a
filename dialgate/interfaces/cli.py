"""The command `dialgate`. Exit 0: yes, or done; 1: no, or refused; 2: misuse."""

import os
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dialgate import __version__

# Where each command is, in the order of --help.
COMMANDS = {
    "serve": "cli_serve",
    "check": "cli_ask",
    "simulate": "cli_ask",
    "scrub": "cli_scrub",
    "revoke": "cli_revoke",
    "number": "cli_numbers",
    "consent": "cli_ledger",
    "contract": "cli_ledger",
    "request": "cli_ledger",
    "list": "cli_lists",
    "caller-id": "cli_ledger",
    "subject": "cli_subjects",
    "retention": "cli_storage",
    "breach": "cli_storage",
    "clock": "cli_clock",
    "nodes": "cli_nodes",
    "store": "cli_store",
    "backup": "cli_backup",
    "ship": "cli_ship",
    "key": "cli_audit",
    "permit": "cli_permit",
    "config": "cli_audit",
    "log": "cli_audit",
    "why": "cli_answers",
    "report": "cli_report",
    "demo": "cli_demo",
    "reconcile": "cli_reconcile",
    "bench": "cli_bench",
    "conformance": "cli_conformance",
}
# Which add commands of their own to such a one, in the order of its --help.
ADDED = {
    "consent": ("cli_import",),
    "contract": ("cli_import",),
    "request": ("cli_import",),
    "caller-id": ("cli_probe",),
    "log": ("cli_proof", "cli_answers", "cli_archive"),
}


class _OnDemand(TyperGroup):
    """Loads the module of the command that was asked for only: a dialplan that runs `dialgate check` waits for it."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature, of a type it keeps private
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, *_ = [
            import_module(f"dialgate.interfaces.{name}")
            for name in (COMMANDS[cmd_name], *ADDED.get(cmd_name, ()))
        ]
        command = get_group(module.app).commands[cmd_name]
        _hide_types_of_flags(command, ctx)
        return command


def _hide_types_of_flags(command: Any, ctx: Any) -> None:
    """Typer shows `--json <bool>`, as if a value had to follow."""
    for param in (*command.params, ctx and command.get_help_option(ctx)):
        if getattr(param, "is_flag", False):
            param.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _hide_types_of_flags(inner, ctx)


app = typer.Typer(cls=_OnDemand, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"dialgate {__version__}")
        raise typer.Exit


@app.callback()
def dialgate(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """Decides whether a telemarketing call may be placed, and proves what it decided.

    Every command has a --help with an example. Exit codes: 0 yes or done, 1 no or refused, 2 misuse."""


def main() -> None:
    os.umask(0o077)  # whatever is made here may hold numbers, and is its owner's alone
    app()
