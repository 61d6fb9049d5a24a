"""Queries that ask whether a number was disconnected since a consent (47 CFR 64.1200(m)).

A query names a day, but no time zone. Its answer covers only the time from the moment when this day has begun in every
time zone. This moment must not be later than the consent. The query names the last day that meets this condition.
"""

from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dialgate.core import local_time
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.crypto.keys import Keys
from dialgate.store import Ledger
from registry_sync.answer_merge import PublishedAnswers, find_states
from registry_sync.formats.text import Mask, Numbers
from registry_sync.ledger_consents import read_consents

Instants = NDArray[np.int64]

_LATEST: Final = 12 * HOUR  # the latest time zone is UTC-12


def since_day(day: date) -> Instant:
    """Return the earliest time at which the day has begun in every time zone."""
    return local_time.midnight("UTC", day) + _LATEST


def day_of(since: Instant) -> date:
    return local_time.day_in("UTC", since - _LATEST)


def last_day_before(at: Instant) -> Instant:
    """Return the value of `since_day` for the last day that had begun in every time zone by `at`."""
    return (at - _LATEST) // DAY * DAY + _LATEST


async def read_newest_consents(
    store: Ledger, keys: Keys, controller: str, wanted: Numbers
) -> tuple[Numbers, Instants]:
    """Return the numbers in `wanted` with a consent for this controller, and the time of each number's newest consent.

    Both arrays are sorted by number. Raises StoreUnavailable and KeysUnusable.
    """
    newest: dict[int, Instant] = {}
    async for number, collected_at in read_consents(store, keys, controller):
        newest[number] = max(newest.get(number, 0), collected_at)
    holders = np.intersect1d(wanted, np.array(sorted(newest), np.uint64))
    return holders, np.array([newest[number] for number in holders.tolist()], np.int64)


def find_unneeded(numbers: Numbers, consents: Instants, known: PublishedAnswers) -> Mask:
    """Return a mask of the numbers that were reported as disconnected at or after their newest consent.

    The report already voids this consent, so the number needs no query.
    """
    listed_at = _by_number(numbers, known, [state.listed_at for state in known.contents.states])
    return np.asarray(consents <= listed_at)


def find_uncovered(numbers: Numbers, consents: Instants, known: PublishedAnswers) -> Mask:
    """Return a mask of the numbers whose answer does not cover their newest consent.

    An answer covers a consent if the query asked about disconnections since the consent or an earlier time, and the
    answer reported none. A disconnected number (`listed`) is always in the mask, even if it needs no query
    (`find_unneeded`).
    """
    states, consultations = known.contents.states, known.contents.consultations
    since = _by_number(numbers, known, [consultations[state.consultation].asked_since for state in states])
    listed = _by_number(numbers, known, [int(state.answer == "listed") for state in states])
    return np.asarray((consents < since) | (listed == 1))


def _by_number(numbers: Numbers, known: PublishedAnswers, values: list[Instant]) -> Instants:
    """Return an element of `values` for each number, chosen by the number's state in `known`.

    `values` has one element for each state in `known`. The result is -1 for a number without a state.
    """
    return np.array([*values, -1], np.int64)[find_states(numbers, known)]
