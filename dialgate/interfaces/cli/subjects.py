"""Commands for the rights of the person called."""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import msgspec
import typer

from dialgate.cluster.personal_data import CaseInfo
from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.interfaces.cli.ledger_access import Actor, ControllerId, Proof, request
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    Number,
    load_config,
    reporting,
)
from dialgate.interfaces.cli.request_options import options_of
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import NO, show_json, show_table
from dialgate.subjects import page
from dialgate.subjects.page import Language
from dialgate.subjects.rights import Subjects
from dialgate.subjects.schemas import (
    CaseRequest,
    CaseStep,
    Erasure,
    ErasureRequest,
    RectificationRequest,
    Report,
)

T = TypeVar("T")
Act: TypeAlias = Callable[[Subjects, Client], Awaitable[T]]

app = typer.Typer()
subject_app = typer.Typer(no_args_is_help=True, help="The rights of the person called (GDPR art. 12 to 20).")
app.add_typer(subject_app, name="subject")

Purpose: TypeAlias = Annotated[
    str, typer.Option(help="Why you look; it is recorded, and the person may ask.")
]
RequestId: TypeAlias = Annotated[
    str, typer.Option("--request", metavar="ID", help="The request it is for; see `subject requests`.")
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(dir_okay=False, help="Write to this file, for its owner alone.")
]


def act(path: Path, step: Act[T]) -> T:
    """Beside a running gate or in its absence. Raises Failure."""
    return asyncio.run(_acted(load_config(path), step))


async def _acted(config: Config, step: Act[T]) -> T:
    # Whoever may run this can read the files themselves; that they looked is recorded all the same, under their name.
    client = Client(name=f"cli:{_who()}", controllers=tuple(config.controllers), scopes=get_args(Scope))
    try:
        async with Subjects.standalone(config, wall_clock) as subjects:
            return await step(subjects, client)
    except Refused as refused:
        raise Failure(refused.code, refused.message, field=refused.field) from None
    except Unavailable as fault:
        raise Failure(f"{fault.component}.unavailable", str(fault)) from None


def _who() -> str:
    named = next(filter(None, map(os.environ.get, ("DIALGATE_ACTOR", "SUDO_USER", "USER"))), "")
    if named:
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name  # a timer, or a container, has no USER
    except KeyError:
        return f"uid-{os.getuid()}"


def show_missing(missing: Mapping[str, str]) -> None:
    for node, why in missing.items():
        typer.echo(f"{node} was not asked: {why}.", err=True)


def _end(missing: Mapping[str, str]) -> None:
    show_missing(missing)
    if missing:
        raise typer.Exit(NO)


def write_out(path: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise Failure("file.unwritable", f"{path}: {error.strerror}") from None


# ---- reading ---------------------------------------------------------------------------------------------------------


@subject_app.command("show")
def subject_show(
    *,
    number: Number,
    purpose: Purpose,
    controller: ControllerId = "",
    language: Annotated[
        Language | None, typer.Option(help="As a page to read; else a summary, or JSON with --json.")
    ] = None,
    out: Out = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show everything held about a number, and who saw it (GDPR art. 15). Where gates share a store, by all of them; exit 1 where
    one could not be asked.

    dialgate subject show +390612345678 --purpose "request 5f0c2a9b" --language it --out report.html"""
    with reporting(as_json=as_json):
        told = act(config, lambda subjects, client: subjects.report(client, controller, number, purpose))
        text = page.page(told, language) if language else f"{msgspec.json.encode(told).decode()}\n"
        if out is not None:
            write_out(out, text)
        elif language is None:
            _show(told, as_json=as_json)
        else:
            typer.echo(text)
    _end(told.missing)


def _show(told: Report, *, as_json: bool) -> None:
    if as_json:
        show_json(told)
        return
    show_table(
        "Ledger",
        ("entry", "at", "what", "by", "channel"),
        [(str(each.seq), each.at, each.kind, each.actor, each.channel) for each in told.ledger],
    )
    show_table(
        "Decisions",
        ("at", "decision", "campaign", "why"),
        [
            (each.at, each.decision, each.campaign, " ".join(why.code for why in each.reasons) or each.basis)
            for each in told.decisions
        ],
    )
    show_table(
        "Seen by",
        ("at", "client", "what", "why"),
        [(each.at, each.client, each.what, each.purpose) for each in told.lookups],
    )
    restricted = f"{len(told.restricted)} restricted entries"
    lists = ", ".join(each.list for each in told.lists) or "none"
    typer.echo(f"On lists: {lists}. {restricted}. `--language it` or `--json` tells everything.")


@subject_app.command("export")
def subject_export(
    *,
    number: Number,
    purpose: Purpose,
    controller: ControllerId = "",
    out: Out = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Write what the person provided, as JSON for another controller (GDPR art. 20).

    dialgate subject export +390612345678 --purpose "request 5f0c2a9b" --out portable.json"""
    with reporting(as_json=out is None):
        told = act(
            config, lambda subjects, client: subjects.export_portable(client, controller, number, purpose)
        )
        text = msgspec.json.format(msgspec.json.encode(told)).decode()
        if out is None:
            typer.echo(text)
        else:
            write_out(out, f"{text}\n")


# ---- requests --------------------------------------------------------------------------------------------------------


@subject_app.command("ask")
@options_of(CaseRequest)
def subject_ask(
    ask: CaseRequest,
    *,
    number: Number,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Note that a person asked. From then on a month runs (GDPR art. 12).

    dialgate subject ask +390612345678 --kind erasure --identified "code read back on a call to it" --channel pec"""
    case = act(config, lambda subjects, client: subjects.ask(client, number, ask))
    _show_case(case, as_json=as_json)


@subject_app.command("requests")
def subject_requests(*, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show the open requests, the most urgent first. Exit 1 where one is late.

    dialgate subject requests --json"""
    with reporting(as_json=as_json):
        told = act(config, lambda subjects, client: subjects.deadlines.open_cases(client))
    if as_json:
        show_json({"requests": told})
    else:
        show_table(
            "Open requests",
            ("id", "controller", "kind", "received", "due", "days left"),
            [
                (
                    each.id,
                    each.controller,
                    each.kind,
                    each.received_at[:10],
                    each.due_at[:10],
                    str(each.days_left),
                )
                for each in told
            ],
            whole=1,
        )
    raise typer.Exit(NO if any(each.days_left < 0 for each in told) else 0)


@subject_app.command("close")
def subject_close(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="The request.")],
    outcome: Annotated[
        Literal["answered", "refused", "extended"], typer.Option(help="Extended: two more months.")
    ],
    reason: Annotated[str, typer.Option(help="What the person was told, and how.")],
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Answer or refuse a request, or take two more months for it.

    dialgate subject close 5f0c2a9be41d7703 --outcome answered --reason "report sent by pec" """
    with reporting(as_json=as_json):
        step = CaseStep(outcome=outcome, reason=reason, actor=actor)
        told = act(config, lambda subjects, client: subjects.deadlines.move(client, name, step))
        _show_case(told, as_json=as_json)


def _show_case(told: CaseInfo, *, as_json: bool) -> None:
    if as_json:
        show_json(told)
    elif told.closed_at:
        typer.echo(f"request {told.id}: closed")
    else:
        typer.echo(f"request {told.id}: to be answered by {told.due_at} ({told.days_left} days)")


@subject_app.command("rectify")
def subject_rectify(
    *,
    number: Number,
    request_: RequestId,
    of: Annotated[int, typer.Option(metavar="SEQ", help="The ledger entry that is wrong.")],
    fields: Annotated[
        list[str], typer.Option("--set", metavar="NAME=JSON", help="What is right; may be given again.")
    ],
    controller: ControllerId = "",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Set a consent, contract or call request right, by a later entry (GDPR art. 16).

    dialgate subject rectify +390612345678 --request 5f0c2a9b --of 812 --set goods=["broadband"]"""
    options = locals()
    with reporting(as_json=as_json):
        asked = request(RectificationRequest, {**options, "fields": dict(map(_pair, fields))})
        told = act(config, lambda subjects, client: subjects.rectify(client, number, asked))
    if as_json:
        show_json(told)
    else:
        typer.echo(f"entry {told.of} was set right by entry {told.receipt.seq}")


def _pair(text: str) -> tuple[str, Any]:
    """A value that is no JSON is a text."""
    name, _, value = text.partition("=")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


@subject_app.command("erase")
@options_of(ErasureRequest, fixed={"channel": ""}, request=RequestId)
def subject_erase(
    ask: ErasureRequest,
    *,
    number: Number,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Erase what may go, put out of use what must stay, and suppress the number (GDPR art. 17). It cannot be undone. Where gates
    share a store, by all of them; exit 1 where one could not be asked.

    dialgate subject erase +390612345678 --request 5f0c2a9be41d7703"""
    erasure = act(config, lambda subjects, client: subjects.erasing.erase(client, number, ask))
    _show_erasure(erasure, as_json=as_json)
    _end(erasure.missing)


def _show_erasure(told: Erasure, *, as_json: bool) -> None:
    if as_json:
        show_json(told)
        return
    show_table(
        "What became of it",
        ("what", "name", "", "why", "law", "until"),
        [(each.what, each.name, each.done, each.why, each.law, each.until[:10]) for each in told.items],
    )
    typer.echo(f"The number is suppressed by entry {told.suppression.seq}, from {told.suppression.at} on.")
