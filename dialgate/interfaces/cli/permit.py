"""`dialgate permit`: the public key that verifies permits."""

from pathlib import Path
from typing import Annotated

import typer

from dialgate.crypto.permit_key import PermitKey
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load_config, reporting
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import show_json

app = typer.Typer()
permit_app = typer.Typer(
    no_args_is_help=True,
    help="Manage permits, which prove to the trunk that a call was allowed. They expire within seconds.",
)
app.add_typer(permit_app, name="permit")


@permit_app.command("key")
def permit_key(
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Output file. Default: standard output.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the public key (PEM) that Kamailio needs to verify this gate's permits. The key is not secret.

    dialgate permit key --out /etc/kamailio/permit.pem
    """
    with reporting(as_json=as_json):
        public = PermitKey.open(load_config(config).data / "permit.json", wall_clock()).public
        if out is not None:
            out.write_text(public, "ascii")
            out.chmod(0o644)
        if as_json:
            show_json({"public": public})
        elif out is None:
            typer.echo(public, nl=False)
