"""A country's law as lists of dated sections, and the function that builds the law from plain data.

`parse_law` rejects a section that names a sector, trait or place that the law does not define. A misspelt name would
match no call.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, get_args

import msgspec
from msgspec import Struct

from dialgate.core import day_sets, periods
from dialgate.core.day_sets import DaySet
from dialgate.core.law_migration import modernise
from dialgate.core.law_scope import Scope, local_days
from dialgate.core.law_sections import (
    AcceptedBasis,
    AiDisclosure,
    CallerIds,
    CededLists,
    Consents,
    Contracts,
    Dated,
    Diallable,
    Directories,
    Exemption,
    Finding,
    ForeignIngress,
    Hours,
    LawError,
    LegalBasis,
    Limit,
    Ratio,
    Registry,
    Relation,
    Requests,
    Restriction,
    Section,
    SectorBan,
)
from dialgate.core.model import (
    DAY,
    Facts,
    Kind,
    Pass,
    Skip,
    Weekday,
)
from dialgate.core.record_terms import Records
from dialgate.core.stop_terms import StopSection


class Binding(Struct, frozen=True, kw_only=True):
    """The sections of a law that apply to one call, in the order of the file.

    Recommendations are not included. If any apply, `advised` is the same binding with the recommendations.
    """

    country: str
    regions: tuple[str, ...]
    accepted: frozenset[AcceptedBasis]  # legal bases that every section of `legal_basis` accepts
    weekdays: frozenset[int]  # working days of the week; Monday is 0
    sector: str | None  # the campaign's sector; None if the law does not list it
    diallable: tuple[Diallable, ...]
    legal_basis: tuple[LegalBasis, ...]
    consents: tuple[Consents, ...]
    contracts: tuple[Contracts, ...]
    relations: tuple[Relation, ...]
    requests: tuple[Requests, ...]
    registries: tuple[Registry, ...]
    lists: tuple[CededLists, ...]
    directories: tuple[Directories, ...]
    sector_bans: tuple[SectorBan, ...]
    caller_ids: tuple[CallerIds, ...]
    foreign_ingress: tuple[ForeignIngress, ...]
    hours: tuple[Hours, ...]
    limits: tuple[Limit, ...]
    ratios: tuple[Ratio, ...]
    stops: tuple[StopSection, ...]
    ai_disclosures: tuple[AiDisclosure, ...]
    advised: "Binding | None" = None
    conditional: tuple[str, ...] = ()  # names of the lists that contain a section with `unless`
    # exemptions that lifted sections, by the rule that reports them
    lifted: dict[str, tuple[Pass | Skip, ...]] = {}


class Law(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The law of one country."""

    country: str
    """ISO 3166 code of two letters, for example `IT`."""
    name: str
    """Name of the country."""
    zone: str
    """Time zone in which the country's days begin and end, for example `Europe/Rome`."""
    diallable: tuple[Diallable, ...]
    legal_basis: tuple[LegalBasis, ...]
    consents: tuple[Consents, ...] = ()
    contracts: tuple[Contracts, ...] = ()
    relations: tuple[Relation, ...] = ()
    requests: tuple[Requests, ...] = ()
    registries: tuple[Registry, ...] = ()
    lists: tuple[CededLists, ...] = ()
    directories: tuple[Directories, ...] = ()
    sector_bans: tuple[SectorBan, ...] = ()
    caller_ids: tuple[CallerIds, ...] = ()
    foreign_ingress: tuple[ForeignIngress, ...] = ()
    hours: tuple[Hours, ...] = ()
    limits: tuple[Limit, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    stops: tuple[StopSection, ...] = ()
    ai_disclosures: tuple[AiDisclosure, ...] = ()
    records: tuple[Records, ...] = ()
    sectors: tuple[str, ...] = ()
    """All sectors that a section may name. If a campaign's sector comes from another country file and is not listed here, the sections of every sector apply to the campaign."""
    traits: tuple[str, ...] = ()
    """All traits of controllers that a section may name, such as a code of conduct to which they adhere."""
    draft: bool = False
    """Whether the file is unfinished. The gate denies every call to the country's numbers unless `accept_drafts` names the country."""
    missing: tuple[str, ...] = ()
    """The rules of the country that the file does not express, one sentence each. `dialgate country show` lists them."""
    unconfirmed: tuple[str, ...] = ()
    """The facts that are not confirmed, one sentence each with what the file assumes. `dialgate country show` lists them."""
    working_days: tuple[Weekday, ...] = ()
    """Days of the week that are working days, unless they are in the day set that the section names. Required for periods such as `5wd`."""
    regions: tuple[str, ...] = ()
    """Regions of the numbering plan that the law covers, such as `RE`, and their subdivisions that sections name, such as `US-FL`. Empty: the country."""

    day_sets: dict[str, DaySet] = {}
    """Named sets of days, such as the public holidays, that sections name in `day_set`. By convention `holidays` is the set for the whole country."""

    def binding(self, facts: Facts) -> Binding:
        """Return the sections that apply to a call on the day of `facts`.

        All calls in a campaign on the same day share the result, so it is cached.
        """
        campaign, controller, number, places = facts.campaign, facts.controller, facts.number, facts.places
        key = (
            facts.today, campaign.purpose, facts.call_type, campaign.sector, campaign.callee, campaign.profiling,
            campaign.dial_mode, controller.adheres_to, controller.traits, controller.sistan, number.kind, number.region, number.places,
            None if len(places) == 1 and places[0].zone == self.zone else tuple(local_days(facts)),
        )  # fmt: skip
        binding = self._bindings.get(key)
        if binding is None:
            if len(self._bindings) >= _MEMORY:
                self._bindings.clear()
            binding = self._bindings[key] = self._select(Scope.from_facts(facts, self.sectors))
        return binding

    @property
    def covered(self) -> tuple[str, ...]:
        """Return the regions that the law covers."""
        return self.regions or (self.country,)

    @property
    def stated_kinds(self) -> frozenset[Kind]:
        """Return the kinds whose numbers are directory entries only if their call-list row specifies `directory`.

        The result includes kinds from sections that are not in force.
        """
        return frozenset(kind for section in self.directories for kind in section.stated_kinds)

    @cached_property
    def barred_prefixes(self) -> tuple[str, ...]:
        """Return the `not_prefixes` from all sections, longest first, including sections that are not in force."""
        prefixes = {prefix for section in self.diallable for prefix in section.not_prefixes}
        return tuple(sorted(prefixes, key=len, reverse=True))

    @cached_property
    def _bindings(self) -> dict[tuple[Any, ...], Binding]:
        return {}

    def _select(self, scope: Scope) -> Binding:
        applicable: dict[str, list[Any]] = {
            name: [section for section in getattr(self, name) if section.binds(scope)] for name in SECTIONS
        }
        applicable["relations"] = [
            section for section in applicable["relations"] if section.surely_binds(scope)
        ]
        strict: dict[str, list[Any]] = {
            name: [section for section in sections if section.severity != "recommendation"]
            for name, sections in applicable.items()
        }
        advised = None if strict == applicable else self._bound(applicable, scope, None)
        return self._bound(strict, scope, advised)

    def _bound(self, sections: dict[str, list[Any]], scope: Scope, advised: Binding | None) -> Binding:
        listed: dict[str, Any] = {
            name: tuple(_until_certain(several, scope) if name in FIRST_APPLIES else several)
            for name, several in sections.items()
        }
        conditional = tuple(
            name
            for name, several in listed.items()
            if any(isinstance(section, Restriction) and section.unless for section in several)
        )
        accepted = [frozenset(section.accepts) for section in listed["legal_basis"]]
        return Binding(
            country=self.country,
            regions=self.covered,
            accepted=frozenset.intersection(*accepted) if accepted else frozenset(),
            weekdays=frozenset(get_args(Weekday).index(day) for day in self.working_days),
            sector=scope.sector,
            advised=advised,
            conditional=conditional,
            **listed,
        )


def _until_certain(sections: list[Section], scope: Scope) -> Iterator[Section]:
    """Yield the sections up to and including the first that certainly applies to the call."""
    for section in sections:
        yield section
        if section.surely_binds(scope):
            return


SECTIONS = tuple(
    name
    for name in Binding.__struct_fields__
    if name
    not in {"country", "regions", "accepted", "weekdays", "sector", "advised", "conditional", "lifted"}
)
# All lists of sections, including `records`, which is not about calls.
ALL_SECTIONS = (*SECTIONS, "records")
# Kinds of section of which only the first that applies counts. Of other kinds, all count.
FIRST_APPLIES = frozenset({"legal_basis", "contracts"})
# Exemptions that apply only to sections of one list.
_ONLY_IN: dict[Exemption, str] = {"consent_after_listing": "registries", "ingress_proof": "foreign_ingress"}
# For each list of sections, the findings whose denials can cite a section of it.
_CITABLE: dict[str, frozenset[Finding]] = {
    "consents": frozenset(get_args(Finding)) - {"origin"},
    "lists": frozenset({"cession", "origin"}),
}
_CLOCKS_KNOWN = 31  # facts contain the clock changes of this many past days
_MEMORY = 4_096
_PLACE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


def parse_law(data: Any) -> Law:
    """Build a law from a parsed country file. Raises `LawError` with the paths of invalid keys."""
    try:
        law = msgspec.convert(modernise(data), Law)
    except msgspec.ValidationError as error:
        raise LawError(str(error)) from error
    if problems := list(_faults_of_law(law)):
        raise LawError(*problems)
    return law


def _faults_of_law(law: Law) -> Iterator[str]:
    for place in law.regions:
        if not _PLACE.fullmatch(place):
            yield f"regions: {place!r} is not a region or subdivision; write it as RE or US-FL"
    if law.country not in law.covered:
        yield f"regions: {law.country} is missing; add it"
    for name in SECTIONS:
        for section in getattr(law, name):
            yield from _faults(name, section, law)
    for name, days in law.day_sets.items():
        yield from (f"day_sets: {name}: {fault}" for fault in day_sets.faults(days))
    for name in ALL_SECTIONS:
        for section in getattr(law, name):
            yield from _faults_of_term(name, section)
    if not law.diallable or not law.legal_basis:
        yield "a law needs at least one section in each of `diallable` and `legal_basis`"


def _faults_of_keys(name: str, section: Section) -> Iterator[str]:
    for exemption in section.unless if isinstance(section, Restriction) else ():
        if name != _ONLY_IN.get(exemption, name):
            yield f"{name}: only `{_ONLY_IN[exemption]}` may have the exemption {exemption!r}; remove it from `unless`"
    for finding in section.cited_for:
        if finding not in _CITABLE.get(name, ()):
            yield f"{name}: no denial for {finding!r} cites a section of this list; remove it from `cited_for`"
        elif (
            finding == "age"
            and isinstance(section, Consents)
            and not (section.max_age or section.max_age_unstated)
        ):
            yield f"{name}: a section cited for 'age' needs `max_age`"
    if (
        isinstance(section, Registry)
        and section.counting == "earlier"
        and not 0 < periods.parse(section.validity).length <= _CLOCKS_KNOWN * DAY
    ):
        yield f"{name}: `counting: earlier` needs a `validity` of at most {_CLOCKS_KNOWN}d"


def _faults_of_term(name: str, section: Dated) -> Iterator[str]:
    if section.ends is not None and section.ends < section.starts:
        yield f"{name}: a section ends on {section.ends} (`until`), before it begins (`from`)"


def _faults(name: str, section: Section, law: Law) -> Iterator[str]:
    vocabularies = (
        ("sector", section.sectors, "sectors", law.sectors),
        ("trait", (*section.traits, *section.not_traits), "traits", law.traits),
        ("place", section.places, "regions", law.covered),
    )
    for word, values, key, known in vocabularies:
        for value in values:
            if value not in known:
                yield f"{name}: {word} {value!r} is not in the country's `{key}`; correct it or add it there"
    yield from _faults_of_keys(name, section)
    yield from _faults_of_kind(name, section)
    if isinstance(section, Hours | Registry | Requests):
        yield from _faults_of_days(name, section, law)
    if isinstance(section, Consents) and section.counting == "calendar":
        yield from _faults_of_ages(name, section)


def _faults_of_days(name: str, section: Hours | Registry | Requests, law: Law) -> Iterator[str]:
    if section.day_set and section.day_set not in law.day_sets:
        yield f"{name}: day set {section.day_set!r} is not in the country's `day_sets`; correct it or add it there"
    if isinstance(section, Hours):
        try:
            windows = section.windows  # an invalid window must fail the load and not a call
        except ValueError as error:
            yield f"{name}: {error}"
            return
        if not section.day_set and not {"holiday", "pre_holiday"}.isdisjoint(windows):
            yield f"{name}: `holiday` and `pre_holiday` need a `day_set`; name one, such as `holidays`"
    elif isinstance(section, Requests) and section.max_age.endswith("wd"):
        if not law.working_days:
            yield f"{name}: `{section.max_age}` needs the country's `working_days`; add that key, for example [mon, tue, wed, thu, fri]"
        if not section.day_set:
            yield f"{name}: `{section.max_age}` needs a `day_set`; add it"


def _faults_of_ages(name: str, section: Consents) -> Iterator[str]:
    for age in (section.max_age, section.max_age_unstated):
        if age is not None and age.endswith("h"):
            yield f"{name}: `counting: calendar` needs a period in days, months or years, not {age}"


def _faults_of_kind(name: str, section: Section) -> Iterator[str]:
    if isinstance(section, Limit):
        if section.counting != "rolling" and not section.per.endswith("d"):
            yield f"{name}: `counting: {section.counting}` needs a period in days, such as 30d"
        if section.until_answered and section.events != "abandoned":
            yield f"{name}: `until_answered` needs `events: abandoned`; change `events` or remove `until_answered`"
    if isinstance(section, CallerIds):
        names = {class_.name for class_ in section.classes}
        for required in section.required:
            if required not in names:
                yield f"{name}: required class {required!r} is not in the section's `classes`; correct it or add it there"
    if isinstance(section, Relation) and section.since != "contract_end" and section.lasts is None:
        yield f"{name}: `since: {section.since}` needs a `for` period; add it"
