"""After a stop of any kind: make the store agree with the log, which is the truth.

A batch reserves its attempts before it is recorded, so a crash may leave attempts without a record: they are dropped.
And what was recorded may not have reached the store: it is counted and remembered again.
"""

from pathlib import Path

from dialgate.answers import stored, told
from dialgate.keys import KeyRetired, Keys, MonthKeys
from dialgate.model import Attempt, Instant, OutcomeRecord
from dialgate.records import Reader, Record
from dialgate.store import Remembered, Store


async def settle(folder: Path, keys: Keys, store: Store, head: int, answer_span: Instant) -> Instant:
    """`head`: the newest record's sequence; `answer_span`: how long an allow holds at most, in milliseconds. Returns the
    newest record's instant, 0 for an empty log. Raises `StoreUnavailable`, `LogDamaged`."""
    position = (await store.positions()).get(keys.log, 0)
    attempts: list[tuple[bytes, Attempt]] = []
    answers: list[Remembered] = []
    results: list[OutcomeRecord] = []
    reader = Reader(folder)
    for _, record in reader.entries(first=position + 1):
        if isinstance(record, OutcomeRecord):
            results.append(record)
            continue
        try:
            month = keys.month(record.at)
        except KeyRetired:  # older than any limit that could still count it
            continue
        if record.decision.allow:
            attempts.append(_attempt(record, keys, month))
        if record.question:
            answer = told(record.decision, record.facts, record.at + answer_span)
            question = month.masked(record.question, record.id)
            answers.append(Remembered(question, record.at, stored(answer), record.id))
    await store.settle(keys.log, head, attempts, answers)
    for result in results:
        await store.result(result.decision, result.result, result.at)
    # The last entries may be grounds whose decisions were never recorded.
    newest = next((found for seq in range(head, 0, -1) if (found := reader.find(seq))), None)
    return newest.at if newest else 0


def _attempt(record: Record, keys: Keys, month: MonthKeys) -> tuple[bytes, Attempt]:
    number = month.unseal(record.sealed).split(" ", 1)[0]
    attempt = Attempt(
        decision=record.id, at=record.at, campaign=record.facts.campaign.id, basis=record.decision.basis
    )
    return keys.subject(record.facts.controller.id, number), attempt
