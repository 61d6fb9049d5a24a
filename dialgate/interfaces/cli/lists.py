"""`dialgate list`: call lists, with the origin of their numbers."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from dialgate.core.model import Transfer
from dialgate.interfaces.cli.files import Column, Encoding, Reasons, Separator, Yes, send_file
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate, path_of
from dialgate.interfaces.cli.ledger_access import ControllerId, Time, request, show_note
from dialgate.interfaces.cli.options import AsJson, Failure, reporting
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger import export
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest, Lists, PreviewRequest, RetiredList
from dialgate.ledger.view_schemas import Exports
from dialgate.runtime.terminal import console, show_fields, show_json, show_table

app = typer.Typer()
list_app = typer.Typer(no_args_is_help=True)
app.add_typer(list_app, name="list")

_TRANSFER = re.compile(r"(?P<by>[^>]+)>(?P<to>.+)@(?P<on>\d{4}-\d\d-\d\d)(?P<told>\+told)?")


def _transfer(text: str) -> Transfer:
    parts = _TRANSFER.fullmatch(text)
    try:
        on = date.fromisoformat(parts["on"] if parts else "")
    except ValueError:
        raise typer.BadParameter(
            "write BY>TO@DATE, where BY transferred the list to TO. Append +told if the data subjects were informed."
            ' Example: "Data Srl>Acme Spa@2026-03-01+told"'
        ) from None
    assert parts is not None
    return Transfer(by=parts["by"], to=parts["to"], on=on, subjects_told=bool(parts["told"]))


@list_app.command("load")
@options_of(
    ListRequest,
    transfers=Annotated[
        list[Transfer],
        typer.Option(
            "--transfer",
            parser=_transfer,
            metavar="BY>TO@DATE[+told]",
            help="A transfer of the list from company BY to company TO. Append +told if the data subjects were informed. "
            "Repeat for each transfer, oldest first.",
        ),
    ],
)
@asks_gate
def list_load(
    list_request: ListRequest,
    *,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Text, CSV or XLSX file with one number per row."),
    ],
    controller: str,
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    reasons: Reasons = None,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Load a call list. A number may be called only if it is on a list or has another legal basis.

    The encoding, the separator and the number column are detected. On a terminal, you are asked to confirm them. Rows
    without a valid number are skipped and reported by line.

    dialgate list load november.csv --id november --campaign acme-fibre --basis directory
    --origin public_directory --collected-by "Pagine Bianche" --collected-on 2026-11-02
    """
    report = send_file(gate, "/v1/lists", ListReport, list_request, locals())
    if as_json:
        show_json(report)
    else:
        _show_report(report)


def _show_report(report: ListReport) -> None:
    fields = {
        "rows": report.rows,
        "accepted": report.accepted,
        "duplicates": report.duplicates,
        "skipped, no valid number": report.refused,
        "skipped, doubtful": report.doubtful,
        "in force": report.in_force,
    }
    show_fields(f"List {report.info.id}", fields)
    show_note(report.note)
    if report.unstated:
        typer.echo(
            f"The list does not yet permit calls to {report.unstated:,} of its numbers. For some kinds of number,"
            " such as mobiles, the row itself must state the basis. Add a column `basis` with the value `directory`,"
            " or record consents."
        )
    if report.problems:
        rows = [(str(row.line), row.problem) for row in report.problems]
        show_table(
            "Skipped" if len(rows) == report.refused else f"The first {len(rows)} skipped",
            ("line", "why"),
            rows,
        )


@list_app.command("show")
@asks_gate
def list_show(
    *,
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Only this list.", show_default=False)] = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Show one list by its ID, or all lists, including retired ones. Exit 1: no list has this ID.

    dialgate list show
    """
    with reporting(as_json=as_json):
        lists = gate.ask("GET", "/v1/lists", Lists).lists
        shown = [call_list for call_list in lists if id_ in {"", call_list.id}]
        if id_ and not shown:
            raise Failure(
                "list.unknown", f"there is no list {id_}. `dialgate list show` lists all of them", field="id"
            )
    if as_json:
        show_json(shown)
    else:
        _show_lists(shown)


@list_app.command("retire")
@asks_gate
def list_retire(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="List ID.", show_default=False)],
    controller: ControllerId = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Retire a list, so that it no longer permits any calls. It stays on record.

    A gate on this node applies the change before the command ends. Other nodes follow within a second.

    dialgate list retire november
    """
    with reporting(as_json=as_json):
        path = path_of("/v1/lists", id_, "retire")
        retired = gate.ask("POST", path, RetiredList, query={"controller": controller})
    if as_json:
        show_json(retired)
    else:
        _show_lists([retired])
        typer.echo(f"The list was retired. Takes effect: {retired.in_force}")


@list_app.command("preview")
@asks_gate
def list_preview(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="List ID.", show_default=False)],
    campaign: Annotated[
        str, typer.Option(help="The campaign that would call the list. Default: all campaigns of the list.")
    ] = "",
    at: Time = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Count the callable numbers on a list, and the denied numbers by reason. Nothing is recorded.

    With --json, the output is an object if --campaign is given, otherwise an array.

    dialgate list preview november --campaign acme-fibre
    """
    with reporting(as_json=as_json):
        ask = request(PreviewRequest, {"campaign": campaign, "at": at})
        with console(stderr=True).status("previewing"):
            previews = gate.ask("POST", path_of("/v1/lists", id_, "preview"), export.Previews, ask).previews
    if as_json:
        show_json(previews[0] if campaign else previews)
    else:
        for preview in previews:
            _show_preview(preview)


def _show_preview(preview: export.Preview) -> None:
    rows = [("callable now", "", preview.callable)]
    rows += [(group.code, group.text, group.numbers) for group in preview.groups]
    title = f"{preview.campaign}: of {preview.numbers:,} numbers, at {preview.at}"
    show_table(title, ("", "", "numbers"), rows)
    if preview.later:
        show_table("Callable later", ("from", "numbers"), [(time.at, time.numbers) for time in preview.later])


@list_app.command("exports")
@asks_gate
def list_exports(*, gate: GateClient, as_json: AsJson = False) -> None:
    """Show the exports made by `dialgate scrub`: copies of lists with a verdict on every row.

    dialgate list exports
    """
    with reporting(as_json=as_json):
        exports = gate.ask("GET", "/v1/exports", Exports).exports
    if as_json:
        show_json(exports)
        return
    names = ("campaign", "rows", "allowed", "sha256")
    rows = [
        (entry.at, entry.actor, entry.proof, *(str(entry.details[name]) for name in names))
        for entry in exports
    ]
    show_table("", ("at", "by", "proof", *names), rows)


def _show_lists(lists: list[ListInfo]) -> None:
    show_table(
        "",
        ("list", "campaigns", "numbers", "collected", "transferred", "loaded", "by", "retired"),
        [
            (
                call_list.id,
                " ".join(call_list.campaigns),
                call_list.numbers,
                f"{call_list.origin.collected_by}, {call_list.origin.collected_on}",
                " ".join(f"{step.by}>{step.to}@{step.on}" for step in call_list.origin.transfers),
                call_list.loaded_at,
                call_list.actor,
                call_list.retired_at,
            )
            for call_list in lists
        ],
    )
