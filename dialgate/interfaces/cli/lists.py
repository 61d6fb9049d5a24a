"""Commands for call lists: where the numbers to call come from."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from dialgate.config.clients import Client
from dialgate.core.model import Transfer
from dialgate.interfaces.cli.files import (
    Column,
    Encoding,
    Reasons,
    Separator,
    Yes,
    confirm,
    home_of,
    reading,
    reasons_to,
)
from dialgate.interfaces.cli.ledger_access import (
    ControllerId,
    Time,
    instant,
    write,
)
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, Failure, reporting
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger import export
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest
from dialgate.lists import tabular
from dialgate.runtime.terminal import progress, show_fields, show_json, show_table

app = typer.Typer()
list_app = typer.Typer(no_args_is_help=True, help="Call lists, with where their numbers come from.")
app.add_typer(list_app, name="list")

_TRANSFER = re.compile(r"(?P<by>[^>]+)>(?P<to>.+)@(?P<on>\d{4}-\d\d-\d\d)(?P<told>\+told)?")


def _transfer(text: str) -> Transfer:
    found = _TRANSFER.fullmatch(text)
    try:
        on = date.fromisoformat(found["on"] if found else "")
    except ValueError:
        raise typer.BadParameter(
            'write who ceded to whom and when, and +told if the people were: "Data Srl>Acme Spa@2026-03-01+told"'
        ) from None
    assert found is not None
    return Transfer(by=found["by"], to=found["to"], on=on, subjects_told=bool(found["told"]))


@list_app.command("load")
@options_of(
    ListRequest,
    transfers=Annotated[
        list[Transfer],
        typer.Option(
            "--transfer",
            parser=_transfer,
            metavar="BY>TO@DATE[+told]",
            help="A cession since, oldest first; +told: the people on it were told. May be given again.",
        ),
    ],
)
def list_load(
    ask: ListRequest,
    *,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Text, CSV or XLSX, a number a row.")
    ],
    controller: str,
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    reasons: Reasons = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Load a call list. A number that is on no list, and has no basis of its own, is not called.

    Encoding, separator and the number's column are found and, on a terminal, shown for you to confirm. Rows that hold no
    number are left out and reported by their line.

    dialgate list load november.csv --id november --campaign acme-fibre --basis directory
    --collected-by "Pagine Bianche" --collected-on 2026-11-02"""
    hints = tabular.Hints(encoding=encoding, separator=separator, column=column)
    confirm(file, hints, home_of(config, controller), ask=not (yes or as_json))
    with reading(file) as opened, reasons_to(reasons) as note:
        report = write(
            config,
            lambda registrar, client: registrar.call_lists.load_list(client, ask, opened, hints, note),
        )
    if as_json:
        show_json(report)
    else:
        _show_report(report)


def _show_report(report: ListReport) -> None:
    counts = {
        "rows": report.rows,
        "accepted": report.accepted,
        "duplicates": report.duplicates,
        "left out, no number": report.refused,
    }
    fields = {name: f"{count:,}" for name, count in counts.items()} | {"in force": report.in_force}
    show_fields(f"List {report.info.id}", fields)
    if report.unstated:
        typer.echo(
            f"{report.unstated:,} numbers, such as mobiles, are in the directory only if their own row says so. Add a column"
            " `basis` with `directory`, or record consents; until then the list opens no call to them."
        )
    if report.problems:
        rows = [(str(row.line), row.problem) for row in report.problems]
        show_table(
            "Left out" if len(rows) == report.refused else f"The first {len(rows)} left out",
            ("line", "why"),
            rows,
        )


@list_app.command("show")
def list_show(
    *,
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="One list only.", show_default=False)] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the lists that were ever loaded, retired ones too. Exit 1 where the one asked for is not there.

    dialgate list show"""
    with reporting(as_json=as_json):
        lists = write(config, lambda registrar, client: registrar.call_lists.lists(client))
        shown = [each for each in lists if id_ in {"", each.id}]
        if id_ and not shown:
            raise Failure("list.unknown", f"no list {id_} was ever loaded", field="id")
    if as_json:
        show_json(shown)
    else:
        _show_lists(shown)


@list_app.command("retire")
def list_retire(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The list.", show_default=False)],
    controller: ControllerId = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Stop calling a list. What it was stays on record.

    A gate that runs on this node has stopped before the command ends; other nodes follow within a second.

    dialgate list retire november"""
    with reporting(as_json=as_json):
        retired = write(
            config, lambda registrar, client: registrar.call_lists.retire_list(client, id_, controller)
        )
    if as_json:
        show_json(retired)
    else:
        _show_lists([retired])
        typer.echo(f"in force: {retired.in_force}")


@list_app.command("preview")
def list_preview(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The list.", show_default=False)],
    campaign: Annotated[
        str, typer.Option(help="The campaign that would call it; else each that it was loaded for.")
    ] = "",
    at: Time = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say how many numbers of a list may be called, and why the others may not. Nothing is recorded.

    With --json one object for --campaign, and without it an array.

    dialgate list preview november --campaign acme-fibre"""
    with reporting(as_json=as_json):
        when = instant(at)
        with progress() as bar:
            task = bar.add_task(id_, total=None)

            def done(some: int, total: int) -> None:
                bar.update(task, total=total, advance=some)

            async def each(registrar: Registrar, client: Client) -> list[export.Preview]:
                names = [campaign] if campaign else await registrar.call_lists.campaigns_of(client, id_)
                orders = [export.Order(campaign=name, at=when) for name in names]
                return [await export.preview(registrar, client, id_, order, done) for order in orders]

            told = write(config, each)
    if as_json:
        show_json(told[0] if campaign else told)
    else:
        for preview in told:
            _show_preview(preview)


def _show_preview(told: export.Preview) -> None:
    rows = [("callable now", "", f"{told.callable:,}")]
    rows += [(group.code, group.text, f"{group.numbers:,}") for group in told.groups]
    title = f"{told.campaign}: of {told.numbers:,} numbers, at {told.at}"
    show_table(title, ("", "", "numbers"), rows)
    if told.later:
        show_table(
            "Callable later", ("from", "numbers"), [(each.at, f"{each.numbers:,}") for each in told.later]
        )


@list_app.command("exports")
def list_exports(*, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show which lists left with verdicts on their rows.

    dialgate list exports"""
    with reporting(as_json=as_json):
        told = write(config, lambda registrar, client: registrar.list_exports.exports(client))
    if as_json:
        show_json(told)
        return
    names = ("campaign", "rows", "allowed", "sha256")
    rows = [(each.at, each.actor, each.proof, *(str(each.details[name]) for name in names)) for each in told]
    show_table("", ("at", "by", "on the ground", *names), rows)


def _show_lists(lists: list[ListInfo]) -> None:
    show_table(
        "",
        ("list", "campaigns", "numbers", "collected", "ceded", "loaded", "by", "retired"),
        [
            (
                each.id,
                " ".join(each.campaigns),
                f"{each.numbers:,}",
                f"{each.origin.collected_by}, {each.origin.collected_on}",
                " ".join(f"{step.by}>{step.to}@{step.on}" for step in each.origin.transfers),
                each.loaded_at,
                each.actor,
                each.retired_at,
            )
            for each in lists
        ],
    )
