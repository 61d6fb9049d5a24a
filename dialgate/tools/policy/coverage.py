"""What the cases test: rules, campaigns and sections of law, and by name those that no case tests."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date

from msgspec import Struct, structs

from dialgate.config.configuration import Config
from dialgate.core.decision import decide
from dialgate.core.law import SECTIONS, Law
from dialgate.core.law_sections import Section
from dialgate.core.model import Decision, Deny
from dialgate.core.rules import RULES
from dialgate.tools.policy.checking import CheckedCase


class SectionCoverage(Struct, frozen=True):
    """A section, the cases to whose calls it applies, and those whose decision would change without it."""

    name: str
    applies: int
    decides: int


class CaseCoverage(Struct, frozen=True, kw_only=True):
    """Counts of cases. A section or rule that decides no case could be removed without a red case."""

    cases: int
    rules: dict[str, int]  # cases that each rule denies
    campaigns: dict[str, int]
    sections: list[SectionCoverage]
    rules_without_denial: list[str]
    campaigns_without_case: list[str]
    sections_not_reached: list[str]
    sections_not_decisive: list[str]
    countries_without_case: list[str]


def measure(checked: Sequence[CheckedCase], config: Config, today: date) -> CaseCoverage:
    """Measure the coverage of the sections in force today or later, in the laws that decide a case."""
    rules = Counter(
        name
        for item in checked
        for name, outcome in item.decision.outcomes.items()
        if isinstance(outcome, Deny)
    )
    campaigns = Counter(item.facts.campaign.id for item in checked)
    by_country = defaultdict(list)
    for item in checked:
        if not item.case.law:  # a case that changes the law does not test the law on file
            by_country[item.law.country].append(item)
    sections = [section for items in by_country.values() for section in _sections(items[0].law, items, today)]
    return CaseCoverage(
        cases=len(checked),
        rules={name: rules[name] for name, _ in RULES},
        campaigns={name: campaigns[name] for name in config.lines},
        sections=sections,
        rules_without_denial=[name for name, _ in RULES if not rules[name]],
        campaigns_without_case=[name for name in config.lines if not campaigns[name]],
        sections_not_reached=[section.name for section in sections if not section.applies],
        sections_not_decisive=[
            section.name for section in sections if section.applies and not section.decides
        ],
        countries_without_case=[country for country in config.laws if country not in by_country],
    )


def _sections(law: Law, items: Sequence[CheckedCase], today: date) -> Iterable[SectionCoverage]:
    bindings = [law.binding(item.facts) for item in items]
    for kind in SECTIONS:
        sections: Sequence[Section] = getattr(law, kind)
        for place, section in enumerate(sections):
            if section.ends is not None and section.ends < today:
                continue
            bound = [
                item
                for item, binding in zip(items, bindings, strict=True)
                if any(section is own for own in getattr(binding.advised or binding, kind))
            ]
            without = structs.replace(law, **{kind: (*sections[:place], *sections[place + 1 :])})
            decisive = sum(_effect(decide(item.facts, without)) != _effect(item.decision) for item in bound)
            if section.severity == "recommendation":  # it changes no decision
                decisive = len(bound)
            yield SectionCoverage(_name(law, kind, place, section), len(bound), decisive)


def _name(law: Law, kind: str, place: int, section: Section) -> str:
    ends = f" until {section.ends}" if section.ends else ""
    return f"{law.country} {kind}[{place}] {section.source} (from {section.starts}{ends})"


def _effect(decision: Decision) -> tuple[object, ...]:
    """Return what a case can see of a decision, except the wording."""
    denials = tuple((reason.code, reason.law, reason.severity) for reason in decision.reasons)
    return decision.allow, denials, decision.basis, decision.valid_until, decision.not_before
