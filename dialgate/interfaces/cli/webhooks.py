"""`dialgate webhook`: messages of platforms and CRMs, those that could not be applied, and those that were lost."""

import sys
from typing import Annotated

import typer

from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.webhook_pull import webhook_pull
from dialgate.interfaces.http.incoming_webhooks import (
    DeadLetterList,
    ReplayReport,
    ReplayRequest,
    TrialRun,
    WaitingMessage,
)

app = typer.Typer()
webhook_app = typer.Typer(no_args_is_help=True)
app.add_typer(webhook_app, name="webhook")
webhook_app.command("pull")(webhook_pull)


def _show_letters(letters: list[WaitingMessage]) -> None:
    def reason(letter: WaitingMessage) -> str:
        return f"{letter.problem.code} {letter.problem.field}: {letter.problem.message}"

    columns = {"id": "id", "webhook": "webhook", "received": "received_at", "message": "body"}
    show_rows("Messages that could not be applied", letters, {**columns, "why": reason}, whole=1)


def _show_trial(trial: TrialRun) -> None:
    show_rows("The message would record", trial.operations, {"": "write", "fields": "fields"})
    for problem in trial.problems:
        typer.echo(f"It would be kept: {problem.code} {problem.field}: {problem.message}")


def _show_replay(report: ReplayReport) -> None:
    typer.echo(f"Applied or dropped: {report.gone:,}. Still waiting: {len(report.letters):,}")
    if report.skipped:
        typer.echo(f"Not recorded, because the person's data were erased since: {report.skipped:,}")
    if report.letters:
        _show_letters(report.letters)


@webhook_app.command("test")
@command(_show_trial, ok=lambda trial: not trial.problems, misuses=("webhook.unknown",))
def webhook_test(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="`id` of the webhook in config/webhooks.")],
    gate: GateClient,
) -> TrialRun:
    """Show what a message on standard input would record. Nothing is recorded, and no signature is needed.

    dialgate webhook test hubspot < message.json
    """
    path = path_of("/v1/webhooks/in", name, "test")
    return gate.send("POST", path, TrialRun, sys.stdin.buffer, media="application/octet-stream")


@webhook_app.command("list")
@command(_show_letters)
def webhook_list(*, gate: GateClient) -> list[WaitingMessage]:
    """Show the 100 oldest messages that wait on this gate because they could not be applied. Records a look-up of each number.

    dialgate webhook list
    """
    return gate.send("GET", "/v1/dead-letters", DeadLetterList).letters


@webhook_app.command("replay")
@command(_show_replay, ok=lambda report: not report.letters)
def webhook_replay(
    *,
    drop: Annotated[
        list[str],
        typer.Option(
            help="Remove this message instead, after reading it and recording any stop in it. May be repeated."
        ),
    ] = [],
    gate: GateClient,
) -> ReplayReport:
    """Apply the messages that wait, after config/webhooks was corrected and reloaded. Each is then gone, or stays with its reason.

    dialgate webhook replay
    """
    return gate.send("POST", "/v1/dead-letters/replay", ReplayReport, ReplayRequest(drop=tuple(drop)))
