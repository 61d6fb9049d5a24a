"""The command `dialgate log`. Other modules add its subcommands (`ADDED` in main.py)."""

import typer

app = typer.Typer()
log_app = typer.Typer(no_args_is_help=True)
app.add_typer(log_app, name="log")
