"""The registry's tariff: how many numbers and consultations of the calendar year remain.

The bands of the Italian tariff count the distinct numbers that a controller has verified in the year. To verify one of
them again costs nothing (DM in force from 2025-02-04).
"""

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

import numpy as np

from dialgate.core import local_time
from dialgate.core.model import Instant
from dialgate.lists.number_set import distinct
from registry_sync.answer_merge import PublishedAnswers
from registry_sync.config import QueriedRegistry
from registry_sync.formats.text import Numbers
from registry_sync.query_candidates import Planned
from registry_sync.query_packages import PackageStore


class Budget(NamedTuple):
    """What a controller has asked a registry since the year began. `numbers` are distinct and sorted."""

    numbers: Numbers
    consultations: int


class Forecast(NamedTuple):
    """The distinct numbers of the year: submitted so far, needed with those on all call lists, and permitted by the tariff.

    `year_limit` is 0 if there is no limit. `limit_reached_at` is when it is reached, or 0 if it suffices.
    """

    year_numbers: int
    year_needed: int
    year_limit: int
    limit_reached_at: Instant


def year_begins(now: Instant, zone: str) -> Instant:
    return local_time.midnight(zone, date(local_time.day_in(zone, now).year, 1, 1))


def read_budget(store: PackageStore, known: PublishedAnswers, begins: Instant) -> Budget:
    """Return what was asked since `begins`. Refused packages do not count. Raises FaultyFile and OSError."""
    counted = [
        package for package in store.all() if package.state != "refused" and package.prepared_at >= begins
    ]
    unanswered = [
        package for package in counted if package.state != "answered" and store.has_numbers(package)
    ]
    numbers = np.append(_answered_numbers(known, begins), store.numbers(unanswered))
    return Budget(distinct(numbers), len(counted))


def _answered_numbers(known: PublishedAnswers, begins: Instant) -> Numbers:
    """Return the published numbers that were asked about since `begins`.

    The newest consultation of such a number is of this year, so no record beside the answers is needed.
    """
    times = [consultation.submitted_at for consultation in known.contents.consultations]
    of_year = [times[state.consultation] >= begins for state in known.contents.states]
    answered: Numbers = known.numbers[np.array(of_year, np.bool_)[known.tags]]
    return answered


def select_affordable(due: Numbers, budget: Budget, settings: QueriedRegistry) -> Numbers:
    """Return the part of `due` that the limits allow now, in the same order."""
    if settings.numbers_a_year:
        is_new = ~np.isin(due, budget.numbers)
        left = max(0, settings.numbers_a_year - len(budget.numbers))
        due = due[~is_new | (np.cumsum(is_new) <= left)]
    if settings.consultations_a_year:
        left = max(0, settings.consultations_a_year - budget.consultations)
        due = due[: left * settings.package_numbers]
    return due[: settings.numbers_a_run] if settings.numbers_a_run else due


def forecast(planned: Iterable[Planned], budget: Budget, limit: int) -> Forecast:
    """Return what the year needs if all call lists are called."""
    numbers, reached_at = budget.numbers, 0
    for part in sorted(planned, key=lambda part: part.due_at):
        numbers = distinct(np.append(numbers, part.numbers))
        if limit and not reached_at and len(numbers) > limit:
            reached_at = part.due_at
    return Forecast(len(budget.numbers), len(numbers), limit, reached_at)
