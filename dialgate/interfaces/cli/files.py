"""How a command reads a file that somebody else made: what was found is shown and confirmed, and what is left out is
written down row by row."""

import csv
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, TypeAlias, TypeVar

import typer

from dialgate.config.clients import Client
from dialgate.interfaces.cli.ledger_access import write
from dialgate.interfaces.cli.options import Failure, load_config
from dialgate.ledger.registrar import Registrar
from dialgate.lists import tabular
from dialgate.lists.call_list import RowProblem
from dialgate.runtime.terminal import MISUSE, NO, progress, show_fields

T = TypeVar("T")

Encoding: TypeAlias = Annotated[str, typer.Option(help="utf-8, windows-1252…; found, if not given.")]
Separator: TypeAlias = Annotated[str, typer.Option(help="What parts the columns; found, if not given.")]
Column: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME|PLACE", help="Where the number is; found, if not given.")
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask whether this is right.")]
Reasons: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write the line of every row that was left out here, and why."),
]


def home_of(config: Path, controller: str) -> str:
    """The country in which a controller's bare numbers are national; `controller` may be left out if it is the only one.
    Where it is none, whoever does the work says so."""
    controllers = load_config(config).controllers
    found = controllers.get(controller) or next(iter(controllers.values()))
    return found.country


def confirm(file: Path, hints: tabular.Hints, home: str, *, ask: bool) -> None:
    """Show how the file was understood and ask whether that is right. Ask only on a terminal where the question can be seen as well
    as answered: a program that runs this command and captures its output would wait for ever. Raises Failure."""
    try:
        with file.open("rb") as opened:
            layout = tabular.read(opened, home, hints).layout
    except tabular.Unreadable as error:
        raise Failure("list.unreadable", str(error), field="file") from None
    if ask and sys.stdin.isatty() and sys.stderr.isatty():
        show_fields(file.name, _shown(layout))
        if not typer.confirm("Is this right?", default=True, err=True):
            raise Failure(
                "list.unreadable",
                "nothing was read; say --column, --separator or --encoding",
                status=NO,
            )


def _shown(layout: tabular.Layout) -> dict[str, str]:
    title = layout.header[layout.number - 1] if layout.header else ""
    fields = {
        "format": layout.format,
        "encoding": layout.encoding,
        "separator": {"\t": "tab", " ": "blank"}.get(layout.separator, layout.separator),
        "sheet": layout.sheet,
        "columns": ", ".join(layout.header) or "no header",
        "the number's": f"{layout.number} {title}".strip(),
    }
    return {name: value for name, value in fields.items() if value}


@contextmanager
def reading(file: Path) -> Iterator[IO[bytes]]:
    """With a progress bar on a terminal."""
    with progress() as bar, bar.open(file, "rb", description=file.name) as opened:
        yield opened


Plan: TypeAlias = Callable[[int], Callable[[int], None]]
Take: TypeAlias = Callable[
    [Registrar, Client, IO[bytes], tabular.Hints, Callable[[RowProblem], None], Plan], Awaitable[T]
]


def taken(options: dict[str, Any], take: Take[T]) -> T:
    """A file whose rows are written to the ledger: shown, confirmed, read, written with a progress bar. `options`: the
    command's `locals()`. Raises Failure."""
    file, config = options["file"], options["config"]
    hints = tabular.Hints(**{name: options[name] for name in ("encoding", "separator", "column")})
    ask = not (options["yes"] or options["as_json"])
    confirm(file, hints, home_of(config, options["controller"]), ask=ask)
    with (
        file.open("rb") as opened,
        reasons_to(options["reasons"]) as told,
        progress() as bar,
    ):
        task = bar.add_task(file.name, total=None)

        def plan(total: int) -> Callable[[int], None]:
            bar.update(task, total=total)
            return lambda done: bar.advance(task, done)

        try:
            return write(config, lambda registrar, client: take(registrar, client, opened, hints, told, plan))
        except Failure as failure:
            if failure.code != "list.unreadable" or options["reasons"]:
                raise
            text = f"{failure} --reasons FILE writes down which and why; --skip-bad leaves them out."
            raise Failure(failure.code, text, field=failure.field) from None


@contextmanager
def reasons_to(path: Path | None) -> Iterator[Callable[[RowProblem], None]]:
    """A CSV file with the line of each row that was left out, and why; never its number. Raises Failure."""
    if path is None:
        yield lambda _: None
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as opened:
            written = csv.writer(opened)
            written.writerow(("line", "problem"))
            yield lambda row: written.writerow((row.line, row.problem)) and None
    except OSError as error:
        raise Failure(
            "request.invalid", f"{path}: {error.strerror}", field="reasons", status=MISUSE
        ) from None
