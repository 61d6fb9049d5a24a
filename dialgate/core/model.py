"""The frozen values that packages exchange: calls, facts, decisions and their records.

Many of these structs are stored for years. Never rename, reorder or remove a field, and add new fields at the end with
a default, so that old records can be decoded. This module imports nothing from dialgate.

An instant is a Unix time in milliseconds. A day is a local `datetime.date`. `Call` holds the called number; `Facts`
hold only properties of the number.
"""

from datetime import date
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct, structs

Instant: TypeAlias = int

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SECONDS_A_DAY = 86_400
EPOCH = date(1970, 1, 1).toordinal()  # days are counted from it

CallType: TypeAlias = Literal["agent", "automated", "ai_voice"]
Purpose: TypeAlias = Literal[
    "sale", "advertising", "market_research", "statistics", "service", "debt", "political", "charity"
]
Callee: TypeAlias = Literal["consumer", "business", "sole_trader"]
# `manual`: an agent dials each number. `preview`: an agent sees the record and starts the dialling. `progressive`: the dialer dials
# when an agent is free. `predictive`: it dials more numbers than there are free agents.
DialMode: TypeAlias = Literal["manual", "preview", "progressive", "predictive"]
Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
# `statute` and `operator` (a limit set by the operator) deny, `self_regulation` denies for adherents of the code of conduct,
# and `recommendation` only warns.
Severity: TypeAlias = Literal["statute", "self_regulation", "recommendation", "operator", "gate"]
Basis: TypeAlias = Literal["directory", "consent", "contract", "request"]

# Classes of number. The first ten are terms of numbering plans.
Kind: TypeAlias = Literal[
    "fixed", "mobile", "fixed_or_mobile", "toll_free", "premium", "shared_cost", "voip", "personal", "pager",
    "uan", "voicemail", "short", "emergency", "unknown", "invalid",
]  # fmt: skip

# The calls that a revocation bars. `marketing`: those that the law bars. `all`: calls about a contract or a debt, too.
StopScope: TypeAlias = Literal["all", "marketing"]

# A call may have a stricter type than its campaign declares, never a less strict one.
STRICTNESS: dict[CallType, int] = {"ai_voice": 2, "automated": 1, "agent": 0}


class Call(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A call to be checked. `to` is the number to dial, and `from` the caller ID to show, or `auto`.

    If a request with a `call_id` is repeated unchanged, the gate repeats its decision: a denial for a day, `allow` until
    it expires or a result is reported. `call_type` can only be stricter than the campaign's call type.
    """

    # These values are stored with each decision, so their length is limited. Real values are shorter.
    to: Annotated[str, Meta(max_length=256, description="Number to dial, in E.164.")]
    from_: Annotated[
        str,
        Meta(
            max_length=256,
            description="Caller ID to show, in E.164, or `auto`: the gate chooses one of the campaign's.",
        ),
    ]
    campaign: Annotated[str, Meta(max_length=128, description="Campaign ID.")]
    call_id: Annotated[
        str,
        Meta(
            max_length=256,
            description="The dialer's call ID. A request repeated before its decision expires counts once.",
        ),
    ] = ""
    call_type: Annotated[
        CallType | None, Meta(description="Call type, only if stricter than the campaign's.")
    ] = None
    agent: Annotated[
        str,
        Meta(
            max_length=64,
            description="ID of the agent who will talk, never a name. Ignored unless the controller has `record_agents`.",
        ),
    ] = ""


AUTO: Final = "auto"  # as caller ID: the gate chooses one of the campaign's

# The names of a call's fields in requests, and of those that may be left out.
CALL_FIELDS: Final = tuple(field.encode_name for field in structs.fields(Call))
OPTIONAL_CALL_FIELDS: Final = tuple(field.encode_name for field in structs.fields(Call) if not field.required)


# ---- facts -----------------------------------------------------------------------------------------------------------


class Place(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A time zone that the called number may be in, with its UTC offsets and holidays.

    Rules and replay therefore need neither a time-zone database nor a holiday library. The values are valid for the
    weeks around the call.
    """

    zone: str  # IANA name
    offset: int  # from UTC, in seconds
    shift_at: Instant = 0  # next change of the clocks, or 0
    shift_to: int = 0  # offset from `shift_at` on
    holidays: tuple[date, ...] = ()  # in old records, whose laws had only one day set
    shifted_at: Instant = 0  # last change of the clocks
    shifted_from: int = 0  # offset before `shifted_at`
    day_sets: dict[str, tuple[date, ...]] = {}  # the days in each of the law's day sets

    def is_in(self, day_set: str, day: date) -> bool:
        """Return whether a day is in a day set. `day_sets` covers only the weeks around the call for which it was made."""
        return day in self.day_sets.get(day_set, self.holidays)

    def local(self, at: Instant) -> tuple[int, int]:
        """Return the local day, counted from 1970-01-01, and the local time of day in seconds."""
        offset = self.shift_to if self.shift_at and at >= self.shift_at else self.offset
        if at < self.shifted_at:
            offset = self.shifted_from
        return divmod(at // SECOND + offset, SECONDS_A_DAY)

    def instant(self, day: int, second: int) -> Instant:
        """Return the instant of a local day and a local time of day in seconds. This is the inverse of `local`.

        The instant must not be before `shifted_at`. If the local time occurs twice, return the first instant.
        """
        local = day * SECONDS_A_DAY + second
        at = (local - self.offset) * SECOND
        return (local - self.shift_to) * SECOND if self.shift_at and at >= self.shift_at else at


UTC_PLACE = Place(zone="UTC", offset=0)  # for numbers without a known place


class Number(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The properties of the called number, without its digits."""

    kind: Kind
    region: str = ""  # ISO 3166 code
    problem: str = ""  # why the number is invalid or its law cannot be used
    # subdivisions of `region`, such as `US-FL`, in which the person may be; a region stands for all of them
    places: tuple[str, ...] = ()
    prefix: str = ""  # longest matching prefix in the law's `not_prefixes`


class Controller(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The controller (*titolare*), on whose behalf the call is made."""

    id: str
    adheres_to: tuple[str, ...] = ()  # codes of conduct
    sistan: bool = False  # a body of the national statistical system (D.Lgs. 322/1989)
    consent_after_listing: bool = False  # the exception of L. 5/2018 art. 1 c. 6 is enabled
    traits: tuple[str, ...] = ()  # properties that country files define
    contract_proofs: str = ""  # where the proofs of consents within contracts are kept
    # collectors whose lists and consents are its own, with other names than its id: folded, see `fold_company`
    collectors: tuple[str, ...] = ()


class DayCount(Struct, frozen=True, array_like=True):
    """A campaign's call results on one day in the controller's country."""

    day: date
    answered: int  # by an agent
    abandoned: int


class Campaign(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A campaign. The defaults are the strictest values, because they apply to unknown campaigns."""

    id: str
    known: bool = True  # False if the client has no such campaign
    purpose: Purpose = "sale"
    sector: str = ""
    goods: str = ""
    call_type: CallType = "automated"
    callee: Callee = "consumer"
    starts: date | None = None  # first day
    ends: date | None = None  # last day
    paused: bool = False
    trunk_country: str = ""  # where calls enter the telephone network
    profiling: bool = False  # the people to call are selected by their habits or tastes
    dial_mode: DialMode | Literal[""] = ""  # if empty, the sections for all modes apply
    balancing: str = ""  # reference to the balancing test for a legitimate interest
    counts: tuple[DayCount, ...] = ()  # oldest day first, without calls before `lifted_at`
    lifted_at: Instant = 0  # when an officer last lifted a pause of the campaign
    stops: StopScope = "all"  # which calls a revocation bars by the operator's choice
    ai_disclosure: str = ""  # reference to the proof that an AI voice says what it is
    paused_at: Instant = 0  # when a supervisor paused the campaign, or 0


class CallerId(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The caller ID that the called person sees."""

    number: str
    form: Literal["number", "short", "withheld", "invalid"]
    kind: Kind = "unknown"
    region: str = ""
    assigned: bool = False  # to the campaign
    shared: bool = False  # another controller presents it too
    proved_at: Instant = 0  # the last answered call-back
    proof: str = ""  # evidence of that call-back
    held: bool = False  # allotted to the company that makes the calls
    in_directory: bool = False  # listed in the public directory
    ends: date | None = None  # last day on which calls back are answered, if known
    ingress_proof: str = ""  # reference to the proof that it may enter its country from abroad
    chosen: str = ""  # if the gate chose it: how many of the campaign's fit, and why others did not


# Limited, because it is part of every record of a call that depends on it.
Phrase: TypeAlias = Annotated[str, Meta(max_length=256)]


class Transfer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cession of a call list or consent from one company to another.

    `subjects_told` means that the data subjects were informed of the cession (L. 5/2018 art. 1 c. 8).
    """

    by: Phrase
    to: Phrase
    on: date
    subjects_told: bool = False


Transfers: TypeAlias = Annotated[tuple[Transfer, ...], Meta(max_length=64)]


# How a controller got its data: collected by it or by one of its processors, taken from a public directory, or acquired from
# another company.
OriginKind: TypeAlias = Literal["own", "public_directory", "acquired"]


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The origin of a call list or consent, with every later transfer, oldest first."""

    collected_by: Phrase
    collected_on: date
    source: Phrase = ""  # where the data came from
    transfers: Transfers = ()
    kind: OriginKind | Literal[""] = ""  # if empty, the collector decides


class Listing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A number's entry on a call list.

    `stated` is true if the number's row itself specifies the basis `directory`. It is false if the row relies on the
    list's default basis. `place` is the subdivision that the row declares as the person's home.
    """

    list: str
    basis: Basis
    origin: Origin
    stated: bool = False
    place: str = ""


BarredDay: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
Band: TypeAlias = Annotated[str, Meta(pattern=r"^\d\d:\d\d-\d\d:\d\d$")]


class Block(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Calls that a registry's listing bars. An empty field matches every call.

    `categories` are sectors of the campaign. `holiday` in `days` means the days of the registry's day set. `bands` are
    local times of day, such as `18:00-21:00`.
    """

    categories: tuple[str, ...] = ()
    call_types: tuple[CallType, ...] = ()
    days: tuple[BarredDay, ...] = ()
    bands: tuple[Band, ...] = ()


class RegistryAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registry's answer about a number (DPR 26/2022 art. 8).

    If `asked_since` is not 0, the question was whether the number was disconnected since that instant. The answer
    `listed` means that the number was disconnected at `listed_at` or earlier. The answer `clear` means that the number
    was not disconnected.
    """

    registry: str
    # `uncovered`: outside the controller's subscription
    answer: Literal["listed", "clear", "unknown", "uncovered"]
    consulted_at: Instant = 0  # when the query was submitted, or the time of the full list's version
    # by when the newest consultation that answered `listed` was answered, even if a later one answered `clear`
    listed_at: Instant = 0
    consultation: str = ""  # consultation id
    snapshot: str = ""  # snapshot version
    blocks: tuple[Block, ...] = ()  # if not empty, the listing bars only these calls
    since: Instant = 0  # when the person was listed, if known; if only the day is known, its last millisecond
    asked_since: Instant = 0


class Revocation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's objection to calls (GDPR 21(2)-(3))."""

    seq: int  # ledger sequence number of the entry
    at: Instant  # when the person objected
    scope: Literal["campaign", "controller", "everyone"]
    campaign: str = ""
    channel: str = ""
    # `error`: it never had an effect; `new_consent`: earlier consents stay withdrawn
    lifted: Literal["", "error", "new_consent"] = ""
    # of scope `everyone`: the ids of the consents that lifted it, each for the controller that has the consent
    consents: tuple[str, ...] = ()


ConsentForm: TypeAlias = Literal["oral", "written"]
Stated: TypeAlias = Literal["caller", "third_party", "timestamp"]
# Proofs of a consent without a hash. `certificate`: kept by its issuer. `crm_reference`: somebody attests that a CRM holds it.
OtherProof: TypeAlias = Literal["certificate", "crm_reference"]


class Consent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A consent to be called (GDPR 4(11), 7)."""

    id: str
    collected_at: Instant
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...] = ()  # if empty, all goods of the controller
    proved: bool = False  # an artefact and its hash are recorded
    expires_at: Instant = 0
    withdrawn_at: Instant = 0
    voided_at: Instant = 0  # when an enrolment with the registry voided it
    origin: Origin | None = None  # None if the controller collected the consent
    profiling: bool = False  # the consent covers profiling
    third_party: bool = False  # the consent covers cession to a third party
    double_opt_in: bool = False  # the consent has no effect before `confirmed_at`
    confirmed_at: Instant = 0
    form: ConsentForm | Literal[""] = ""
    states: tuple[Stated, ...] = ()  # contents of the consent's text
    renewed_at: Instant = 0  # last express renewal
    place: str = ""  # subdivision of the declared address, such as `US-FL`
    contradicted: tuple[str, ...] = ()  # fields in which its entries contradict each other
    supplied: tuple[str, ...] = ()  # fields that its first entry left empty and a later one filled
    other_proofs: tuple[OtherProof, ...] = ()  # what proves it besides a hash, in alphabetical order


class Objection(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The scope of a withdrawn consent that no recorded consent shows any more. Without `purposes`: all calls."""

    purposes: tuple[Purpose, ...] = ()
    goods: tuple[str, ...] = ()  # if empty, all goods of the controller
    consent: str = ""  # id of the withdrawn consent
    at: Instant = 0  # when it was withdrawn


class Contract(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A contract with this controller."""

    id: str
    starts: date
    ends: date | None = None  # last day
    sector: str = ""
    goods: tuple[str, ...] = ()
    # a consent to commercial calls is included (L. 5/2018 art. 1 c. 5; Codice del consumo art. 51 c. 8-bis b)
    marketing: bool = False
    proved: bool = False  # the ledger entry names a proof
    entered_at: Instant = 0  # when it was first recorded; 0 in old records
    last_purchase: date | None = None  # day of the last purchase under the contract, if known
    place: str = ""  # as in `Consent`
    contradicted: tuple[str, ...] = ()  # as in `Consent`


class CallRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's request to be called once, about one kind of goods."""

    id: str
    requested_at: Instant
    expires_at: Instant
    goods: str = ""
    # made on the controller's own web site or app (Codice del consumo art. 51 c. 8-bis a)
    own_interface: bool = False
    proved: bool = False  # the ledger entry names a proof
    begins: Instant = 0  # start of its validity
    appointment: bool = False  # the person agreed to be called between `begins` and `expires_at`
    place: str = ""  # as in `Consent`
    contradicted: tuple[str, ...] = ()  # as in `Consent`


class WrongNumber(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report that the number does not belong to the person on record."""

    seq: int  # ledger sequence number of the entry
    at: Instant
    decision: str = ""  # id of the decision that allowed the call
    lifted: bool = False  # an officer has confirmed that the number is that person's


Result: TypeAlias = Literal[  # new ones go last, because stores keep their place
    "pending",
    "not_dialled",
    "no_answer",
    "busy",
    "answered",
    "abandoned",
    "opt_out",
    "wrong_number",
    "refused",
]


# If two results are reported for a call, the stricter one counts, even if the other is newer.
RESULT_RANK: dict[Result, int] = {
    "pending": 0, "not_dialled": 1, "no_answer": 2, "busy": 2, "answered": 3, "wrong_number": 3, "refused": 4,
    "opt_out": 5, "abandoned": 6,
}  # fmt: skip


SHADOW: Final = "shadow"  # the basis of an attempt that only shadow mode permitted


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    decision: str  # id of the decision
    at: Instant
    campaign: str
    basis: str = ""  # legal basis, as in `Decision`, or `SHADOW`
    result: Result = "pending"  # reported result of the call
    goods: str = ""


class Known(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored state of a number for one controller."""

    seq: int = 0  # newest ledger sequence number in this state; proves which revocations were known
    revocations: tuple[Revocation, ...] = ()
    consents: tuple[Consent, ...] = ()
    contracts: tuple[Contract, ...] = ()
    requests: tuple[CallRequest, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    wrong_numbers: tuple[WrongNumber, ...] = ()
    objections: tuple[Objection, ...] = ()

    @property
    def has_entries(self) -> bool:
        """Whether the ledger has an entry about the number."""
        return bool(
            self.revocations
            or self.consents
            or self.contracts
            or self.requests
            or self.wrong_numbers
            or self.objections
        )

    @property
    def is_empty(self) -> bool:
        return not (self.attempts or self.has_entries)


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The input to the rules."""

    at: Instant  # when the decision was made
    today: date  # day of `at` in the law's time zone, which selects the sections in force
    number: Number
    controller: Controller
    campaign: Campaign
    call_type: CallType
    caller_id: CallerId
    known: Known = Known()  # stored state of the number
    places: tuple[Place, ...] = ()  # time zones that the number may be in
    listings: tuple[Listing, ...] = ()  # entries on call lists
    registries: tuple[RegistryAnswer, ...] = ()
    former_campaigns: tuple[str, ...] = ()  # campaigns of revocations that the controller no longer has
    former_goods: tuple[str, ...] = ()  # goods of withdrawn consents that none of its campaigns has any more


# ---- decisions -------------------------------------------------------------------------------------------------------


class Pass(Struct, frozen=True, tag="pass", array_like=True):
    """The outcome of a rule that permits the call."""

    why: str = ""  # what the rule relies on, such as `consent:ID`
    until: Instant = 0  # 0 if there is no known end


class Skip(Struct, frozen=True, tag="skip", array_like=True):
    """The outcome of a rule that does not apply."""

    why: str = ""  # why the rule does not apply


class Deny(Struct, frozen=True, tag="deny", array_like=True):
    """The outcome of a rule that forbids the call."""

    code: str  # reason code
    text: str  # reason in words
    law: str = ""  # article and date
    severity: Severity = "statute"
    not_before: Instant = 0  # when the denial ends, 0 if unknown


Outcome: TypeAlias = Pass | Skip | Deny


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict on a call, with every rule's outcome in the order of the rules."""

    allow: bool
    outcomes: dict[str, Outcome]  # by rule
    basis: str = ""  # legal basis of an allow, such as `consent:ID`
    valid_until: Instant = 0  # end of an allow
    not_before: Instant = 0  # end of a denial, if it ends by time alone

    @property
    def reasons(self) -> list[Deny]:
        return [outcome for outcome in self.outcomes.values() if isinstance(outcome, Deny)]


class Grounds(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="grounds", tag_field="type"):
    """The log record of a verdict and its facts, shared by the calls with the same facts."""

    seq: int
    facts: Facts  # with `at` 0, because calls at different times share them
    decision: Decision
    country: str  # country whose law decided
    law: str  # hash of the law; its content is kept as long as the record
    config: str  # configuration hash; the configuration is kept as well
    snapshot: str = ""  # snapshot hash; the snapshot is kept as well
    node: str = ""  # node name


# `decision`, `at`, `result`, `basis`, `campaign` and `goods` of an attempt. The last three are left out if they are those of the attempt
# before, or for the first attempt those of the shared decision and the call's campaign.
AttemptValues: TypeAlias = tuple[str | int, ...]


class OwnGrounds(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a decision's grounds that it shares with no other decision, because the number is known.

    The shared grounds are those of an equal call to a number of which nothing is stored.
    """

    attempts: tuple[AttemptValues, ...] = ()  # oldest first
    entries: Known | None = None  # the other stored state, with `seq` 0; None if there is none
    former_campaigns: tuple[str, ...] = ()  # as in `Facts`
    former_goods: tuple[str, ...] = ()
    # outcomes of rules that differ from the shared ones; if there are any, the fields after this one replace those of the decision
    outcomes: dict[str, Outcome] = {}
    basis: str = ""
    valid_until: Instant = 0
    not_before: Instant = 0


class Decided(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="decision", tag_field="type"):
    """The log record of a decision."""

    seq: int
    id: str  # `LOG-SEQ`
    at: Instant
    number: bytes  # hash under the month's key
    sealed: bytes  # the number, encrypted
    grounds: int  # sequence of the record with the grounds
    allow: bool
    client: str = ""  # name of the API key
    interface: str = ""  # the protocol, such as `http`
    call_id: str = ""  # the dialer's id of the call, without numbers
    question: bytes = b""  # keyed hash of client, call id and content, which identifies repeated requests
    caller: bytes = b""  # like `number`, for a caller ID that is not assigned to the campaign
    caller_sealed: bytes = b""  # like `sealed`, for the same caller ID
    own: OwnGrounds | None = None  # what is stored about the number, and the outcomes that follow from it
    shadow: bool = False  # the answer permitted the call, whatever the decision (`dialgate.core.shadow`)
    agent: bytes = b""  # the ID of the agent, encrypted: equal IDs are equal within a month


class OutcomeRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="outcome", tag_field="type"):
    """The log record of an allowed call's result."""

    seq: int
    at: Instant
    time: str  # `at` in RFC 3339
    decision: str  # id of the decision
    result: Result
    client: str = ""  # name of the API key that reported the result
