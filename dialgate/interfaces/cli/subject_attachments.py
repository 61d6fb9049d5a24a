"""`dialgate subject attach` and `attachment`: the files of data-subject requests."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.files import download, send_whole, show_download
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.ledger_access import Actor
from dialgate.interfaces.cli.subjects import Purpose, subject_app
from dialgate.subjects.schemas import MOST_ATTACHED_MB, Attachment

app = subject_app
_REQUESTS = "/v1/subject-requests"


def _show_attached(attachment: Attachment) -> None:
    typer.echo(f"Attached, {attachment.bytes:,} bytes. SHA-256: {attachment.sha256}")


@subject_app.command("attach")
@command(_show_attached)
def subject_attach(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Request ID.")],
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="The letter, or the copy of an identity document: at most 8 MiB.",
        ),
    ],
    actor: Actor = "",
    gate: GateClient,
) -> Attachment:
    """Attach a file to a data-subject request, also a closed one. The gate keeps it encrypted, as long as the request.

    dialgate subject attach 5f0c2a9be41d7703 letter.pdf
    """
    path, query = path_of(_REQUESTS, name, "attachments"), {"name": file.name, "actor": actor}
    advice = "Scan it with a lower resolution, or split it"
    return send_whole(gate, path, Attachment, file, query, most=MOST_ATTACHED_MB, advice=advice)


@subject_app.command("attachment")
@command(show_download)
def subject_attachment(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Request ID.")],
    sha256: Annotated[str, typer.Option(help="SHA-256 of the file; see `subject case`.")],
    purpose: Purpose,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write, readable by its owner only.")],
    gate: GateClient,
) -> dict[str, Any]:
    """Write an attachment of a data-subject request, from the gate that received it. The look-up is recorded.

    dialgate subject attachment 5f0c2a9be41d7703
    --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --purpose "access request" --out letter.pdf
    """
    return download(gate, path_of(_REQUESTS, name, "attachments", sha256), {"purpose": purpose}, out)
