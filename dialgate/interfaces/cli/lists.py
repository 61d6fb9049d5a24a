"""`dialgate list`: call lists, with the origin of their numbers."""

import re
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dialgate.core.model import Transfer
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.files import (
    Column,
    Encoding,
    Reasons,
    Separator,
    Yes,
    confirm_for,
    hints_of,
    media_of,
    query_of,
    receive_copy,
    send_file,
    show_reasons,
)
from dialgate.interfaces.cli.gate_client import JSON, Body, GateClient, path_of
from dialgate.interfaces.cli.ledger_access import Actor, ControllerId, Proof, Time, request, show_note
from dialgate.interfaces.cli.options import AsJson, Failure
from dialgate.interfaces.cli.request_options import options_of
from dialgate.interfaces.http.headers import PLANNED
from dialgate.ledger.call_plans import MEDIA as PLAN_MEDIA
from dialgate.ledger.export_requests import PlanRequest, PreviewRequest
from dialgate.ledger.list_exports import PlanReport, Preview, Previews
from dialgate.ledger.schemas import ListInfo, ListReport, ListRequest, Lists, RetiredList
from dialgate.ledger.view_schemas import Exports, HistoryEntry
from dialgate.runtime.terminal import MISUSE, console, sending, show_fields, show_table

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
    show_reasons(report.reasons)
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


def _show_lists(lists: list[ListInfo]) -> None:
    show_rows(
        "",
        lists,
        {
            "list": "id",
            "campaigns": lambda info: " ".join(info.campaigns),
            "numbers": "numbers",
            "collected": lambda info: f"{info.origin.collected_by}, {info.origin.collected_on}",
            "transferred": lambda info: " ".join(
                f"{step.by}>{step.to}@{step.on}" for step in info.origin.transfers
            ),
            "loaded": "loaded_at",
            "by": "actor",
            "retired": "retired_at",
        },
    )


def _show_retired(retired: RetiredList) -> None:
    _show_lists([retired])
    typer.echo(f"The list was retired. Takes effect: {retired.in_force}")


def _show_previews(previews: Preview | list[Preview]) -> None:
    for preview in previews if isinstance(previews, list) else [previews]:
        rows = [("callable now", "", preview.callable)]
        rows += [(group.code, group.text, group.numbers) for group in preview.groups]
        title = f"{preview.campaign}: of {preview.numbers:,} numbers, at {preview.at}"
        show_table(title, ("", "", "numbers"), rows)
        if preview.later:
            show_rows("Callable later", preview.later, {"from": "at", "numbers": "numbers"})
        if preview.answers_end:
            show_rows(
                "Registry answers that permit calls", preview.answers_end, {"end": "at", "numbers": "numbers"}
            )


def _show_planned(done: tuple[Path, PlanReport]) -> None:
    out, planned = done
    fields = {
        "numbers": planned.rows,
        "callable at the beginning": planned.now,
        "callable later": planned.later,
        "never callable": planned.never,
        "ledger entry": planned.seq,
        "sha256": planned.sha256,
    }
    show_fields(f"{out}, from {planned.at} until {planned.until}", fields)
    show_note(planned.note)


def _show_exports(exports: list[HistoryEntry]) -> None:
    names = ("campaign", "rows", "allowed", "sha256")
    rows = [
        (entry.at, entry.actor, entry.proof, *(str(entry.details[name]) for name in names))
        for entry in exports
    ]
    show_table("", ("at", "by", "proof", *names), rows)


@list_app.command("load")
@command(_show_report)
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
) -> ListReport:
    """Load a call list. A number may be called only if it is on a list or has another legal basis.

    The encoding, the separator and the number column are detected. On a terminal, you are asked to confirm them. Rows
    without a valid number are skipped and reported by line.

    dialgate list load november.csv --id november --campaign acme-fibre --basis directory
    --origin public_directory --collected-by "Pagine Bianche" --collected-on 2026-11-02
    """
    return send_file(gate, "/v1/lists", ListReport, list_request, locals())


@list_app.command("show")
@command(_show_lists)
def list_show(
    *,
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Only this list.", show_default=False)] = "",
    gate: GateClient,
) -> list[ListInfo]:
    """Show one list by its ID, or all lists, including retired ones. Exit 1: no list has this ID.

    dialgate list show
    """
    lists = gate.send("GET", "/v1/lists", Lists).lists
    shown = [call_list for call_list in lists if id_ in {"", call_list.id}]
    if id_ and not shown:
        raise Failure(
            "list.unknown", f"there is no list {id_}. `dialgate list show` lists all of them", field="id"
        )
    return shown


@list_app.command("retire")
@command(_show_retired)
def list_retire(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="List ID.", show_default=False)],
    controller: ControllerId = "",
    gate: GateClient,
) -> RetiredList:
    """Retire a list, so that it no longer permits any calls. It stays on record.

    A gate on this node applies the change before the command ends. Other nodes follow within a second.

    dialgate list retire november
    """
    return gate.send(
        "POST", path_of("/v1/lists", id_, "retire"), RetiredList, query={"controller": controller}
    )


@list_app.command("preview")
@command(_show_previews)
def list_preview(
    *,
    id_: Annotated[str, typer.Argument(metavar="ID", help="List ID.", show_default=False)],
    campaign: Annotated[
        str, typer.Option(help="The campaign that would call the list. Default: all campaigns of the list.")
    ] = "",
    at: Time = "",
    gate: GateClient,
) -> Preview | list[Preview]:
    """Count the callable numbers on a list of at least 50 numbers, and the denied numbers by reason. The preview is recorded.

    With --json, the output is an object if --campaign is given, otherwise an array.

    dialgate list preview november --campaign acme-fibre
    """
    preview_request = request(PreviewRequest, {"campaign": campaign, "at": at})
    with console(stderr=True).status("previewing"):
        previews = gate.send("POST", path_of("/v1/lists", id_, "preview"), Previews, preview_request).previews
    return previews[0] if campaign else previews


def _format_of(out: Path) -> str:
    suffix = out.suffix.lower().removeprefix(".")
    return suffix if suffix in PLAN_MEDIA else "csv"


@list_app.command("plan")
@command(_show_planned, data=lambda done: done[1])
def list_plan(
    *,
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="ID of a loaded list.", show_default=False)] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Text, CSV or XLSX file with one number per row, instead of a list.",
        ),
    ] = None,
    campaign: Annotated[str, typer.Option(help="The campaign that would call the numbers.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            dir_okay=False,
            help="File to write: NDJSON or JSON if its name ends so, otherwise CSV.",
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=14, help="Length of the plans, in days of 24 hours.")] = 7,
    now: Annotated[
        bool, typer.Option("--now", help="Only numbers to which a call is permitted now.")
    ] = False,
    at: Time = "",
    encoding: Encoding = "",
    separator: Separator = "",
    column: Column = "",
    yes: Yes = False,
    proof: Proof = "",
    actor: Actor = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> tuple[Path, PlanReport]:
    """Write for each number when calls would be permitted in the next days, and the first reason for a denial at other times.

    Times are those of the called person's time zone. The plans assume that nothing is recorded meanwhile, so each call still needs
    a check. They are recorded in the ledger, with --actor and --proof, before the output file is created.

    dialgate list plan november --campaign acme-fibre --days 3 -o november-plan.csv
    """
    options = {**locals(), "format": _format_of(out)}
    ask = request(PlanRequest, options)
    if bool(id_) == bool(file):
        raise Failure("request.invalid", "name a list or --file", field="id", status=MISUSE)
    with ExitStack() as stack:
        query, media = list[tuple[str, str]](), JSON
        content: Body = None
        if file is None:
            content = msgspec.to_builtins(ask) | {"list": id_}
            stack.enter_context(console(stderr=True).status(f"planning {id_}"))
        else:
            hints = confirm_for(gate, campaign, file, hints_of(options), ask=not (yes or as_json))
            query, media = [*query_of(ask), *query_of(hints)], media_of(file)
            content = stack.enter_context(sending(file))
        response = stack.enter_context(gate.open("POST", "/v1/plan", content, query=query, media=media))
        planned = msgspec.json.decode(response.headers[PLANNED], type=PlanReport)
        receive_copy(response, out, planned.sha256)
    return out, planned


@list_app.command("exports")
@command(_show_exports)
def list_exports(*, gate: GateClient) -> list[HistoryEntry]:
    """Show the exports of lists: copies with a verdict on every row (`dialgate scrub`), plans and previews.

    dialgate list exports
    """
    return gate.send("GET", "/v1/exports", Exports).exports
