"""Data read from the store during a commit are used only if the commit cannot have changed them."""

import pytest

from dialgate.core.model import Call
from dialgate.crypto.keys import nonces
from dialgate.gate.batch import Batch
from dialgate.gate.facts import Gatherer
from dialgate.gate.overlap import Overlap
from dialgate.gate.question import BatchQuery
from tests.support import world
from tests.support.world import CALLER, CLEAR, LISTED, NOW

FIRST = 7  # the log's next sequence when the first batch is decided


class Calls:
    """Queries and batches for the calls of one client."""

    def __init__(self, gatherer: Gatherer) -> None:
        self._gatherer = gatherer
        (self._client,) = gatherer.config.settings.clients

    def inquiry(self, to: str, call_id: str = "") -> BatchQuery:
        call = Call(to=to, from_=CALLER, campaign="acme-fibre", call_id=call_id)
        return self._gatherer.query(NOW, NOW, [self._gatherer.read(call, self._client)])

    def batch(self, to: str, call_id: str = "", first: int = FIRST) -> Batch:
        query = self.inquiry(to, call_id)
        batch = Batch(query, first, nonces(), {}, {})
        for question in query.questions:
            batch.add(question, (), None)
        return batch


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    return Calls(world.open_gatherer(tmp_path_factory.mktemp("overlap")))


def test_a_batch_concerns_the_numbers_that_it_allowed_and_the_questions_that_it_answered(
    calls: Calls,
) -> None:
    allowed, denied = calls.batch(CLEAR, "a"), calls.batch(LISTED, "a")
    assert [answer.decision for batch in (allowed, denied) for answer in batch.answers] == ["allow", "deny"]
    assert allowed.concerns(calls.inquiry(CLEAR, "b"))
    assert allowed.concerns(calls.inquiry(CLEAR, "a"))
    assert not allowed.concerns(calls.inquiry(LISTED, "a"))
    assert denied.concerns(calls.inquiry(LISTED, "a"))
    assert not denied.concerns(calls.inquiry(LISTED, "b"))
    assert not calls.batch(LISTED).concerns(calls.inquiry(LISTED))


def test_a_batch_has_the_log_positions_before_and_after_it(calls: Calls) -> None:
    batch = calls.batch(CLEAR)
    assert (batch.position.first, batch.position.seq) == (FIRST, FIRST + 1)  # the grounds, and the decision
    assert batch.before.seq == FIRST - 1
    assert batch.before.log == batch.position.log


def test_without_a_commit_a_reading_is_valid_until_something_is_recorded(calls: Calls) -> None:
    overlap, inquiry = Overlap(), calls.inquiry(CLEAR)
    assert overlap.may_use(overlap.mark(FIRST), inquiry, FIRST)
    assert not overlap.may_use(overlap.mark(FIRST), inquiry, FIRST + 1)


def test_a_reading_during_a_commit_is_used_once_the_batch_is_logged_and_unrelated(
    calls: Calls,
) -> None:
    overlap, batch = Overlap(), calls.batch(CLEAR)
    ends = batch.position.seq + 1
    before = overlap.mark(FIRST)
    overlap.begin(batch)
    during = overlap.mark(FIRST)
    other, same = calls.inquiry(LISTED), calls.inquiry(CLEAR)
    assert not overlap.may_use(during, other, FIRST), "its commit is not finished"
    overlap.complete(batch)
    assert not overlap.may_use(before, other, ends), "it was begun after the reading"
    assert overlap.may_use(during, other, ends)
    assert not overlap.may_use(during, same, ends)
    assert not overlap.may_use(during, other, ends + 1), "something else was recorded too"
    after = overlap.mark(ends)
    assert overlap.may_use(after, same, ends)
    assert not overlap.may_use(after, other, ends + 1)


def test_after_a_refused_commit_no_earlier_reading_is_used(calls: Calls) -> None:
    overlap, batch, other = Overlap(), calls.batch(CLEAR), calls.inquiry(LISTED)
    overlap.begin(batch)
    during = overlap.mark(FIRST)
    overlap.forget()
    overlap.complete(batch)
    assert not overlap.may_use(during, other, batch.position.seq + 1)
    assert overlap.may_use(overlap.mark(FIRST), other, FIRST)


def test_after_a_commit_that_failed_no_earlier_reading_is_used(calls: Calls) -> None:
    """The store may or may not contain the writes of that commit."""
    overlap, batch, other = Overlap(), calls.batch(CLEAR), calls.inquiry(LISTED)
    overlap.begin(batch)
    overlap.complete(batch)
    ends = batch.position.seq + 1
    after = overlap.mark(ends)
    overlap.begin(calls.batch(LISTED, "a", ends))
    assert not overlap.may_use(after, other, ends)


def test_a_batch_without_writes_does_not_complete_another(calls: Calls) -> None:
    overlap, batch, nothing = Overlap(), calls.batch(CLEAR), calls.batch(LISTED)
    overlap.begin(batch)
    during = overlap.mark(FIRST)
    overlap.complete(nothing)
    assert not overlap.may_use(during, calls.inquiry(LISTED), batch.position.seq + 1)
