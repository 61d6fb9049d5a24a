"""Each change of a country's law has a case in the last second before the change, and one in the first second after."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from dialgate.core.law import SECTIONS, Law
from dialgate.core.law_scope import Scope
from dialgate.core.law_sections import Section
from dialgate.core.local_time import midnight
from dialgate.core.model import EPOCH, SECOND, Facts
from tests.support.casebook import facts_of, law_of
from tests.support.country_cases import COUNTRIES, cases_of


@pytest.mark.parametrize("country", COUNTRIES)
def test_each_change_of_law_has_a_case_in_the_seconds_before_and_after(country: str) -> None:
    assert (
        missing_cases(law_of(country), [facts_of(case) for case in cases_of(country) if not case.law]) == []
    )


def missing_cases(law: Law, facts_of_cases: list[Facts]) -> list[tuple[str, str, set[bool]]]:
    """Return each change of law that does not have both a case just before it and a case just after it.

    Each item holds the day, the section's source and the sides that have a case: False is before, True is after.
    No call is allowed before the first section begins, so all sections that begin on the first day count as one change.
    """
    sections = [section for name in SECTIONS for section in getattr(law, name)]
    first = min(section.starts for section in sections)
    calls = [(facts, Scope.from_facts(facts, law.sectors)) for facts in facts_of_cases]
    covered: dict[date, set[bool]] = {first: set()}
    missing: list[tuple[str, str, set[bool]]] = []
    for section in sections:
        bound = [facts for facts, scope in calls if section.binds(_on_day(scope, section.starts))]
        for day, is_end in _changes(section):
            sides = {side for facts in bound for side in _sides(facts, law, day, is_end=is_end)}
            if day == first:
                covered[first] |= sides
            elif len(sides) < 2:
                missing.append((str(day), section.source, sides))
    if len(covered[first]) < 2:
        missing.append((str(first), "the first section", covered[first]))
    return missing


def _on_day(scope: Scope, day: date) -> Scope:
    number = day.toordinal() - EPOCH
    return scope._replace(first=number, last=number)


def _changes(section: Section) -> Iterator[tuple[date, bool]]:
    """Yield (first day, False) and, if the section ends, (day after its last day, True)."""
    yield section.starts, False
    if section.ends is not None:
        yield section.ends + timedelta(days=1), True


def _sides(facts: Facts, law: Law, day: date, *, is_end: bool) -> Iterator[bool]:
    """Yield True for a call in the second after a change, and False for a call in the second before the change.

    Yield nothing for other calls. Midnight differs between the country's zone and the places where the person may be. A
    section begins at the earliest midnight and ends at the latest.
    """
    midnights = [midnight(zone, day) for zone in (law.zone, *(place.zone for place in facts.places))]
    change = max(midnights) if is_end else min(midnights)
    if facts.at in {change - SECOND, change}:
        yield facts.at == change
