"""`dialgate report`: a report on a controller's calls for a day or a month, as a file or an email."""

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate, misuse_of
from dialgate.interfaces.cli.options import reporting
from dialgate.report.rendering import Form
from dialgate.runtime.terminal import console
from dialgate.texts import Language

app = typer.Typer()


@app.command()
@asks_gate
def report(
    *,
    controller: Annotated[
        str, typer.Option(help="The controller. Required only if the configuration has several.")
    ] = "",
    day: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="Day to report on. Default: yesterday.")
    ] = "",
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="Month to report on, instead of a day.")] = "",
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="eml is an email with html, pdf and csv. Default: the extension of --out, or html.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Output file. Default: standard output.")
    ] = None,
    language: Annotated[Language, typer.Option(help="Report language.")] = "it",
    sender: Annotated[
        str, typer.Option("--from", help="Email sender, with --format eml.")
    ] = "dialgate@localhost",
    to: Annotated[
        list[str] | None, typer.Option(help="Email recipient, with --format eml. May be repeated.")
    ] = None,
    gate: GateClient,
) -> None:
    """Report on a controller's calls for a day or a month.

    The report counts checks, permitted calls, and denials by reason. It also shows registry consultations, abandoned
    calls by campaign, and how long revocations took to take effect. Days are in the time zone of the controller's
    country. An email is written but not sent: pipe it to `sendmail -t`.

    dialgate report --controller acme --month 2026-10 --out october.pdf
    """
    form = form or _form_of(out)
    query = {"controller": controller, "day": day, "month": month, "format": form, "language": language}
    if form == "eml":
        query["from"] = sender
    pairs = (*query.items(), *(("to", recipient) for recipient in to or ()))
    with reporting(as_json=form == "json"), misuse_of("controller.unknown", "extra.missing"):
        with (
            console(stderr=True).status("reading the decision log"),
            gate.open("GET", "/v1/report", query=pairs) as response,
        ):
            content = response.read()
        _write(out, content)


def _form_of(out: Path | None) -> Form:
    forms: dict[str, Form] = {f".{form}": form for form in get_args(Form)}
    return forms.get(out.suffix.lower() if out else "", "html")


def _write(out: Path | None, content: bytes) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    write_out(out, content)
    typer.echo(f"written: {out}", err=True)
