"""After a stop of any kind: make the store agree with the log, which is the truth.

A batch reserves its attempts before it is recorded, so a crash may leave attempts without a record: they are dropped.
And what was recorded may not have reached the store: it is counted and remembered again.
"""

from pathlib import Path

import msgspec
from msgspec import structs

from dialgate.answers import stored, told
from dialgate.decision_log import entries, find
from dialgate.keys import KeyRetired, Keys
from dialgate.model import Attempt, Instant, OutcomeRecord, Record
from dialgate.store import Remembered, Store

_decode = msgspec.json.Decoder(Record | OutcomeRecord).decode


async def settle(folder: Path, keys: Keys, store: Store, head: int, answer_span: Instant) -> Instant:
    """`head`: the newest record's sequence; `answer_span`: how long an allow holds at most, in milliseconds. Returns the
    newest record's instant, 0 for an empty log. Raises `StoreUnavailable`."""
    position = (await store.positions()).get(keys.log, 0)
    attempts: list[tuple[bytes, Attempt]] = []
    answers: list[Remembered] = []
    results: list[OutcomeRecord] = []
    for line in entries(folder, first=position + 1):
        record = _decode(line.body)
        if isinstance(record, OutcomeRecord):
            results.append(record)
            continue
        if record.decision.allow:
            attempts += _attempt(record, keys)
        if record.question:
            answer = told(record.decision, record.facts, record.at + answer_span)
            named = structs.replace(answer, decision_id=record.id)
            answers.append(Remembered(record.question, record.at, stored(named), record.id))
    await store.settle(keys.log, head, attempts, answers)
    for result in results:
        await store.result(result.decision, result.result, result.at)
    newest = find(folder, head) if head else None
    return _decode(newest.body).at if newest else 0


def _attempt(record: Record, keys: Keys) -> list[tuple[bytes, Attempt]]:
    try:
        number = keys.month(record.at).unseal(record.sealed).split(" ", 1)[0]
    except KeyRetired:  # older than any limit that could still count it
        return []
    attempt = Attempt(
        decision=record.id, at=record.at, campaign=record.facts.campaign.id, basis=record.decision.basis
    )
    return [(keys.subject(record.facts.controller.id, number), attempt)]
