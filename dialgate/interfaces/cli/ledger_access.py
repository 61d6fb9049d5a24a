"""What commands about the ledger share: options, requests and receipts."""

import os
import pwd
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
import typer
from msgspec import Struct

from dialgate.config.validation_messages import plain
from dialgate.interfaces.cli.options import Failure
from dialgate.ledger.schemas import Receipt
from dialgate.runtime.terminal import MISUSE

R = TypeVar("R", bound=Struct)

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


def fields_of(kind: type[Struct], options: dict[str, Any]) -> dict[str, Any]:
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


def show_receipt(done: str, receipt: Receipt) -> None:
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
