"""The files that commands read and write: confirm a detected layout, report skipped rows, write private output."""

import csv
import mimetypes
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, TypeAlias, TypeVar

import msgspec
import typer
from msgspec import Struct, structs

from dialgate.core.name_suggestions import choose
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger_access import show_note
from dialgate.interfaces.cli.options import Failure, load_config
from dialgate.ledger.import_reports import EntriesReport, RevocationsReport
from dialgate.lists import tabular
from dialgate.lists.call_list import RowProblem, sha256_of
from dialgate.runtime.terminal import MISUSE, NO, sending, show_fields, show_table

T = TypeVar("T")

Encoding: TypeAlias = Annotated[
    str, typer.Option(help=f"Encoding, one of {', '.join(tabular.ENCODINGS)}. Default: detected.")
]
Separator: TypeAlias = Annotated[str, typer.Option(help="Column separator. Default: detected.")]
Column: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME|PLACE",
        help="Column that holds the number, by name or by position, counting from 1. Default: detected. Needed if several columns may hold it.",
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


def home_of(gate: GateClient, controller: str) -> str:
    """Return the countries of a controller and its campaigns, separated by spaces.

    Numbers without a country code are parsed with these countries. If `controller` is unknown or empty, use the first
    controller. The gate rejects unknown controllers later.
    """
    controllers = load_config(gate.config).controllers
    owner = controllers.get(controller) or next(iter(controllers.values()))
    return owner.dial_regions()


def confirm(
    file: Path, hints: tabular.Hints, home: str, *, ask: bool, lenient: bool = False
) -> tabular.Hints:
    """Show the detected layout of a file and let the user confirm it. Return `hints`, with the column that the user chose.

    The user is asked only if `ask` is true, and stdin and stderr are terminals. A prompt would block a program that
    captures the output. Raises `Failure`.
    """
    ask = ask and sys.stdin.isatty() and sys.stderr.isatty()
    try:
        with file.open("rb") as opened:
            layout = tabular.read(opened, home, hints, lenient=lenient).layout
    except tabular.Unreadable as error:
        if not ask or not isinstance(error, tabular.SeveralColumns):
            raise Failure("list.unreadable", str(error), field="file") from None
        place, places = "", [str(column.place) for column in error.candidates]
        while place not in places:
            place = typer.prompt(
                f"Which column has the number? {', '.join(map(str, error.candidates))}", err=True
            )
        return confirm(file, structs.replace(hints, column=place), home, ask=ask, lenient=lenient)
    if ask:
        show_fields(file.name, _describe(layout))
        if not typer.confirm("Is this correct?", default=True, err=True):
            raise Failure(
                "list.unreadable",
                "nothing was read. Set --column, --separator or --encoding",
                status=NO,
            )
    return hints


def confirm_for(
    gate: GateClient, campaign: str, file: Path, hints: tabular.Hints, *, ask: bool
) -> tabular.Hints:
    """Confirm the layout of a file that a campaign's gate will read, as `confirm` does, with a gate here. Raises `Failure`."""
    if gate.url:
        return hints
    lines = load_config(gate.config).lines
    line = lines.get(campaign)
    if line is None:
        text = choose("Use one of the configured campaigns", lines)
        raise Failure("campaign.unknown", text, field="campaign")
    return confirm(file, hints, line.dial_region or line.home, ask=ask)


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


def send_file(
    gate: GateClient,
    path: str,
    kind: type[T],
    request: Struct,
    options: dict[str, Any],
    *,
    lenient: bool = False,
) -> T:
    """Let the user confirm the layout of a file, send it to the gate and return the report. Raises `Failure`.

    `request` goes into the query. `options` is the `locals()` of the command; `lenient` is as for `tabular.read`. The layout is
    confirmed only with a gate here, because it depends on the configuration.
    """
    file, hints = options["file"], hints_of(options)
    if not gate.url:
        ask = not (options["yes"] or options["as_json"])
        hints = confirm(file, hints, home_of(gate, options["controller"]), ask=ask, lenient=lenient)
    query = [*query_of(request), *query_of(hints), ("skipped", "true" if options["reasons"] else "")]
    try:
        with (
            reasons_to(options["reasons"]) as note,
            sending(file) as body,
            gate.open(
                "POST", path, body, query=query, media=media_of(file), accepted=range(400, 600)
            ) as response,
        ):
            last = b""
            for line in response:
                if last:
                    note(msgspec.json.decode(last, type=RowProblem))
                last = line
            return gate.decode(response.status, last, kind)
    except Failure as failure:
        # Only an error that names a line is about rows.
        if failure.code != "list.unreadable" or " Line " not in str(failure) or options["reasons"]:
            raise
        skip = "; --skip-bad skips them" if hasattr(request, "skip_bad") else ""
        text = f"{failure} --reasons FILE lists the invalid rows{skip}."
        raise Failure(failure.code, text, field=failure.field) from None


def send_whole(
    gate: GateClient, path: str, kind: type[T], file: Path, query: dict[str, str], *, most: int, advice: str
) -> T:
    """Send a file of at most `most` MiB that the gate keeps, and return the answer. Raises `Failure`."""
    if not 0 < file.stat().st_size <= most << 20:
        text = f"{file} is empty, or has more than {most} MiB. {advice}"
        raise Failure("request.too_large", text, field="file", status=MISUSE)
    with sending(file) as body:
        return gate.send("POST", path, kind, body, query=query, media="application/octet-stream")


def download(gate: GateClient, path: str, query: dict[str, str], out: Path) -> dict[str, Any]:
    """Write the answer of the gate to a file that only its owner can read. Raises `Failure`."""
    with gate.open("GET", path, query=query) as response:
        content = response.read()
    write_out(out, content)
    return {"file": str(out), "bytes": len(content)}


def show_download(written: dict[str, Any]) -> None:
    typer.echo(f"{written['file']}: {written['bytes']:,} bytes")


def hints_of(options: dict[str, Any]) -> tabular.Hints:
    return tabular.Hints(**{name: options[name] for name in tabular.Hints.__struct_fields__})


def query_of(request: Struct) -> Iterator[tuple[str, str]]:
    """Yield the fields of a request as parameters of a query, without empty ones."""
    for name, value in msgspec.to_builtins(request).items():
        if isinstance(value, bool):
            yield name, "true" if value else ""
        elif isinstance(value, (list, tuple)) and value and not isinstance(value[0], str):
            yield name, msgspec.json.encode(value).decode()
        elif isinstance(value, (list, tuple)):
            yield from ((name, item) for item in value)
        elif value:
            yield name, str(value)


def media_of(file: Path) -> str:
    return mimetypes.types_map[".xlsx"] if file.suffix.lower() == ".xlsx" else "text/csv"


def show_import(title: str, counts: Mapping[str, str], report: EntriesReport | RevocationsReport) -> None:
    """Show an import report. `counts` maps each label to the name of a report field."""
    fields = {label: getattr(report, name) for label, name in counts.items()}
    if report.doubtful:
        fields["doubtful"] = report.doubtful
    show_fields(title, fields | {"applies after": report.at})
    show_reasons(report.reasons)
    show_note(report.note)


def show_reasons(reasons: Mapping[str, int]) -> None:
    """Show the totals of the rows that were skipped, by reason."""
    if reasons:
        show_table("Why rows were skipped", ("why", "rows"), list(reasons.items()))


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


def receive_copy(response: IO[bytes], out: Path, sha256: str) -> None:
    """Write the copy to its file, completely or not at all. Raises `Failure`."""
    fresh = out.with_name(f"{out.name}.new")
    try:
        with fresh.open("wb") as file:
            shutil.copyfileobj(response, file)
        if sha256_of(fresh) != sha256:
            raise Failure("gate.unreachable", "the file arrived incomplete. Run the command again")
        fresh.replace(out)
    except OSError as error:
        raise Failure("request.invalid", f"{out}: {error.strerror}", field="out", status=MISUSE) from None
    finally:
        fresh.unlink(missing_ok=True)
