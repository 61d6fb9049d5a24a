"""The periods for which a country's law requires records to be kept."""

from collections.abc import Iterable
from datetime import date
from typing import Literal, TypeAlias

from dialgate.core import periods
from dialgate.core.law_sections import Dated
from dialgate.core.periods import DayPeriod

KeptKind: TypeAlias = Literal["consents", "contracts", "call_requests", "decisions"]


class Records(Dated, frozen=True, kw_only=True):
    """A minimum period for which records are kept. It replaces a shorter configured period."""

    what: tuple[KeptKind, ...]
    """The kinds of record."""
    keep: DayPeriod
    """The period, such as `P5Y`."""
    since: tuple[Literal["granted", "last_used"], ...]
    """Start of the period. `granted`: when the record was collected. `last_used`: the last call that was based on it. The gate counts from the end of use, which is never earlier."""


def binding(records: Iterable[Records], kind: KeptKind, day: date) -> list[Records]:
    """Return the sections in force on `day` for records of a kind."""
    return [section for section in records if kind in section.what and section.is_in_force(day)]


def days(records: Iterable[Records], kind: KeptKind, day: date) -> int:
    """Return the number of days for which the law in force on `day` requires records of a kind to be kept, or 0."""
    return max((periods.most_days(section.keep) for section in binding(records, kind, day)), default=0)


def months(records: Iterable[Records], kind: KeptKind, day: date) -> int:
    """Return the period that `days()` returns, but in months, rounded up."""
    return max((periods.most_months(section.keep) for section in binding(records, kind, day)), default=0)
