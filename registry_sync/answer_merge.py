"""The merge of new registry answers for one controller with the published answers.

For each number the newest consultation wins, even if an older one is imported later. If two consultations have
the same time, *listed* wins. When a newer answer is *clear*, the number keeps the time of its last *listed* answer,
because consents from before that time are void (L. 5/2018 art. 1 c. 5).

A state is an answer that many numbers share. A cell is a pair of an old state and a new state; either may be
absent. The merge computes each number's cell. There are few cells, so the merged state is computed once per cell.
The millions of numbers are only counted and copied, in slices, so that the merge needs little memory beside its result.
"""

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from dialgate.lists.number_set import Tags, distinct
from dialgate.lists.snapshot import Consultation, Contents, State
from registry_sync.formats.text import Integers, Mask, Numbers
from registry_sync.import_checks import ImportRefused

MAX_STATES: Final = 1 << 16
MERGE_LIMIT: Final = (
    512  # consultations in one merge; the table of possible states has 4 * MERGE_LIMIT**2 cells
)
_SLICE: Final = 1 << 20  # numbers
_RANK_BITS: Final = np.uint64(14)  # a number has at most 50 bits, so number and rank fit into 64


class AnswersBelow(NamedTuple):
    """Further answers in a published file. `others` counts those about numbers that the answers above do not name."""

    file: str
    sha256: str
    others: int


class PublishedAnswers(NamedTuple):
    """One registry's published answers for one controller: all of them, or those above a file with the others."""

    contents: Contents
    numbers: Numbers
    tags: Tags
    base: AnswersBelow | None = None

    def total(self) -> int:
        return len(self.numbers) + (self.base.others if self.base else 0)


class AnsweredConsultation(NamedTuple):
    """A consultation and its answers. `numbers` are sorted."""

    consultation: Consultation
    numbers: Numbers
    listed: Mask


class _NewStates(NamedTuple):
    """The combined answers from new consultations.

    `state_index` contains, for each of the sorted `numbers`, the index of its state in `states`.
    """

    numbers: Numbers
    state_index: Integers
    states: list[State]


class ChangeCounts(NamedTuple):
    """Counts for new answers.

    `known` counts the numbers that had an answer before. `newly_listed` and `newly_clear` count the numbers whose
    answer changes to *listed* or *clear*.
    """

    known: int = 0
    newly_listed: int = 0
    newly_clear: int = 0

    def plus(self, *more: int) -> "ChangeCounts":
        return ChangeCounts(*map(operator.add, self, more))


def count_changes(old: PublishedAnswers, new: AnsweredConsultation) -> ChangeCounts:
    """Count the answers that merging `new` would change.

    A published answer from a newer consultation does not change.
    """
    states, consultations = old.contents.states, old.contents.consultations
    was_listed = np.array([state.answer == "listed" for state in states], np.bool_)
    times = np.array([consultations[state.consultation].submitted_at for state in states], np.int64)
    may_change = times <= new.consultation.submitted_at
    counts = ChangeCounts()
    for begin in range(0, len(new.numbers), _SLICE):
        rows = find_states(new.numbers[begin : begin + _SLICE], old)
        has_answer = rows < len(states)
        rows, listed = rows[has_answer], new.listed[begin : begin + _SLICE][has_answer]
        changed = (was_listed[rows] != listed) & may_change[rows]
        counts = counts.plus(len(rows), int((changed & listed).sum()), int((changed & ~listed).sum()))
    return counts


def find_states(numbers: Numbers, known: PublishedAnswers) -> Integers:
    """Return the index of each number's state in `known`, or the count of states for a number without a state."""
    rows = np.full(len(numbers), len(known.contents.states), np.int64)
    if len(known.numbers):
        at = np.minimum(np.searchsorted(known.numbers, numbers), len(known.numbers) - 1)
        has_state = known.numbers[at] == numbers
        rows[has_state] = known.tags[at[has_state]]
    return rows


def correct_date(contents: Contents, at: int, new: Consultation) -> Contents:
    """Return the contents with a corrected date for the consultation at index `at`.

    `new` is that consultation with the right date. The caller must check that no other consultation lies between the
    old and the new date. The correction then changes times but no answers. `imported_at` keeps the time of the first
    import. A later correction is checked against this time, because no consultation can be later than the import of
    its answer.
    """
    misdated = contents.consultations[at]
    wrong, new = misdated.submitted_at, msgspec.structs.replace(new, imported_at=misdated.imported_at)
    consultations = (*contents.consultations[:at], new, *contents.consultations[at + 1 :])
    states = tuple(
        msgspec.structs.replace(state, listed_at=new.submitted_at) if state.listed_at == wrong else state
        for state in contents.states
    )
    return msgspec.structs.replace(contents, consultations=consultations, states=states)


def merge(
    old: PublishedAnswers, news: Sequence[AnsweredConsultation]
) -> tuple[PublishedAnswers, ChangeCounts]:
    """Merge consultations into the published answers.

    Raises Refused if the result has more states than a 16-bit tag can represent.
    """
    merged, counts = old, ChangeCounts()
    for begin in range(0, len(news), MERGE_LIMIT):
        merged, more = _merge(merged, news[begin : begin + MERGE_LIMIT])
        counts = counts.plus(*more)
    return merged, counts


def _merge(
    old: PublishedAnswers, news: Sequence[AnsweredConsultation]
) -> tuple[PublishedAnswers, ChangeCounts]:
    first = len(old.contents.consultations)
    consultations = (*old.contents.consultations, *(answered.consultation for answered in news))
    # Pages that no number fills take no memory.
    most = len(old.numbers) + sum(len(answered.numbers) for answered in news)
    numbers, tags, total = np.empty(most, np.uint64), np.empty(most, np.uint16), 0
    states: dict[State, int] = {}
    transitions: Counter[tuple[str, str]] = Counter()
    old_states: list[State | None] = [*old.contents.states, None]
    for old_part, news_part in _slices(old, news):
        new = _combine(news_part, first)
        union, cell_of = _assign_cells(old_part, new)
        sizes = np.bincount(cell_of)
        tag_of = np.zeros(len(sizes), np.uint16)
        new_states: list[State | None] = [None, *new.states]
        for cell in np.flatnonzero(sizes).tolist():
            old_state, new_state = old_states[cell // len(new_states)], new_states[cell % len(new_states)]
            state = _choose_state(old_state, new_state, consultations)
            tag = states.setdefault(state, len(states))
            if tag >= MAX_STATES:
                raise ImportRefused(
                    f"the answers have more than {MAX_STATES:,} different states. Start with an empty snapshot folder."
                )
            tag_of[cell] = tag
            if old_state is not None and new_state is not None:
                transitions[old_state.answer, state.answer] += int(sizes[cell])
        numbers[total : total + len(union)], tags[total : total + len(union)] = union, tag_of[cell_of]
        total += len(union)
    contents = msgspec.structs.replace(old.contents, consultations=consultations, states=tuple(states))
    return PublishedAnswers(contents, numbers[:total], tags[:total], old.base), ChangeCounts(
        transitions.total(), transitions["clear", "listed"], transitions["listed", "clear"]
    )


def _slices(
    old: PublishedAnswers, news: Sequence[AnsweredConsultation]
) -> Iterator[tuple[PublishedAnswers, list[AnsweredConsultation]]]:
    """Cut all sorted numbers at the same places, so that no part has many more than `_SLICE` of one array."""
    arrays = [old.numbers, *(answered.numbers for answered in news)]
    largest = max(arrays, key=len)
    inner = largest[_SLICE::_SLICE]
    bounds = [[0, *np.searchsorted(array, inner).tolist(), len(array)] for array in arrays]
    for part in range(len(inner) + 1):
        cuts = [slice(*ends[part : part + 2]) for ends in bounds]
        yield (
            PublishedAnswers(old.contents, old.numbers[cuts[0]], old.tags[cuts[0]]),
            [
                AnsweredConsultation(answered.consultation, answered.numbers[cut], answered.listed[cut])
                for answered, cut in zip(news, cuts[1:], strict=True)
            ],
        )


def _combine(news: Sequence[AnsweredConsultation], first: int) -> _NewStates:
    """Combine new consultations into one state per number.

    `first` is the index of `news[0]` among all consultations after the merge.

    A consultation answers *clear* or *listed* for each number. All possible answers of all consultations are sorted by
    time. If two answers have the same time, *clear* comes first. The rank of an answer is its position in this order. For each
    number, the answer with the highest rank wins.
    """
    answers = sorted(
        (answered.consultation.submitted_at, listed, at)
        for at, answered in enumerate(news)
        for listed in (False, True)
    )
    rank = {(at, listed): np.uint64(position) for position, (_, listed, at) in enumerate(answers)}
    # Number and rank in one integer: a single sort groups by number and puts the winner last.
    keys = np.concatenate(
        [
            (answered.numbers << _RANK_BITS) + np.where(answered.listed, rank[at, True], rank[at, False])
            for at, answered in enumerate(news)
        ]
    )
    keys.sort()
    numbers = keys >> _RANK_BITS
    last = np.append(numbers[1:] != numbers[:-1], np.True_)
    ranks = (keys & np.uint64((1 << int(_RANK_BITS)) - 1)).astype(np.int64)
    newest_listed = _newest_listed(ranks, last, np.array([listed for _, listed, _ in answers]))
    code = ranks[last] * (len(answers) + 1) + newest_listed
    used_codes = np.flatnonzero(np.bincount(code))
    row = np.zeros(len(answers) * (len(answers) + 1), np.int64)
    row[used_codes] = np.arange(len(used_codes))
    states = [_state(answers, first, *divmod(used, len(answers) + 1)) for used in used_codes.tolist()]
    return _NewStates(numbers[last], row[code], states)


def _newest_listed(ranks: Integers, last: Mask, listed: Mask) -> Integers:
    """Return, for each number, 1 + the rank of its newest *listed* answer, or 0 if it has none.

    `ranks` contains the ranks of all answers, grouped by number and ascending. `last` marks the last rank of each
    number. `listed` is true for the ranks of *listed* answers.
    """
    if not len(ranks):
        return ranks
    starts = np.append(0, np.flatnonzero(last)[:-1] + 1)
    newest: Integers = np.maximum.reduceat(np.where(listed[ranks], ranks + 1, 0), starts)
    return newest


def _state(answers: list[tuple[int, bool, int]], first: int, winner: int, newest_listed: int) -> State:
    _, listed, at = answers[winner]
    return State(
        answer="listed" if listed else "clear",
        consultation=first + at,
        listed_at=answers[newest_listed - 1][0] if newest_listed else 0,
    )


def _assign_cells(old: PublishedAnswers, new: _NewStates) -> tuple[Numbers, Integers]:
    """Return all numbers, sorted, and the cell of each.

    A cell is `old tag * (1 + count of new states) + 1 + index of the new state`. If a number has no old
    state, the old tag is the first unused tag. If it has no new state, the last two terms are 0.
    """
    union = distinct(np.concatenate((old.numbers, new.numbers)))
    cell = np.full(len(union), len(old.contents.states), np.int64)
    cell[np.searchsorted(union, old.numbers)] = old.tags
    cell *= 1 + len(new.states)
    cell[np.searchsorted(union, new.numbers)] += 1 + new.state_index
    return union, cell


def _choose_state(old: State | None, new: State | None, consultations: tuple[Consultation, ...]) -> State:
    if new is None:
        assert old is not None, "every number is in the old set or in the new"
        return old
    if old is None:
        return new
    listed_at = max(new.listed_at, old.listed_at)
    if _rank(new, consultations) > _rank(old, consultations):
        return msgspec.structs.replace(new, listed_at=listed_at)
    return msgspec.structs.replace(old, listed_at=listed_at)


def _rank(state: State, consultations: tuple[Consultation, ...]) -> tuple[int, bool]:
    return consultations[state.consultation].submitted_at, state.answer == "listed"
