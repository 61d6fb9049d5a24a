"""The frozen values that cross a boundary: what is asked, what is known, what is decided.

Two laws of this file. It imports nothing of ours. And what is stored here is stored for years: fields are never
renamed, re-ordered or removed; a new field goes last and has a default, so that a record of any age still decodes.

Every instant is an integer: milliseconds since 1970-01-01T00:00:00Z. Every day is a `datetime.date` in the place the
sentence is about. Clear called numbers appear in `Call` only; `Facts` hold what was derived from the number.
"""

from datetime import date
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

Instant: TypeAlias = int

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SECONDS_A_DAY = 86_400

CallType: TypeAlias = Literal["agent", "automated", "ai_voice"]
Purpose: TypeAlias = Literal[
    "sale", "advertising", "market_research", "statistics", "service", "debt", "political", "charity"
]
Callee: TypeAlias = Literal["consumer", "business"]
# statute and operator (the operator's own limit) deny; self_regulation denies those who adhere; a recommendation warns.
Severity: TypeAlias = Literal["statute", "self_regulation", "recommendation", "operator", "gate"]
Basis: TypeAlias = Literal["directory", "consent", "contract", "request"]

# What a called number is. The first ten are the names that the numbering plans use; the rest are our own findings.
Kind: TypeAlias = Literal[
    "fixed", "mobile", "fixed_or_mobile", "toll_free", "premium", "shared_cost", "voip", "personal", "pager",
    "uan", "voicemail", "short", "emergency", "unknown", "invalid",
]  # fmt: skip

# Strictest first: a call may move to the left of what its campaign declares, never to the right.
STRICTNESS: dict[CallType, int] = {"ai_voice": 2, "automated": 1, "agent": 0}


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """One question from a dialer, as it was asked. `client` is the API key's name, `interface` the door it came by."""

    to: str
    from_: str
    campaign: str
    call_id: str = ""
    call_type: CallType | None = None
    client: str = ""
    interface: str = ""


# ---- what is known ---------------------------------------------------------------------------------------------------


class Place(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One time zone a called number may be in, as plain arithmetic: local = UTC + `offset`, from `shift_at` on UTC +
    `shift_to` (seconds), and before `shifted_at`, of the weeks past, UTC + `shifted_from`. `holidays` are the public holidays of the next weeks there, so that a rule and a replay need
    neither a time-zone database nor a holiday library.
    """

    zone: str
    offset: int
    shift_at: Instant = 0
    shift_to: int = 0
    holidays: tuple[date, ...] = ()
    shifted_at: Instant = 0
    shifted_from: int = 0

    def local(self, at: Instant) -> tuple[int, int]:
        """The local day, counted from 1970-01-01, and the second of it."""
        offset = self.shift_to if self.shift_at and at >= self.shift_at else self.offset
        if at < self.shifted_at:
            offset = self.shifted_from
        return divmod(at // SECOND + offset, SECONDS_A_DAY)

    def instant(self, day: int, second: int) -> Instant:
        """The inverse of `local`."""
        local = day * SECONDS_A_DAY + second
        at = (local - self.offset) * SECOND
        return (local - self.shift_to) * SECOND if self.shift_at and at >= self.shift_at else at


class Number(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was derived from the called number, never the number. `problem` says why it is not one."""

    kind: Kind
    region: str = ""
    problem: str = ""


class Controller(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The *titolare*: on whose behalf the call is made. `sistan`: a body of the national statistical system
    (D.Lgs. 322/1989). `consent_after_listing`: the documented exception of L. 5/2018 art. 1 c. 6 is enabled.
    """

    id: str
    adheres_to: tuple[str, ...] = ()
    sistan: bool = False
    consent_after_listing: bool = False


class Campaign(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the calls are for. An unknown campaign is the strictest one there is (`known` false, automated sale).
    `profiling`: whom it calls is chosen by their habits or tastes.
    """

    id: str
    known: bool = True
    purpose: Purpose = "sale"
    sector: str = ""
    goods: str = ""
    call_type: CallType = "automated"
    callee: Callee = "consumer"
    starts: date | None = None
    ends: date | None = None
    paused: bool = False
    trunk_country: str = ""
    profiling: bool = False


class CallerId(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The number the called person will see. `form` says what kind of string it is; `shared` that another controller
    presents it too; `proved_at` when a call back to it was last seen to be answered, and `proof` by what.
    """

    number: str
    form: Literal["number", "short", "withheld", "invalid"]
    kind: Kind = "unknown"
    region: str = ""
    assigned: bool = False
    shared: bool = False
    proved_at: Instant = 0
    proof: str = ""


# Travels in every record of a call that rests on it, so it has an end.
Phrase: TypeAlias = Annotated[str, Meta(max_length=256)]


class Transfer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a list's way: who ceded it to whom, and whether the people on it were told (L. 5/2018 art. 1 c. 8)."""

    by: Phrase
    to: Phrase
    on: date
    subjects_told: bool = False


Transfers: TypeAlias = Annotated[tuple[Transfer, ...], Meta(max_length=64)]


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the numbers of a list come from: who collected them, when, and every transfer since, oldest first."""

    collected_by: Phrase
    collected_on: date
    source: Phrase = ""
    transfers: Transfers = ()


class Listing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`stated`: the number's own row said `directory`, not the list as a whole."""

    list: str
    basis: Basis
    origin: Origin
    stated: bool = False


class RegistryAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an opposition registry said of this number to this controller (DPR 26/2022 art. 8), or of every number
    (a full list). `consulted_at` is when the question was submitted, or the version of a full list; `listed_at` the
    newest consultation that said *listed*, also where a later one said *clear*.
    """

    registry: str
    answer: Literal["listed", "clear", "unknown", "uncovered"]
    consulted_at: Instant = 0
    listed_at: Instant = 0
    consultation: str = ""
    snapshot: str = ""


class Revocation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That the person told the caller to stop (GDPR 21(2)-(3)). `lifted` names the ground it was lifted on, if it was:
    `error` (entered by mistake: as if it had not been) or `new_consent` (what was given before it stays withdrawn).
    """

    seq: int
    at: Instant
    scope: Literal["campaign", "controller", "everyone"]
    campaign: str = ""
    channel: str = ""
    lifted: Literal["", "error", "new_consent"] = ""


class Consent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A consent to be called, with its scope (GDPR 4(11), 7). Empty `goods`: every kind of that controller. `proved`: an
    artefact is held by reference and hash. `origin`: who collected it and every cession since; none where the controller
    did so itself. `profiling`, `third_party`: given to that too. `double_opt_in`: none before it is confirmed.
    """

    id: str
    collected_at: Instant
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...] = ()
    proved: bool = False
    expires_at: Instant = 0
    withdrawn_at: Instant = 0
    voided_at: Instant = 0
    origin: Origin | None = None
    profiling: bool = False
    third_party: bool = False
    double_opt_in: bool = False
    confirmed_at: Instant = 0


class Contract(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A contract with this controller. `ends` is its last day. `marketing`: within it the person consented to commercial
    calls (L. 5/2018 art. 1 c. 5; for energy, Codice del consumo art. 51 c. 8-bis b). `proved`: its entry names a proof. `entered_at`:
    when it was first recorded, which may be long before it starts; 0 in facts of before.
    """

    id: str
    starts: date
    ends: date | None = None
    sector: str = ""
    goods: tuple[str, ...] = ()
    marketing: bool = False
    proved: bool = False
    entered_at: Instant = 0


class CallRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That the person asked to be called, once, about one thing. `own_interface`: the request was made directly to this
    controller through its own web site or app (Codice del consumo art. 51 c. 8-bis a). `proved`: its entry names a proof.
    """

    id: str
    requested_at: Instant
    expires_at: Instant
    goods: str = ""
    own_interface: bool = False
    proved: bool = False


class WrongNumber(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report that a call reached another person than the one who gave the consent, contract or request. `lifted`: an
    officer established that the number is that person's.
    """

    seq: int
    at: Instant
    decision: str = ""
    lifted: bool = False


Result: TypeAlias = Literal[
    "pending", "not_dialled", "no_answer", "busy", "answered", "abandoned", "opt_out", "wrong_number"
]


# Of two reports about one call the stricter stands: a later one never gives back what an earlier one closed.
RESULT_RANK: dict[Result, int] = {
    "pending": 0, "not_dialled": 1, "no_answer": 2, "busy": 2, "answered": 3, "wrong_number": 3, "opt_out": 4,
    "abandoned": 5,
}  # fmt: skip


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    decision: str
    at: Instant
    campaign: str
    basis: str = ""
    result: Result = "pending"


class Known(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything the store holds about one number and one controller. `seq` is the ledger sequence that the answer
    reflects; it goes into the decision record as proof of which revocations were known.
    """

    seq: int = 0
    revocations: tuple[Revocation, ...] = ()
    consents: tuple[Consent, ...] = ()
    contracts: tuple[Contract, ...] = ()
    requests: tuple[CallRequest, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    wrong_numbers: tuple[WrongNumber, ...] = ()


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All a rule may know. `today` is the day of `at` where the law is made, which picks the law in force."""

    at: Instant
    today: date
    number: Number
    controller: Controller
    campaign: Campaign
    call_type: CallType
    caller_id: CallerId
    known: Known = Known()
    places: tuple[Place, ...] = ()
    listings: tuple[Listing, ...] = ()
    registries: tuple[RegistryAnswer, ...] = ()


# ---- what is decided -------------------------------------------------------------------------------------------------


class Pass(Struct, frozen=True, tag="pass", array_like=True):
    """The rule has looked and does not object. `until`: from that instant on it might (0: no end known)."""

    why: str = ""
    until: Instant = 0


class Skip(Struct, frozen=True, tag="skip", array_like=True):
    """The rule does not apply, and why."""

    why: str = ""


class Deny(Struct, frozen=True, tag="deny", array_like=True):
    """The rule forbids the call. `law` is article and date; `not_before` an instant from which it would not (0: none)."""

    code: str
    text: str
    law: str = ""
    severity: Severity = "statute"
    not_before: Instant = 0


Outcome: TypeAlias = Pass | Skip | Deny


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict with every rule's outcome, in the order of the rules.

    `basis` names what makes the call lawful (`consent:…`, `contract:…`, `request:…`, `directory:…`). `valid_until`: an
    allow holds no longer than this; `not_before`: a deny that time alone will lift lifts then.
    """

    allow: bool
    outcomes: dict[str, Outcome]
    basis: str = ""
    valid_until: Instant = 0
    not_before: Instant = 0

    @property
    def reasons(self) -> list[Deny]:
        return [outcome for outcome in self.outcomes.values() if isinstance(outcome, Deny)]


class Grounds(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="grounds", tag_field="type"):
    """The facts and the decision that many calls share, as stored: facts hold nothing of the number. `facts.at` is 0 here.
    `law`, `config` and `snapshot` are content hashes: what they name is kept as long as the record.
    """

    seq: int
    facts: Facts
    decision: Decision
    country: str
    law: str
    config: str
    snapshot: str = ""
    node: str = ""


class Decided(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="decision", tag_field="type"):
    """A decision as it is stored. `number` is the called number's keyed hash under the month's key, `sealed` its ciphertext;
    `caller` and `caller_sealed` are those of a caller ID that is not the campaign's. `grounds`: the sequence of an earlier
    entry. `question`: the keyed hash of client, call id and content, under the month's mask; it finds a repeated call.
    """

    seq: int
    id: str
    at: Instant
    number: bytes
    sealed: bytes
    grounds: int
    allow: bool
    client: str = ""
    interface: str = ""
    call_id: str = ""
    question: bytes = b""
    caller: bytes = b""
    caller_sealed: bytes = b""


class OutcomeRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="outcome", tag_field="type"):
    """What became of an allowed call: a later entry, never an edit."""

    seq: int
    at: Instant
    time: str
    decision: str
    result: Result
    client: str = ""
