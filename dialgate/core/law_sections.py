"""The sections of a country's law, which are dated rules with a source, a severity and a scope.

Except for `Relation`, a section applies to every call that might be in its scope: if only a number's region is known, the sections
for all its places apply. An empty scope means all calls. Unknown keys are rejected, because a misspelt limit would have no effect.
"""

from collections.abc import Iterable
from datetime import date
from functools import cached_property
from typing import Annotated, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from dialgate.core.law_scope import Scope
from dialgate.core.model import (
    EPOCH,
    Callee,
    CallType,
    Deny,
    DialMode,
    Instant,
    Kind,
    OtherProof,
    Purpose,
    Severity,
)
from dialgate.core.periods import CountedPeriod, DayPeriod, Period, ShortPeriod, WorkingPeriod
from dialgate.core.windows import Windows, parse_days

# Findings of the rules that no key of a section defines.
Finding: TypeAlias = Literal[
    "incomplete", "proof", "cession", "third_party", "enrolment", "withdrawal", "age", "end", "scope", "profiling", "wrong_number", "origin", "disconnection",
]  # fmt: skip

# The exemptions that a section may name in `unless`. `exemptions.py` evaluates them.
Exemption: TypeAlias = Literal[
    "consent", "consent_after_listing", "contract", "running_contract", "own_customer_consent", "request", "own_request",
    "relation", "appointment", "guaranteed_agent", "sistan", "ingress_proof",
]  # fmt: skip

# The legal bases that a law may accept. `relation`: one of the law's `relations` with the person. `interest`: a legitimate interest, for which the campaign names its balancing test. `not_opposed`: no basis beyond the absence of an objection.
AcceptedBasis: TypeAlias = Literal["directory", "consent", "contract", "request", "relation", "interest", "not_opposed"]  # fmt: skip


class LawError(ValueError):
    """Raised for data that is not a valid law. Each of `problems` names a key and its fault."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Dated(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dated rule in a country's law, with its source."""

    source: str
    """Article of law or other source."""
    starts: date = msgspec.field(name="from")
    """First day in force, in the country's time zone or where the person is."""
    ends: date | None = msgspec.field(name="until", default=None)
    """Last day in force. Without it: no end."""
    severity: Severity = "statute"
    """Binding force of the section."""

    def is_in_force(self, day: date) -> bool:
        return self.starts <= day and (self.ends is None or day <= self.ends)


class Section(Dated, frozen=True, kw_only=True):
    """A dated rule about calls. All kinds of section have the following keys."""

    purposes: tuple[Purpose, ...] = ()
    """Only campaigns with these purposes. Empty: all."""
    call_types: tuple[CallType, ...] = ()
    """Only calls of these types. Empty: all."""
    sectors: tuple[str, ...] = ()
    """Only campaigns of these sectors, from the country's `sectors`. Empty: all."""
    callees: tuple[Callee, ...] = ()
    """Only calls to these kinds of people. Empty: all."""
    traits: tuple[str, ...] = ()
    """Only controllers with one of these traits, from the country's `traits`. Empty: all."""
    not_traits: tuple[str, ...] = ()
    """Only controllers without any of these traits."""
    places: tuple[str, ...] = ()
    """Only numbers that may be in these places, from the country's `regions`. Empty: all. A number whose place is not known may be in any place of its region."""
    kinds: tuple[Kind, ...] = ()
    """Only called numbers that may be of these classes: `fixed_or_mobile` may be `fixed` or `mobile`. Empty: all."""
    dial_modes: tuple[DialMode, ...] = ()
    """Only campaigns dialled in these ways, or whose `dial_mode` is not declared. Empty: all."""
    cited_for: tuple[Finding, ...] = ()
    """Findings for which a denial cites this section's source and severity. A finding that no section names has a default citation, which never changes, so that archived files replay to the same text."""
    profiled: bool = False
    """Only campaigns that select people by profiling."""
    not_sistan: bool = False
    """Not the statistics of a body of Italy's national statistical system."""

    def binds(self, scope: Scope) -> bool:
        """Return whether the section applies to a call, or might apply because a property of the call is unknown."""
        return (
            self.starts.toordinal() - EPOCH <= scope.last
            and (self.ends is None or scope.first <= self.ends.toordinal() - EPOCH)
            and (not self.purposes or scope.purpose in self.purposes)
            and (not self.call_types or scope.call_type in self.call_types)
            and (not self.sectors or scope.sector is None or scope.sector in self.sectors)
            and (not self.callees or scope.callee in self.callees)
            and (not self.profiled or scope.profiling)
            and not (self.not_sistan and scope.sistan)
            and (not self.traits or not _disjoint(self.traits, scope.traits))
            and _disjoint(self.not_traits, scope.traits)
            and (not self.places or any(scope.may_be_in(place) for place in self.places))
            and (not self.kinds or not _disjoint(self.kinds, scope.possible_kinds()))
            and (not self.dial_modes or not scope.dial_mode or scope.dial_mode in self.dial_modes)
        )

    def surely_binds(self, scope: Scope) -> bool:
        """Return whether a section that `binds` applies whatever the call's unknown properties are."""
        return (
            self.starts.toordinal() - EPOCH <= scope.first
            and (self.ends is None or scope.last <= self.ends.toordinal() - EPOCH)
            and (
                not self.places
                or scope.region in self.places
                or (bool(scope.places) and set(scope.places) <= set(self.places))
            )
            and (
                not self.kinds
                or scope.kind in self.kinds
                or scope.possible_kinds() <= {*self.kinds, "fixed_or_mobile"}
            )
            and (not self.dial_modes or bool(scope.dial_mode))
            and (not self.sectors or scope.sector is not None)
        )

    def deny(self, code: str, text: str, not_before: Instant = 0) -> Deny:
        """Return a denial that cites this section."""
        return Deny(code, text, self.source, self.severity, not_before)


def _disjoint(some: Iterable[str], others: Iterable[str]) -> bool:
    return set(some).isdisjoint(others)


_Section = TypeVar("_Section", bound=Section)


def cited(sections: Iterable[_Section], finding: Finding) -> _Section | None:
    """Return the first section whose `cited_for` contains `finding`, or None."""
    return next((section for section in sections if finding in section.cited_for), None)


class Restriction(Section, frozen=True, kw_only=True):
    """A section that denies calls, unless an exemption applies."""

    unless: tuple[Exemption, ...] = ()
    """Exemptions: the section does not bind a call to which one of them applies."""


class Diallable(Restriction, frozen=True, kw_only=True):
    """The number classes that a campaign may call."""

    allows: tuple[Kind, ...]
    """The classes of number."""
    not_prefixes: tuple[str, ...] = ()
    """E.164 prefixes of numbers that must not be called, even if their class is permitted."""


class LegalBasis(Section, frozen=True, kw_only=True):
    """The accepted legal bases for calls.

    Only the first section whose scope includes the call applies. If it is uncertain whether the scope includes the
    call, the next section must also accept the basis.
    """

    accepts: tuple[AcceptedBasis, ...]
    """The accepted legal bases."""


# Properties and contents that a law may require of a consent.
Requirement: TypeAlias = Literal["period", "goods", "caller", "recipient", "third_party", "timestamp", "written"]  # fmt: skip


class Consents(Section, frozen=True, kw_only=True):
    """The conditions under which a consent is a legal basis."""

    max_age: Period | None = None
    """Period for which a consent is valid after its collection, such as `730d` or `P2Y`. Without this key, a consent is valid until its own end."""
    max_age_unstated: Period | None = None
    """The same for a consent that states no period."""
    counting: Literal["rolling", "calendar"] = "rolling"
    """`rolling`: the maximum ages count from the time of the collection. `calendar`: they are in days where the person may be, and begin with the day of the collection, so they end at midnight."""
    renewal: Literal["none", "explicit"] = "none"
    """`explicit`: the maximum age counts from the last express renewal on record. `none`: from the collection."""
    requires: tuple[Requirement, ...] = ()
    """What a consent must state or be. `period`: until when it is valid. `goods`: what it is about. `caller`, `third_party`: who calls, and to whom it may be ceded. `recipient`: who calls, if another company collected it. `timestamp`: date and time of its collection. `written`: it is in writing."""
    void_by_enrolment: bool = False
    """Whether a later enrolment with the registry voids the consent."""
    separate: tuple[Literal["profiling", "third_party"], ...] = ()
    """Uses that a consent covers only if it names them: calls selected by profiling, cession to a third party."""
    withdrawal_objects: bool = False
    """Whether the withdrawal of a consent counts as an objection to calls for the same purpose and goods. If so, the bases `directory`, `relation`, `interest` and `not_opposed` no longer permit them, nor does what the person gave before: another consent, the consent within a contract, a request."""
    other_proofs: tuple[OtherProof, ...] | None = None
    """What proves a consent besides an artefact with its SHA-256. `certificate`: a claimed certificate, which its issuer keeps. `crm_reference`: a record of the CRM, and who attests it. Of several sections with this key, only what all of them name counts, and nothing unless one has `severity: statute`. Without this key in any section: nothing."""


class Contracts(Section, frozen=True, kw_only=True):
    """The conditions under which a contract is a legal basis."""

    tail: DayPeriod | None = None
    """Period after a contract's last day for which it is still a legal basis, such as `30d` or `P18M`. Without this key, it is a legal basis only until its last day."""
    marketing_proof: bool = False
    """Whether the consent to marketing within a contract counts for the exemptions `contract` and `own_customer_consent` only if a proof is recorded. A controller's `contract_proofs` counts as the proof of all its contracts."""


class Relation(Section, frozen=True, kw_only=True):
    """A business relationship with the called person, for the legal basis `relation` and the exemption `relation`.

    The section has no effect if the call may be outside the section's scope.
    """

    id: str
    """Its name, which decisions record."""
    since: Literal["contract_end", "purchase", "inquiry", "interaction"]
    """Event that starts the `for` period. `contract_end`: the end of a contract; the relation also exists while the contract is in force. `purchase`: the last purchase under a contract or, if none is recorded, its first day. `inquiry`: the last call request. `interaction`: the last of these."""
    lasts: DayPeriod | None = msgspec.field(name="for", default=None)
    """Period for which it lasts, such as `P18M`. Without this key, only a contract in force is a relation."""
    goods: Literal["same", "similar", "any"] = "same"
    """What the call may be about. `same`: goods of the contract or request. `similar`: the contract's sector. `any`: anything."""


class Requests(Section, frozen=True, kw_only=True):
    """The conditions under which a call request is a legal basis."""

    max_age: WorkingPeriod
    """Validity from the time of the request, such as `30d`, `72h`, or `5wd`: until the end of the fifth working day after it. The request's own end applies if it is earlier."""
    day_set: str = ""
    """Name of the day set whose days are not working days. Required for a period in working days."""


class Registry(Restriction, frozen=True, kw_only=True):
    """An opposition registry that must be consulted.

    The exemptions `consent` and `consent_after_listing` permit calls to a listed number, but the registry must still be
    consulted.
    """

    id: str
    """Its name in the configuration and in registry answers."""
    mode: Literal["answers", "full_list"]
    """`answers`: it answers about submitted numbers. `full_list`: it publishes all listed numbers."""
    validity: Period
    """Period for which an answer is valid, such as `15d`. It begins when the question is submitted or, for a full list, at the time of the list's version."""
    counting: Literal["rolling", "earlier"] = "rolling"
    """`rolling`: days of 24 hours. `earlier`: the period also ends at the same local time of day where the person may be, if that is earlier."""
    day_set: str = ""
    """Name of the day set whose days a listing may bar as `holiday`. Without it, such a listing bars every day."""
    about: Literal["opposition", "disconnection"] = "opposition"
    """What its answers are about. `opposition`: whether the person objected. `disconnection`: whether the number was disconnected since a given day, so that it may belong to another person. A call based on a consent needs the answer that the number was not disconnected since the consent. Consents, contracts and requests from before a disconnection have no effect."""


class CededLists(Section, frozen=True, kw_only=True):
    """Conditions on call lists that were acquired from another company."""

    ceded_void_by_enrolment: bool = False
    """Whether enrolment with the registry voids the cession."""
    origin_stated: bool = False
    """Whether a list needs its cessions, unless it is from a public directory or was collected by the controller or one of its `processors`."""


class Directories(Section, frozen=True, kw_only=True):
    """Conditions on numbers from a public directory."""

    stated_kinds: tuple[Kind, ...]
    """Classes of number that count as directory entries only if the number's row in the list says so."""


class SectorBan(Restriction, frozen=True, kw_only=True):
    """A ban on all calls that match the section's keys, such as `sectors` and `purposes`."""


class AiDisclosure(Section, frozen=True, kw_only=True):
    """A duty to tell the called person that an AI speaks, usually with `call_types: [ai_voice]`. A call is denied unless the campaign's `ai_disclosure` names the proof that people are told."""


class CallerIdClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of caller IDs, defined by their prefixes. Its numbers need no call-back proof."""

    name: str
    """Name of the class."""
    prefixes: Annotated[tuple[str, ...], Meta(min_length=1)]
    """The E.164 prefixes."""
    serves: tuple[Purpose, ...] = get_args(Purpose)
    """The only purposes for which they may be used. Without this key: all."""


class ForbiddenCallerIds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers that must not be presented as caller ID, selected by class or by prefix."""

    kinds: tuple[Kind, ...] = ()
    """Classes of number."""
    prefixes: tuple[str, ...] = ()
    """E.164 prefixes."""


class CallerIds(Restriction, frozen=True, kw_only=True):
    """The caller IDs that may be presented."""

    classes: tuple[CallerIdClass, ...] = ()
    """Reserved prefixes and their purposes. A number belongs to the first class that has one of its prefixes."""
    proof_validity: Period | None = None
    """Period for which a call-back proof is valid, such as `30d`. Numbers outside all `classes` need such a proof. Without this key, no number does."""
    short_codes: tuple[str, ...] = ()
    """Permitted short codes. Matters only with `proof_validity`: other short codes cannot be called back."""
    forbidden: ForbiddenCallerIds = ForbiddenCallerIds()
    """Numbers that no campaign may present."""
    required: tuple[str, ...] = ()
    """Names of classes. A call must present a number of one of them."""
    country: Literal["any", "own"] = "any"
    """`own`: the caller ID must be a number of a region that the law covers."""
    holder: Literal["any", "caller"] = "any"
    """`caller`: the number must be allotted to the company that makes the calls, such as a call centre. Campaigns name such numbers in `held_caller_ids`."""
    in_directory: bool = False
    """Whether the number must be in the public directory. Campaigns name such numbers in `directory_caller_ids`."""
    exclusive: bool = False
    """Whether only one controller may present the number."""
    answers_for: DayPeriod | None = None
    """Period after a call for which calls back to the number must be answered, such as `30d`. Calls are denied if the campaign's `caller_id_ends` names an earlier day."""

    def class_of(self, number: str) -> CallerIdClass | None:
        return next((class_ for class_ in self.classes if number.startswith(class_.prefixes)), None)

    def proof_for(self, number: str) -> Period | None:
        """Return how long a call-back proof of an E.164 number is valid, or None if the number needs no proof."""
        return None if self.class_of(number) else self.proof_validity


class ForeignIngress(Restriction, frozen=True, kw_only=True):
    """Caller IDs of this country that must not be presented by calls from abroad.

    The exemption `ingress_proof` permits a caller ID that has a proof in the campaign's `ingress_proofs`.
    """

    bars: tuple[Kind, ...]
    """The classes of caller ID."""


class Hours(Restriction, frozen=True, kw_only=True, dict=True):
    """Permitted hours, in the called person's local time. A call must be within the hours of every section that applies."""

    days: dict[str, tuple[str, ...]]
    """Windows for each kind of day, for example `mon-fri: ["09:00-13:00", "14:00-20:00"]`. Keys: a day of the week such as `sat`, a range such as `mon-fri`, `holiday` for the days of the day set, `pre_holiday` for the days before them. A day of the week without windows is closed. Without the key `holiday` or `pre_holiday`, these days have the windows of their day of the week. A Sunday before a holiday has the windows of a Sunday. `{}` closes every day."""
    day_set: str = ""
    """Name of the day set that `holiday` and `pre_holiday` refer to, from the country's `day_sets`."""
    ring_seconds: Annotated[int, Meta(ge=0, le=300)] = 0
    """Seconds from the decision until the telephone rings. The window must still be open then."""

    @cached_property
    def windows(self) -> Windows:
        """Return the windows for each day, in seconds since midnight.

        Raises `ValueError` for an invalid day or window.
        """
        return parse_days(self.days)


class Limit(Restriction, frozen=True, kw_only=True):
    """A limit on the calls to one number within a period."""

    events: Literal["attempts", "answered", "abandoned", "refused"]
    """The earlier calls that count. `attempts`: all calls. `answered`: answered calls, and calls without a reported outcome. `abandoned`: silent or abandoned calls. `refused`: calls in which the person refused the offer."""
    after: Annotated[int, Meta(ge=1)] = 1
    """Number of such calls after which no further call is permitted."""
    per: ShortPeriod
    """The period in which they count, such as `30d` or `72h`. If it is longer than every period before, it lacks the calls that were removed meanwhile (setting `storage.attempts_days`)."""
    counting: Literal["calendar", "whole_days", "rolling"]
    """`calendar`: the person's local days, including the day of the call. `whole_days`: the local days after the day of the earlier call. `rolling`: hours, or days of 24 hours."""
    among: Literal["controller", "campaign", "goods"] = "controller"
    """`controller`: calls by all of the controller's campaigns and call centres count. `campaign`: only calls in the same campaign. `goods`: only calls about the same or unknown goods."""
    until_answered: tuple[CallType | Literal["guaranteed_agent"], ...] = ()
    """Calls permitted from the end of the period until a later call is answered, by call type. `guaranteed_agent`: an agent is on the line before the number is dialled. Empty: any. Only for `abandoned`."""

    @property
    def rule(self) -> Literal["frequency_kept", "rest_kept"]:
        """Return the name of the rule that enforces the section."""
        return "rest_kept" if self.events in {"abandoned", "refused"} else "frequency_kept"


class Ratio(Restriction, frozen=True, kw_only=True):
    """A limit on a campaign's abandoned calls. A campaign above the limit is paused."""

    of: Literal["abandoned"] = "abandoned"
    """The calls that are limited."""
    above: Annotated[int, Meta(ge=0)]
    """Maximum number of abandoned calls for every `out_of` calls."""
    out_of: Annotated[int, Meta(ge=1)]
    """Number of calls to which `above` refers, such as 100. A campaign with fewer calls is treated as if it had made this many."""
    to: Literal["answered", "answered_by_person"]
    """The calls that abandoned calls are compared with. `answered`: calls in which an agent spoke. `answered_by_person`: these and the abandoned calls."""
    per: CountedPeriod
    """The calendar days in which calls are counted, including today, such as `30d`. At most `60d`."""
