"""`dialgate consent`, `contract`, `request` and `caller-id`: new ledger entries."""

import typer

from dialgate.interfaces.cli.ledger_access import note, show_note, write
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger.schemas import (
    CallerIdProofRequest,
    CallRequestRequest,
    ConfirmationRequest,
    ConsentRequest,
    ContractEndRequest,
    ContractRequest,
    LedgerRequest,
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


def _record(entry: LedgerRequest, done: str, config: ConfigPath, *, as_json: bool) -> None:
    note(config, lambda registrar, client: registrar.consents.record(client, entry), done, as_json=as_json)


@consent_app.command("add")
@options_of(ConsentRequest)
def consent_add(
    entry: ConsentRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record a consent, with its evidence (GDPR art. 7).

    dialgate consent add +393281234567 --id form-17 --collected-at 2026-11-02T10:00:00+01:00 --purpose sale
    --call-type agent --artefact forms/17.pdf --artefact-sha256 "$(sha256sum < forms/17.pdf | head -c 64)"
    """
    _record(entry, "recorded", config, as_json=as_json)


@consent_app.command("confirm")
@options_of(ConfirmationRequest)
def consent_confirm(
    entry: ConfirmationRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record the confirmation of a consent by double opt-in.

    dialgate consent confirm +393281234567 --id form-17 --proof mail/18
    """
    _record(entry, "confirmed", config, as_json=as_json)


@consent_app.command("withdraw")
@options_of(WithdrawalRequest)
def consent_withdraw(
    entry: WithdrawalRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record the withdrawal of a consent.

    dialgate consent withdraw +393281234567 --id form-17 --channel web
    """
    _record(entry, "withdrawn", config, as_json=as_json)


@contract_app.command("add")
@options_of(ContractRequest)
def contract_add(
    entry: ContractRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record a contract.

    dialgate contract add +390612345678 --id C-1001 --starts 2026-01-15 --sector telecommunications
    """
    _record(entry, "recorded", config, as_json=as_json)


@contract_app.command("end")
@options_of(ContractEndRequest)
def contract_end(
    entry: ContractEndRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record a contract's last day.

    dialgate contract end +390612345678 --id C-1001 --ends 2026-12-31
    """
    _record(entry, "recorded", config, as_json=as_json)


@request_app.command("add")
@options_of(CallRequestRequest)
def request_add(
    entry: CallRequestRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record that a data subject requested a call.

    dialgate request add +393281234567 --id web-88 --requested-at 2026-11-24T09:00:00+01:00
    --expires-at 2026-11-27T09:00:00+01:00 --goods broadband --own-interface --proof web/88.json
    """
    _record(entry, "recorded", config, as_json=as_json)


@caller_id_app.command("prove")
@options_of(CallerIdProofRequest, required={"evidence"}, fixed={"proof": ""})
def caller_id_prove(
    proof: CallerIdProofRequest, *, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Record whether calls to a caller ID are answered. The proof expires after the period that the law sets.

    dialgate caller-id prove +390612340000 --kind probe --evidence probes/2026-11-24.wav
    """
    receipt = write(config, lambda registrar, client: registrar.caller_ids.prove_caller_id(client, proof))
    if as_json:
        note_of = {"note": receipt.note} if receipt.note else {}
        fields = {"caller_id": proof.caller_id, "answered": proof.answered, "in_force": receipt.in_force}
        show_json({**fields, **note_of})
    else:
        result = "answered" if proof.answered else "not answered"
        typer.echo(f"Recorded: calls to {proof.caller_id} are {result}. Takes effect: {receipt.in_force}")
        show_note(receipt.note)
