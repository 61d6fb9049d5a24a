"""Which numbers a registry has to be asked about, and which first. Pure.

Every question costs money, and an answer that is asked for too early is thrown away: a number is due when its answer is
missing or will end within the look-ahead. A *listed* number cannot be called whether its answer is old or new; it is
asked about again now and then, for its opposition may have been lifted.
"""

from typing import NamedTuple

import numpy as np

from dialgate.core.model import Instant
from dialgate.lists.snapshot import Contents
from registry_sync.answer_merge import Cells, Current
from registry_sync.formats.text import Numbers

_LISTED = np.int64(1) << np.int64(60)  # later than any instant: they wait for the others


class Terms(NamedTuple):
    """Milliseconds. `listed_again`: after which age a *listed* is asked about again."""

    validity: int
    look_ahead: int
    listed_again: int


def due(wanted: Numbers, pending: Numbers, known: Current, terms: Terms, now: Instant) -> Numbers:
    """Of `wanted`, which rise, those to be asked about, the most pressing first; `pending` are being asked about."""
    due_at, listed = _due_at(known.contents, terms)
    rows = _rows(wanted, known)
    waiting = np.isin(wanted, pending)
    chosen = np.flatnonzero((due_at[rows] <= now) & ~waiting)
    order = np.argsort(due_at[rows[chosen]] + np.where(listed[rows[chosen]], _LISTED, 0), kind="stable")
    found: Numbers = wanted[chosen[order]]
    return found


def ending(wanted: Numbers, known: Current, terms: Terms, before: Instant) -> Numbers:
    """Those of `wanted` that have no answer that holds until `before`. A *listed* holds: no call rests on it."""
    ends = [
        known.contents.consultations[state.consultation].submitted_at + terms.validity
        if state.answer == "clear"
        else int(_LISTED)
        for state in known.contents.states
    ]
    found: Numbers = wanted[np.array([*ends, 0], np.int64)[_rows(wanted, known)] < before]
    return found


def _due_at(contents: Contents, terms: Terms) -> tuple[Cells, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]:
    """For each state, and last for numbers without one: from when on it is due, and whether it is *listed*."""
    times, listed = [], []
    for state in contents.states:
        submitted_at = contents.consultations[state.consultation].submitted_at
        is_listed = state.answer == "listed"
        held = terms.listed_again if is_listed else terms.validity - terms.look_ahead
        times.append(submitted_at + held)
        listed.append(is_listed)
    return np.array([*times, 0], np.int64), np.array([*listed, False])


def _rows(wanted: Numbers, known: Current) -> Cells:
    """The place of each number's state, or of none: one more than there are."""
    rows = np.full(len(wanted), len(known.contents.states), np.int64)
    if len(known.numbers):
        at = np.minimum(np.searchsorted(known.numbers, wanted), len(known.numbers) - 1)
        there = known.numbers[at] == wanted
        rows[there] = known.tags[at[there]]
    return rows
