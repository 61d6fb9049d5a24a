"""The retention of the link between decisions and called numbers.

Each month has its own keys for this link. An operator can destroy all keys of a month once the longest retention
period of its decisions is over.

Legal periods as of 2026-11: Italy five years for administrative sanctions (L. 689/1981 art. 28), up to ten for civil
claims.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, structs

from dialgate.core import record_terms
from dialgate.core.law import Law
from dialgate.core.local_time import day_in
from dialgate.core.model import Instant

Months: TypeAlias = Annotated[int, Meta(ge=1, le=1200)]


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The period in which decisions under a country's law can be linked to the called numbers.

    Each month has its own keys for this link. `dialgate log retire --yes` destroys all keys of a month once the longest
    period of its decisions is over.

    A country without an entry uses the defaults. If the `records` of a country file require a longer period, that
    period applies.
    """

    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")]
    """Country of the law under which the decision was made, for example `IT`."""
    allowed_months: Months = 120
    """Whole months after the month of the record, for allowed calls."""
    refused_months: Months = 120
    """Whole months after the month of the record, for denied calls."""


def faults(terms: Iterable[Retention], countries: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    for term in terms:
        if term.country in seen:
            yield f"retention: {term.country} is defined twice; keep one entry"
        if term.country not in countries:
            yield f"retention: country {term.country} has no country file"
        seen.add(term.country)


def terms(configured: Iterable[Retention], laws: Mapping[str, Law], now: Instant) -> list[Retention]:
    """Return the retention periods of each country.

    If a country's law requires a longer period than the configured or default one, the law's period applies.
    """
    named = {term.country: term for term in configured}
    named |= {country: Retention(country=country) for country in laws if country not in named}
    return [
        _extended(term, laws[term.country], now) if term.country in laws else term for term in named.values()
    ]


def _extended(term: Retention, law: Law, now: Instant) -> Retention:
    least = record_terms.months(law.records, "decisions", day_in(law.zone, now))
    return structs.replace(
        term, allowed_months=max(term.allowed_months, least), refused_months=max(term.refused_months, least)
    )


def months(terms: Iterable[Retention], country: str, *, allowed: bool) -> int:
    term = next((term for term in terms if term.country == country), Retention(country=country or "ZZ"))
    return term.allowed_months if allowed else term.refused_months


def days(configured: Iterable[Retention], laws: Mapping[str, Law], country: str, now: Instant) -> int:
    """Return for about how many days a decision under a country's law stays linked to the called number."""
    known = terms(configured, laws, now)
    longest = max(months(known, country, allowed=allowed) for allowed in (True, False))
    return round(longest * 365.25 / 12)


def over_from(month: str, count: int) -> str:
    """Return the first month after retention ends, as `YYYY-MM`.

    Records from `month` are kept for `count` whole months after it.
    """
    year, number = map(int, month.split("-"))
    later = year * 12 + number + count  # months since year 0
    return f"{later // 12:04}-{later % 12 + 1:02}"
