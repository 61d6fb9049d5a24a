"""`dialgate subject letter` and `register`: what is written about data-subject requests."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dialgate.interfaces.cli.files import Out, write_out
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate, path_of
from dialgate.interfaces.cli.options import reporting
from dialgate.interfaces.cli.subjects import subject_app
from dialgate.runtime.terminal import NO
from dialgate.subjects.schemas import MISSING_HEADER, LetterKind, LetterRequest
from dialgate.texts import Language

app = subject_app


@subject_app.command("register")
@asks_gate
def subject_register(*, out: Out = None, gate: GateClient) -> None:
    """Write the register of data-subject requests as CSV. It contains no number.

    dialgate subject register --out requests.csv
    """
    with reporting(as_json=False), gate.open("GET", "/v1/subject-register") as response:
        text = response.read()
        write_out(out, text) if out else typer.echo(text.decode(), nl=False)


@subject_app.command("letter")
@asks_gate
def subject_letter(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Request ID.")],
    kind: Annotated[
        LetterKind | None, typer.Option(help="What the letter is about. Default: the kind of the request.")
    ] = None,
    language: Annotated[Language, typer.Option(help="Language of the letter.")] = "it",
    reasons: Annotated[str, typer.Option(help="Reasons of a refusal or an extension.")] = "",
    place: Annotated[str, typer.Option(help="Where the letter is written, before the date.")] = "",
    protocol: Annotated[str, typer.Option(help="Protocol number. Default: the request ID.")] = "",
    out: Annotated[Path, typer.Option(help="File to write, readable only for you: *.html or *.pdf.")],
    gate: GateClient,
) -> None:
    """Write a letter about a data-subject request, to sign and send. PDF needs the extra `letters`.

    dialgate subject letter 5f0c2a9be41d7703 --place Roma --out answer.pdf
    """
    with reporting(as_json=False):
        form: Literal["html", "pdf"] = "pdf" if out.suffix == ".pdf" else "html"
        ask = LetterRequest(
            kind=kind, language=language, form=form, reasons=reasons, place=place, protocol=protocol
        )
        with gate.open("POST", path_of("/v1/subject-requests", name, "letter"), ask) as response:
            missing, body = response.headers.get(MISSING_HEADER, ""), response.read()
        write_out(out, body)
        if missing:
            typer.echo(f"These gates could not be queried: {missing}.", err=True)
            raise typer.Exit(NO)
