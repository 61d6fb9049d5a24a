"""The ledger's requests and responses, with one struct per write operation.

Each operation is defined only by its struct. HTTP bodies are decoded with the struct. OpenAPI, command options and the
columns of import files are generated from the fields of the struct and the field descriptions (`request_fields`).

Instants are in RFC 3339 format with an offset, and days in ISO 8601 format. Unknown keys are rejected. Texts
and lists are stored for years, so their length is limited.
"""

from datetime import date, datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from dialgate.core.model import Basis, CallType, Origin, Phrase, Purpose, Stated, Transfers
from dialgate.core.text_formats import OptionalTimestamp, PlaceCode, Timestamp
from dialgate.lists.call_list import RowProblem
from dialgate.lists.tabular import Layout

# Lengths are in characters. A Telephone holds a number, which must not appear in a URL or in a list of processes.
Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Name: TypeAlias = Annotated[str, Meta(max_length=128)]
Words: TypeAlias = Annotated[str, Meta(max_length=1024)]
Telephone: TypeAlias = Annotated[str, Meta(max_length=256, extra={"telephone": True})]
Sha256: TypeAlias = Annotated[str, Meta(pattern="^([0-9a-fA-F]{64})?$")]
Goods: TypeAlias = Annotated[
    tuple[Name, ...],
    Meta(
        max_length=64,
        description="Goods to which the entry is limited, named as in the campaigns. Default: all goods.",
    ),
]
When: TypeAlias = Annotated[datetime, Meta(tz=True)]


def described(sentence: str) -> Meta:
    """Return field metadata with a description, for OpenAPI and for command help."""
    return Meta(description=sentence)


# Fields that several requests have.
_Person: TypeAlias = Annotated[
    Telephone, described("The person's number, preferably with its country code (+39…)")
]
_EntryId: TypeAlias = Annotated[Id, described("Your own id for the entry. Use the same id to end it later.")]
_Scope: TypeAlias = Annotated[
    Literal["campaign", "controller", "everyone"], described("Whose calls the revocation stops.")
]
_Campaign: TypeAlias = Annotated[Name, described("The campaign, if the scope is `campaign`.")]
_SkipBad: TypeAlias = Annotated[
    bool, described("Skip invalid rows. Otherwise one invalid row rejects the file.")
]
_Rectify: TypeAlias = Annotated[
    tuple[Name, ...],
    Meta(
        max_length=32,
        description="The fields that this entry corrects, such as `goods`. Without it, an entry with the same id and date never permits more than the earlier one, and what was corrected stays.",
    ),
]
_Happened: TypeAlias = Annotated[When | None, described("When it happened. Default: now.")]
_Reason: TypeAlias = Annotated[Words, described("What happened.")]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that all write operations share."""

    controller: Annotated[Name, described("The controller. Optional if the client has only one.")] = ""
    actor: Annotated[
        Phrase,
        described(
            "The person or system that makes this request, for the record. Default: the client's name."
        ),
    ] = ""
    channel: Annotated[
        str,
        Meta(
            max_length=128,
            pattern="^(?!erasure$)",  # the gate's own word: the stop of an erasure
            description="Channel by which the request arrived: call, letter, web, pec…",
        ),
    ] = "api"
    proof: Annotated[Words, described("Reference to the evidence: a file, a ticket, a recording.")] = ""


class RevocationRequest(Request, frozen=True, kw_only=True):
    """A revocation: the person asked not to be called. Fields that cannot be read are ignored, except `number`; `note` says which."""

    number: _Person
    scope: _Scope = "controller"
    campaign: _Campaign = ""
    at: _Happened = None


class RevocationsRequest(Request, frozen=True, kw_only=True):
    """The revocations in a file: a number in each row and, optionally, the time of the revocation in an `at` column."""

    scope: _Scope = "controller"
    campaign: _Campaign = ""
    skip_bad: Annotated[bool, described("No effect: rows without a number are always skipped.")] = False


class EntriesRequest(Request, frozen=True, kw_only=True):
    """The consents, contracts or call requests in a file. A `proof` in a row overrides the `proof` of the request."""

    kind: Annotated[
        Literal["consent", "contract", "call_request"],
        described("The kind of entry in the rows. The path of the request says it."),
    ] = "consent"
    skip_bad: _SkipBad = False


class LiftRequest(Request, frozen=True, kw_only=True):
    """A request to lift a revocation. For the scope `everyone`, name the `controller` with the new consent: others stay barred."""

    ground: Annotated[
        Literal["error", "new_consent"],
        described("`error`: entered by mistake; `new_consent`: the person consented again."),
    ]
    reason: _Reason
    consent: Annotated[Name, described("The id of the new consent, if the ground is `new_consent`.")] = ""


class NumberConfirmation(Request, frozen=True, kw_only=True):
    """A request to lift a wrong-number report."""

    ground: Annotated[
        Literal["error", "confirmed"],
        described(
            "`error`: the report was a mistake; `confirmed`: the person showed that the number is theirs."
        ),
    ]
    reason: _Reason


class ConsentRequest(Request, frozen=True, kw_only=True):
    """A consent, with its proof.

    An artefact with its SHA-256 proves it. A certificate with its claim, or a CRM reference with who attests it and when,
    proves it only where the country's law accepts that. Without any proof, the consent is recorded but has no effect.
    """

    number: _Person
    id: _EntryId
    collected_at: Annotated[When, described("When the person gave the consent.")]
    purposes: Annotated[
        tuple[Purpose, ...],
        Meta(min_length=1, max_length=16, description="The purposes of calls that the consent permits."),
    ]
    call_types: Annotated[
        tuple[CallType, ...],
        Meta(min_length=1, max_length=16, description="The call types that the consent permits."),
    ]
    goods: Goods = ()
    expires_at: Annotated[When | None, described("When the consent expires. Default: never.")] = None
    text_version: Annotated[Phrase, described("The version of the wording that the person agreed to.")] = ""
    artefact: Annotated[Words, described("Reference to the signed form or the recording.")] = ""
    artefact_sha256: Annotated[
        Sha256,
        described(
            "SHA-256 of the artefact, in hexadecimal. Without it, the consent needs another proof that the law accepts."
        ),
    ] = ""
    origin: Annotated[
        Origin | None,
        described(
            "For a consent that another party collected: that party, and every cession since. The last one names this controller's id. Needs `third_party`."
        ),
    ] = None
    collection_channel: Annotated[Name, described("How the person gave the consent: form, call, shop…")] = ""
    profiling: Annotated[
        bool, described("The person separately consented to profiling that selects calls.")
    ] = False
    third_party: Annotated[
        bool, described("The person separately consented to the cession of the consent to others.")
    ] = False
    double_opt_in: Annotated[
        bool, described("The consent has no effect until it is confirmed (double opt-in).")
    ] = False
    form: Annotated[
        Literal["", "oral", "written"], described("`written` on paper or by electronic means, or `oral`.")
    ] = ""
    states: Annotated[
        tuple[Stated, ...],
        Meta(
            max_length=16,
            description="What the consent's text states: who calls, to whom it may be ceded, when it was given.",
        ),
    ] = ()
    renewed_at: Annotated[When | None, described("When the person last renewed the consent expressly.")] = (
        None
    )
    place: PlaceCode = ""
    rectify: _Rectify = ()
    certificate_url: Annotated[str, Meta(max_length=1024, pattern=r"^(https://\S+)?$", description="The certificate of the form's submission at its issuer, such as TrustedForm or Jornaya.")] = ""  # fmt: skip
    certificate_claim: Annotated[Phrase, described("The claim by which the issuer keeps the certificate. Without it, it proves nothing.")] = ""  # fmt: skip
    crm_reference: Annotated[Phrase, described("Where the CRM keeps the proof: the id of its record.")] = ""
    attested_by: Annotated[Phrase, described("Who attests that it does: a name or a role.")] = ""
    attested_at: Annotated[When | None, described("When they attested it: not before `collected_at`.")] = None


class ConfirmationRequest(Request, frozen=True, kw_only=True):
    """The second step of a double opt-in."""

    number: _Person
    id: _EntryId
    at: _Happened = None


class WithdrawalRequest(Request, frozen=True, kw_only=True):
    number: _Person
    id: _EntryId
    at: _Happened = None
    dated: Annotated[
        bool,
        described(
            "`at` is the time at the source, by which its withdrawals and consents are ordered: a consent given later stays, even if it was recorded before."
        ),
    ] = False


class ContractRequest(Request, frozen=True, kw_only=True):
    """A contract. It is a legal basis for calls by campaigns in the same sector."""

    number: _Person
    id: _EntryId
    starts: Annotated[date, described("The first day of the contract.")]
    ends: Annotated[date | None, described("The last day of the contract. Default: none.")] = None
    sector: Annotated[Name, described("One of the sectors of a country file, named as in the campaigns.")] = (
        ""
    )
    goods: Goods = ()
    marketing: Annotated[bool, described("The contract includes a consent to commercial calls.")] = False
    last_purchase: Annotated[
        date | None, described("The day of the last purchase under the contract. Default: unknown.")
    ] = None
    place: PlaceCode = ""
    rectify: _Rectify = ()


class ContractEndRequest(Request, frozen=True, kw_only=True):
    number: _Person
    id: _EntryId
    ends: Annotated[date, described("The last day of the contract.")]


class CallRequestRequest(Request, frozen=True, kw_only=True):
    """A call request: the person asked to be called."""

    number: _Person
    id: _EntryId
    requested_at: Annotated[When, described("When the person asked.")]
    expires_at: Annotated[When, described("The time until which the person may be called.")]
    goods: Annotated[Name, described("The goods that the call is about, named as in the campaigns.")] = ""
    own_interface: Annotated[
        bool, described("The request was made on the controller's own web site or app.")
    ] = False
    begins: Annotated[
        When | None, described("The time from which the person may be called. Default: immediately.")
    ] = None
    appointment: Annotated[
        bool,
        described("The person agreed to this time, of at most four hours, even at night. Needs a proof."),
    ] = False
    place: PlaceCode = ""
    rectify: _Rectify = ()


class CallerIdProofRequest(Request, frozen=True, kw_only=True):
    """A proof that a caller ID can, or cannot, be called back. If `evidence` is empty, the text of `proof` is used."""

    caller_id: Annotated[
        Telephone, described("The number as it is presented, preferably with its country code (+39…)")
    ]
    kind: Annotated[
        Literal["attested", "probe"],
        described("`attested`: a person vouches for it; `probe`: a call back was made."),
    ]
    at: _Happened = None
    answered: Annotated[bool, described("Whether the call back was answered.")] = True
    evidence: Annotated[Words, described("Reference to the evidence.")] = ""


class OutcomeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of an allowed call. A refused offer (`refused`) is not a revocation."""

    decision_id: Annotated[Id, described("The `decision_id` of the allow; for `opt_out`, of any decision.")]
    outcome: Annotated[
        Literal[
            "not_dialled", "no_answer", "busy", "answered", "refused", "abandoned", "opt_out", "wrong_number"
        ],
        described(
            "`opt_out` revokes at once; `wrong_number` ends the effect of earlier consents and contracts."
        ),
    ]


class ListRequest(Request, frozen=True, kw_only=True):
    """A call list, with the origin of its numbers."""

    id: Annotated[Id, described("Your own name for the list.")]
    campaigns: Annotated[
        tuple[Name, ...], Meta(max_length=1024, description="The campaigns that may call its numbers.")
    ]
    basis: Annotated[
        Basis,
        described(
            "The legal basis for the rows. In the file, a `basis` column may set the basis for a row. A `place` column may set the person's state or province, such as US-FL. A mobile number from the directory must have `directory` in the `basis` column."
        ),
    ]
    collected_by: Annotated[Phrase, described("Who collected the numbers.")]
    collected_on: Annotated[date, described("When the numbers were collected.")]
    source: Annotated[Phrase, described("The source of the numbers.")] = ""
    transfers: Annotated[Transfers, described("Every later cession of the list, oldest first.")] = ()
    origin: Annotated[
        Literal["", "own", "public_directory", "acquired"],
        described(
            "How the controller got the list. `own`: collected by the controller or one of its `processors`. `public_directory`: taken from a public directory. `acquired`: from another company; it needs its `transfers`. Required if `collected_by` is another company and `transfers` is empty."
        ),
    ] = ""
    replaces: Annotated[
        Name, described("A list of the same controller, which is retired once this one is loaded.")
    ] = ""


class Receipt(Struct, frozen=True, omit_defaults=True):
    """The acknowledgement of ledger entry `seq`. The entry applies to every decision made after `at`.

    If the entry is a legal basis that no call can use yet, `note` says why. If a revocation covers more than requested,
    `note` says so. Otherwise `note` is absent.
    """

    seq: int
    at: Timestamp
    note: str = ""


class ProofReceipt(Struct, frozen=True, omit_defaults=True):
    """The receipt for a proof. `in_force` says when each node starts using it, `note` why no call can use it yet."""

    in_force: str
    note: str = ""


class OutcomeReceipt(Struct, frozen=True):
    decision_id: str
    outcome: str
    revocation: Receipt | None = None
    wrong_number: Receipt | None = None


class ListInfo(Struct, frozen=True, kw_only=True):
    id: str
    controller: str
    campaigns: tuple[str, ...]
    numbers: int
    origin: Origin
    loaded_at: Timestamp
    actor: str
    retired_at: OptionalTimestamp = ""


class Lists(Struct, frozen=True):
    lists: list[ListInfo]


class RetiredList(ListInfo, frozen=True, kw_only=True):
    """A retired call list. `in_force` says when each node stops using the list."""

    in_force: str = ""


class ListReport(Struct, frozen=True, kw_only=True):
    """The result of loading a call list. `in_force` says when each node starts using the list.

    For some kinds of number, such as mobile numbers, the row itself must have the basis `directory`. `unstated`
    counts the accepted numbers whose rows lack this basis. The list does not permit calls to these numbers.
    `doubtful` counts the rows skipped because Excel may have dropped a zero or a plus; `note` says what to do.
    `reasons` counts the skipped rows by their problem, doubtful ones too. `replaced` is the list that was retired.
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
    doubtful: int = 0
    note: str = ""
    reasons: dict[str, int] = field(default_factory=dict)
    replaced: str = ""


LedgerRequest: TypeAlias = (
    ConsentRequest | ConfirmationRequest | WithdrawalRequest | ContractRequest | ContractEndRequest | CallRequestRequest
)  # fmt: skip
