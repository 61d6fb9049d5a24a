"""`dialgate consent`, `contract`, `request` and `caller-id`: new ledger entries."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import structs

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.files import download, send_whole, show_download
from dialgate.interfaces.cli.gate_client import GateClient, path_of
from dialgate.interfaces.cli.ledger_access import ControllerId, show_note, show_receipt
from dialgate.interfaces.cli.options import Failure, Number
from dialgate.interfaces.cli.request_options import options_of
from dialgate.interfaces.cli.subjects import Purpose
from dialgate.interfaces.http.headers import IN_FORCE, NOTE
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    Receipt,
    Request,
    WithdrawalRequest,
)
from dialgate.ledger.view_schemas import MOST_PROOF_MB, ProofFile
from dialgate.lists.call_list import sha256_of
from dialgate.runtime.terminal import MISUSE

app = typer.Typer()
consent_app = typer.Typer(no_args_is_help=True)
contract_app = typer.Typer(no_args_is_help=True)
request_app = typer.Typer(no_args_is_help=True)
caller_id_app = typer.Typer(no_args_is_help=True)
app.add_typer(consent_app, name="consent")
app.add_typer(contract_app, name="contract")
app.add_typer(request_app, name="request")
app.add_typer(caller_id_app, name="caller-id")


def _add_entry(group: typer.Typer, name: str, path: str, kind: type[Request], done: str, about: str) -> None:
    @group.command(name, help=about)
    @command(partial(show_receipt, done))
    @options_of(kind)
    def record(entry: Request, *, gate: GateClient) -> Receipt:
        return gate.send("POST", path, Receipt, entry)


@consent_app.command("add")
@command(partial(show_receipt, "recorded"))
@options_of(ConsentRequest)
def consent_add(
    entry: ConsentRequest,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="The signed form or the recording, which the gate keeps (see `dialgate consent prove`). Sets --artefact-sha256, and --artefact to its name.",
        ),
    ] = None,
    gate: GateClient,
) -> Receipt:
    """Record a consent, with its evidence (GDPR art. 7). The gate keeps the file, or only its SHA-256.

    dialgate consent add +393281234567 --id form-17 --collected-at 2026-11-02T10:00:00+01:00 --purpose sale
    --call-type agent --file forms/17.pdf

    dialgate consent add +393281234568 --id form-18 --collected-at 2026-11-02T10:00:00+01:00 --purpose sale
    --call-type agent --artefact forms/18.pdf --artefact-sha256 "$(sha256sum < forms/18.pdf | head -c 64)"
    """
    if file:
        digest = sha256_of(file)
        if entry.artefact_sha256.lower() not in {"", digest}:
            text = f"{file} has the SHA-256 {digest}. Check the file, or leave the option out"
            raise Failure("request.invalid", text, field="artefact_sha256", status=MISUSE)
        _send_proof(gate, file, entry.controller)
        entry = structs.replace(entry, artefact=entry.artefact or file.name, artefact_sha256=digest)
    return gate.send("POST", "/v1/consents", Receipt, entry)


def _send_proof(gate: GateClient, file: Path, controller: str) -> ProofFile:
    advice = "Compress it, or keep it elsewhere and record its SHA-256"
    query = {"controller": controller}
    return send_whole(gate, "/v1/proofs", ProofFile, file, query, most=MOST_PROOF_MB, advice=advice)


def _show_kept(proof: ProofFile) -> None:
    typer.echo(f"Kept, {proof.bytes:,} bytes. SHA-256: {proof.sha256}")
    typer.echo(
        f"Record the consent before {proof.record_by}, with `--artefact-sha256 {proof.sha256}`. Otherwise the file is removed."
    )


@consent_app.command("prove")
@command(_show_kept)
def consent_prove(
    *,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The signed form or the recording.")
    ],
    controller: ControllerId = "",
    gate: GateClient,
) -> ProofFile:
    """Let the gate keep a file that proves a consent, encrypted. Evidence of calls then encloses it.

    The gate keeps it as long as a consent of the controller has its SHA-256.

    dialgate consent prove forms/17.pdf --controller acme
    """
    return _send_proof(gate, file, controller)


@consent_app.command("download")
@command(show_download)
def consent_download(
    *,
    number: Number,
    sha256: Annotated[str, typer.Option(help="SHA-256 of the file, which the consent has.")],
    purpose: Purpose,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write, readable by its owner only.")],
    controller: ControllerId = "",
    gate: GateClient,
) -> dict[str, Any]:
    """Write the file that proves a consent of a number, from the gate that received it. The look-up is recorded.

    dialgate consent download +393281234567 --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    --purpose "access request 7" --out form.pdf
    """
    query = {"number": number, "purpose": purpose, "controller": controller}
    return download(gate, path_of("/v1/proofs", sha256), query, out)


for _entry in (
    (consent_app, "confirm", "/v1/consents/confirm", ConfirmationRequest, "confirmed",
     """Record the confirmation of a consent by double opt-in.

    dialgate consent confirm +393281234567 --id form-17 --proof mail/18
    """),
    (consent_app, "withdraw", "/v1/consents/withdraw", WithdrawalRequest, "withdrawn",
     """Record the withdrawal of a consent.

    dialgate consent withdraw +393281234567 --id form-17 --channel web
    """),
    (contract_app, "add", "/v1/contracts", ContractRequest, "recorded",
     """Record a contract.

    dialgate contract add +390612345678 --id C-1001 --starts 2026-01-15 --sector telecommunications
    """),
    (contract_app, "end", "/v1/contracts/end", ContractEndRequest, "recorded",
     """Record a contract's last day.

    dialgate contract end +390612345678 --id C-1001 --ends 2026-12-31
    """),
    (request_app, "add", "/v1/call-requests", CallRequestRequest, "recorded",
     """Record that a data subject requested a call.

    dialgate request add +393281234567 --id web-88 --requested-at 2026-11-24T09:00:00+01:00
    --expires-at 2026-11-27T09:00:00+01:00 --goods broadband --own-interface --proof web/88.json
    """),
):  # fmt: skip
    _add_entry(*_entry)


def _show_proof(proof: dict[str, Any]) -> None:
    result = "answered" if proof["answered"] else "not answered"
    typer.echo(f"Recorded: calls to {proof['caller_id']} are {result}. Takes effect: {proof['in_force']}")
    show_note(proof.get("note", ""))


@caller_id_app.command("prove")
@command(_show_proof)
@options_of(CallerIdProofRequest, required={"evidence"}, fixed={"proof": ""})
def caller_id_prove(proof: CallerIdProofRequest, *, gate: GateClient) -> dict[str, Any]:
    """Record whether calls to a caller ID are answered. The proof expires after the period that the law sets.

    dialgate caller-id prove +390612340000 --kind probe --evidence probes/2026-11-24.wav
    """
    with gate.open("POST", "/v1/caller-ids/proofs", proof) as response:
        in_force, note = response.headers[IN_FORCE], response.headers.get(NOTE, "")
    effect = {"in_force": in_force, "note": note} if note else {"in_force": in_force}
    return {"caller_id": proof.caller_id, "answered": proof.answered, **effect}
