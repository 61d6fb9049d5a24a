"""The command `registry-sync`. Exit status 0: done; 1: refused, nothing changed; 2: invalid arguments."""

import typer

from registry_sync import cli_import, cli_pull, cli_run, cli_simulate, cli_versions
from registry_sync.cli_options import private

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def registry_sync() -> None:
    """Query opposition registries, import their answers and lists, and publish them to the gates.

    A running gate uses a new publication within seconds, without interruption.
    """


for _part in (cli_import, cli_run, cli_versions, cli_pull, cli_simulate):
    app.registered_commands += _part.app.registered_commands


def main() -> None:
    private()
    app()


if __name__ == "__main__":
    main()
