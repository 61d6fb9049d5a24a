"""The command `dialgate`. Exit codes: 0 yes or done, 1 no or refused, 2 misuse."""

import os
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dialgate import __version__

# The module of each command, in the order of --help.
COMMANDS = {
    "init": "init",
    "serve": "serve",
    "check": "ask",
    "simulate": "ask",
    "scrub": "scrub",
    "revoke": "revoke",
    "number": "numbers",
    "consent": "ledger",
    "contract": "ledger",
    "request": "ledger",
    "list": "lists",
    "caller-id": "ledger",
    "subject": "subjects",
    "retention": "storage",
    "breach": "storage",
    "clock": "clock",
    "nodes": "nodes",
    "store": "store",
    "backup": "backup",
    "ship": "ship",
    "key": "config",
    "permit": "permit",
    "country": "country",
    "config": "config",
    "log": "config",
    "why": "decisions",
    "report": "report",
    "demo": "demo",
    "reconcile": "reconcile",
    "bench": "bench",
    "conformance": "conformance",
}
# Modules that add subcommands to a command, in the order of its --help.
ADDED = {
    "consent": ("imports",),
    "contract": ("imports",),
    "request": ("imports",),
    "caller-id": ("probe",),
    "log": ("proof", "decisions", "replay", "archive"),
}


class _OnDemand(TyperGroup):
    """A group that imports only the module of the requested command, because dialplans wait for `dialgate check`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is that of Typer, whose type is private
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, *_ = [
            import_module(f"dialgate.interfaces.cli.{name}")
            for name in (COMMANDS[cmd_name], *ADDED.get(cmd_name, ()))
        ]
        command = get_group(module.app).commands[cmd_name]
        _hide_types_of_flags(command, ctx)
        return command


def _hide_types_of_flags(command: Any, ctx: Any) -> None:
    """Hide the type of flags in help, where Typer would show `--json <bool>`."""
    for param in (*command.params, ctx and command.get_help_option(ctx)):
        if getattr(param, "is_flag", False):
            param.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _hide_types_of_flags(inner, ctx)


app = typer.Typer(cls=_OnDemand, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(is_requested: bool) -> None:  # noqa: FBT001 - Typer passes it by position
    if is_requested:
        typer.echo(f"dialgate {__version__}")
        raise typer.Exit


@app.callback()
def dialgate(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Decide whether a telemarketing call may be placed, and prove the decision later.

    Every command has --help with an example. Exit codes: 0 yes or done, 1 no or refused, 2 misuse.
    """


def main() -> None:
    os.umask(0o077)  # files may contain numbers, so only their owner may read them
    app()
