"""What a registry has answered to one controller so far, and what it answers now, made into one set.

Per number the newest consultation wins, never the last imported; of two at one instant, *listed*. That a number was ever
listed stays known under a newer *clear*: the consents before it are void (L. 5/2018 art. 1 c. 5).

Every number falls in one cell: its old state (or none) by what is said of it now (or nothing). There are few cells, so
each is decided once, and the millions of numbers are only counted and copied.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from dialgate.lists.number_set import distinct
from dialgate.lists.snapshot import Consultation, Contents, State
from registry_sync.import_checks import Refused

Numbers: TypeAlias = NDArray[np.uint64]
Tags: TypeAlias = NDArray[np.uint16]
Mask: TypeAlias = NDArray[np.bool_]
Cells: TypeAlias = NDArray[np.int64]

MOST_STATES: Final = 1 << 16
AT_ONCE: Final = 512  # consultations; the table of what they can say of a number is four times its square
_PLACE: Final = np.uint64(14)  # bits beside a number, which has 50


class Current(NamedTuple):
    """What is published for one registry and controller."""

    contents: Contents
    numbers: Numbers
    tags: Tags


class Answered(NamedTuple):
    """A consultation and what it said. `numbers` rise."""

    consultation: Consultation
    numbers: Numbers
    listed: Mask


class Merged(NamedTuple):
    """`known`: asked about now, and answered before; the others count those of them that changed."""

    contents: Contents
    numbers: Numbers
    tags: Tags
    known: int
    newly_listed: int
    newly_clear: int


class _Said(NamedTuple):
    """What the new consultations say together: numbers that rise, and for each the place of its state in `states`."""

    numbers: Numbers
    at: Cells
    states: list[State]


class Changes(NamedTuple):
    """Of the numbers asked about: how many had an answer before, and how many of those answers turn."""

    known: int
    newly_listed: int
    newly_clear: int


def changes(old: Current, new: Answered) -> Changes:
    """An answer turns only where this consultation is not older than the one it rests on."""
    if not len(old.numbers):
        return Changes(0, 0, 0)
    at = np.minimum(np.searchsorted(old.numbers, new.numbers), len(old.numbers) - 1)
    there = old.numbers[at] == new.numbers
    rows, listed = old.tags[at[there]], new.listed[there]
    was_listed = np.array([state.answer == "listed" for state in old.contents.states])[rows]
    times = np.array(
        [old.contents.consultations[state.consultation].submitted_at for state in old.contents.states]
    )
    turned = (was_listed != listed) & (times[rows] <= new.consultation.submitted_at)
    return Changes(int(there.sum()), int((turned & listed).sum()), int((turned & ~listed).sum()))


def redated(contents: Contents, at: int, new: Consultation) -> Contents:
    """The same with `new` in the place of the consultation that stood there under a wrong date, between which and the
    right one there is no other: so every number keeps its answer, and only the instants change."""
    wrong = contents.consultations[at].submitted_at
    consultations = (*contents.consultations[:at], new, *contents.consultations[at + 1 :])
    states = tuple(
        msgspec.structs.replace(state, listed_at=new.submitted_at) if state.listed_at == wrong else state
        for state in contents.states
    )
    return msgspec.structs.replace(contents, consultations=consultations, states=states)


def merge(old: Current, news: Sequence[Answered]) -> Merged:
    """Raises Refused when there are more states than a tag can name."""
    merged = Merged(*old, 0, 0, 0)
    for begin in range(0, len(news), AT_ONCE):
        merged = _merge(merged, news[begin : begin + AT_ONCE])
    return merged


def _merge(old: Merged, news: Sequence[Answered]) -> Merged:
    first = len(old.contents.consultations)
    consultations = (*old.contents.consultations, *(each.consultation for each in news))
    said = _fold(news, first)
    union, cell_of = _cells(old, said)
    sizes = np.bincount(cell_of)
    tag_of = np.zeros(len(sizes), np.int64)
    states: dict[State, int] = {}
    moves: Counter[tuple[str, str]] = Counter()
    pasts: list[State | None] = [*old.contents.states, None]
    saids: list[State | None] = [None, *said.states]
    for cell in np.flatnonzero(sizes).tolist():
        past, now = pasts[cell // len(saids)], saids[cell % len(saids)]
        state = _decide(past, now, consultations)
        tag_of[cell] = states.setdefault(state, len(states))
        if past is not None and now is not None:
            moves[past.answer, state.answer] += int(sizes[cell])
    if len(states) > MOST_STATES:
        raise Refused(f"{len(states):,} different answers are more than {MOST_STATES:,}: start a new folder")
    return Merged(
        contents=msgspec.structs.replace(old.contents, consultations=consultations, states=tuple(states)),
        numbers=union,
        tags=tag_of.astype(np.uint16)[cell_of],
        known=old.known + moves.total(),
        newly_listed=old.newly_listed + moves["clear", "listed"],
        newly_clear=old.newly_clear + moves["listed", "clear"],
    )


def _fold(news: Sequence[Answered], first: int) -> _Said:
    """`first`: the index of the first of these consultations among all."""
    words = sorted(
        (each.consultation.submitted_at, listed, at)
        for at, each in enumerate(news)
        for listed in (False, True)
    )
    place = {(at, listed): np.uint64(here) for here, (_, listed, at) in enumerate(words)}
    # One sort of numbers with the place of what was said of them in the order of who wins.
    keys = np.concatenate(
        [
            (each.numbers << _PLACE) + np.where(each.listed, place[at, True], place[at, False])
            for at, each in enumerate(news)
        ]
    )
    keys.sort()
    numbers = keys >> _PLACE
    last = np.append(numbers[1:] != numbers[:-1], np.True_)
    winner = (keys & np.uint64((1 << int(_PLACE)) - 1)).astype(np.int64)
    newest_listed = _newest_listed(winner, last, np.array([listed for _, listed, _ in words]))
    code = winner[last] * (len(words) + 1) + newest_listed
    found = np.flatnonzero(np.bincount(code))
    row = np.zeros(len(words) * (len(words) + 1), np.int64)
    row[found] = np.arange(len(found))
    states = [_state(words, first, *divmod(each, len(words) + 1)) for each in found.tolist()]
    return _Said(numbers[last], row[code], states)


def _newest_listed(said: Cells, last: Mask, listed: Mask) -> Cells:
    """Per number one more than the place of the newest word that lists it, or 0."""
    if not len(said):
        return said
    starts = np.append(0, np.flatnonzero(last)[:-1] + 1)
    newest: Cells = np.maximum.reduceat(np.where(listed[said], said + 1, 0), starts)
    return newest


def _state(words: list[tuple[int, bool, int]], first: int, winner: int, listing: int) -> State:
    _, listed, at = words[winner]
    return State(
        answer="listed" if listed else "clear",
        consultation=first + at,
        listed_at=words[listing - 1][0] if listing else 0,
    )


def _cells(old: Merged, said: _Said) -> tuple[Numbers, Cells]:
    """All numbers, sorted, and each one's cell: its old tag (or one more than there are), by one more than the place of
    what is said of it (or 0)."""
    union = distinct(np.concatenate((old.numbers, said.numbers)))
    cell = np.full(len(union), len(old.contents.states), np.int64)
    cell[np.searchsorted(union, old.numbers)] = old.tags
    cell *= 1 + len(said.states)
    cell[np.searchsorted(union, said.numbers)] += 1 + said.at
    return union, cell


def _decide(past: State | None, said: State | None, consultations: tuple[Consultation, ...]) -> State:
    if said is None:
        assert past is not None, "a number comes from the old set or from the new"
        return past
    if past is None:
        return said
    listed_at = max(said.listed_at, past.listed_at)
    if _rank(said, consultations) > _rank(past, consultations):
        return msgspec.structs.replace(said, listed_at=listed_at)
    return msgspec.structs.replace(past, listed_at=listed_at)


def _rank(state: State, consultations: tuple[Consultation, ...]) -> tuple[int, bool]:
    return consultations[state.consultation].submitted_at, state.answer == "listed"
