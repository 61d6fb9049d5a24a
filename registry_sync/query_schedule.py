"""The numbers that are due for a query, and their order. All functions are pure.

Every query costs money, so a number is due only when its answer is missing or expires within the look-ahead.
A *listed* number must not be called, however old its answer is. It is queried again at long intervals, in
case the opposition was withdrawn.
"""

from typing import NamedTuple

import numpy as np

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Contents
from registry_sync.answer_merge import PublishedAnswers, find_states
from registry_sync.formats.text import Integers, Mask, Numbers

_AFTER_ALL = np.int64(1) << np.int64(60)  # later than any instant: sorts *listed* numbers behind the others


class Terms(NamedTuple):
    """The durations that determine when a number is due, in milliseconds.

    `listed_again` is the age of a *listed* answer at which its number is queried again.
    """

    validity: int
    look_ahead: int
    listed_again: int


def select_due(
    wanted: Numbers, pending: Numbers, known: PublishedAnswers, terms: Terms, now: Instant
) -> Numbers:
    """Return the numbers in `wanted` that are due now, most urgent first.

    `wanted` is sorted. Numbers in `pending` are omitted.
    """
    due_at, listed = _due_instants(known.contents, terms)
    rows = find_states(wanted, known)
    is_pending = np.isin(wanted, pending)
    chosen = np.flatnonzero((due_at[rows] <= now) & ~is_pending)
    order = np.argsort(due_at[rows[chosen]] + np.where(listed[rows[chosen]], _AFTER_ALL, 0), kind="stable")
    due_numbers: Numbers = wanted[chosen[order]]
    return due_numbers


def select_expiring(wanted: Numbers, known: PublishedAnswers, terms: Terms, before: Instant) -> Numbers:
    """Return the numbers in `wanted` that have no answer valid until `before`.

    *Listed* answers count as valid.
    """
    ends = [
        known.contents.consultations[state.consultation].submitted_at + terms.validity
        if state.answer == "clear"
        else int(_AFTER_ALL)
        for state in known.contents.states
    ]
    expiring: Numbers = wanted[np.array([*ends, 0], np.int64)[find_states(wanted, known)] < before]
    return expiring


def _due_instants(contents: Contents, terms: Terms) -> tuple[Integers, Mask]:
    """Return two arrays: when the numbers in each state are due, and whether the state's answer is *listed*.

    The last element of each array applies to numbers without an answer, which are due at once.
    """
    times, listed = [], []
    for state in contents.states:
        submitted_at = contents.consultations[state.consultation].submitted_at
        is_listed = state.answer == "listed"
        age = terms.listed_again if is_listed else terms.validity - terms.look_ahead
        times.append(submitted_at + age)
        listed.append(is_listed)
    return np.array([*times, 0], np.int64), np.array([*listed, False])
