"""The ledger's requests and responses: one struct for each write.

A struct is the only description of its write. HTTP bodies are decoded with it, OpenAPI shows it, and the options of the
command and the columns of import files are generated from it (`request_fields`). A description is a sentence for all of them.

Instants are RFC 3339 with an offset, days are ISO 8601. An unknown key is refused. Texts and sequences have a maximum length,
because they are stored for years.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from dialgate.core.model import Basis, CallType, Origin, Phrase, Purpose, Transfers
from dialgate.lists.call_list import RowProblem
from dialgate.lists.tabular import Layout

# Lengths are in characters. A Telephone holds a number that belongs in no URL and in no list of processes.
Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Name: TypeAlias = Annotated[str, Meta(max_length=128)]
Words: TypeAlias = Annotated[str, Meta(max_length=1024)]
Telephone: TypeAlias = Annotated[str, Meta(max_length=256, extra={"telephone": True})]
Sha256: TypeAlias = Annotated[str, Meta(pattern="^([0-9a-fA-F]{64})?$")]
Goods: TypeAlias = Annotated[
    tuple[Name, ...],
    Meta(max_length=64, description="For these goods only, as the campaigns name them. Default: all."),
]
When: TypeAlias = Annotated[datetime, Meta(tz=True)]


def about(sentence: str) -> Meta:
    """Describe a field for OpenAPI, the help of a command and the reader of this module."""
    return Meta(description=sentence)


# Fields that several requests have.
_Person: TypeAlias = Annotated[Telephone, about("The person's number, best as +39…")]
_EntryId: TypeAlias = Annotated[Id, about("Your own name for it, by which it is ended.")]
_Scope: TypeAlias = Annotated[Literal["campaign", "controller", "everyone"], about("Whom it binds.")]
_Campaign: TypeAlias = Annotated[Name, about("Which campaign, where the scope is `campaign`.")]
_SkipBad: TypeAlias = Annotated[
    bool, about("Leave out rows that cannot be read. Otherwise one of them refuses the file.")
]
_Happened: TypeAlias = Annotated[When | None, about("When it happened. Default: now.")]
_Reason: TypeAlias = Annotated[Words, about("What happened.")]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that every write has."""

    controller: Annotated[
        Name, about("The controller it is for. May be left out where there is only one.")
    ] = ""
    actor: Annotated[Phrase, about("Who does this; it is recorded. Default: the client's name.")] = ""
    channel: Annotated[Name, about("How the person's wish arrived: call, letter, web, pec…")] = "api"
    proof: Annotated[Words, about("Where the evidence lies: a file, a ticket, a recording.")] = ""


class RevocationRequest(Request, frozen=True, kw_only=True):
    """The person said stop."""

    number: _Person
    scope: _Scope = "controller"
    campaign: _Campaign = ""
    at: _Happened = None


class RevocationsRequest(Request, frozen=True, kw_only=True):
    """The stops of a file: one number in each row. A column `at` may hold when the person said it."""

    scope: _Scope = "controller"
    campaign: _Campaign = ""
    skip_bad: _SkipBad = False


class EntriesRequest(Request, frozen=True, kw_only=True):
    """The consents, contracts or call requests of a file. A row's own `proof` wins."""

    kind: Annotated[Literal["consent", "contract", "call_request"], about("What the rows are.")]
    skip_bad: _SkipBad = False


class LiftRequest(Request, frozen=True, kw_only=True):
    """The ground on which a revocation is lifted. There is no other. `controller`: whose consent, where the revocation binds
    every controller.
    """

    ground: Annotated[
        Literal["error", "new_consent"],
        about("`error`: entered by mistake; `new_consent`: the person consented again."),
    ]
    reason: _Reason
    consent: Annotated[Name, about("The id of the new consent, where the ground is `new_consent`.")] = ""


class NumberConfirmation(Request, frozen=True, kw_only=True):
    """The ground on which a wrong-number report is lifted."""

    ground: Annotated[
        Literal["error", "confirmed"],
        about("`error`: the report was a mistake; `confirmed`: the person showed that the number is theirs."),
    ]
    reason: _Reason


class ConsentRequest(Request, frozen=True, kw_only=True):
    """A consent. Without `artefact` and its SHA-256 it is kept as unproved and opens nothing."""

    number: _Person
    id: _EntryId
    collected_at: Annotated[When, about("When the person gave it.")]
    purposes: Annotated[
        tuple[Purpose, ...], Meta(min_length=1, max_length=16, description="What calls it permits.")
    ]
    call_types: Annotated[
        tuple[CallType, ...], Meta(min_length=1, max_length=16, description="Who or what may speak.")
    ]
    goods: Goods = ()
    expires_at: Annotated[When | None, about("When it expires. Default: never.")] = None
    text_version: Annotated[Phrase, about("Which wording was agreed to.")] = ""
    artefact: Annotated[Words, about("Where the signed form or the recording lies.")] = ""
    artefact_sha256: Annotated[
        Sha256, about("SHA-256 of the artefact, in hexadecimal. Without both, the consent opens nothing.")
    ] = ""
    origin: Annotated[
        Origin | None,
        about(
            "Who collected it, if that was somebody else, and every cession since; the last is to this controller, by its id. Needs `third_party`."
        ),
    ] = None
    collection_channel: Annotated[Name, about("How the person gave it: form, call, shop…")] = ""
    profiling: Annotated[bool, about("The person separately consented to profiling that chooses calls.")] = (
        False
    )
    third_party: Annotated[bool, about("The person separately consented to its cession to others.")] = False
    double_opt_in: Annotated[bool, about("It opens nothing before it is confirmed.")] = False


class ConfirmationRequest(Request, frozen=True, kw_only=True):
    """The second step of a double opt-in."""

    number: _Person
    id: _EntryId
    at: _Happened = None


class WithdrawalRequest(Request, frozen=True, kw_only=True):
    """The withdrawal of a consent."""

    number: _Person
    id: _EntryId
    at: _Happened = None


class ContractRequest(Request, frozen=True, kw_only=True):
    """A contract. It opens the calls of campaigns of the same sector."""

    number: _Person
    id: _EntryId
    starts: Annotated[date, about("Its first day.")]
    ends: Annotated[date | None, about("Its last day. Default: none.")] = None
    sector: Annotated[Name, about("One of the country's sectors, as the campaigns name it.")] = ""
    goods: Goods = ()
    marketing: Annotated[bool, about("It holds a consent to commercial calls within it.")] = False


class ContractEndRequest(Request, frozen=True, kw_only=True):
    """The end of a contract."""

    number: _Person
    id: _EntryId
    ends: Annotated[date, about("Its last day.")]


class CallRequestRequest(Request, frozen=True, kw_only=True):
    """The person asked to be called."""

    number: _Person
    id: _EntryId
    requested_at: Annotated[When, about("When the person asked.")]
    expires_at: Annotated[When, about("Until when the person may be called.")]
    goods: Annotated[Name, about("What about, as the campaign names its goods.")] = ""
    own_interface: Annotated[bool, about("Made on the controller's own web site or app.")] = False


class CallerIdProofRequest(Request, frozen=True, kw_only=True):
    """A proof that a caller ID can be called back, or cannot. `proof` is kept as `evidence` where that is empty."""

    caller_id: Annotated[Telephone, about("The number as it is presented, best as +39…")]
    kind: Annotated[
        Literal["attested", "probe"],
        about("`attested`: somebody answers for it; `probe`: a call back was made."),
    ]
    at: _Happened = None
    answered: Annotated[bool, about("Whether the call back was answered.")] = True
    evidence: Annotated[Words, about("Where the evidence lies.")] = ""


class OutcomeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of an allowed call."""

    decision_id: Annotated[Id, about("The `decision_id` of the allow.")]
    outcome: Annotated[
        Literal["not_dialled", "no_answer", "busy", "answered", "abandoned", "opt_out", "wrong_number"],
        about("`opt_out` revokes at once, `wrong_number` closes what was given for the number."),
    ]


class ListRequest(Request, frozen=True, kw_only=True):
    """A call list, with the origin of its numbers."""

    id: Annotated[Id, about("Your own name for the list.")]
    campaigns: Annotated[
        tuple[Name, ...], Meta(max_length=1024, description="The campaigns that may call it.")
    ]
    basis: Annotated[
        Basis,
        about(
            "What the rows rest on. A column `basis` may say it per row, and must for a mobile that is in the directory."
        ),
    ]
    collected_by: Annotated[Phrase, about("Who collected the numbers.")]
    collected_on: Annotated[date, about("When they were collected.")]
    source: Annotated[Phrase, about("From what.")] = ""
    transfers: Annotated[Transfers, about("Every cession since, oldest first.")] = ()


class Receipt(Struct, frozen=True, omit_defaults=True):
    """Every decision made after `at` is bound by ledger entry `seq`. `note`: "It opens nothing yet, because …"; absent where the
    entry may open calls, or is none that could.
    """

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
    refuse although it is in force, as after a stop to one campaign.
    """

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
    the directory only if their own row says `directory`; it did not, so the list opens no call to them.
    """

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
