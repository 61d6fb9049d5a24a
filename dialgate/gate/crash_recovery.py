"""Crash recovery: make the store agree with the decision log, which is the truth.

A batch reserves its attempts before it is recorded, so a crash may leave attempts without a record: they are dropped. Records
may not have reached the store: they are counted and remembered again. The ledger may be older than the log, as in a restored
backup: the stops that the log proves are entered again (`stop_recovery`).

Everything after the position that the store holds is read. That is enough: the store's position and its ledger are one state,
and an outcome is logged after its stop was entered, so a stop that the ledger lacks is logged after that position.
"""

from pathlib import Path

import structlog
from msgspec import Struct

from dialgate.core.model import RESULT_RANK, Attempt, Instant, OutcomeRecord
from dialgate.core.responses import stored, told
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys
from dialgate.decision_log.records import Reader, Record
from dialgate.gate import stop_recovery
from dialgate.gate.stop_recovery import KnownStops, RecoveryStore
from dialgate.store import Remembered

_log = structlog.get_logger(__name__)


class RecoveryResult(Struct, frozen=True):
    """The result of a recovery. `latest`: the instant of the newest record, 0 for an empty log; `unentered`: `opt_out` outcomes
    whose called person is not known here."""

    latest: Instant
    unentered: list[OutcomeRecord]


async def settle(  # noqa: PLR0913, PLR0917 - what a gate consists of
    data: Path,
    folder: Path,
    keys: Keys,
    store: RecoveryStore,
    head: int,
    answer_span: Instant,
    now: Instant,
) -> RecoveryResult:
    """`folder`: of the log in the data folder; `head`: the newest record's sequence; `answer_span`: how long an allow holds at
    most, in milliseconds. Raises `StoreUnavailable`, `LogDamaged`."""
    position = (await store.positions()).get(keys.log, 0)
    attempts: list[tuple[bytes, Attempt]] = []
    answers: list[Remembered] = []
    results: list[OutcomeRecord] = []
    stops = KnownStops(keys)
    reader = Reader(folder)
    for _, record in reader.entries(first=position + 1):
        if isinstance(record, OutcomeRecord):
            results.append(record)
            continue
        try:
            month = keys.month(record.at)
        except KeyRetired:  # older than any limit that could still count it
            continue
        stops.add(record, month)
        if record.decision.allow:
            attempts.append(_attempt(record, keys, month))
        if record.question:
            answer = told(record.decision, record.facts, record.at + answer_span)
            question = month.masked(record.question, record.id)
            answers.append(Remembered(question, record.at, stored(answer), record.id))
    # Before the position is noted: should this break off, the next start finds them again.
    entered = await stop_recovery.enter(store, keys, stops, now)
    more, unentered = await stop_recovery.enter_opt_outs(data, store, keys, results, now)
    if entered + more:
        _log.warning("the ledger lacked stops that the log proves; they were entered", stops=entered + more)
    await store.settle(keys.log, head, attempts, answers)
    for result in results:
        attempt = await store.attempt(result.decision)
        if attempt is not None and RESULT_RANK[result.result] >= RESULT_RANK[attempt[1].result]:
            await store.result(result.decision, result.result, result.at)
    # The last entries may be grounds whose decisions were never recorded.
    newest = next((entry for seq in range(head, 0, -1) if (entry := reader.find(seq))), None)
    return RecoveryResult(newest.at if newest else 0, unentered)


def _attempt(record: Record, keys: Keys, month: MonthKeys) -> tuple[bytes, Attempt]:
    attempt = Attempt(
        decision=record.id, at=record.at, campaign=record.facts.campaign.id, basis=record.decision.basis
    )
    return keys.subject(record.facts.controller.id, stop_recovery.dialled(record, month)), attempt
