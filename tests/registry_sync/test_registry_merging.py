"""Whatever consultations come in whatever order and grouping, each number has the answer that plain reckoning gives it."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dialgate.lists.snapshot import Consultation
from registry_sync.answer_merge import AT_ONCE, Answered, Current, changes, merge
from registry_sync.publication import no_answers
from registry_sync.query_schedule import Terms, due, ending

Saying = tuple[int, dict[int, bool]]
SAYINGS: st.SearchStrategy[list[Saying]] = st.lists(
    st.tuples(st.integers(1, 4), st.dictionaries(st.integers(1, 8), st.booleans(), min_size=1)), max_size=6
)


def answered(place: int, saying: Saying) -> Answered:
    at, said = saying
    consultation = Consultation(
        id=f"c{place}", submitted_at=at, answered_at=0, imported_at=0, receipt=f"r{place}", request_sha256="",
        answer_sha256="", lines=0, listed=0, clear=0,
    )  # fmt: skip
    numbers = np.array(sorted(said), np.uint64)
    return Answered(consultation, numbers, np.array([said[number] for number in sorted(said)]))


def told(current: Current) -> dict[int, tuple[bool, int, int]]:
    """Listed or not, by a consultation of when, and when last listed."""
    contents = current.contents
    states = [
        (state.answer == "listed", contents.consultations[state.consultation].submitted_at, state.listed_at)
        for state in contents.states
    ]
    return {number: states[tag] for number, tag in zip(current.numbers.tolist(), current.tags, strict=True)}


def reckoned(sayings: Sequence[Saying]) -> dict[int, tuple[bool, int, int]]:
    found: dict[int, tuple[bool, int, int]] = {}
    for number in {number for _, said in sayings for number in said}:
        words = [(at, said[number]) for at, said in sayings if number in said]
        at, listed = max(words)
        found[number] = listed, at, max((at for at, each in words if each), default=0)
    return found


def merged(sayings: Sequence[Saying], groups: int) -> Current:
    current = no_answers("rpo", "acme")
    news = [answered(place, saying) for place, saying in enumerate(sayings)]
    for begin in range(0, len(news), groups):
        current = Current(*merge(current, news[begin : begin + groups])[:3])
    return current


@given(SAYINGS, st.integers(1, 6))
def test_the_newest_consultation_wins_and_listed_of_two_at_one_instant(
    sayings: list[Saying], groups: int
) -> None:
    current = merged(sayings, groups)
    assert told(current) == reckoned(sayings)
    assert len(current.contents.consultations) == len(sayings)
    assert sorted({int(tag) for tag in current.tags}) == [*range(len(current.contents.states))]


@given(SAYINGS, st.dictionaries(st.integers(1, 8), st.booleans(), min_size=1), st.integers(1, 4))
def test_what_turns_is_counted_before_anything_is_merged(
    sayings: list[Saying], said: dict[int, bool], at: int
) -> None:
    old = merged(sayings, 6)
    before, after = reckoned(sayings), reckoned([*sayings, (at, said)])
    known, newly_listed, newly_clear = changes(old, answered(9, (at, said)))
    asked = [number for number in said if number in before]
    assert known == len(asked)
    assert newly_listed == sum(after[number][0] and not before[number][0] for number in asked)
    # Of two at one instant *listed* stands; that the other said *clear* is a change all the same, and counts.
    assert newly_clear >= sum(before[number][0] and not after[number][0] for number in asked)


def test_more_consultations_than_are_folded_at_once_are_folded_in_turn() -> None:
    sayings = [(at % 7, {1: at % 3 == 0, at: True}) for at in range(2, AT_ONCE + 40)]
    assert told(merged(sayings, 10_000)) == reckoned(sayings)


@given(SAYINGS, st.sets(st.integers(1, 8)), st.sets(st.integers(1, 8)), st.integers(0, 12))
def test_due_is_what_has_no_answer_or_one_that_ends_too_soon(
    sayings: list[Saying], wanted: set[int], pending: set[int], now: int
) -> None:
    """The most pressing first, those who are listed last; nobody who is being asked about."""
    terms = Terms(validity=6, look_ahead=2, listed_again=5)
    known = merged(sayings, 6)
    numbers, waiting = (np.array(sorted(some), np.uint64) for some in (wanted, pending))
    found = due(numbers, waiting, known, terms, now).tolist()
    rank = {}
    for number in wanted - pending:
        listed, at, _ = told(known).get(number, (False, -100, 0))
        if at + (5 if listed else 4) <= now:
            rank[number] = (listed, at)
    assert sorted(found) == sorted(rank)
    assert [rank[number] for number in found] == sorted(rank.values())
    unheld = [
        n
        for n in wanted
        if not told(known).get(n, (0, 0, 0))[0] and told(known).get(n, (0, -6, 0))[1] + 6 < now
    ]
    assert ending(numbers, known, terms, now).tolist() == sorted(unheld)
