"""`dialgate consent`, `contract`, `request` and `caller-id`: new ledger entries."""

import typer

from dialgate.interfaces.cli.gate_client import GateClient, asks_gate
from dialgate.interfaces.cli.ledger_access import record, show_note
from dialgate.interfaces.cli.options import AsJson
from dialgate.interfaces.cli.request_options import options_of
from dialgate.interfaces.http.headers import IN_FORCE, NOTE
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    WithdrawalRequest,
)
from dialgate.runtime.terminal import show_json

app = typer.Typer()
consent_app = typer.Typer(no_args_is_help=True)
contract_app = typer.Typer(no_args_is_help=True)
request_app = typer.Typer(no_args_is_help=True)
caller_id_app = typer.Typer(no_args_is_help=True)
app.add_typer(consent_app, name="consent")
app.add_typer(contract_app, name="contract")
app.add_typer(request_app, name="request")
app.add_typer(caller_id_app, name="caller-id")


@consent_app.command("add")
@options_of(ConsentRequest)
@asks_gate
def consent_add(entry: ConsentRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record a consent, with its evidence (GDPR art. 7).

    dialgate consent add +393281234567 --id form-17 --collected-at 2026-11-02T10:00:00+01:00 --purpose sale
    --call-type agent --artefact forms/17.pdf --artefact-sha256 "$(sha256sum < forms/17.pdf | head -c 64)"
    """
    record(gate, "/v1/consents", entry, "recorded", as_json=as_json)


@consent_app.command("confirm")
@options_of(ConfirmationRequest)
@asks_gate
def consent_confirm(entry: ConfirmationRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record the confirmation of a consent by double opt-in.

    dialgate consent confirm +393281234567 --id form-17 --proof mail/18
    """
    record(gate, "/v1/consents/confirm", entry, "confirmed", as_json=as_json)


@consent_app.command("withdraw")
@options_of(WithdrawalRequest)
@asks_gate
def consent_withdraw(entry: WithdrawalRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record the withdrawal of a consent.

    dialgate consent withdraw +393281234567 --id form-17 --channel web
    """
    record(gate, "/v1/consents/withdraw", entry, "withdrawn", as_json=as_json)


@contract_app.command("add")
@options_of(ContractRequest)
@asks_gate
def contract_add(entry: ContractRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record a contract.

    dialgate contract add +390612345678 --id C-1001 --starts 2026-01-15 --sector telecommunications
    """
    record(gate, "/v1/contracts", entry, "recorded", as_json=as_json)


@contract_app.command("end")
@options_of(ContractEndRequest)
@asks_gate
def contract_end(entry: ContractEndRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record a contract's last day.

    dialgate contract end +390612345678 --id C-1001 --ends 2026-12-31
    """
    record(gate, "/v1/contracts/end", entry, "recorded", as_json=as_json)


@request_app.command("add")
@options_of(CallRequestRequest)
@asks_gate
def request_add(entry: CallRequestRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record that a data subject requested a call.

    dialgate request add +393281234567 --id web-88 --requested-at 2026-11-24T09:00:00+01:00
    --expires-at 2026-11-27T09:00:00+01:00 --goods broadband --own-interface --proof web/88.json
    """
    record(gate, "/v1/call-requests", entry, "recorded", as_json=as_json)


@caller_id_app.command("prove")
@options_of(CallerIdProofRequest, required={"evidence"}, fixed={"proof": ""})
@asks_gate
def caller_id_prove(proof: CallerIdProofRequest, *, gate: GateClient, as_json: AsJson = False) -> None:
    """Record whether calls to a caller ID are answered. The proof expires after the period that the law sets.

    dialgate caller-id prove +390612340000 --kind probe --evidence probes/2026-11-24.wav
    """
    with gate.open("POST", "/v1/caller-ids/proofs", proof) as response:
        in_force, note = response.headers[IN_FORCE], response.headers.get(NOTE, "")
    if as_json:
        note_of = {"note": note} if note else {}
        show_json({"caller_id": proof.caller_id, "answered": proof.answered, "in_force": in_force, **note_of})
    else:
        result = "answered" if proof.answered else "not answered"
        typer.echo(f"Recorded: calls to {proof.caller_id} are {result}. Takes effect: {in_force}")
        show_note(note)
