"""A country's law as data: from plain data to a frozen, dated `Law`. Pure: no file is read here.

A law is lists of sections. A section says where it stands (`source`), from which day until which it is in force, how
hard it binds (`severity`) and whom (`purposes`, `call_types`, `sectors`, `callees`, `adherents_of`; empty means all).
An unknown key anywhere is refused, since a misspelt limit would be a limit that does not hold; so is a sector or a code
that the law does not list, since a misspelt one would escape what is said of it.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from dialgate.core.model import (
    DAY,
    HOUR,
    SECONDS_A_DAY,
    Basis,
    Callee,
    CallType,
    Facts,
    Instant,
    Kind,
    Purpose,
    Severity,
)

Days: TypeAlias = Annotated[int, Meta(ge=1, le=3660)]
DayKind: TypeAlias = Literal["weekday", "saturday", "sunday", "holiday", "pre_holiday"]
# Days of 24 hours, or hours.
Period: TypeAlias = Annotated[str, Meta(pattern=r"^[1-9]\d{0,3}[dh]$")]
Window: TypeAlias = tuple[int, int]
# Findings of the rules that no key of a section forbids by itself.
Finding: TypeAlias = Literal[
    "proof", "cession", "third_party", "enrolment", "withdrawal", "age", "end", "scope", "profiling", "wrong_number",
    "origin",
]  # fmt: skip


class LawError(ValueError):
    """The data is no law. Each of `problems` names a key and what is wrong with it."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dated rule of a country's law with its source. Every section has these keys."""

    source: str
    """Where the law says it."""
    starts: date = msgspec.field(name="from")
    """First day in force, where the law is made."""
    ends: date | None = msgspec.field(name="until", default=None)
    """Last day in force. Without it: until further notice."""
    severity: Severity = "statute"
    """How hard it binds."""
    purposes: tuple[Purpose, ...] = ()
    """Only campaigns with these purposes. Empty: all."""
    call_types: tuple[CallType, ...] = ()
    """Only calls of these types. Empty: all."""
    sectors: tuple[str, ...] = ()
    """Only campaigns of these trades, from the country's `sectors`. Empty: all."""
    callees: tuple[Callee, ...] = ()
    """Only calls to these people. Empty: all."""
    adherents_of: str = ""
    """Only controllers that adhere to this code, from the country's `codes`. Empty: all."""
    cited_for: tuple[Finding, ...] = ()
    """Findings of the rules for which a denial cites this section's source and severity. A finding without such a section cites what it cited before this key existed, so that archived files replay to the same words."""
    profiled: bool = False
    """Only campaigns that choose people by profiling."""

    def binds(self, facts: Facts) -> bool:
        campaign = facts.campaign
        return (
            self.starts <= facts.today
            and (self.ends is None or facts.today <= self.ends)
            and (not self.purposes or campaign.purpose in self.purposes)
            and (not self.call_types or facts.call_type in self.call_types)
            and (not self.sectors or campaign.sector in self.sectors)
            and (not self.callees or campaign.callee in self.callees)
            and (not self.profiled or campaign.profiling)
            and (not self.adherents_of or self.adherents_of in facts.controller.adheres_to)
        )


_Section = TypeVar("_Section", bound=Section)


def cited(sections: Iterable[_Section], finding: Finding) -> _Section | None:
    """Return the first of `sections` that is cited for `finding`."""
    return next((section for section in sections if finding in section.cited_for), None)


class Diallable(Section, frozen=True, kw_only=True):
    """The classes of number that a campaign may call at all."""

    kinds: tuple[Kind, ...]
    """These classes."""


class LegalBasis(Section, frozen=True, kw_only=True):
    """What makes a call lawful. The first section that binds the call counts."""

    accepts: tuple[Basis, ...]
    """The legal bases that open it."""


class Consents(Section, frozen=True, kw_only=True):
    """Conditions on consents."""

    max_age_days: Days | None = None
    """Days for which a consent holds from its collection. Without it: until its own end."""
    void_by_enrolment: bool = False
    """Whether a later enrolment with the registry voids the consent."""
    separate: tuple[Literal["profiling", "third_party"], ...] = ()
    """What a consent to be called does not cover unless it says so: calls chosen by profiling, cession to a third party."""


class Contracts(Section, frozen=True, kw_only=True):
    """How long a contract opens calls."""

    tail_days: Annotated[int, Meta(ge=0, le=3660)] = 0
    """Whole days after a contract's last day in which it still opens what it opened."""


class Requests(Section, frozen=True, kw_only=True, dict=True):
    """How long a request to be called opens calls."""

    max_age: Period
    """From the instant of the request: `30d`, `72h`. The request's own end counts if it is earlier."""

    @cached_property
    def lasts(self) -> Instant:
        """Milliseconds."""
        return int(self.max_age[:-1]) * (DAY if self.max_age.endswith("d") else HOUR)


class Registry(Section, frozen=True, kw_only=True):
    """An opposition registry that must be consulted."""

    id: str
    """Its name in the configuration and in registry answers."""
    mode: Literal["answers", "full_list"]
    """`answers`: it answers about submitted numbers. `full_list`: it publishes everybody who is listed."""
    validity_days: Days
    """Days for which an answer holds, from the submission of the question or the version of the full list."""
    contract_exempts: bool = False
    """Whether a contract opens a listed number."""
    request_exempts: bool = False
    """Whether a request to be called opens a listed number."""
    sistan_exempts: bool = False
    """Whether bodies of the national statistical system are exempt."""
    consent: Literal["never", "after_listing", "always"] = "never"
    """When a consent opens a listed number."""
    counting: Literal["rolling", "earlier"] = "rolling"
    """`rolling`: days of 24 hours. `earlier`: they also end at the same time of day on the clocks where the person may be, whichever is first."""


class Lists(Section, frozen=True, kw_only=True):
    """Conditions on ceded call lists."""

    ceded_void_by_enrolment: bool = False
    """Whether enrolment with the registry voids the cession."""


class Directories(Section, frozen=True, kw_only=True):
    """Conditions on numbers from a public directory."""

    stated_kinds: tuple[Kind, ...]
    """Classes of number that count as directory entries only if their own row of the list says so."""


class SectorBan(Section, frozen=True, kw_only=True):
    """Calls that are banned."""

    exceptions: tuple[Literal["own_request", "own_customer_consent"], ...] = ()
    """What still opens them: a request made on the controller's own interface; the consent of an own customer of one of these sectors."""


class CallerIdClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Caller IDs with one prefix."""

    name: str
    """Name of the class."""
    prefix: str
    """The E.164 prefix."""
    serves: tuple[Purpose, ...]
    """The purposes that they serve, and no others."""


class ForbiddenCallerIds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Caller IDs that serve no purpose."""

    kinds: tuple[Kind, ...] = ()
    """Classes of number."""
    prefixes: tuple[str, ...] = ()
    """E.164 prefixes."""


class CallerIds(Section, frozen=True, kw_only=True):
    """Which caller IDs may be presented."""

    classes: tuple[CallerIdClass, ...]
    """Reserved prefixes and the purposes that they serve."""
    proof_days: Days
    """Days for which a proof that the caller ID is recallable holds."""
    short_codes: tuple[str, ...] = ()
    """Codes that are permitted as they are, in place of a number."""
    forbidden: ForbiddenCallerIds = ForbiddenCallerIds()
    """Numbers that no campaign may present."""


class UniqueCallerIds(Section, frozen=True, kw_only=True):
    """The caller ID must be presented by no other controller."""


class ForeignIngress(Section, frozen=True, kw_only=True):
    """Caller IDs of this country that may not enter it from abroad."""

    kinds: tuple[Kind, ...]
    """Their classes of number."""


class Hours(Section, frozen=True, kw_only=True, dict=True):
    """When a person may be called, by the clock where that person is. A kind of day without windows is closed, but a missing `pre_holiday` leaves the day what it was."""

    weekday: tuple[str, ...] = ()
    """Windows from Monday to Friday, as in `09:00-20:00`."""
    saturday: tuple[str, ...] = ()
    """Windows on Saturdays."""
    sunday: tuple[str, ...] = ()
    """Windows on Sundays."""
    holiday: tuple[str, ...] = ()
    """Windows on public holidays."""
    pre_holiday: tuple[str, ...] | None = None
    """Windows on the day before a public holiday."""
    ring_seconds: Annotated[int, Meta(ge=0, le=300)] = 0
    """Seconds until the telephone rings. The window must still be open then."""

    @cached_property
    def windows(self) -> dict[DayKind, tuple[Window, ...]]:
        """Seconds of the day, begin included, end not."""
        return {
            "weekday": _windows(self.weekday),
            "saturday": _windows(self.saturday),
            "sunday": _windows(self.sunday),
            "holiday": _windows(self.holiday),
            **({} if self.pre_holiday is None else {"pre_holiday": _windows(self.pre_holiday)}),
        }


class Frequency(Section, frozen=True, kw_only=True):
    """A limit on calls to one person, over all campaigns and call centres of the controller."""

    limit: Annotated[int, Meta(ge=1)]
    """Maximum number of calls."""
    days: Days
    """Days in which they count."""
    counting: Literal["calendar", "rolling"]
    """`calendar`: days where the person is, today included. `rolling`: 24 hours each."""
    counts: Literal["attempts", "answered"]
    """What counts as a call."""


class Rest(Section, frozen=True, kw_only=True):
    """Days without a call after a silent or abandoned call."""

    days: Days
    """Whole days."""
    until_answered: tuple[CallType, ...] = ()
    """Afterwards, until a later call was answered, only these call types. Empty: any."""


class HolidaySource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the public holidays come from."""

    country: str
    """Country in the `holidays` library."""
    subdivision: str = ""
    """Its subdivision, which adds local holidays."""
    added: tuple[date, ...] = ()
    """Further days."""


class Binding(Struct, frozen=True, kw_only=True):
    """The sections that bind one call, in the order of the file. Recommendations bind nobody: where there are some,
    `advised` holds the same sections and them.
    """

    country: str
    diallable: tuple[Diallable, ...]
    legal_basis: tuple[LegalBasis, ...]
    consents: tuple[Consents, ...]
    contracts: tuple[Contracts, ...]
    requests: tuple[Requests, ...]
    registries: tuple[Registry, ...]
    lists: tuple[Lists, ...]
    directories: tuple[Directories, ...]
    sector_bans: tuple[SectorBan, ...]
    caller_ids: tuple[CallerIds, ...]
    unique_caller_ids: tuple[UniqueCallerIds, ...]
    foreign_ingress: tuple[ForeignIngress, ...]
    hours: tuple[Hours, ...]
    frequency: tuple[Frequency, ...]
    rest: tuple[Rest, ...]
    advised: "Binding | None" = None


class Law(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The law of one country."""

    country: str
    """Two letters of ISO 3166, as in `IT`."""
    name: str
    """Name of the country."""
    zone: str
    """Time zone in which its days begin, as in `Europe/Rome`."""
    holidays: HolidaySource
    """Where the public holidays come from."""
    diallable: tuple[Diallable, ...]
    legal_basis: tuple[LegalBasis, ...]
    consents: tuple[Consents, ...] = ()
    contracts: tuple[Contracts, ...] = ()
    requests: tuple[Requests, ...] = ()
    registries: tuple[Registry, ...] = ()
    lists: tuple[Lists, ...] = ()
    directories: tuple[Directories, ...] = ()
    sector_bans: tuple[SectorBan, ...] = ()
    caller_ids: tuple[CallerIds, ...] = ()
    unique_caller_ids: tuple[UniqueCallerIds, ...] = ()
    foreign_ingress: tuple[ForeignIngress, ...] = ()
    hours: tuple[Hours, ...] = ()
    frequency: tuple[Frequency, ...] = ()
    rest: tuple[Rest, ...] = ()
    sectors: tuple[str, ...] = ()
    """All trades that a section or a campaign may name."""
    codes: tuple[str, ...] = ()
    """All codes of conduct that a section or a controller may name."""

    def binding(self, facts: Facts) -> Binding:
        """The sections in force on the facts' day whose scope the call is in. Remembered: a campaign's calls of one
        day all share it.
        """
        campaign = facts.campaign
        key = (
            facts.today, campaign.purpose, facts.call_type, campaign.sector, campaign.callee,
            campaign.profiling, facts.controller.adheres_to,
        )  # fmt: skip
        found = self._bindings.get(key)
        if found is None:
            if len(self._bindings) >= _MEMORY:
                self._bindings.clear()
            found = self._bindings[key] = self._select(facts)
        return found

    @property
    def stated_kinds(self) -> frozenset[Kind]:
        """Return the kinds for which a row itself must say that the number is in the directory, at any date."""
        return frozenset(kind for section in self.directories for kind in section.stated_kinds)

    @cached_property
    def _bindings(self) -> dict[tuple[Any, ...], Binding]:
        return {}

    def _select(self, facts: Facts) -> Binding:
        inside: dict[str, Any] = {
            name: tuple(each for each in getattr(self, name) if each.binds(facts)) for name in SECTIONS
        }
        strict: dict[str, Any] = {
            name: tuple(each for each in sections if each.severity != "recommendation")
            for name, sections in inside.items()
        }
        advised = None if strict == inside else Binding(country=self.country, **inside)
        return Binding(country=self.country, advised=advised, **strict)


SECTIONS = tuple(name for name in Binding.__struct_fields__ if name not in {"country", "advised"})
# Which findings a section of each list can be cited for.
_CITABLE: dict[str, frozenset[Finding]] = {
    "consents": frozenset(get_args(Finding)) - {"origin"},
    "lists": frozenset({"cession", "origin"}),
}
_CLOCKS_KNOWN = 31  # days back for which facts hold a change of the clocks
_MEMORY = 512
_WINDOW = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def _windows(texts: tuple[str, ...]) -> tuple[Window, ...]:
    return tuple(_window(text) for text in texts)


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise LawError(f"hours: {text!r} is no window; write it as 09:00-20:00")
    first, last = (
        int(hours) * 3600 + int(minutes) * 60 for hours, minutes in (found.group(1, 2), found.group(3, 4))
    )
    if not first < last <= SECONDS_A_DAY:
        raise LawError(f"hours: {text!r} must begin before it ends, and end by 24:00")
    return first, last


def parse_law(data: Any) -> Law:
    """`data` is what YAML or JSON made of a country file. Raises `LawError`, with the path of the offending key."""
    try:
        law = msgspec.convert(data, Law)
    except msgspec.ValidationError as error:
        raise LawError(str(error)) from error
    problems = [
        problem
        for name in SECTIONS
        for section in getattr(law, name)
        for problem in _faults(name, section, law)
    ]
    if not law.diallable or not law.legal_basis:
        problems.append("a law must say which numbers are diallable and what makes a call lawful")
    if problems:
        raise LawError(*problems)
    return law


def _faults_of_keys(name: str, section: Section) -> Iterator[str]:
    for finding in section.cited_for:
        if finding not in _CITABLE.get(name, ()):
            yield f"{name}: no denial cites such a section for {finding!r}; remove it from `cited_for`"
        elif finding == "age" and isinstance(section, Consents) and section.max_age_days is None:
            yield f"{name}: a section cited for 'age' needs `max_age_days`"
    if (
        isinstance(section, Registry)
        and section.counting == "earlier"
        and section.validity_days > _CLOCKS_KNOWN
    ):
        yield f"{name}: `counting: earlier` needs `validity_days` of at most {_CLOCKS_KNOWN}"


def _faults(name: str, section: Section, law: Law) -> Iterator[str]:
    if section.ends is not None and section.ends < section.starts:
        yield f"{name}: a section is in force until {section.ends}, before it begins"
    for sector in section.sectors:
        if sector not in law.sectors:
            yield f"{name}: sector {sector!r} is not among `sectors`; add it there, or mend the name"
    yield from _faults_of_keys(name, section)
    if section.adherents_of and section.adherents_of not in law.codes:
        yield f"{name}: code {section.adherents_of!r} is not among `codes`; add it there, or mend the name"
    if isinstance(section, Hours):
        try:
            _ = section.windows  # read once now, so that a wrong window stops the load and not a call
        except LawError as error:
            yield from error.problems
