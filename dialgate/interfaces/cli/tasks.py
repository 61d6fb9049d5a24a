"""`dialgate tasks`: what supervisors and officers must do soon."""

from typing import Final

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.http.tasks import TaskList
from dialgate.interfaces.status import Task, TaskKind
from dialgate.runtime.terminal import show_table

app = typer.Typer()
_NAMES: Final[dict[TaskKind, str]] = {
    "registry_ends": "consult the registry again",
    "silent_limit": "slow the dialer: too many abandoned calls",
    "campaign_ends": "the campaign ends",
    "proof_ends": "prove that calls back are answered",
    "caller_id_ends": "replace the caller ID, which is given up",
    "request_due": "answer the data subject's request",
    "shadow_ends": "shadow mode ends",
    "log_damaged": "a decision log is damaged (dialgate log verify)",
    "log_unproved": "verify the decision logs (dialgate log verify)",
    "backup_due": "back up the data folder (dialgate backup)",
    "key_ends": "give the program another key",
    "breach_due": "notify the authority of the breach, or record why not",
    "law_changed": "read what changes in the law, and acknowledge it",
    "breach_people": "decide whether the people are told of the breach",
    "report_unsent": "a report was not sent by mail (dialgate report --scheduled)",
    "import_held": "release the held import, if it is correct",
}


def _when(task: Task) -> str:
    if task.share:
        return f"{task.share:.0%} of the limit"
    if task.days_left is None:
        return "now"
    return (
        f"in {task.days_left:g} days" if task.days_left > 0 else "today" if task.days_left == 0 else "overdue"
    )


def _show(found: TaskList) -> None:
    rows = [
        (_when(task), _NAMES[task.kind], task.name, task.campaign, task.controller) for task in found.tasks
    ]
    show_table("To do", ("when", "what", "about", "campaign", "controller"), rows)
    if not rows:
        typer.echo("Nothing must be done soon.")


@app.command("tasks")
@command(_show)
def tasks(*, gate: GateClient) -> TaskList:
    """Show what must be done soon, the most urgent first: answers, proofs and campaigns that end, requests that are due.

    dialgate tasks
    """
    return gate.send("GET", "/v1/tasks", TaskList)
