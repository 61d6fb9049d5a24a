"""What every command shows a person: tables, progress on the error stream, and exit codes that a script can trust; JSON to a
program. 0: yes, or done. 1: no, or refused. 2: misuse.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Told what begins and its size; gives back what to tell of how much more is done.
Bars: TypeAlias = Callable[[str, int], Callable[[int], None]]

NO: Final = 1
MISUSE: Final = 2
# What stands beside a bar, or in its place where nobody knows the end.
_WHAT: Final = TextColumn("{task.description}", markup=False)
OF_BYTES: Final = (_WHAT, BarColumn(), DownloadColumn(), TimeRemainingColumn())
OF_ROWS: Final = (_WHAT, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
WITHOUT_END: Final = (SpinnerColumn(), _WHAT, TimeElapsedColumn())
_USUAL: Final = (_WHAT, BarColumn(), TimeRemainingColumn())


def show_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: int = 0
) -> None:
    """The first `whole` columns are never broken: what stands there is copied."""
    table = Table(title=title or None, title_justify="left", show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place < whole)
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console().print(table)


def show_fields(title: str, fields: Mapping[str, object]) -> None:
    show_table(title, ("", ""), list(fields.items()))


def console(*, stderr: bool = False) -> Console:
    """Words of law and of users are data: no markup, no colours guessed into them."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


@contextmanager
def progress(*columns: ProgressColumn, shown: bool = True) -> Iterator[Progress]:
    """Drawn on the error stream where that is a terminal, and gone at the end; elsewhere nothing."""
    errors = console(stderr=True)
    bar = Progress(
        *(columns or _USUAL), console=errors, transient=True, disable=not (shown and errors.is_terminal)
    )
    with bar:
        yield bar


@contextmanager
def bars() -> Iterator[Bars]:
    with progress() as progress_:

        def start(what: str, size: int) -> Callable[[int], None]:
            task = progress_.add_task(what, total=size)
            return lambda done: progress_.advance(task, done)

        yield start


def utc(at: int) -> str:
    """Of an instant; nothing of 0."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="seconds") if at else ""
