"""A command group that imports only the module of the requested command."""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

_LISTING = "dialgate.listing"
_WIDTH = 76  # of an example, so that a terminal of 80 columns does not break its lines
_PROGRAMS = ("dialgate ", "registry-sync ")


class OnDemandGroup(TyperGroup):
    """A command group that imports only the module of the requested command.

    A dialplan waits for each `dialgate check`, so start-up must be fast. Even the group's help imports no module. A
    subclass sets three attributes. `package` contains the modules. `table` maps each command to its module and its line
    in the help, in the order shown. `added` names modules that add subcommands to a command.
    """

    package: ClassVar[str]
    table: ClassVar[Mapping[str, tuple[str, str]]]
    added: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta[_LISTING] = True
        self.rich_markup_mode = None  # plain text, because the import of rich takes 0.3 s
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is that of Typer, whose type is private
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.table:
            return None
        own, summary = self.table[cmd_name]
        if ctx and _LISTING in ctx.meta:
            return TyperCommand(cmd_name, short_help=summary)
        modules = [import_module(f"{self.package}.{name}") for name in (own, *self.added.get(cmd_name, ()))]
        command = get_group(modules[0].app).commands[cmd_name]
        command.help = command.help or summary  # only a group that says more has its own help
        _hide_types_of_flags(command, ctx)
        _wrap_help(command)
        return command


def _hide_types_of_flags(command: Any, ctx: Any) -> None:
    """Hide the type of flags in the help. Typer would show `--json <bool>`."""
    for param in (*command.params, ctx and command.get_help_option(ctx)):
        if getattr(param, "is_flag", False):
            param.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _hide_types_of_flags(inner, ctx)


def _wrap_help(command: Any) -> None:
    """Let sentences use the width of the terminal, and break examples with a backslash, so that they can be copied."""
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    parts = [part.removeprefix("Example: ") for part in paragraphs]
    command.help = "\n\n".join(_break_example(part) if part.startswith(_PROGRAMS) else part for part in parts)
    for inner in getattr(command, "commands", {}).values():
        _wrap_help(inner)


def _break_example(example: str) -> str:
    """Return the example with its options on as few lines as possible."""
    first, *options = re.split(r" (?=--)", example)
    lines = [first]
    for option in options:
        if len(lines[-1]) + len(option) < _WIDTH:
            lines[-1] += f" {option}"
        else:
            lines.append(option)
    return " \\\n".join(lines)
