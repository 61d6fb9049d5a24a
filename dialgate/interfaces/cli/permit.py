"""`dialgate permit`: what those need who honour permits."""

from pathlib import Path
from typing import Annotated

import typer

from dialgate.crypto.permit_key import PermitKey
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, load_config, reporting
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import show_json

app = typer.Typer()
permit_app = typer.Typer(
    no_args_is_help=True, help="Permits: an allow that a dialer shows at the trunk, for seconds."
)
app.add_typer(permit_app, name="permit")


@permit_app.callback()
def _permit() -> None:
    """Keeps `key` a word of its own: typer leaves out the name of a lone command."""


@permit_app.command("key")
def permit_key(
    *,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write it here instead.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """The public key, as PEM, with which Kamailio knows this gate's permits. It is no secret.

    dialgate permit key --out /etc/kamailio/permit.pem"""
    with reporting(as_json=as_json):
        public = PermitKey.open(load_config(config).data / "permit.json", wall_clock()).public
        if out is not None:
            out.write_text(public, "ascii")
            out.chmod(0o644)
        if as_json:
            show_json({"public": public})
        elif out is None:
            typer.echo(public, nl=False)
