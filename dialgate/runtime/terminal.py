"""Terminal output of commands: tables, JSON, progress bars on the error stream, and exit codes.

Exit codes are 0 for yes or done, 1 for no or refused, and 2 for a usage error.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Starts a bar with a description and a size. Returns a function that advances it.
Bars: TypeAlias = Callable[[str, int], Callable[[int], None]]

NO: Final = 1
MISUSE: Final = 2
# The description is shown next to the bar, or alone if the size is unknown.
_WHAT: Final = TextColumn("{task.description}", markup=False)
OF_BYTES: Final = (_WHAT, BarColumn(), DownloadColumn(), TimeRemainingColumn())
_OF_WORK: Final = (_WHAT, BarColumn(), TimeElapsedColumn())
WITHOUT_END: Final = (SpinnerColumn(), _WHAT, TimeElapsedColumn())
_USUAL: Final = (_WHAT, BarColumn(), TimeRemainingColumn())


def show_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: int = 0
) -> None:
    """Print a table. The first `whole` columns are never wrapped, so that their content can be copied.

    On a terminal that is too narrow for the longest words, print a block for each row instead, with a line for each cell.
    """
    out = console()
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    if out.is_terminal and _least_width(columns, texts, whole) > out.width:
        out.print(
            "\n\n".join(filter(None, [title, *(_block(columns, row) for row in texts)])), soft_wrap=True
        )
        return
    table = Table(title=title or None, title_justify="left", show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place < whole)
    for row in texts:
        table.add_row(*row)
    out.print(table)


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[str]], whole: int) -> int:
    """Return the width of a table in which no word is broken."""
    width = 1
    for place, cells in enumerate(zip(columns, *rows, strict=True)):
        parts = cells if place < whole else [word for cell in cells for word in cell.split()]
        width += 3 + max(map(cell_len, parts), default=0)
    return width


def _block(columns: Sequence[str], row: Sequence[str]) -> str:
    return "\n".join(
        f"{name}: {cell}" if name else cell for name, cell in zip(columns, row, strict=True) if cell
    )


def show_fields(title: str, fields: Mapping[str, object]) -> None:
    show_table(title, ("", ""), list(fields.items()))


def console(*, stderr: bool = False) -> Console:
    """Return a console without markup, which prints text from laws and users unchanged."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


@contextmanager
def progress(*columns: ProgressColumn, shown: bool = True) -> Iterator[Progress]:
    """Show progress on the error stream if it is a terminal, and remove it at the end."""
    errors = console(stderr=True)
    bar = Progress(
        *(columns or _USUAL), console=errors, transient=True, disable=not (shown and errors.is_terminal)
    )
    with bar:
        yield bar


@contextmanager
def bars() -> Iterator[Bars]:
    with progress() as progress_:

        def start(description: str, size: int) -> Callable[[int], None]:
            task = progress_.add_task(description, total=size)
            return lambda done: progress_.advance(task, done)

        yield start


@contextmanager
def sending(file: Path) -> Iterator[IO[bytes]]:
    """Yield a file to send, and show how much has been sent, then that and how long the gate works on it."""
    with progress(*_OF_WORK) as bar, _SentFile(file, bar) as opened:
        yield opened


class _SentFile(FileIO):
    def __init__(self, path: Path, bar: Progress) -> None:
        super().__init__(path)
        self._bar, self._name = bar, path.name
        self._task = bar.add_task(f"sending {path.name}", total=path.stat().st_size)

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(-1 if size is None else size) or b""
        self._bar.advance(self._task, len(part))
        if not part:
            about = f"{self._name} is sent, the gate works on it"
            self._bar.update(self._task, description=about, total=None, refresh=True)
        return part


def utc(at: int) -> str:
    """Format an instant in UTC. Return "" for 0."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="seconds") if at else ""
