"""Commands that write down what a person wants: stop, a consent, a contract, a wish to be called; and what is known of
the numbers that people are called from."""

from typing import Annotated, Literal, TypeAlias, get_args

import typer

from dialgate.core.model import CallType, Purpose
from dialgate.interfaces.cli.ledger_access import (
    Actor,
    Channel,
    ControllerId,
    Day,
    Proof,
    Time,
    note,
    request,
    show_note,
    write,
)
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Number,
    number_given,
    reporting,
)
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
consent_app = typer.Typer(no_args_is_help=True, help="Consents to be called.")
contract_app = typer.Typer(no_args_is_help=True, help="Contracts with the people called.")
request_app = typer.Typer(no_args_is_help=True, help="Wishes to be called.")
caller_id_app = typer.Typer(no_args_is_help=True, help="The numbers presented to the people called.")
app.add_typer(consent_app, name="consent")
app.add_typer(contract_app, name="contract")
app.add_typer(request_app, name="request")
app.add_typer(caller_id_app, name="caller-id")

Id: TypeAlias = Annotated[str, typer.Option("--id", help="Your own name for it, by which it is ended.")]
Goods: TypeAlias = Annotated[list[str], typer.Option(help="For these goods only; may be given again.")]
# Typer knows no list of literals; the request refuses what is none.
Purposes: TypeAlias = Annotated[
    list[str],
    typer.Option("--purpose", metavar="|".join(get_args(Purpose)), help="May be given again."),
]
CallTypes: TypeAlias = Annotated[
    list[str],
    typer.Option("--call-type", metavar="|".join(get_args(CallType)), help="May be given again."),
]
Artefact: TypeAlias = Annotated[str, typer.Option(help="Where the signed form or the recording lies.")]
Sum: TypeAlias = Annotated[str, typer.Option(help="Its SHA-256. Without both, the consent opens nothing.")]
Wording: TypeAlias = Annotated[str, typer.Option(help="Which wording was agreed to.")]
CollectedBy: TypeAlias = Annotated[str, typer.Option(help="How the person gave it: form, call, shop…")]
Profiling: TypeAlias = Annotated[
    bool, typer.Option("--profiling", help="It says that calls may be chosen by profiling.")
]
ThirdParty: TypeAlias = Annotated[
    bool, typer.Option("--third-party", help="It says that it may be ceded to others.")
]
DoubleOptIn: TypeAlias = Annotated[
    bool, typer.Option("--double-opt-in", help="It opens nothing before `consent confirm`.")
]
Marketing: TypeAlias = Annotated[bool, typer.Option("--marketing", help="It holds a consent to such calls.")]
Sector: TypeAlias = Annotated[str, typer.Option(help="As the campaigns name it.")]
Topic: TypeAlias = Annotated[str, typer.Option(help="What about, as the campaign names its goods.")]
OwnInterface: TypeAlias = Annotated[
    bool, typer.Option("--own-interface", help="Made on the controller's own web site or app.")
]


def _record(config: ConfigPath, kind: type[LedgerRequest], options: dict[str, object], done: str) -> None:
    as_json = options["as_json"] is True
    with reporting(as_json=as_json):
        ask = request(kind, options)
        note(config, lambda registrar, client: registrar.consents.record(client, ask), done, as_json=as_json)


@consent_app.command("add")
def consent_add(
    *,
    number: Number,
    id_: Id,
    collected_at: Time,
    purposes: Purposes,
    call_types: CallTypes,
    goods: Goods = [],
    expires_at: Time = "",
    text_version: Wording = "",
    artefact: Artefact = "",
    artefact_sha256: Sum = "",
    collection_channel: CollectedBy = "",
    profiling: Profiling = False,
    third_party: ThirdParty = False,
    double_opt_in: DoubleOptIn = False,
    controller: ControllerId = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record a consent, with what proves it (GDPR art. 7).

    dialgate consent add +393281234567 --id form-17 --collected-at 2026-11-02T10:00:00+01:00 --purpose sale
    --call-type agent --artefact forms/17.pdf --artefact-sha256 "$(sha256sum < forms/17.pdf | head -c 64)" """
    _record(config, ConsentRequest, locals(), "recorded")


@consent_app.command("confirm")
def consent_confirm(
    *,
    number: Number,
    id_: Id,
    at: Time = "",
    controller: ControllerId = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record the second step of a double opt-in: the person confirmed.

    dialgate consent confirm +393281234567 --id form-17 --proof mail/18"""
    _record(config, ConfirmationRequest, locals(), "confirmed")


@consent_app.command("withdraw")
def consent_withdraw(
    *,
    number: Number,
    id_: Id,
    at: Time = "",
    controller: ControllerId = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record that a consent was withdrawn.

    dialgate consent withdraw +393281234567 --id form-17 --channel web"""
    _record(config, WithdrawalRequest, locals(), "withdrawn")


@contract_app.command("add")
def contract_add(
    *,
    number: Number,
    id_: Id,
    starts: Day,
    ends: Day = "",
    sector: Sector = "",
    goods: Goods = [],
    marketing: Marketing = False,
    controller: ControllerId = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record a contract.

    dialgate contract add +390612345678 --id C-1001 --starts 2026-01-15 --sector telecommunications"""
    _record(config, ContractRequest, locals(), "recorded")


@contract_app.command("end")
def contract_end(
    *,
    number: Number,
    id_: Id,
    ends: Day,
    controller: ControllerId = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record a contract's last day.

    dialgate contract end +390612345678 --id C-1001 --ends 2026-12-31"""
    _record(config, ContractEndRequest, locals(), "recorded")


@request_app.command("add")
def request_add(
    *,
    number: Number,
    id_: Id,
    requested_at: Time,
    expires_at: Time,
    goods: Topic = "",
    own_interface: OwnInterface = False,
    controller: ControllerId = "",
    channel: Channel = "cli",
    proof: Proof = "",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record that a person asked to be called, once.

    dialgate request add +393281234567 --id web-88 --requested-at 2026-11-24T09:00:00+01:00
    --expires-at 2026-11-27T09:00:00+01:00 --goods broadband --own-interface --proof web/88.json"""
    _record(config, CallRequestRequest, locals(), "recorded")


@caller_id_app.command("prove")
def caller_id_prove(
    *,
    caller_id: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER",
            help="As it is presented; - reads it from standard input.",
            callback=number_given,
        ),
    ],
    kind: Annotated[
        Literal["attested", "probe"], typer.Option(help="Somebody answers for it, or a call back was made.")
    ],
    evidence: Annotated[str, typer.Option(help="Where the evidence lies.")],
    answered: Annotated[bool, typer.Option(help="Whether the call back was answered.")] = True,
    at: Time = "",
    controller: ControllerId = "",
    channel: Channel = "cli",
    actor: Actor = "cli",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Record that calls back to a presented number are answered, or are not. Such a proof expires.

    dialgate caller-id prove +390612340000 --kind probe --evidence probes/2026-11-24.wav"""
    options = locals()
    with reporting(as_json=as_json):
        ask = request(CallerIdProofRequest, options)
        receipt = write(config, lambda registrar, client: registrar.caller_ids.prove_caller_id(client, ask))
    if as_json:
        note_of = {"note": receipt.note} if receipt.note else {}
        show_json({"caller_id": caller_id, "answered": answered, "in_force": receipt.in_force, **note_of})
    else:
        typer.echo(
            f"recorded: calls back to it {'are' if answered else 'are not'} answered; in force: {receipt.in_force}"
        )
        show_note(receipt.note)
