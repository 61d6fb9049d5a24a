"""Tests of batches: what is answered, recorded and reserved for each call, and that caching changes none of it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from dialgate.config.clients import Client
from dialgate.core import local_time
from dialgate.core.decision import decide
from dialgate.core.model import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Attempt,
    Call,
    CallRequest,
    Consent,
    Decided,
    Grounds,
    Known,
    OwnGrounds,
    Result,
    Revocation,
)
from dialgate.core.responses import Answer
from dialgate.crypto.nonces import nonces
from dialgate.decision_log.records import build_record, decode
from dialgate.gate.batch import REMEMBERED, REPEATED, Batch, CallVerdict, decide_all
from dialgate.gate.facts import Gatherer
from dialgate.gate.question import BatchQuery, CallTerms, Question
from dialgate.store import AttemptPosition, Reading, Remembered
from tests.support import world, yaml_files
from tests.support.world import CALLER, CLEAR, LISTED, NOW

NUMBERS = (CLEAR, LISTED, "+393331234567", "112", "+33123456789", "nonsense", "0612345678")
CAMPAIGNS = ("acme-fibre", "no-such")
STRANGER = "+390612345670"  # a caller ID that is assigned to no campaign
REVOKED = Known(seq=4711, revocations=(Revocation(seq=4711, at=1, scope="controller"),))
KNOWN = (
    Known(),
    Known(revocations=(Revocation(seq=1, at=1, scope="controller"),)),
    Known(
        consents=(
            Consent(
                id="c",
                collected_at=NOW - 1,
                purposes=("sale",),
                goods=("broadband",),
                call_types=("agent",),
                proved=True,
            ),
        )
    ),
    Known(attempts=tuple(Attempt(decision=f"x-{n}", at=NOW - n, campaign="acme-fibre") for n in range(5))),
)
VALID_UNTIL = NOW + 900 * SECOND


@pytest.fixture(scope="module")
def gatherer(tmp_path_factory: pytest.TempPathFactory) -> Gatherer:
    return world.open_gatherer(tmp_path_factory.mktemp("batch"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Gatherer:
    """Return a gatherer for two controllers. The client belongs only to the first."""
    return world.open_gatherer(tmp_path_factory.mktemp("shared"), add_controller)


def add_controller(folder: Path) -> None:
    path = folder / "controllers/acme.yaml"
    text = yaml_files.read(path)
    campaign = text["campaigns"][0] | {"id": "beta-fibre", "caller_ids": ["+390844123457"]}
    yaml_files.write(folder / "controllers/beta.yaml", text | {"id": "beta", "campaigns": [campaign]})


def call(to: str = CLEAR, **changes: Any) -> Call:
    call = Call(to=to, from_=CALLER, campaign="acme-fibre")
    return structs.replace(call, **changes)


def query_of(gatherer: Gatherer, calls: Sequence[Call], at: int = NOW) -> BatchQuery:
    (client,) = gatherer.config.settings.clients
    return gatherer.query(at, at - DAY, [gatherer.read(call, client, "http") for call in calls])


def decide_calls(  # noqa: PLR0913 - all but the calls have defaults
    gatherer: Gatherer,
    *calls: Call,
    at: int = NOW,
    known: Known | None = None,
    answers: Sequence[Remembered | None] = (),
    first: int = 1,
    log_grounds: Mapping[bytes, int] | None = None,
    verdicts: dict[tuple[object, ...], CallVerdict] | None = None,
) -> Batch:
    """Decide calls. `known` is the stored state of every called number for the controller."""
    query = query_of(gatherer, calls, at)
    states = [known or Known(), Known(seq=known.seq if known else 0)] * (len(query.subjects) // 2)
    reading = Reading(query.subjects, states, answers or [None] * len(query.keys))
    verdicts = {} if verdicts is None else verdicts
    return decide_all(query, reading, first, nonces(), log_grounds or {}, verdicts)


def records(batch: Batch) -> tuple[list[Decided], list[Grounds]]:
    entries = [decode(body) for body in batch.bodies]
    return (
        [entry for entry in entries if isinstance(entry, Decided)],
        [entry for entry in entries if isinstance(entry, Grounds)],
    )


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_each_answer_has_its_code_and_campaign_label(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call(), call(LISTED), call(campaign="no-such"), call("nonsense"))
    assert batch.codes == ["", "registry.listed", "campaign.unknown", "number.invalid"]
    assert [answer.reasons[0].code if answer.reasons else "" for answer in batch.answers] == batch.codes
    assert batch.campaigns == ["acme-fibre", "acme-fibre", "other", "acme-fibre"]


def test_an_answer_names_the_numbers_that_were_checked_and_ends_in_time(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call("06 12345678"), call("0612345678", from_="0844 123456"))
    for answer in batch.answers:
        assert (answer.decision, answer.to, answer.from_) == ("allow", CLEAR, CALLER)
        assert answer.valid_until == local_time.rfc3339(VALID_UNTIL)
    assert [answer.decision_id for answer in batch.answers] == batch.names
    assert batch.public_answers() == batch.answers


def test_clients_of_a_shared_gate_see_no_sequence(shared: Gatherer) -> None:
    batch = decide_calls(shared, call(), call(campaign="beta-fibre"), known=REVOKED)
    revoked, unknown = batch.public_answers()
    assert [answer.decision_id for answer in batch.answers] == batch.names
    inside = shared.keys.ids.inside
    for answer, name, owner in (
        (revoked, batch.names[0], "acme"),
        (unknown, batch.names[1], "client tests"),
    ):
        assert answer.decision_id != name
        assert (inside(answer.decision_id, [owner]), inside(answer.decision_id, ["beta"])) == (name, "")
    assert "(entry 4711)" in batch.answers[0].reasons[0].text
    assert "(entry 4711)" not in revoked.reasons[0].text
    assert structs.replace(revoked, decision_id="", reasons=[]) == structs.replace(
        batch.answers[0], decision_id="", reasons=[]
    )


# ---- repeated questions ----------------------------------------------------------------------------------------------


def earlier(gatherer: Gatherer, to: str = CLEAR, known: Known | None = None) -> tuple[Answer, Remembered]:
    """Return an answer to `call(to, call_id="a")`, decided at `NOW`, and its stored form."""
    batch = decide_calls(gatherer, call(to, call_id="a"), known=known, first=100)
    return batch.answers[0], batch.remembered[0]


@pytest.mark.parametrize(
    ("at", "own", "other", "is_repeated"),
    [
        (NOW, "pending", "pending", True),
        (NOW, "pending", "answered", True),
        (NOW, "no_answer", "pending", False),
        (VALID_UNTIL - 1, "pending", "pending", True),
        (VALID_UNTIL, "pending", "pending", False),
    ],
)
def test_an_allow_is_repeated_while_it_is_valid_and_no_outcome_of_it_was_reported(
    gatherer: Gatherer, at: int, own: Result, other: Result, is_repeated: bool
) -> None:
    answer, remembered = earlier(gatherer)
    attempts = [
        Attempt(decision=name, at=NOW, campaign="acme-fibre", result=result)
        for name, result in (("x-1", other), (answer.decision_id, own))
    ]
    known = Known(attempts=tuple(attempts))
    batch = decide_calls(gatherer, call(call_id="a"), at=at, known=known, answers=[remembered])
    assert (batch.answers[0] == answer, batch.codes == [REPEATED]) == (is_repeated, is_repeated)
    assert batch.answers[0].decision == "allow"
    written = batch.bodies, batch.names, batch.reservations, batch.remembered
    assert [bool(values) for values in written] == [not is_repeated] * 4
    assert len(batch.campaigns) == 1


def test_an_allow_is_repeated_although_its_own_attempt_was_the_last_permitted_one(gatherer: Gatherer) -> None:
    answer, remembered = earlier(gatherer)
    others = [Attempt(decision=f"x-{n}", at=NOW - n, campaign="acme-fibre") for n in range(4)]
    own = Attempt(decision=answer.decision_id, at=NOW, campaign="acme-fibre")
    for attempts, code in (((*others, own), REPEATED), ((*others, others[0], own), "frequency.exceeded")):
        known = Known(attempts=attempts)
        batch = decide_calls(gatherer, call(call_id="a"), known=known, answers=[remembered])
        assert batch.codes == [code]


def test_an_allow_is_not_repeated_after_a_revocation(gatherer: Gatherer) -> None:
    _, remembered = earlier(gatherer)
    batch = decide_calls(gatherer, call(call_id="a"), known=REVOKED, answers=[remembered])
    assert batch.codes == ["revocation.revoked"]
    assert records(batch)[0][0].id == batch.answers[0].decision_id == f"{gatherer.keys.log}-2"


def test_a_deny_is_repeated_even_if_the_call_would_be_allowed_now(gatherer: Gatherer) -> None:
    answer, remembered = earlier(gatherer, known=REVOKED)
    batch = decide_calls(gatherer, call(call_id="a"), at=NOW + HOUR, answers=[remembered])
    assert (batch.answers, batch.codes, batch.bodies) == ([answer], [REPEATED], [])
    assert answer.decision == "deny"


def test_a_question_is_answered_once_in_a_batch(gatherer: Gatherer) -> None:
    for to in (CLEAR, LISTED):
        batch = decide_calls(gatherer, call(to, call_id="a"), call(to, call_id="a"))
        assert batch.answers[0] == batch.answers[1]
        assert batch.codes[1] == REPEATED
        assert len(batch.names) == len(batch.remembered) == 1


def test_the_answer_of_the_batch_precedes_an_older_one(gatherer: Gatherer) -> None:
    _, remembered = earlier(gatherer)
    again = [call(call_id="a")] * 2
    batch = decide_calls(gatherer, *again, at=VALID_UNTIL, answers=[remembered] * 2)
    assert batch.answers[0] == batch.answers[1]
    assert batch.answers[0].decision_id == batch.names[0]


def test_calls_without_an_id_are_never_repeated(gatherer: Gatherer) -> None:
    query = query_of(gatherer, [call(), call(call_id="a"), call()])
    assert query.keys == [query.questions[1].key]
    _, remembered = earlier(gatherer)
    batch = decide_calls(gatherer, call(), call(call_id="a"), call(), answers=[remembered])
    assert batch.codes == ["", REPEATED, ""]
    assert not batch.remembered


def test_a_question_is_remembered_with_its_answer(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call(call_id="a"), call(LISTED, call_id="b"))
    keys = query_of(gatherer, [call(call_id="a"), call(LISTED, call_id="b")]).keys
    assert [(answer.key, answer.at, answer.decision) for answer in batch.remembered] == [
        (key, NOW, name) for key, name in zip(keys, batch.names, strict=True)
    ]


# ---- attempts --------------------------------------------------------------------------------------------------------


def test_a_call_counts_the_attempts_of_earlier_calls_of_its_batch(gatherer: Gatherer) -> None:
    attempts = [Attempt(decision=f"x-{n}", at=NOW - n, campaign="acme-fibre") for n in range(3)]
    batch = decide_calls(
        gatherer, *[call()] * 3, call("+390612345677"), known=Known(attempts=tuple(attempts))
    )
    assert batch.codes == ["", "", "frequency.exceeded", "registry.unknown"]


def test_an_allow_reserves_an_attempt_that_watches_both_subjects(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call(LISTED), call())
    (reservation,) = batch.reservations
    own, everyone = query_of(gatherer, [call()]).subjects
    assert (reservation.subject, reservation.watch) == (own, (own, everyone))
    assert reservation.attempt == Attempt(
        decision=batch.names[1], at=NOW, campaign="acme-fibre", basis="directory:rome", goods="broadband"
    )


# ---- records ---------------------------------------------------------------------------------------------------------


def test_the_record_of_a_call_says_what_was_asked_and_decided(gatherer: Gatherer) -> None:
    asked = call("06 12345678", call_id=f"crm-{CLEAR[1:]}")
    batch = decide_calls(gatherer, asked, first=41)
    month, name = gatherer.keys.month(NOW), f"{gatherer.keys.log}-42"
    ((record,), _) = records(batch)
    (key,) = query_of(gatherer, [asked]).keys
    assert structs.replace(record, sealed=b"") == Decided(
        seq=42, id=name, at=NOW, number=month.pseudonym(CLEAR), sealed=b"", grounds=41, allow=True,
        client="tests", interface="http", call_id="crm-#", question=month.mask(key, name),
    )  # fmt: skip
    assert month.unseal(record.sealed) == f"{CLEAR} 06 12345678"
    assert batch.names == [name]


def test_a_number_that_cannot_be_read_is_recorded_as_received(gatherer: Gatherer) -> None:
    ((record,), _) = records(decide_calls(gatherer, call("nonsense")))
    month = gatherer.keys.month(NOW)
    assert record.number == month.pseudonym("nonsense")
    assert month.unseal(record.sealed) == "nonsense"
    assert (record.allow, record.question) == (False, b"")


def test_an_unassigned_caller_id_is_recorded_encrypted(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call(from_=STRANGER), call())
    ((stranger, own), _), month = records(batch), gatherer.keys.month(NOW)
    assert batch.answers[0].from_ == STRANGER
    assert stranger.caller == month.pseudonym(STRANGER)
    assert month.unseal(stranger.caller_sealed) == STRANGER
    assert stranger.sealed[:12] != stranger.caller_sealed[:12], "a nonce is used once"
    assert (own.caller, own.caller_sealed) == (b"", b"")


def test_grounds_name_what_the_decision_depends_on(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call(LISTED), first=7)
    _, (grounds,) = records(batch)
    config, snapshot = gatherer.config, gatherer.snapshot
    assert snapshot is not None
    assert (grounds.seq, grounds.facts.at, grounds.country) == (7, 0, "IT")
    assert (grounds.law, grounds.config) == (config.law_hash["IT"], config.hash)
    assert (grounds.snapshot, grounds.node) == (snapshot.version, config.settings.node)
    facts = structs.replace(grounds.facts, at=NOW)
    assert decide(facts, config.laws["IT"]) == grounds.decision
    assert list(batch.grounds.values()) == [7]


def test_grounds_are_recorded_unless_the_log_contains_them(gatherer: Gatherer) -> None:
    batch = decide_calls(gatherer, call(LISTED), call(LISTED), call(), first=7)
    decided, grounds = records(batch)
    assert [entry.grounds for entry in decided] == [7, 7, 10]
    assert [entry.seq for entry in grounds] == [7, 10]
    assert (batch.position, batch.before) == (
        AttemptPosition(gatherer.keys.log, 11, 7),
        AttemptPosition(gatherer.keys.log, 6),
    )
    later = decide_calls(gatherer, call(LISTED), call(), first=12, log_grounds=batch.grounds)
    decided, grounds = records(later)
    assert ([entry.grounds for entry in decided], grounds, later.grounds) == ([7, 10], [], {})
    assert later.position == AttemptPosition(gatherer.keys.log, 13, 12)


def test_grounds_before_the_first_snapshot_name_none(tmp_path: Path) -> None:
    gatherer = world.open_gatherer(tmp_path)
    gatherer._snapshot = None
    _, (grounds,) = records(decide_calls(gatherer, call()))
    assert (grounds.snapshot, grounds.decision.allow) == ("", False)


# ---- the cache of verdicts -------------------------------------------------------------------------------------------


def questions(gatherer: Gatherer, client: Client, seed: int) -> Iterator[tuple[Question, list[Known]]]:
    """Yield 200 random calls, each with its ledger states. With an odd seed, only the ledger states differ."""
    draw = random.Random(seed)
    shared = Known()
    numbers, campaigns = (NUMBERS, CAMPAIGNS) if seed % 2 == 0 else (NUMBERS[:1], CAMPAIGNS[:1])
    for _ in range(200):
        call = Call(
            to=draw.choice(numbers),
            from_=draw.choice((CALLER, "anonymous", "0612345678") if seed % 2 == 0 else (CALLER,)),
            campaign=draw.choice(campaigns),
            call_type=draw.choice((None, "agent", "automated")) if seed % 2 == 0 else None,
        )
        question = gatherer.read(call, client)
        # New objects each time: a reused id of a deleted object would match an earlier verdict.
        known = structs.replace(draw.choice(KNOWN), seq=draw.randrange(3))
        yield question, ([known, draw.choice((shared, known))] if question.subjects else [])


def said(answer: Answer) -> Answer:
    return structs.replace(answer, decision_id="")


nothing: Any = None


def test_each_call_of_a_batch_gets_the_answer_that_it_gets_alone(gatherer: Gatherer) -> None:
    client = gatherer.config.settings.clients[0]
    judged: dict[tuple[object, ...], CallVerdict] = {}
    for seed in range(12):
        now = NOW + seed * 53 * MINUTE  # from 10:00 until after the permitted hours
        gatherer.terms.prepare(now)
        # So that the cache of verdicts is cleared in the middle of a batch.
        judged.update(
            {
                (seed, n): CallVerdict((), nothing, nothing, b"", 0)
                for n in range(REMEMBERED - len(judged) - 9)
            }
        )
        together = Batch(gatherer.query(now, now, []), 1, nonces(), {}, judged)
        alone = []
        for question, known in questions(gatherer, client, seed):
            reserved = together._attempts.get(question.subjects[0], []) if question.subjects else []
            one = Batch(gatherer.query(now, now, []), 1, nonces(), {}, {})
            if reserved:
                one._attempts[question.subjects[0]] = list(reserved)
            one.add(question, known, None)
            together.add(question, known, None)
            alone.append(said(one.answers[0]))
        assert [said(answer) for answer in together.answers] == alone
        entries = {entry.seq: entry for entry in map(decode, together.bodies)}
        assert list(entries) == list(range(1, 1 + len(entries))), "each is numbered by its place in the log"
        decided = [entry for entry in entries.values() if isinstance(entry, Decided)]
        for each, answer in zip(decided, together.answers, strict=True):
            grounds = entries[each.grounds]
            assert isinstance(grounds, Grounds)
            assert each.grounds < each.seq
            record = build_record(each, grounds)
            assert decide(record.facts, gatherer.config.laws[record.country]) == record.decision
            assert (record.decision.allow, record.id) == (answer.decision == "allow", answer.decision_id)


def test_a_cached_denial_ends_when_a_future_call_request_begins(gatherer: Gatherer) -> None:
    """All decisions use the same question and ledger state, because verdicts are cached by object identity."""
    client = gatherer.config.settings.clients[0]
    question = gatherer.read(Call(to=LISTED, from_=CALLER, campaign="acme-fibre"), client)
    begins = NOW + MINUTE
    ahead = CallRequest(id="r", requested_at=begins, expires_at=begins + MINUTE, goods="broadband")
    assert question.line.campaign.goods == ahead.goods
    known = [Known(requests=(ahead,)), Known()]
    judged: dict[tuple[object, ...], CallVerdict] = {}

    def decided(at: int) -> str:
        batch = Batch(gatherer.query(at, at, []), 1, nonces(), {}, judged)
        batch.add(question, known, None)
        return batch.answers[0].decision

    instants = (NOW, begins - 1, begins, begins + MINUTE - 1, begins + MINUTE)
    assert [decided(at) for at in instants] == ["deny", "deny", "allow", "allow", "deny"]
    assert len(judged) == 1, "all five were asked of the same objects"


def test_equal_facts_are_decided_once_while_the_decision_holds(gatherer: Gatherer) -> None:
    """What is stored about the number does not count: that decision is amended for each call."""
    client = gatherer.config.settings.clients[0]
    verdicts: dict[tuple[object, ...], CallVerdict] = {}
    for to, known in ((CLEAR, Known()), (LISTED, Known()), (CLEAR, KNOWN[3])):
        question = gatherer.read(call(to), client)
        made = []
        for at in (NOW, NOW, NOW + 1):
            batch = Batch(gatherer.query(at, at, []), 1, nonces(), {}, verdicts)
            batch.add(question, [known, Known()], None)
            made.append(list(verdicts.values())[-1])
        assert made[1] is made[0]
        assert made[2] is made[0]
        assert len(verdicts) == 1 + (to == LISTED or known is KNOWN[3])


def test_a_known_number_adds_one_short_record(gatherer: Gatherer) -> None:
    """Its grounds are those of any other number, and its own attempts stand beside them."""
    (first,), (grounds,) = records(decide_calls(gatherer, call()))
    made = tuple(
        Attempt(
            decision=f"9f2c01ab-{n}",
            at=NOW - n * DAY,
            campaign="acme-fibre",
            basis=grounds.decision.basis,
            result="no_answer",
            goods="broadband",
        )
        for n in (3, 2, 1)
    )
    digest = blake2b(msgspec.json.encode(structs.replace(grounds, seq=0)), digest_size=16).digest()
    batch = decide_calls(gatherer, call(), known=Known(attempts=made), first=9, log_grounds={digest: 1})
    (decided,), none = records(batch)
    assert (decided.grounds, none) == (first.grounds, [])
    assert decided.own == OwnGrounds(attempts=tuple((each.decision, each.at, each.result) for each in made))
    record = build_record(decided, grounds)
    assert record.facts.known.attempts == made
    assert decide(record.facts, gatherer.config.laws["IT"]) == record.decision
    assert len(batch.bodies[0]) <= 500


def test_a_batch_that_began_before_a_reload_leaves_no_verdict_for_later_ones(gatherer: Gatherer) -> None:
    """The objects of a call outlive a reload of the laws."""
    verdicts: dict[tuple[object, ...], CallVerdict] = {}
    client = gatherer.config.settings.clients[0]
    question = gatherer.read(call(), client)
    for terms in (gatherer.terms, CallTerms(gatherer.config), gatherer.terms):
        query = BatchQuery([question], NOW, NOW, terms, "", gatherer.keys, gatherer.keys.month(NOW))
        Batch(query, 1, nonces(), {}, verdicts).add(question, [Known(), Known()], None)
    assert len(verdicts) == 2


def test_a_cached_allow_is_valid_from_its_own_instant(gatherer: Gatherer) -> None:
    verdicts: dict[tuple[object, ...], CallVerdict] = {}
    known = Known()
    for at in (NOW, NOW + MINUTE):
        batch = decide_calls(gatherer, call(), at=at, known=known, verdicts=verdicts)
        assert batch.answers[0].valid_until == local_time.rfc3339(at + VALID_UNTIL - NOW)


def test_the_cache_holds_at_most_4096_verdicts(gatherer: Gatherer) -> None:
    verdicts: dict[tuple[object, ...], CallVerdict] = {
        (n,): CallVerdict((), nothing, nothing, b"", 0) for n in range(4_095)
    }
    sizes = []
    for to in (CLEAR, LISTED):
        decide_calls(gatherer, call(to), verdicts=verdicts)
        sizes.append(len(verdicts))
    assert sizes == [4_096, 1]
