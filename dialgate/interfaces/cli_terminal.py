"""What the commands of `dialgate` have in common: options, and how they fail. Errors go to stderr and say what to do; with
`--json` they are an object on stdout, of the same shape as over HTTP.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import typer

from dialgate import settings
from dialgate.terminal import MISUSE, NO, show_json

ConfigPath: TypeAlias = Annotated[
    Path,
    typer.Option("--config", envvar="DIALGATE_CONFIG", dir_okay=False, help="The gate's configuration."),
]
DEFAULT_CONFIG = Path("config/dialgate.yaml")
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
# Fields of requests that a person sets by an option of another name.
_OPTIONS = {"controller": "--controller", "campaign": "--campaign", "campaigns": "--campaign"}
_STDIN = "-"


def number_given(value: str) -> str:
    """Typer callback of whatever takes a telephone number: `-` stands for the next line of standard input, because `ps`
    shows arguments to every user of the machine."""
    return next(_lines()) if value == _STDIN else value


def numbers_given(values: list[str] | None) -> list[str] | None:
    """The same of several numbers: `-` stands for all lines."""
    return list(_lines()) if values == [_STDIN] else values


def _lines() -> Iterator[str]:
    if sys.stdin.isatty():
        yield typer.prompt("Number", hide_input=True, err=True)
        return
    found = False
    while line := sys.stdin.readline():
        if line.strip():
            found = True
            yield line.strip()
    if not found:
        raise typer.BadParameter("standard input holds no number; write one a line")


Number: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="The person's number, best as +39…; - reads it from standard input.", callback=number_given
    ),
]


class Failure(Exception):
    """A command cannot do what it was asked. `code` as in the HTTP interface's errors."""

    def __init__(self, code: str, message: str, *, field: str = "", status: int = NO) -> None:
        super().__init__(message)
        self.code, self.field, self.status = code, field, status


def load_config(path: Path) -> settings.Config:
    try:
        return settings.load(path)
    except settings.ConfigError as error:
        raise unusable(path, error) from None


def unusable(path: Path, error: settings.ConfigError, status: int = MISUSE) -> Failure:
    problems = "\n".join(f"  {problem}" for problem in error.problems)
    hint = "" if path.exists() else "\nName the right file with --config or DIALGATE_CONFIG."
    return Failure("config.invalid", f"{path} cannot be used:\n{problems}{hint}", status=status)


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Turns a Failure into words, or JSON, and an exit code."""
    try:
        yield
    except Failure as failure:
        fail(failure, as_json=as_json)


def fail(failure: Failure, *, as_json: bool) -> NoReturn:
    if as_json:
        error = {"code": failure.code, "message": str(failure), "field": failure.field}
        show_json({"error": error})
    else:
        field = f"{_OPTIONS.get(failure.field, failure.field)}: " if failure.field else ""
        typer.echo(f"{failure.code}: {field}{failure}", err=True)
    raise typer.Exit(failure.status)
