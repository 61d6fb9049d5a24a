"""The frozen values that packages exchange: calls, facts, decisions and their records.

This module imports nothing from dialgate. Its structs are stored for years: never rename, reorder or remove a field. Add a new
field at the end with a default, so that records of any age can be decoded.

An instant is an integer: milliseconds since 1970-01-01T00:00:00Z. A day is a local `datetime.date`. Only `Call` contains the
called number in clear; `Facts` contain properties derived from it.
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

# A call may be of a stricter type than its campaign declares, never of a less strict one.
STRICTNESS: dict[CallType, int] = {"ai_voice": 2, "automated": 1, "agent": 0}


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """A dialer's request, as received. `client` is the name of the API key, `interface` the protocol."""

    to: str
    from_: str
    campaign: str
    call_id: str = ""
    call_type: CallType | None = None
    client: str = ""
    interface: str = ""


# ---- facts -----------------------------------------------------------------------------------------------------------


class Place(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A time zone that a called number may be in, as plain numbers.

    Local time is UTC + `offset` seconds, UTC + `shift_to` from `shift_at` on, and UTC + `shifted_from` before `shifted_at`
    (a change in the past weeks). `day_sets` holds the days of the law's day sets in the last and the next weeks. So rules and
    replay need neither a time-zone database nor a holiday library. Older records have `holidays` instead: their laws had
    one set of days.
    """

    zone: str
    offset: int
    shift_at: Instant = 0
    shift_to: int = 0
    holidays: tuple[date, ...] = ()
    shifted_at: Instant = 0
    shifted_from: int = 0
    day_sets: dict[str, tuple[date, ...]] = {}

    def is_in(self, day_set: str, day: date) -> bool:
        """Return whether a day within the weeks around the call is in a day set."""
        return day in self.day_sets.get(day_set, self.holidays)

    def local(self, at: Instant) -> tuple[int, int]:
        """Return the local day, counted from 1970-01-01, and the second of that day."""
        offset = self.shift_to if self.shift_at and at >= self.shift_at else self.offset
        if at < self.shifted_at:
            offset = self.shifted_from
        return divmod(at // SECOND + offset, SECONDS_A_DAY)

    def instant(self, day: int, second: int) -> Instant:
        """Return the instant of a local day and second: the inverse of `local`."""
        local = day * SECONDS_A_DAY + second
        at = (local - self.offset) * SECOND
        return (local - self.shift_to) * SECOND if self.shift_at and at >= self.shift_at else at


UTC_PLACE = Place(zone="UTC", offset=0)  # for numbers without a known place


class Number(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The properties of the called number, without its digits.

    `problem` says why the number is invalid, or that the law of its region is a draft. `places`: the subdivisions of `region`
    that the person may be in, such as `US-FL`; empty if they are not known. A region among them stands for all its subdivisions.
    `prefix`: the longest prefix of the number that a law's `not_prefixes` names.
    """

    kind: Kind
    region: str = ""
    problem: str = ""
    places: tuple[str, ...] = ()
    prefix: str = ""


class Controller(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The controller (*titolare*), on whose behalf the call is made.

    `sistan`: a body of the national statistical system (D.Lgs. 322/1989). `consent_after_listing`: the documented
    exception of L. 5/2018 art. 1 c. 6 is enabled. `traits`: properties of the controller, as named in the country files.
    """

    id: str
    adheres_to: tuple[str, ...] = ()
    sistan: bool = False
    consent_after_listing: bool = False
    traits: tuple[str, ...] = ()


class DayCount(Struct, frozen=True, array_like=True):
    """The calls of a campaign on one day in the controller's country, by result: `answered` by an agent, or `abandoned`."""

    day: date
    answered: int
    abandoned: int


class Campaign(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A campaign. If it is unknown (`known` is False), it has the strictest properties: automated calls for sale.

    `profiling`: the people to call are selected by their habits or tastes. `dial_mode`: how calls are dialled. If it is empty, the
    sections for all modes apply. `balancing`: the reference of the test that weighed a legitimate interest in these calls.
    `counts`: the reported results of its calls, oldest day first. `lifted_at`: when an officer last lifted a pause of the campaign;
    earlier calls are not in `counts`.
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
    dial_mode: DialMode | Literal[""] = ""
    balancing: str = ""
    counts: tuple[DayCount, ...] = ()
    lifted_at: Instant = 0


class CallerId(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The caller ID that the called person sees.

    `form` classifies the string. `shared`: another controller presents it too. `proved_at` is the instant of the last
    answered call-back, `proof` its evidence. `held`: it is allotted to whoever makes the calls. `in_directory`: the public directory
    lists it. `ends`: the last day on which calls back to it are answered, if known. `ingress_proof`: the reference of the proof that
    it may enter its country from abroad.
    """

    number: str
    form: Literal["number", "short", "withheld", "invalid"]
    kind: Kind = "unknown"
    region: str = ""
    assigned: bool = False
    shared: bool = False
    proved_at: Instant = 0
    proof: str = ""
    held: bool = False
    in_directory: bool = False
    ends: date | None = None
    ingress_proof: str = ""


# Limited, because it is part of every record of a call that depends on it.
Phrase: TypeAlias = Annotated[str, Meta(max_length=256)]


class Transfer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cession of a list. `subjects_told`: the people on it were informed (L. 5/2018 art. 1 c. 8)."""

    by: Phrase
    to: Phrase
    on: date
    subjects_told: bool = False


Transfers: TypeAlias = Annotated[tuple[Transfer, ...], Meta(max_length=64)]


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The origin of data: who collected it and when, and every cession since, oldest first."""

    collected_by: Phrase
    collected_on: date
    source: Phrase = ""
    transfers: Transfers = ()


class Listing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The entry of a number on a call list.

    `stated`: the number's own row says `directory`, not only the list as a whole. `place`: the subdivision in which the person
    lives, as the row declares it.
    """

    list: str
    basis: Basis
    origin: Origin
    stated: bool = False
    place: str = ""


BarredDay: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
Band: TypeAlias = Annotated[str, Meta(pattern=r"^\d\d:\d\d-\d\d:\d\d$")]


class Block(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The calls that a listing bars. An empty property stands for all calls.

    `categories` are sectors of the campaign. `days` are days of the week, and `holiday` for the days of the registry's day set.
    `bands` are times of day where the person may be, such as `18:00-21:00`.
    """

    categories: tuple[str, ...] = ()
    call_types: tuple[CallType, ...] = ()
    days: tuple[BarredDay, ...] = ()
    bands: tuple[Band, ...] = ()


class RegistryAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registry's answer about a number, given to this controller (DPR 26/2022 art. 8) or taken from the full list.

    `consulted_at` is the time at which the query was submitted or, for a full list, the time of its version. `listed_at` is
    the newest consultation that answered *listed*, even if a later one answered *clear*. `blocks`: the listing bars these calls
    only; empty: all. `since`: when the person was listed, if the registry says so; the last millisecond of the day if it says
    the day.

    `asked_since` is not 0 if the registry was asked whether the number was disconnected since that instant. Then *listed* means
    that it was, at the latest at `listed_at`, and *clear* that it was not.
    """

    registry: str
    answer: Literal["listed", "clear", "unknown", "uncovered"]
    consulted_at: Instant = 0
    listed_at: Instant = 0
    consultation: str = ""
    snapshot: str = ""
    blocks: tuple[Block, ...] = ()
    since: Instant = 0
    asked_since: Instant = 0


class Revocation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's objection to calls (GDPR 21(2)-(3)).

    `lifted` is the ground on which it ended, if it did: `error` (entered by mistake, so it has no effect) or `new_consent`
    (earlier consents stay withdrawn).
    """

    seq: int
    at: Instant
    scope: Literal["campaign", "controller", "everyone"]
    campaign: str = ""
    channel: str = ""
    lifted: Literal["", "error", "new_consent"] = ""


ConsentForm: TypeAlias = Literal["oral", "written"]
Stated: TypeAlias = Literal["caller", "third_party", "timestamp"]


class Consent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A consent to be called, with its scope (GDPR 4(11), 7).

    Empty `goods`: all goods of the controller. `proved`: reference and hash of an artefact are recorded. `origin`: its
    collector and cessions; None if the controller collected it. `profiling`, `third_party`: it covers these too.
    `double_opt_in`: it has no effect before it is confirmed. `form`: how it was given. `states`: what its text states.
    `renewed_at`: the last express renewal. `place`: the subdivision of the declared address, such as `US-FL`.
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
    form: ConsentForm | Literal[""] = ""
    states: tuple[Stated, ...] = ()
    renewed_at: Instant = 0
    place: str = ""


class Contract(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A contract with this controller. `ends` is its last day.

    `marketing`: it includes a consent to commercial calls (L. 5/2018 art. 1 c. 5; for energy, Codice del consumo art. 51
    c. 8-bis b). `proved`: its entry names a proof. `entered_at`: when it was first recorded, perhaps long before it
    starts; 0 in old records. `last_purchase`: the day of the last purchase under it, if known. `place`: as in `Consent`.
    """

    id: str
    starts: date
    ends: date | None = None
    sector: str = ""
    goods: tuple[str, ...] = ()
    marketing: bool = False
    proved: bool = False
    entered_at: Instant = 0
    last_purchase: date | None = None
    place: str = ""


class CallRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's request to be called once about one kind of goods.

    `own_interface`: it was made directly to this controller through its web site or app (Codice del consumo art. 51 c. 8-bis
    a). `proved`: its entry names a proof. `begins`: it is valid only from this instant on. `appointment`: the person agreed
    to be called between `begins` and `expires_at`. `place`: as in `Consent`.
    """

    id: str
    requested_at: Instant
    expires_at: Instant
    goods: str = ""
    own_interface: bool = False
    proved: bool = False
    begins: Instant = 0
    appointment: bool = False
    place: str = ""


class WrongNumber(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report that the number does not belong to the person who gave the consent or made the contract or request.

    `lifted`: an officer established that the number does belong to that person.
    """

    seq: int
    at: Instant
    decision: str = ""
    lifted: bool = False


Result: TypeAlias = Literal[
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


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    decision: str
    at: Instant
    campaign: str
    basis: str = ""
    result: Result = "pending"
    goods: str = ""


class Known(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored state of a number for one controller.

    `seq` is the ledger sequence of the state. It is recorded as proof of which revocations were known.
    """

    seq: int = 0
    revocations: tuple[Revocation, ...] = ()
    consents: tuple[Consent, ...] = ()
    contracts: tuple[Contract, ...] = ()
    requests: tuple[CallRequest, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    wrong_numbers: tuple[WrongNumber, ...] = ()


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The input of the rules. `today` is the day of `at` in the law's time zone; it selects the sections in force."""

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


# ---- decisions -------------------------------------------------------------------------------------------------------


class Pass(Struct, frozen=True, tag="pass", array_like=True):
    """The outcome of a rule that permits the call until `until` (0: no known end)."""

    why: str = ""
    until: Instant = 0


class Skip(Struct, frozen=True, tag="skip", array_like=True):
    """The outcome of a rule that does not apply."""

    why: str = ""


class Deny(Struct, frozen=True, tag="deny", array_like=True):
    """The outcome of a rule that forbids the call, until `not_before` (0: no known end). `law`: article and date."""

    code: str
    text: str
    law: str = ""
    severity: Severity = "statute"
    not_before: Instant = 0


Outcome: TypeAlias = Pass | Skip | Deny


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict with every rule's outcome, in the order of the rules.

    `basis` is the legal basis (`consent:…`, `contract:…`, `request:…`, `directory:…`). `valid_until` is the end of an
    allow. `not_before` is the end of a deny, if it ends by time alone.
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
    """The record of facts and a decision, shared by many calls. The facts do not contain the number.

    `facts.at` is 0 here. `law`, `config` and `snapshot` are content hashes; that content is kept as long as the record.
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
    """The record of a decision.

    `number` is the called number's hash under the month's key, `sealed` its ciphertext. `caller` and `caller_sealed` are the
    same for a caller ID that is not assigned to the campaign. `grounds` is the sequence of an earlier entry. `question`
    is the keyed hash of client, call id and content under the month's mask; it identifies repeated requests.
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
    """The result of an allowed call, recorded as a separate later entry."""

    seq: int
    at: Instant
    time: str
    decision: str
    result: Result
    client: str = ""
