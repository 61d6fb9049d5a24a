"""`dialgate key`: the keys of programs."""

import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.options import Failure, reporting
from dialgate.people.client_keys import ClientInfo, ClientList, NewKey


class _KeyCommands(TyperGroup):
    """A group in which `dialgate key NAME` is short for `dialgate key new NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_short = args and args[0] not in {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, ["new", *args] if is_short else args)


app = typer.Typer()
key_app = typer.Typer(cls=_KeyCommands, no_args_is_help=True)
app.add_typer(key_app, name="key")

Name: TypeAlias = Annotated[
    str, typer.Argument(help="Name of the client in dialgate.yaml.", show_default=False)
]


def _show(clients: list[ClientInfo]) -> None:
    show_rows(
        "Keys",
        [(client, key) for client in clients for key in client.keys],
        {
            "client": lambda row: row[0].name,
            "key": lambda row: row[1].id,
            "origin": lambda row: "dialgate.yaml" if row[1].origin == "file" else f"by {row[1].made_by}",
            "made": lambda row: row[1].made_at[:10],
            "state": lambda row: row[1].state,
            "last day": lambda row: row[1].last_day or "",
            "last used": lambda row: row[1].used_on or "",
        },
    )


def _show_one(client: ClientInfo) -> None:
    _show([client])


def _show_key(new: NewKey) -> None:
    typer.echo(f"key (shown once): {new.key}")
    typer.echo(f"Give it to the program of the client {new.client}. Its id is {new.id}.")


@key_app.command("list")
@command(_show)
def key_list(*, gate: GateClient) -> list[ClientInfo]:
    """Show all clients with their keys, when each was last used and when it expires.

    dialgate key list
    """
    return gate.send("GET", "/v1/clients", ClientList).clients


@key_app.command("make")
@command(_show_key, misuses=("api_key.client_unknown",))
def key_make(
    *,
    name: Name,
    last_day: Annotated[
        str, typer.Option(metavar="DATE", help="Last day of the key, such as 2027-12-01. Default: no end.")
    ] = "",
    gate: GateClient,
) -> NewKey:
    """Make a key for a client while the gate runs, and print it once. dialgate.yaml need not change. A client has at most two valid keys.

    dialgate key make dialer-7 --last-day 2027-12-01
    """
    request = {"last_day": last_day} if last_day else {}
    return gate.send("POST", path_of("/v1/clients", name, "keys"), NewKey, request)


@key_app.command("disable")
@command(_show_one, misuses=("api_key.client_unknown", "api_key.unknown"))
def key_disable(
    *,
    name: Name,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, from `dialgate key list`.")],
    gate: GateClient,
) -> ClientInfo:
    """Disable a key for good, on all gates that share the store. A key in dialgate.yaml can be disabled, too.

    dialgate key disable dialer-7 3f2a9c01d7be
    """
    return gate.send("DELETE", path_of("/v1/clients", name, "keys", key_id), ClientInfo)


@key_app.command("new")
def key_new(
    *,
    name: Annotated[str, typer.Argument(help="Name of the client that will use the key.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the key to this file, and its hash to a file with .sha256 added to the name."
        ),
    ] = None,
) -> None:
    """Create a key and its hash for dialgate.yaml, without a gate. `dialgate key NAME` is short for it.

    dialgate key new dialer-7 --out /etc/dialgate/dialer-7.key
    """
    api_key = secrets.token_urlsafe(32)
    digest = sha256(api_key.encode()).hexdigest()
    if out is None:
        typer.echo(f"key (shown once): {api_key}")
        typer.echo(f"Add this line to the client {name} in dialgate.yaml:  key_sha256: {digest}")
        return
    hashed = out.with_name(f"{out.name}.sha256")
    with reporting(as_json=False):
        try:
            _write_new(out, api_key)
            hashed.write_text(f"{digest}\n", "ascii")
        except FileExistsError:
            raise Failure("key.exists", f"{out} exists. Remove it, or choose another --out") from None
        except OSError as error:
            raise Failure("key.unwritable", f"{error.filename}: {error.strerror}") from None
    typer.echo(
        f"{out} contains the key. Only the owner of this file can read it. Pass the key to the client {name}."
    )
    typer.echo(f"Add this line to the client {name} in dialgate.yaml:  key_sha256_file: {hashed.resolve()}")


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
