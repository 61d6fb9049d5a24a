"""For how long a decision stays linked to the number that it was about. Pure: no file, no clock.

A month's keys are destroyed as a whole, so a month stays for as long as the longest term of what it holds. What the law says
(regulation as of 2026-11): Italy five years for administrative sanctions (L. 689/1981 art. 28), up to ten for civil claims.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Months: TypeAlias = Annotated[int, Meta(ge=1, le=1200)]


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long decisions about a country's numbers can be linked to them. A month's keys are destroyed together, so a month stays for the longest term of what it contains. A country that is not named has the defaults."""

    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")]
    """Country whose law the decision was made under, as in `IT`."""
    allowed_months: Months = 120
    """Whole months after the record's own, for allowed calls."""
    refused_months: Months = 120
    """The same for denied calls."""


def faults(terms: Iterable[Retention], countries: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    for term in terms:
        if term.country in seen:
            yield f"retention: {term.country} stands twice; keep one"
        if term.country not in countries:
            yield f"retention: country {term.country} has no file among the countries"
        seen.add(term.country)


def months(terms: Iterable[Retention], country: str, *, allowed: bool) -> int:
    term = next((term for term in terms if term.country == country), Retention(country=country or "ZZ"))
    return term.allowed_months if allowed else term.refused_months


def over_from(month: str, count: int) -> str:
    """The month, as `YYYY-MM`, from whose first instant on `count` whole months have passed since `month`."""
    year, number = map(int, month.split("-"))
    later = year * 12 + number + count  # months since year 0, of the month after the last
    return f"{later // 12:04}-{later % 12 + 1:02}"
