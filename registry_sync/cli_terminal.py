"""How the commands of `registry-sync` speak: tables to a person, JSON to a program, and an exit code to a script."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dialgate.settings import ConfigError
from registry_sync import config, job
from registry_sync.asking import Bar
from registry_sync.config import Plan
from registry_sync.publish import Press

NO, MISUSE = 1, 2

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Report as one JSON object.")]
RegistriesPath: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--registries", envvar="REGISTRY_SYNC_CONFIG", dir_okay=False, help="The nightly job's configuration."
    ),
]
DEFAULT_REGISTRIES = Path("config/registries.yaml")
Snapshots: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="The folder of the publications, instead of that of the configuration's gate."
    ),
]


def load(path: Path) -> Plan:
    try:
        return config.load(path)
    except ConfigError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise typer.BadParameter(f"{path} cannot be used:\n{problems}", param_hint="--registries") from None


def press(registries: Path, snapshots: Path | None) -> Press:
    """Where to publish: a folder that was named, or that of the configuration."""
    return Press(folder=snapshots) if snapshots else job.press_of(load(registries))


@contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Turns what refuses into words, or JSON, and exit code 1."""
    try:
        yield
    except job.FAULTS as error:
        refuse(str(error), as_json=as_json)
        raise typer.Exit(NO) from None


@contextmanager
def bars() -> Iterator[Bar]:
    """Progress bars on a terminal's error stream; elsewhere nothing."""
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:

        def start(what: str, size: int) -> Callable[[int], None]:
            task = progress.add_task(what, total=size)
            return lambda done: progress.advance(task, done)

        yield start


def refuse(message: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"error": {"code": "refused", "message": message, "field": ""}})
    else:
        typer.echo(f"refused: {message}", err=True)


def show_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def show_fields(title: str, fields: dict[str, str | int]) -> None:
    table = Table(title=title, show_header=False)
    for name, value in fields.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else value)
    console().print(table)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console().print(table)


def console() -> Console:
    """What stands in files and names is data: no markup."""
    return Console(markup=False, highlight=False, emoji=False)


def utc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="seconds") if at else ""


def private() -> None:
    os.umask(0o077)  # what a registry answered is its owner's alone
