"""Ledger access for commands, whether or not a gate is running. New entries take effect immediately."""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

import msgspec
import typer

from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config
from dialgate.config.validation_messages import plain
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.options import Failure, load_config
from dialgate.interfaces.workers import siblings
from dialgate.ledger.host_gate import NoGate
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import Receipt, Request
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, show_json

T = TypeVar("T")
R = TypeVar("R", bound=Request)
Act: TypeAlias = Callable[[Registrar, Client], Awaitable[T]]

ACTOR_VARIABLES = ["DIALGATE_ACTOR", "SUDO_USER"]
INSTANT_FORM, DAY_FORM = "As in 2026-11-24T10:00:00+01:00.", "As in 2026-11-24."

ControllerId: TypeAlias = Annotated[
    str, typer.Option(help="The controller. Required only if the configuration has several.")
]
Actor: TypeAlias = Annotated[str, typer.Option(envvar=ACTOR_VARIABLES, help="Your name, for the record.")]
Channel: TypeAlias = Annotated[
    str, typer.Option(help="Channel by which the revocation arrived, such as call, letter, web or pec.")
]
Proof: TypeAlias = Annotated[
    str, typer.Option(help="Reference to the evidence: a file, a ticket, a recording.")
]
Time: TypeAlias = Annotated[
    str, typer.Option(metavar="TIME", help="Time, for example 2026-11-24T10:00:00+01:00. Default: now.")
]


def write(config: Path, act: Act[T]) -> T:
    """Run `act` on the ledger of the configured gate. Raises `Failure`, `Refused`, `Unavailable`."""
    return asyncio.run(_write(load_config(config), act))


class _GatesOn(NoGate):
    """The gates that run on a data folder, to which this command sends a refresh."""

    def __init__(self, config: Config) -> None:
        self._data = config.data

    async def refresh_others(self) -> bool:
        return await siblings.refresh_gates(self._data)


async def _write(config: Config, act: Act[T]) -> T:
    # The operator can write to the files directly, so the client has all scopes.
    client = Client(name="cli", controllers=tuple(config.controllers), scopes=get_args(Scope))
    registrar = await Registrar.open(config, wall_clock, _GatesOn(config))
    try:
        return await act(registrar, client)
    finally:
        await registrar.close()


def fields_of(kind: type[Request], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have the same names as the fields of `kind`, without empty ones."""
    values = {name.rstrip("_"): value for name, value in options.items()}
    return {name: values[name] for name in kind.__struct_fields__ if values.get(name) not in ("", None, [])}


def request(kind: type[R], options: dict[str, Any]) -> R:
    """Build a request from the options that have the same names as its fields. Raises `Failure`.

    Empty options are omitted.
    """
    try:
        return msgspec.convert(fields_of(kind, options), kind)
    except msgspec.ValidationError as error:
        wording, _, place = str(error).partition(" - at `$.")
        raise Failure("request.invalid", plain(wording), field=place.rstrip("`"), status=MISUSE) from None


def record(gate: GateClient, path: str, entry: Request, done: str, *, as_json: bool) -> None:
    """Send a ledger entry to the gate and show its receipt."""
    show_receipt(gate.ask("POST", path, Receipt, entry), done, as_json=as_json)


def show_receipt(receipt: Receipt, done: str, *, as_json: bool) -> None:
    if as_json:
        show_json(receipt)
    else:
        entry = f"entry {receipt.seq}. It" if receipt.seq else "no gate runs. It"
        typer.echo(f"{done}: {entry} applies to every decision after {receipt.at}.")
        show_note(receipt.note)


def operator_name() -> str:
    """Return the name of the person who runs the command, for entries that no gate received."""
    name = next(filter(None, map(os.environ.get, ("DIALGATE_ACTOR", "SUDO_USER"))), "")
    return name or f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def show_note(text: str) -> None:
    """Show a note on stderr, so that it does not disturb scripts that read stdout."""
    if text:
        typer.echo(text, err=True)
