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

from dialgate.lists.number_set import Tags
from dialgate.lists.snapshot import Consultation, Contents, State
from registry_sync.formats.text import Integers, Mask, Numbers
from registry_sync.import_checks import ImportRefused

MAX_STATES: Final = 1 << 16
_SLICE: Final = 1 << 18  # numbers, whose arrays fit into the processor's cache


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
    known = old.contents.consultations
    consultations = (*known, *(answered.consultation for answered in news))
    contents = msgspec.structs.replace(old.contents, consultations=consultations)
    answers = [_answers_of(answered, at, contents) for at, answered in enumerate(news, len(known))]
    # In pairs, so that a number is copied once for each doubling of the consultations.
    while len(answers) > 1:
        pairs = zip(answers[::2], answers[1::2], strict=False)
        answers = [join(*pair)[0] for pair in pairs] + answers[len(answers) & ~1 :]
    old = old._replace(contents=contents)
    return join(old, answers[0]) if answers else (old, ChangeCounts())


def _answers_of(answered: AnsweredConsultation, at: int, contents: Contents) -> PublishedAnswers:
    """Return the answers from the consultation with index `at`."""
    time = answered.consultation.submitted_at
    states = (State(answer="clear", consultation=at), State(answer="listed", consultation=at, listed_at=time))
    contents = msgspec.structs.replace(contents, states=states)
    return PublishedAnswers(contents, answered.numbers, answered.listed.astype(np.uint16))


def join(old: PublishedAnswers, new: PublishedAnswers) -> tuple[PublishedAnswers, ChangeCounts]:
    """Return all answers of both, and how the answers of `old` change. Both number the consultations as `new` does.

    Raises Refused for too many states.
    """
    consultations, width = new.contents.consultations, 1 + len(new.contents.states)
    # Pages that no number fills take no memory.
    most = len(old.numbers) + len(new.numbers)
    numbers, tags, total = np.empty(most, np.uint64), np.empty(most, np.uint16), 0
    states: dict[State, int] = {}
    transitions: Counter[tuple[str, str]] = Counter()
    for old_part, new_part in _slices(old, new):
        union, cell_of = _assign_cells(old_part, new_part)
        sizes = np.bincount(cell_of)
        tag_of = np.zeros(len(sizes), np.uint16)
        for cell in np.flatnonzero(sizes).tolist():
            old_state, new_state = (
                part.contents.states[at] if at < len(part.contents.states) else None
                for part, at in zip((old, new), divmod(cell, width), strict=True)
            )
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
    contents = msgspec.structs.replace(new.contents, states=tuple(states))
    return PublishedAnswers(contents, numbers[:total], tags[:total], old.base), ChangeCounts(
        transitions.total(), transitions["clear", "listed"], transitions["listed", "clear"]
    )


def _slices(
    old: PublishedAnswers, new: PublishedAnswers
) -> Iterator[tuple[PublishedAnswers, PublishedAnswers]]:
    """Cut all sorted numbers at the same places, so that no part has many more than `_SLICE` of one array."""
    bounds = max(old.numbers, new.numbers, key=len)[_SLICE::_SLICE]
    parts = []
    for answers in (old, new):
        cuts = np.searchsorted(answers.numbers, bounds)
        columns = np.split(answers.numbers, cuts), np.split(answers.tags, cuts)
        parts.append([PublishedAnswers(answers.contents, *part) for part in zip(*columns, strict=True)])
    return zip(*parts, strict=True)


def _assign_cells(old: PublishedAnswers, new: PublishedAnswers) -> tuple[Numbers, Integers]:
    """Return all numbers, sorted, and the cell of each.

    A cell is `old tag * (1 + count of new states) + new tag`. The tag of a number without a state is the first unused tag.
    """
    absent = len(new.contents.states)
    if not len(old.numbers):
        return new.numbers, new.tags + np.int64(len(old.contents.states) * (1 + absent))
    place = np.searchsorted(old.numbers, new.numbers)
    is_new = np.take(old.numbers, place, mode="clip") != new.numbers
    after = np.cumsum(is_new)
    at = place + after - is_new  # of the new answers in the union
    is_old = np.ones(len(old.numbers) + int(after[-1] if len(after) else 0), np.bool_)
    is_old[at[is_new]] = False
    union, cell = np.empty(len(is_old), np.uint64), np.full(len(is_old), len(old.contents.states))
    union[at], union[is_old], cell[is_old] = new.numbers, old.numbers, old.tags
    cell *= 1 + absent
    cell += absent
    cell[at] += new.tags.astype(np.int64) - absent
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
