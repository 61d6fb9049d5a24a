"""Merging gives each number the answer from its newest consultation.

The order of the consultations and the size of the groups make no difference.
"""

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dialgate.core.model import Block
from dialgate.lists.manifest import read_manifest
from dialgate.lists.snapshot import Consultation, Snapshot
from registry_sync import publication
from registry_sync.answer_merge import (
    AnsweredConsultation,
    PublishedAnswers,
    count_changes,
    merge,
)
from registry_sync.publication import PublishTarget, empty_answers
from registry_sync.query_schedule import Terms, select_due, select_expiring

Batch = tuple[int, dict[int, bool]]
BATCHES: st.SearchStrategy[list[Batch]] = st.lists(
    st.tuples(st.integers(1, 4), st.dictionaries(st.integers(1, 8), st.booleans(), min_size=1)), max_size=6
)


def make_answer(place: int, batch: Batch) -> AnsweredConsultation:
    at, statuses = batch
    consultation = Consultation(
        id=f"c{place}", submitted_at=at, answered_at=0, imported_at=0, receipt=f"r{place}", request_sha256="",
        answer_sha256="", lines=0, listed=0, clear=0,
    )  # fmt: skip
    numbers = np.array(sorted(statuses), np.uint64)
    return AnsweredConsultation(
        consultation, numbers, np.array([statuses[number] for number in sorted(statuses)])
    )


def flatten(current: PublishedAnswers) -> dict[int, tuple[bool, int, int]]:
    """Return, for each number, whether it is listed, and the instants of its consultation and of its last listing."""
    contents = current.contents
    states = [
        (state.answer == "listed", contents.consultations[state.consultation].submitted_at, state.listed_at)
        for state in contents.states
    ]
    return {number: states[tag] for number, tag in zip(current.numbers.tolist(), current.tags, strict=True)}


def compute_expected(batches: Sequence[Batch]) -> dict[int, tuple[bool, int, int]]:
    result: dict[int, tuple[bool, int, int]] = {}
    for number in {number for _, statuses in batches for number in statuses}:
        answers = [(at, statuses[number]) for at, statuses in batches if number in statuses]
        at, is_listed = max(answers)
        result[number] = is_listed, at, max((at for at, listed in answers if listed), default=0)
    return result


def merge_batches(batches: Sequence[Batch], groups: int) -> PublishedAnswers:
    current = empty_answers("rpo", "acme")
    news = [make_answer(place, batch) for place, batch in enumerate(batches)]
    for begin in range(0, len(news), groups):
        current, _ = merge(current, news[begin : begin + groups])
    return current


@given(BATCHES, st.integers(1, 6))
def test_newest_consultation_wins_and_listed_if_the_instants_are_equal(
    batches: list[Batch], groups: int
) -> None:
    current = merge_batches(batches, groups)
    assert flatten(current) == compute_expected(batches)
    assert len(current.contents.consultations) == len(batches)
    assert sorted({int(tag) for tag in current.tags}) == [*range(len(current.contents.states))]


@given(BATCHES, st.dictionaries(st.integers(1, 8), st.booleans(), min_size=1), st.integers(1, 4))
def test_changes_are_counted_correctly_before_a_merge(
    batches: list[Batch], statuses: dict[int, bool], at: int
) -> None:
    old = merge_batches(batches, 6)
    before, after = compute_expected(batches), compute_expected([*batches, (at, statuses)])
    known, newly_listed, newly_clear = count_changes(old, make_answer(9, (at, statuses)))
    known_before = [number for number in statuses if number in before]
    assert known == len(known_before)
    assert newly_listed == sum(after[number][0] and not before[number][0] for number in known_before)
    # With equal instants *listed* wins; a new *clear* does not change the answer but is still counted.
    assert newly_clear >= sum(before[number][0] and not after[number][0] for number in known_before)


def test_hundreds_of_consultations_are_merged() -> None:
    batches = [(at % 7, {1: at % 3 == 0, at: True}) for at in range(2, 551)]
    assert flatten(merge_batches(batches, 10_000)) == compute_expected(batches)


@given(BATCHES, st.sets(st.integers(1, 8)), st.sets(st.integers(1, 8)), st.integers(0, 12))
def test_numbers_without_a_lasting_answer_are_due(
    batches: list[Batch], wanted: set[int], pending: set[int], now: int
) -> None:
    """The most urgent numbers come first and listed numbers last. Pending numbers are left out."""
    terms = Terms(validity=6, look_ahead=2, listed_again=5)
    known = merge_batches(batches, 6)
    numbers, waiting = (np.array(sorted(some), np.uint64) for some in (wanted, pending))
    result = select_due(numbers, waiting, known, terms, now).tolist()
    rank = {}
    for number in wanted - pending:
        listed, at, _ = flatten(known).get(number, (False, -100, 0))
        if at + (5 if listed else 4) <= now:
            rank[number] = (listed, at)
    assert sorted(result) == sorted(rank)
    assert [rank[number] for number in result] == sorted(rank.values())
    expiring = [
        n
        for n in wanted
        if not flatten(known).get(n, (0, 0, 0))[0] and flatten(known).get(n, (0, -6, 0))[1] + 6 < now
    ]
    assert select_expiring(numbers, known, terms, now).tolist() == sorted(expiring)


def test_a_listing_keeps_the_calls_that_it_bars_until_a_newer_answer() -> None:
    blocks = (Block(categories=("banking",)),)
    current = merge_batches([(1, {1: True, 2: True})], 1)
    states = tuple(replace(state, blocks=blocks, since=7) for state in current.contents.states)
    current = current._replace(contents=replace(current.contents, states=states))
    current, _ = merge(current, [make_answer(1, (2, {2: True}))])
    tag_of = dict(zip(current.numbers.tolist(), current.tags.tolist(), strict=True))
    found = [current.contents.states[tag_of[number]] for number in (1, 2)]
    assert [(state.blocks, state.since) for state in found] == [(blocks, 7), ((), 0)]


FEW_ANSWERS = st.tuples(
    st.integers(1, 4), st.dictionaries(st.integers(1, 330), st.booleans(), min_size=1, max_size=3)
)


@given(st.lists(FEW_ANSWERS, min_size=1, max_size=6), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_few_answers_are_published_above_the_others(
    tmp_path_factory: pytest.TempPathFactory, batches: list[Batch], first_at: int
) -> None:
    """Gates and later merges see what one file with all answers would have, and a file with many answers stays as it is."""
    target = PublishTarget(folder=tmp_path_factory.mktemp("snapshots"))
    numbers = range(1, 321)
    batches = [(first_at, {number: number % 3 == 0 for number in numbers}), *batches]
    files = []
    for place, batch in enumerate(batches):
        new = make_answer(place, batch)
        old = publication.read_current(target.folder, "rpo", "acme", above=new.numbers)
        merged, counts = merge(old, [new])
        whole = merge_batches(batches[:place], 1)
        assert counts == merge(whole, [new])[1]
        assert count_changes(old, new) == count_changes(whole, new)
        (entry,) = publication.publish_answers(target, merged, place).files
        files.append(entry.base or entry.file)
        expected = compute_expected(batches[: place + 1])
        assert flatten(publication.read_current(target.folder, "rpo", "acme")) == expected
        assert entry.numbers == merged.total() == len(expected)
        with closing(Snapshot.open(target.folder)) as snapshot:
            snapshot.verify()
            answers = {number: snapshot.answer("rpo", "acme", number) for number in range(1, 332)}
            reader = snapshot.answers_for("rpo", "acme")
            places = reader.places(np.arange(1, 332, dtype=np.uint64))
            assert [reader.answers[place] for place in places.tolist()] == list(answers.values())
        assert {
            number: (answer.answer == "listed", answer.consulted_at)
            for number, answer in answers.items()
            if answer.answer != "unknown"
        } == {number: (listed, at) for number, (listed, at, _) in expected.items()}
    changed = {number for _, statuses in batches[1:] for number in statuses}
    few = len(changed) * publication.SHARE <= len(numbers)
    assert not few or set(files) == {files[0]}
    assert verify_entries(target) == read_manifest(target.folder).version


def verify_entries(target: PublishTarget) -> str:
    """Publish the current manifest again, which verifies every byte of its files, and return its version."""
    return publication.republish(target, read_manifest(target.folder), 9).version
