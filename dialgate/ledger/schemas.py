"""What a client may ask to be written, and what it is told: the bodies of the ledger's endpoints.

Instants are RFC 3339 with an offset, days are ISO 8601. An unknown key is refused. What is stored for years has an end:
a text may be so long and no longer, a sequence have so many members.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from dialgate.core.model import Basis, CallType, Origin, Phrase, Purpose, Transfers
from dialgate.lists.call_list import RowProblem
from dialgate.lists.tabular import Layout

# In characters. An id or name as other systems make them; a phrase; where evidence lies, or what happened.
Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Name: TypeAlias = Annotated[str, Meta(max_length=128)]
Words: TypeAlias = Annotated[str, Meta(max_length=1024)]
Telephone: TypeAlias = Annotated[str, Meta(max_length=256)]
Sha256: TypeAlias = Annotated[str, Meta(pattern="^([0-9a-fA-F]{64})?$")]
Goods: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=64)]
When: TypeAlias = Annotated[datetime, Meta(tz=True)]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`controller` may be left out by a client that is bound to one. `actor` is who did it (default: the client), by
    which `channel` the wish came in, `proof` where the evidence of it lies."""

    controller: Name = ""
    actor: Phrase = ""
    channel: Name = "api"
    proof: Words = ""


class RevocationRequest(Request, frozen=True, kw_only=True):
    """`at`: when the person said stop, if that was earlier (RFC 3339)."""

    number: Telephone
    scope: Literal["campaign", "controller", "everyone"] = "controller"
    campaign: Name = ""
    at: When | None = None


class RevocationsRequest(Request, frozen=True, kw_only=True):
    """The stops of a file, a number a row and, in a column named at, when it was said. `skip_bad`: rows that cannot be read
    are left out; else one of them refuses the file."""

    scope: Literal["campaign", "controller", "everyone"] = "controller"
    campaign: Name = ""
    skip_bad: bool = False


class EntriesRequest(Request, frozen=True, kw_only=True):
    """The consents, contracts or call requests of a file. `skip_bad`: as for revocations; a row's own `proof` wins."""

    kind: Literal["consent", "contract", "call_request"]
    skip_bad: bool = False


class LiftRequest(Request, frozen=True, kw_only=True):
    """`error`: the revocation was entered by mistake; `new_consent`: the person consented again, and `consent` is the id
    under which that is recorded. Nothing else lifts a revocation. `controller`: whose consent, where the revocation binds
    every controller."""

    ground: Literal["error", "new_consent"]
    reason: Words
    consent: Name = ""


class NumberConfirmation(Request, frozen=True, kw_only=True):
    """The ground on which a wrong-number report is lifted. `error`: the report was a mistake; `confirmed`: the person
    showed that the number is theirs."""

    ground: Literal["error", "confirmed"]
    reason: Words


class ConsentRequest(Request, frozen=True, kw_only=True):
    """Without `artefact` and its SHA-256 the consent is kept as unproved and opens nothing. `origin`: where somebody else
    collected it, who, and every cession since, the last of them to this controller by its id; that needs `third_party`.
    `profiling` and `third_party`: consented to separately. `double_opt_in`: it opens nothing before it is confirmed.
    `collection_channel`: how the person gave it, as in form, call, shop."""

    number: Telephone
    id: Id
    collected_at: When
    purposes: Annotated[tuple[Purpose, ...], Meta(min_length=1, max_length=16)]
    call_types: Annotated[tuple[CallType, ...], Meta(min_length=1, max_length=16)]
    goods: Goods = ()
    expires_at: When | None = None
    text_version: Phrase = ""
    artefact: Words = ""
    artefact_sha256: Sha256 = ""
    origin: Origin | None = None
    collection_channel: Name = ""
    profiling: bool = False
    third_party: bool = False
    double_opt_in: bool = False


class ConfirmationRequest(Request, frozen=True, kw_only=True):
    """The second step of a double opt-in. `at`: when the person confirmed, if that was earlier."""

    number: Telephone
    id: Id
    at: When | None = None


class WithdrawalRequest(Request, frozen=True, kw_only=True):
    number: Telephone
    id: Id
    at: When | None = None


class ContractRequest(Request, frozen=True, kw_only=True):
    """`ends` is the last day; `marketing`: the person consented to commercial calls within the contract. A
    contract opens the calls of campaigns of the same `sector`, which is one of the country's."""

    number: Telephone
    id: Id
    starts: date
    ends: date | None = None
    sector: Name = ""
    goods: Goods = ()
    marketing: bool = False


class ContractEndRequest(Request, frozen=True, kw_only=True):
    number: Telephone
    id: Id
    ends: date


class CallRequestRequest(Request, frozen=True, kw_only=True):
    """The person asked to be called about `goods` until `expires_at`."""

    number: Telephone
    id: Id
    requested_at: When
    expires_at: When
    goods: Name = ""
    own_interface: bool = False


class CallerIdProofRequest(Request, frozen=True, kw_only=True):
    """`attested`: somebody answers for it; `probe`: a call back was made and `answered`, or not."""

    caller_id: Telephone
    kind: Literal["attested", "probe"]
    at: When | None = None
    answered: bool = True
    evidence: Words = ""


class OutcomeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    decision_id: Id
    outcome: Literal["not_dialled", "no_answer", "busy", "answered", "abandoned", "opt_out", "wrong_number"]


class ListRequest(Request, frozen=True, kw_only=True):
    """`basis` is what the rows rest on that do not say it themselves; `transfers` every cession, oldest first."""

    id: Id
    campaigns: Annotated[tuple[Name, ...], Meta(max_length=1024)]
    basis: Basis
    collected_by: Phrase
    collected_on: date
    source: Phrase = ""
    transfers: Transfers = ()


class Receipt(Struct, frozen=True, omit_defaults=True):
    """Every decision made after `at` is bound by ledger entry `seq`. `note`: "It opens nothing yet, because …"; absent where the
    entry may open calls, or is none that could."""

    seq: int
    at: str
    note: str = ""


class ProofReceipt(Struct, frozen=True, omit_defaults=True):
    """`in_force`: where the proof binds from when, in words. `note` as in `Receipt`."""

    in_force: str
    note: str = ""


class RevocationsReport(Struct, frozen=True, kw_only=True):
    """`revoked` of the `rows` are new; `known` were revoked as widely before."""

    rows: int
    revoked: int
    known: int
    duplicates: int
    refused: int
    at: str
    layout: Layout


class EntriesReport(Struct, frozen=True, kw_only=True):
    """`recorded` of the `rows` are new; `known` stood in the ledger as they stand in the file."""

    rows: int
    recorded: int
    known: int
    refused: int
    at: str
    layout: Layout


class OutcomeReceipt(Struct, frozen=True):
    decision_id: str
    outcome: str
    revocation: Receipt | None = None
    wrong_number: Receipt | None = None


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """`opens_nothing`: why the entry opens no call of any campaign, as one of `effect.Idle`; empty where it may open one."""

    seq: int
    at: str
    kind: str
    controller: str
    actor: str
    channel: str
    proof: str
    details: dict[str, Any]
    opens_nothing: str = ""


class ConsentStanding(Struct, frozen=True, kw_only=True):
    """What all entries about a consent amount to. `proved`: an artefact and its hash are held; instants are empty where
    the thing has not happened. `last_used_at`: when it last carried an allowed call. `reason`: the code
    with which the rules refuse a call on it now, empty if it is in force. `refused_for`: campaigns within its scope that they
    refuse although it is in force, as after a stop to one campaign."""

    id: str
    proved: bool
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...]
    profiling: bool
    third_party: bool
    double_opt_in: bool
    collected_at: str
    confirmed_at: str
    expires_at: str
    withdrawn_at: str
    voided_at: str
    last_used_at: str
    reason: str = ""
    refused_for: tuple[str, ...] = ()


class ListInfo(Struct, frozen=True, kw_only=True):
    id: str
    controller: str
    campaigns: tuple[str, ...]
    numbers: int
    origin: Origin
    loaded_at: str
    actor: str
    retired_at: str = ""


class RetiredList(ListInfo, frozen=True, kw_only=True):
    """`in_force`: where the retirement binds from when, in words."""

    in_force: str = ""


class ListReport(Struct, frozen=True, kw_only=True):
    """`in_force`: where the list may be called from when, in words. `unstated`: accepted numbers, such as mobiles, that are in
    the directory only if their own row says `directory`; it did not, so the list opens no call to them."""

    info: ListInfo = field(name="list")
    rows: int
    accepted: int
    duplicates: int
    refused: int
    problems: list[RowProblem] = field(default_factory=list)
    layout: Layout | None = None
    in_force: str = ""
    unstated: int = 0


LedgerRequest: TypeAlias = (
    ConsentRequest
    | ConfirmationRequest
    | WithdrawalRequest
    | ContractRequest
    | ContractEndRequest
    | CallRequestRequest
)
