"""`dialgate subject`: data-subject requests."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import typer

from dialgate.audit import explanation
from dialgate.cluster.personal_data import CaseInfo, DecisionLine
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.files import Out, write_out
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate, path_of
from dialgate.interfaces.cli.ledger_access import Actor, ControllerId, Proof, request
from dialgate.interfaces.cli.options import Number, reporting
from dialgate.interfaces.cli.request_options import options_of
from dialgate.interfaces.http.administration_schemas import LookupKind, LookupsRequest
from dialgate.runtime.terminal import NO, show_fields
from dialgate.subjects.schemas import (
    MISSING_HEADER,
    CaseRequest,
    Cases,
    CaseStep,
    Erasure,
    ErasureRequest,
    ExecutionRequest,
    Portable,
    RectificationRequest,
    Rectified,
    Report,
    SubjectCase,
)
from dialgate.texts import Language

app = typer.Typer()
subject_app = typer.Typer(no_args_is_help=True)
app.add_typer(subject_app, name="subject")
_SUBJECTS, _REQUESTS = "/v1/subjects", "/v1/subject-requests"

Purpose: TypeAlias = Annotated[
    str, typer.Option(help="Reason for the look-up. The reason is recorded, and the data subject can see it.")
]
RequestId: TypeAlias = Annotated[
    str,
    typer.Option("--request", metavar="ID", help="ID of the data-subject request; see `subject requests`."),
]


def record_lookups(
    gate: GateClient, numbers: Sequence[str], purpose: str, what: LookupKind, controller: str = ""
) -> None:
    """Record that the user sees data about numbers (E.164) that a command reads from files."""
    request_ = LookupsRequest(numbers=tuple(numbers), purpose=purpose, what=what, controller=controller)
    with gate.open("POST", "/v1/lookups", request_):
        pass


def show_missing(missing: Mapping[str, str]) -> None:
    for node, why in missing.items():
        typer.echo(f"{node} could not be queried: {why}.", err=True)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _show_data(report: Report) -> None:
    def why(decision: DecisionLine) -> str:
        return " ".join(reason.code for reason in decision.reasons) or decision.basis

    show_rows(
        "Ledger",
        report.ledger,
        {
            "entry": lambda entry: str(entry.seq),
            "at": "at",
            "what": "kind",
            "by": "actor",
            "channel": "channel",
        },
    )
    show_rows(
        "Decisions",
        report.decisions,
        {"at": "at", "decision": "decision", "campaign": "campaign", "why": why},
    )
    if report.holder_changed_at:
        typer.echo(
            f"The number was reported as another person's at {report.holder_changed_at}. Earlier data may be about its"
            " previous holder and is left out. If the report is wrong, lift it with `dialgate number confirm`."
        )
    for notice in explanation.notices("en", report.retired_months, {}, {}, nothing=False):
        typer.echo(notice)
    show_rows("Look-ups", report.lookups, {"at": "at", "client": "client", "what": "what", "why": "purpose"})
    restricted = f"{len(report.restricted)} restricted entries"
    lists = ", ".join(listing.list for listing in report.lists) or "none"
    typer.echo(f"On lists: {lists}. {restricted}. `--language it` or `--json` shows all data.")


@subject_app.command("show")
@command(_show_data, ok=lambda report: not report.missing)
def subject_show(
    *,
    number: Number,
    purpose: Purpose,
    controller: ControllerId = "",
    language: Annotated[
        Language | None,
        typer.Option(help="Write an HTML page in this language. Default: a summary, or JSON with --json."),
    ] = None,
    out: Out = None,
    gate: GateClient,
) -> Report | None:
    """Show all data about a number, and the clients that looked the number up (GDPR art. 15).

    If gates share a store, the report includes data from all of them. Exit 1: a gate could not be queried.

    dialgate subject show +390612345678 --purpose "request 5f0c2a9b" --language it --out report.html
    """
    path, query = path_of(_SUBJECTS, number), {"purpose": purpose, "controller": controller}
    if language is None:
        report = gate.send("GET", path, Report, query=query)
        show_missing(report.missing)
        if out is None:
            return report
        text, missing = msgspec.json.encode(report) + b"\n", ", ".join(report.missing)
    else:  # the gate has the operator's templates
        with gate.open("GET", path, query=query | {"language": language}) as response:
            text, missing = response.read(), response.headers.get(MISSING_HEADER, "")
        if missing:
            typer.echo(f"These gates could not be queried: {missing}.", err=True)
    write_out(out, text) if out else typer.echo(text.decode())
    if missing:
        raise typer.Exit(NO)
    return None


@subject_app.command("export")
@asks_gate
def subject_export(
    *,
    number: Number,
    purpose: Purpose,
    controller: ControllerId = "",
    out: Out = None,
    gate: GateClient,
) -> None:
    """Write the data that the data subject provided, as JSON for another controller (GDPR art. 20).

    dialgate subject export +390612345678 --purpose "request 5f0c2a9b" --out portable.json
    """
    with reporting(as_json=out is None):
        query = {"purpose": purpose, "controller": controller}
        data = gate.send("GET", path_of(_SUBJECTS, number, "portability"), Portable, query=query)
        text = msgspec.json.format(msgspec.json.encode(data)).decode()
        if out is None:
            typer.echo(text)
        else:
            write_out(out, f"{text}\n")


# ---- requests --------------------------------------------------------------------------------------------------------


def _show_case(case: CaseInfo) -> None:
    if case.closed_at:
        typer.echo(f"request {case.id}: closed")
    else:
        typer.echo(f"request {case.id}: due on {case.due_at} ({case.days_left} days left)")


def _show_cases(cases: list[CaseInfo]) -> None:
    show_rows(
        "Open requests",
        cases,
        {
            "id": "id",
            "controller": "controller",
            "kind": "kind",
            "received": lambda case: case.received_at[:10],
            "due": lambda case: case.due_at[:10],
            "days left": lambda case: str(case.days_left),
        },
        whole=1,
    )


@subject_app.command("ask")
@command(_show_case)
@options_of(CaseRequest)
def subject_ask(
    case_request: CaseRequest,
    *,
    number: Number,
    gate: GateClient,
) -> CaseInfo:
    """Record a data-subject request. The response is due within one month (GDPR art. 12).

    dialgate subject ask +390612345678 --kind erasure --identified "read back a code when called" --channel pec
    """
    return gate.send("POST", path_of(_SUBJECTS, number, "requests"), CaseInfo, case_request)


@subject_app.command("requests")
@command(
    _show_cases,
    data=lambda cases: {"requests": cases},
    ok=lambda cases: all(case.days_left >= 0 for case in cases),
)
def subject_requests(*, gate: GateClient) -> list[CaseInfo]:
    """Show the open data-subject requests, ordered by deadline. Exit 1: a request is overdue.

    dialgate subject requests --json
    """
    return gate.send("GET", _REQUESTS, Cases).requests


@subject_app.command("close")
@command(_show_case)
def subject_close(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Request ID.")],
    outcome: Annotated[
        Literal["answered", "refused", "extended", "withdrawn", "noted", "assigned", "sent"],
        typer.Option(
            help="`extended` extends the deadline by two months. `noted`, `assigned` and `sent` leave the request open."
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            help="The response to the data subject, and the channel by which it was sent. Or the note, the person who works on it, or the letter that was sent."
        ),
    ],
    actor: Actor = "",
    gate: GateClient,
) -> CaseInfo:
    """Close a data-subject request, extend its deadline by two months, or add a remark.

    dialgate subject close 5f0c2a9be41d7703 --outcome answered --reason "report sent by pec"
    """
    step = CaseStep(outcome=outcome, reason=reason, actor=actor)
    return gate.send("POST", path_of(_REQUESTS, name), CaseInfo, step)


def _show_file(file: SubjectCase) -> None:
    _show_case(file.request)
    show_fields(
        "Request",
        {
            "kind": file.request.kind,
            "person": file.number or file.request.person,
            "assignee": file.request.assignee,
        },
    )
    show_rows("Steps", file.steps, {"at": "at", "step": "step", "text": "text", "by": "actor"})
    if file.attachments:
        show_rows(
            "Attachments",
            file.attachments,
            {"at": "at", "name": "name", "bytes": "bytes", "by": "actor", "SHA-256": "sha256"},
            whole=5,
        )
    show_missing(file.missing)


@subject_app.command("case")
@command(_show_file)
def subject_case(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Request ID.")],
    purpose: Annotated[
        str, typer.Option(help="Reason for showing the number, which is recorded. Default: it is masked.")
    ] = "",
    gate: GateClient,
) -> SubjectCase:
    """Show a data-subject request with its steps.

    dialgate subject case 5f0c2a9be41d7703
    """
    return gate.send("GET", path_of(_REQUESTS, name), SubjectCase, query={"purpose": purpose})


@subject_app.command("execute")
@command(_show_file, ok=lambda file: not file.missing)
def subject_execute(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Request ID.")],
    actor: Actor = "",
    gate: GateClient,
) -> SubjectCase:
    """Do what an erasure, restriction or objection asks for, and leave the request open for the answer. An erasure cannot be undone.

    Exit 1: a gate could not be queried; repeat it.

    dialgate subject execute 5f0c2a9be41d7703
    """
    return gate.send(
        "POST", path_of(_REQUESTS, name, "execution"), SubjectCase, ExecutionRequest(actor=actor)
    )


def _show_rectified(rectified: Rectified) -> None:
    typer.echo(f"entry {rectified.of} was corrected by entry {rectified.receipt.seq}")
    _show_next(rectified.request)


def _show_next(name: str) -> None:
    typer.echo(
        f"The request stays open. Answer the person, then: dialgate subject close {name} --outcome answered --reason TEXT"
    )


@subject_app.command("rectify")
@command(_show_rectified)
def subject_rectify(
    *,
    number: Number,
    request_: RequestId,
    of: Annotated[int, typer.Option(metavar="SEQ", help="`seq` of the ledger entry to correct.")],
    fields: Annotated[
        list[str],
        typer.Option("--set", metavar="NAME=JSON", help="Field and its corrected value. May be repeated."),
    ],
    controller: ControllerId = "",
    proof: Proof = "",
    actor: Actor = "",
    gate: GateClient,
) -> Rectified:
    """Correct a consent, contract or call request by adding a new entry (GDPR art. 16). The request stays open.

    dialgate subject rectify +390612345678 --request 5f0c2a9b --of 812 --set goods=["broadband"]
    """
    options = locals()
    rectification = request(RectificationRequest, {**options, "fields": dict(map(_pair, fields))})
    return gate.send("POST", path_of(_SUBJECTS, number, "rectification"), Rectified, rectification)


def _pair(text: str) -> tuple[str, Any]:
    """Split NAME=JSON. A value that is not valid JSON is used as a string."""
    name, _, value = text.partition("=")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def _show_erasure(erasure: Erasure) -> None:
    show_rows(
        "Erasure",
        erasure.items,
        {
            "what": "what",
            "name": "name",
            "result": "done",
            "why": "why",
            "law": "law",
            "until": lambda item: item.until[:10],
        },
    )
    suppression = erasure.suppression
    typer.echo(f"The number is suppressed as of {suppression.at} (ledger entry {suppression.seq}).")
    if not erasure.missing:
        _show_next(erasure.request)


@subject_app.command("erase")
@command(_show_erasure, ok=lambda erasure: not erasure.missing)
@options_of(ErasureRequest, fixed={"channel": ""}, request=RequestId)
def subject_erase(
    erasure_request: ErasureRequest,
    *,
    number: Number,
    gate: GateClient,
) -> Erasure:
    """Erase the data about a number, and suppress the number (GDPR art. 17). This cannot be undone.

    Data that must be kept is restricted instead. If gates share a store, all of them erase their data. Exit 1: a gate
    could not be queried. The request stays open: write the letter, then close it.

    dialgate subject erase +390612345678 --request 5f0c2a9be41d7703
    """
    erasure = gate.send("POST", path_of(_SUBJECTS, number, "erasure"), Erasure, erasure_request)
    show_missing(erasure.missing)
    return erasure
