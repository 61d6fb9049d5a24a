"""A batch decides equal facts once; what it says must not depend on that."""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import structs

from dialgate.answers import Answer
from dialgate.batch import Batch
from dialgate.decision import decide
from dialgate.gather import Gatherer, Question
from dialgate.keys import nonces
from dialgate.model import Attempt, Call, Consent, Known, Record, Revocation
from dialgate.settings import Client
from tests import world
from tests.world import CALLER, CLEAR, LISTED, NOW

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
    """Odd seeds differ in nothing but what is known."""
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
        # Made anew each time, and dropped: an identity that came back would be taken for the one before.
        known = structs.replace(draw.choice(KNOWN), seq=draw.randrange(3))
        yield question, ([known, draw.choice((shared, known))] if question.subjects else [])


def said(answer: Answer) -> Answer:
    return structs.replace(answer, decision_id="")


async def test_each_call_of_a_batch_is_answered_as_if_it_were_alone(tmp_path: Path) -> None:
    decode = msgspec.json.Decoder(Record).decode
    async with world.running(tmp_path) as running:
        await world.load_list(running)
        gatherer, client = running.gate._gatherer, running.gate.config.settings.clients[0]
        for seed in range(10):
            together = Batch(gatherer, NOW, 1, nonces())
            alone = []
            for question, known in questions(gatherer, client, seed):
                reserved = together._attempts.get(question.subjects[0], []) if question.subjects else []
                one = Batch(gatherer, NOW, 1, nonces())
                if reserved:
                    one._attempts[question.subjects[0]] = list(reserved)
                one.add(question, known, None)
                together.add(question, known, None)
                alone.append(said(one.answers[0]))
            assert [said(answer) for answer in together.answers] == alone
            for body, answer in zip(together.bodies, together.answers, strict=True):
                record = decode(body)
                assert decide(record.facts, gatherer.config.laws[record.country]) == record.decision
                assert (record.decision.allow, record.id) == (answer.decision == "allow", answer.decision_id)
