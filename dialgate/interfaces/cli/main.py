"""The `dialgate` command. Exit codes: 0 for yes or success, 1 for no or failure, 2 for a usage error."""

import os
from typing import Annotated

import typer

from dialgate import __version__
from dialgate.runtime import extras
from dialgate.runtime.command_group import OnDemandGroup
from dialgate.runtime.extras import MissingExtra

# The module of each command and its line in the list of commands, which must not import the modules, in the order of --help.
COMMANDS = {
    "init": ("init", "Create a first configuration."),
    "install": ("install", "Install the gate as a service of systemd."),
    "serve": ("serve", "Run the gate."),
    "check": ("ask", "Check whether a call may be placed now."),
    "simulate": ("ask", "Simulate a check, and show the outcome of every rule."),
    "scrub": ("scrub", "Write a copy of a list with a verdict on every row."),
    "revoke": ("revoke", "Record and lift revocations."),
    "number": ("numbers", "Lift wrong-number reports."),
    "consent": ("ledger", "Record data subjects' consents to calls."),
    "contract": ("ledger", "Record contracts with data subjects."),
    "request": ("ledger", "Record data subjects' requests for a call."),
    "list": ("lists", "Manage call lists and the origin of their numbers."),
    "caller-id": ("ledger", "Record proofs that caller IDs can be called back."),
    "campaign": ("campaigns", "Show the limits on abandoned calls, and lift pauses."),
    "tasks": ("tasks", "Show what must be done soon."),
    "subject": ("subjects", "Handle data-subject requests (GDPR art. 12 to 20)."),
    "retention": ("retention", "Remove data whose retention period is over (GDPR art. 5)."),
    "breach": ("retention", "Show the data that a breach exposed (GDPR art. 33)."),
    "account": ("accounts", "Add, invite and disable the people who use the console."),
    "nodes": ("nodes", "Show the gates that share the store."),
    "mcp": ("mcp", "Serve tools for agents (Model Context Protocol)."),
    "webhook": ("webhooks", "Replay messages of platforms and CRMs, and test what they record."),
    "ledger": ("ledger_files", "Export the ledger, or import it into another store."),
    "backup": ("backup", "Copy the data folder, and verify the copied log."),
    "ship": ("ship", "Ship the decision log to other storage."),
    "key": ("keys", "Make, list and disable the API keys of programs."),
    "country": ("country", "Show a country's law on a day, or its changes between two days."),
    "config": ("config", "Check the configuration, and show what a draft would change."),
    "policy": ("policy", "Test your own cases against configuration and law."),
    "log": ("log_group", "Verify, search, replay, archive and retire the decision log."),
    "why": ("decisions", "Show all decisions about a number, with their reasons."),
    "report": ("report", "Report on a controller's calls for a day or a month."),
    "demo": ("demo", "Run a gate with simulated traffic."),
    "reconcile": ("reconcile", "Find the calls that bypassed the gate."),
    "capacity": ("capacity", "Estimate the hardware for a number of calls a day."),
    "conformance": ("conformance", "Simulate a misbehaving gate for a dialer."),
}
# Modules that add subcommands to a command, in the order of its --help.
ADDED = {
    "consent": ("imports",),
    "contract": ("imports",),
    "request": ("imports",),
    "caller-id": ("probe",),
    "subject": ("subject_letters", "subject_attachments"),
    "config": ("config_diff",),
    "log": ("verification", "proof", "decisions", "replay", "archive"),
}


class _Commands(OnDemandGroup):
    package = "dialgate.interfaces.cli"
    table = COMMANDS
    added = ADDED


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(is_requested: bool) -> None:  # noqa: FBT001 - Typer passes it by position
    if is_requested:
        typer.echo(f"dialgate {__version__}")
        raise typer.Exit


@app.callback()
def dialgate(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Decide whether a telemarketing call may be placed, and prove the decision later.

    Every command has --help with an example. Exit codes: 0 for yes or success, 1 for no or failure, 2 for a
    usage error.
    """


def main() -> None:
    os.umask(0o077)  # files may contain numbers, so only their owner may read them
    try:
        app()
    except MissingExtra as missing:
        typer.echo(f"{extras.CODE}: {missing}", err=True)
        raise SystemExit(2) from None
