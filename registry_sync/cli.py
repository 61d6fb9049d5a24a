"""The command `registry-sync`. Exit 0: done; 1: refused, nothing changed; 2: misuse."""

import typer

from registry_sync import cli_import, cli_pull, cli_run, cli_simulate, cli_versions
from registry_sync.cli_options import private

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def registry_sync() -> None:
    """Asks the opposition registries, takes in what they answer and publish, and publishes it to the gate.

    A running gate takes the new publication up within seconds, without a pause."""


for _part in (cli_import, cli_run, cli_versions, cli_pull, cli_simulate):
    app.registered_commands += _part.app.registered_commands


def main() -> None:
    private()
    app()


if __name__ == "__main__":
    main()
