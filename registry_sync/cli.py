"""The `registry-sync` command.

The exit status is 0 on success, 1 if the operation was refused and changed nothing, and 2 for invalid arguments.
"""

import os

import typer

from dialgate.runtime.command_group import OnDemandGroup

# The module and the help line for each command, in the order that --help shows. Listing the commands imports no module.
COMMANDS = {
    "import": ("cli_import", "Import one answer from a registry."),
    "run": ("cli_run", "Query registries, and publish answers and lists."),
    "status": ("cli_run", "Show the last run, the packages and the holds."),
    "diff": ("cli_versions", "Show the differences between two publications."),
    "rollback": ("cli_versions", "Publish an earlier version again."),
    "release": ("cli_versions", "Release a hold."),
    "pull": ("cli_pull", "Copy the publication to this node."),
    "simulate": ("cli_simulate", "Answer packages with simulated answers."),
}


class _Commands(OnDemandGroup):
    package = "registry_sync"
    table = COMMANDS


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def registry_sync() -> None:
    """Query opposition registries, import their answers and lists, and publish them to the gates.

    A running gate uses a new publication within seconds, without interruption.
    """


def main() -> None:
    os.umask(0o077)  # only the owner may read registry answers
    app()


if __name__ == "__main__":
    main()
