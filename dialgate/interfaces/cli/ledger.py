"""`dialgate consent`, `contract`, `request` and `caller-id`: new ledger entries."""

from functools import partial
from typing import Any

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger_access import show_note, show_receipt
from dialgate.interfaces.cli.request_options import options_of
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


for _entry in (
    (consent_app, "add", "/v1/consents", ConsentRequest, "recorded",
     """Record a consent, with its evidence (GDPR art. 7).

    dialgate consent add +393281234567 --id form-17 --collected-at 2026-11-02T10:00:00+01:00 --purpose sale
    --call-type agent --artefact forms/17.pdf --artefact-sha256 "$(sha256sum < forms/17.pdf | head -c 64)"
    """),
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
