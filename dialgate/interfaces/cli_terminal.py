"""How the commands speak: to a person in tables, to a program in JSON, and in exit codes that a script can trust.

0: yes, or done. 1: no, or refused. 2: misuse. Errors go to stderr and say what to do; with `--json` they are an object on
stdout, of the same shape as over HTTP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from dialgate import settings

NO, MISUSE = 1, 2

ConfigPath: TypeAlias = Annotated[
    Path,
    typer.Option("--config", envvar="DIALGATE_CONFIG", dir_okay=False, help="The gate's configuration."),
]
DEFAULT_CONFIG = Path("config/dialgate.yaml")
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


class Failure(Exception):
    """A command cannot do what it was asked. `code` as in the HTTP interface's errors."""

    def __init__(self, code: str, message: str, *, field: str = "", status: int = NO) -> None:
        super().__init__(message)
        self.code, self.field, self.status = code, field, status


def load_config(path: Path) -> settings.Config:
    try:
        return settings.load(path)
    except settings.ConfigError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        hint = "" if path.exists() else "\nName the right file with --config or DIALGATE_CONFIG."
        raise Failure("config.invalid", f"{path} cannot be used:\n{problems}{hint}", status=MISUSE) from None


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
        field = f"{failure.field}: " if failure.field else ""
        typer.echo(f"{failure.code}: {field}{failure}", err=True)
    raise typer.Exit(failure.status)


def show_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def show_table(
    title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, whole: int = 0
) -> None:
    """The first `whole` columns are never broken: what stands there is copied."""
    table = Table(title=title or None, title_justify="left", show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place < whole)
    for row in rows:
        table.add_row(*row)
    console().print(table)


def show_fields(title: str, fields: dict[str, str]) -> None:
    show_table(title, ("", ""), list(fields.items()))


def console(*, stderr: bool = False) -> Console:
    """Words of law and of users are data: no markup, no colours guessed into them."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def utc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="seconds") if at else ""
