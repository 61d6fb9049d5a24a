"""The files that commands read and write: confirm a detected layout, report skipped rows, write private output."""

import csv
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, TypeAlias, TypeVar

import typer

from dialgate.config.clients import Client
from dialgate.core.refusal import Refused
from dialgate.interfaces.cli.ledger_access import show_note, write
from dialgate.interfaces.cli.options import Failure, load_config
from dialgate.ledger.import_reports import EntriesReport, RevocationsReport
from dialgate.ledger.registrar import Registrar
from dialgate.lists import tabular
from dialgate.lists.call_list import RowProblem
from dialgate.runtime.terminal import MISUSE, NO, progress, show_fields, show_json

T = TypeVar("T")

Encoding: TypeAlias = Annotated[
    str, typer.Option(help=f"Encoding, one of {', '.join(tabular.ENCODINGS)}. Default: detected.")
]
Separator: TypeAlias = Annotated[str, typer.Option(help="Column separator. Default: detected.")]
Column: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME|PLACE",
        help="Column that holds the number, by name or by position, counting from 1. Default: detected.",
    ),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask to confirm the detected layout.")]
Reasons: TypeAlias = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write each skipped row's line number and problem to this CSV file."),
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(dir_okay=False, help="Write to this file, readable by its owner only.")
]


def home_of(config: Path, controller: str) -> str:
    """Return the countries of a controller and its campaigns, separated by spaces.

    Numbers without a country code are parsed with these countries. If `controller` is unknown or empty, use the first
    controller. The registrar rejects unknown controllers later.
    """
    controllers = load_config(config).controllers
    owner = controllers.get(controller) or next(iter(controllers.values()))
    return owner.dial_regions()


def confirm(file: Path, hints: tabular.Hints, home: str, *, ask: bool, lenient: bool = False) -> None:
    """Show the detected layout of a file and let the user confirm it. Raises `Failure`.

    The user is asked only if `ask` is true, and stdin and stderr are terminals. A prompt would block a program that
    captures the output.
    """
    try:
        with file.open("rb") as opened:
            layout = tabular.read(opened, home, hints, lenient=lenient).layout
    except tabular.Unreadable as error:
        raise Failure("list.unreadable", str(error), field="file") from None
    if ask and sys.stdin.isatty() and sys.stderr.isatty():
        show_fields(file.name, _describe(layout))
        if not typer.confirm("Is this correct?", default=True, err=True):
            raise Failure(
                "list.unreadable",
                "nothing was read. Set --column, --separator or --encoding",
                status=NO,
            )


def _describe(layout: tabular.Layout) -> dict[str, str]:
    title = layout.header[layout.number - 1] if layout.header else ""
    fields = {
        "format": layout.format,
        "encoding": layout.encoding,
        "separator": {"\t": "tab", " ": "blank"}.get(layout.separator, layout.separator),
        "sheet": layout.sheet,
        "columns": ", ".join(layout.header) or "no header",
        "number column": f"{layout.number} {title}".strip(),
    }
    return {name: value for name, value in fields.items() if value}


@contextmanager
def reading(file: Path) -> Iterator[IO[bytes]]:
    with progress() as bar, bar.open(file, "rb", description=file.name) as opened:
        yield opened


Plan: TypeAlias = Callable[[int], Callable[[int], None]]
Take: TypeAlias = Callable[
    [Registrar, Client, IO[bytes], tabular.Hints, Callable[[RowProblem], None], Plan], Awaitable[T]
]


def import_file(options: dict[str, Any], take: Take[T], *, lenient: bool = False) -> T:
    """Let the user confirm the layout of a file, then write its rows to the ledger. Raises `Failure`.

    `options` is the `locals()` of the command. `lenient` is as for `tabular.read`.
    """
    file, config = options["file"], options["config"]
    hints = tabular.Hints(**{name: options[name] for name in ("encoding", "separator", "column")})
    ask = not (options["yes"] or options["as_json"])
    confirm(file, hints, home_of(config, options["controller"]), ask=ask, lenient=lenient)
    with (
        file.open("rb") as opened,
        reasons_to(options["reasons"]) as note,
        progress() as bar,
    ):
        task = bar.add_task(file.name, total=None)

        def plan(total: int) -> Callable[[int], None]:
            bar.update(task, total=total)
            return lambda done: bar.advance(task, done)

        try:
            return write(config, lambda registrar, client: take(registrar, client, opened, hints, note, plan))
        except Refused as refused:
            if refused.code != "list.unreadable" or options["reasons"]:
                raise
            text = f"{refused.message} --reasons FILE lists the invalid rows; --skip-bad skips them."
            raise Failure(refused.code, text, field=refused.field) from None


def show_import(
    report: EntriesReport | RevocationsReport, title: str, counts: Mapping[str, str], *, as_json: bool
) -> None:
    """Show an import report. `counts` maps each label to the name of a report field."""
    if as_json:
        show_json(report)
        return
    fields = {label: getattr(report, name) for label, name in counts.items()}
    if report.doubtful:
        fields["doubtful"] = report.doubtful
    show_fields(title, fields | {"applies after": report.at})
    show_note(report.note)


@contextmanager
def reasons_to(path: Path | None) -> Iterator[Callable[[RowProblem], None]]:
    """Yield a function that writes a skipped row to a CSV file. Raises `Failure`.

    The file contains the line number and the problem of each skipped row, but no phone numbers.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(("line", "problem"))
            yield lambda row: writer.writerow((row.line, row.problem)) and None
    except OSError as error:
        raise Failure(
            "request.invalid", f"{path}: {error.strerror}", field="reasons", status=MISUSE
        ) from None


def write_out(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read, also if the file exists with other rights. Raises `Failure`."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            if path.is_file():  # and no device, such as /dev/stdout
                os.fchmod(file.fileno(), 0o600)
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise Failure("file.unwritable", f"{path}: {error.strerror}") from None
