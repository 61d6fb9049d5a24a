"""Tests of batches: deciding equal facts only once must not change any answer."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import structs

from dialgate.config.clients import Client
from dialgate.core.decision import decide
from dialgate.core.model import (
    MINUTE,
    Attempt,
    Call,
    CallRequest,
    Consent,
    Decided,
    Grounds,
    Known,
    Revocation,
)
from dialgate.core.responses import Answer
from dialgate.crypto.keys import nonces
from dialgate.decision_log.records import Reader, decode, joined
from dialgate.gate.batch import REMEMBERED, Batch, Verdict
from dialgate.gate.facts import Gatherer, Question
from tests.support import world
from tests.support.world import CALLER, CLEAR, LISTED, NOW

NUMBERS = (CLEAR, LISTED, "+393331234567", "112", "+33123456789", "nonsense", "0612345678")
CAMPAIGNS = ("acme-fibre", "no-such")
KNOWN = (
    Known(),
    Known(revocations=(Revocation(seq=1, at=1, scope="controller"),)),
    Known(
        consents=(
            Consent(id="c", collected_at=NOW - 1, purposes=("sale",), call_types=("agent",), proved=True),
        )
    ),
    Known(attempts=tuple(Attempt(decision=f"x-{n}", at=NOW - n, campaign="acme-fibre") for n in range(5))),
)


def questions(gatherer: Gatherer, client: Client, seed: int) -> Iterator[tuple[Question, list[Known]]]:
    """Return a call for a seed. An odd seed differs from the even one before it only in the ledger state."""
    draw = random.Random(seed)
    shared = Known()
    numbers, campaigns = (NUMBERS, CAMPAIGNS) if seed % 2 == 0 else (NUMBERS[:1], CAMPAIGNS[:1])
    for _ in range(200):
        call = Call(
            to=draw.choice(numbers),
            from_=draw.choice((CALLER, "anonymous", "0612345678") if seed % 2 == 0 else (CALLER,)),
            campaign=draw.choice(campaigns),
            call_type=draw.choice((None, "agent", "automated")) if seed % 2 == 0 else None,
            client=client.name,
            interface="test",
        )
        question = gatherer.read(call, client)
        # New objects each time: a reused id of a deleted object would match an earlier verdict.
        known = structs.replace(draw.choice(KNOWN), seq=draw.randrange(3))
        yield question, ([known, draw.choice((shared, known))] if question.subjects else [])


def said(answer: Answer) -> Answer:
    return structs.replace(answer, decision_id="")


nothing: Any = None


async def test_each_call_of_a_batch_gets_the_answer_that_it_gets_alone(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        await world.load_list(running)
        gatherer, client = running.app.gate._gatherer, running.app.config.settings.clients[0]
        judged: dict[tuple[object, ...], Verdict] = {}
        for seed in range(12):
            now = NOW + seed * 53 * MINUTE  # from 10:00 until after the permitted hours
            gatherer.prepare(now)
            # So that the cache of verdicts is cleared in the middle of a batch.
            judged.update(
                {
                    (seed, n): Verdict((), nothing, nothing, b"", 0)
                    for n in range(REMEMBERED - len(judged) - 9)
                }
            )
            together = Batch(gatherer, now, 1, nonces(), {}, judged)
            alone = []
            for question, known in questions(gatherer, client, seed):
                reserved = together._attempts.get(question.subjects[0], []) if question.subjects else []
                one = Batch(gatherer, now, 1, nonces(), {}, {})
                if reserved:
                    one._attempts[question.subjects[0]] = list(reserved)
                one.add(question, known, None)
                together.add(question, known, None)
                alone.append(said(one.answers[0]))
            assert [said(answer) for answer in together.answers] == alone
            entries = {entry.seq: entry for entry in map(decode, together.bodies)}
            assert list(entries) == list(range(1, 1 + len(entries))), (
                "each is numbered by its place in the log"
            )
            decided = [entry for entry in entries.values() if isinstance(entry, Decided)]
            for each, answer in zip(decided, together.answers, strict=True):
                grounds = entries[each.grounds]
                assert isinstance(grounds, Grounds)
                assert each.grounds < each.seq
                record = joined(each, grounds)
                assert decide(record.facts, gatherer.config.laws[record.country]) == record.decision
                assert (record.decision.allow, record.id) == (answer.decision == "allow", answer.decision_id)


async def test_a_cached_denial_ends_when_a_future_call_request_begins(tmp_path: Path) -> None:
    """Use the same objects as before, because verdicts are cached by identity."""
    async with world.running(tmp_path) as running:
        gatherer, client = running.app.gate._gatherer, running.app.config.settings.clients[0]
        call = Call(to=LISTED, from_=CALLER, campaign="acme-fibre", client=client.name)
        question = gatherer.read(call, client)
        begins = NOW + MINUTE
        ahead = CallRequest(id="r", requested_at=begins, expires_at=begins + MINUTE, goods="broadband")
        assert question.line.campaign.goods == ahead.goods
        known = [Known(requests=(ahead,)), Known()]
        judged: dict[tuple[object, ...], Verdict] = {}

        def decided(at: int) -> str:
            batch = Batch(gatherer, at, 1, nonces(), {}, judged)
            batch.add(question, known, None)
            return batch.answers[0].decision

        instants = (NOW, begins - 1, begins, begins + MINUTE - 1, begins + MINUTE)
        assert [decided(at) for at in instants] == ["deny", "deny", "allow", "allow", "deny"]
        assert len(judged) == 1, "all five were asked of the same objects"


async def test_grounds_are_written_once_per_segment(tmp_path: Path) -> None:
    async with world.running(tmp_path, log_segment_mb=1) as running:
        await world.load_list(running)
        client = running.app.config.settings.clients[0]
        asked = 0
        while len(list((tmp_path / "data/log").glob("*.ndjson"))) < 3:
            calls = [
                Call(to=CLEAR, from_=CALLER, campaign="no-such", call_id=str(asked + n), client=client.name)
                for n in range(500)
            ]
            await asyncio.gather(*(running.app.gate.check(call, client) for call in calls))
            asked += len(calls)
        for path in sorted((tmp_path / "data/log").glob("*.ndjson")):
            bodies = [decode(line[83:-2]) for line in path.read_bytes().splitlines(keepends=True)[1:]]
            written = [entry.seq for entry in bodies if isinstance(entry, Grounds)]
            named = {entry.grounds for entry in bodies if isinstance(entry, Decided)}
            assert len(written) == len(named) == 1
            assert set(written) == named
        records = [record for _, record in Reader(tmp_path / "data/log").entries()]
        assert len(records) == asked
