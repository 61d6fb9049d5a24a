"""Crash recovery, which makes the store agree with the decision log.

A batch reserves its attempts before it is recorded, so a crash can leave attempts without a record. Recovery removes
them, and adds attempts and answers that only the log holds. After the store was restored from a backup, the ledger can
lack entries that forbid calls, such as revocations. Recovery adds them if the log proves them (see `stop_recovery`).

Recovery reads only the log entries after the position that the store holds. No earlier log entry proves a missing
ledger entry. The store saves the position together with the ledger, and an outcome is logged only after its ledger
entry is written.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from msgspec import Struct

from dialgate.core.model import RESULT_RANK, Attempt, Instant, OutcomeRecord
from dialgate.core.responses import encode_answer, make_answer
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys
from dialgate.decision_log.records import Reader, Record
from dialgate.gate import stop_recovery
from dialgate.gate.stop_recovery import KnownStops, RecoveryStore
from dialgate.store import Remembered

_AT_ONCE = 256  # records
_log = structlog.get_logger(__name__)


class RecoveryResult(Struct, frozen=True):
    """The result of a recovery.

    `latest` is the time of the newest record, or 0 for an empty log. `unentered` holds the reported opt-outs and wrong
    numbers that cannot be added to the ledger, because this node does not know the called number. `unapplied` holds the
    call results for which the store has no attempt. These results are for calls through other gates, which might not
    have added their attempts yet. `is_older` is true if the log held attempts that the store lacked. The store is then
    an older copy, because a gate commits an attempt to the store before it writes the log.
    """

    latest: Instant
    unentered: list[OutcomeRecord]
    unapplied: list[OutcomeRecord]
    is_older: bool


class LogEnd(Struct, frozen=True):
    """The folder and the keys of a log, and the sequence number of its newest record."""

    folder: Path
    keys: Keys
    head: int


async def settle_all(
    data: Path, logs: Sequence[LogEnd], store: RecoveryStore, answer_span: Instant, now: Instant
) -> RecoveryResult:
    """Call `settle` for each log, oldest first, and return the combined result. Raises the same errors."""
    results = [await settle(data, log.folder, log.keys, store, log.head, answer_span, now) for log in logs]
    return RecoveryResult(
        latest=max(result.latest for result in results),
        unentered=[outcome for result in results for outcome in result.unentered],
        unapplied=[outcome for result in results for outcome in result.unapplied],
        is_older=any(result.is_older for result in results),
    )


async def settle(  # noqa: PLR0913, PLR0917 - the parts of a gate
    data: Path,
    folder: Path,
    keys: Keys,
    store: RecoveryStore,
    head: int,
    answer_span: Instant,
    now: Instant,
) -> RecoveryResult:
    """Bring the store up to date with the log in `folder`. `head` is the sequence number of the newest record.

    `answer_span` is the maximum validity of an `allow` answer, in ms. Raises `StoreUnavailable`, `LogDamaged`.
    """
    position = (await store.positions()).get(keys.log, 0)
    attempts: list[tuple[bytes, Attempt]] = []
    answers: list[Remembered] = []
    results: list[OutcomeRecord] = []
    stops = KnownStops(keys)
    reader = Reader(folder)
    for number, (_, record) in enumerate(reader.entries(first=position + 1)):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # a running gate must be able to deny calls meanwhile
        if isinstance(record, OutcomeRecord):
            results.append(record)
            continue
        try:
            month = keys.month(record.at)
        except KeyRetired:  # older than every limit's window
            continue
        stops.add(record, month)
        if record.decision.allow:
            attempts.append(_attempt(record, keys, month))
        if record.question:
            answer = make_answer(record.decision, record.facts, record.at + answer_span)
            question = month.mask(record.question, record.id)
            answers.append(Remembered(question, record.at, encode_answer(answer), record.id))
    # Enter stops before the new position is stored. If this fails, the next start finds the same stops again.
    entered = await stop_recovery.enter(store, keys, stops, now)
    more, unentered = await stop_recovery.enter_opt_outs(data, store, keys, results, now)
    if entered + more:
        _log.warning(
            "entries that forbid calls were missing from the ledger and have been added from the log",
            stops=entered + more,
        )
    unapplied: list[OutcomeRecord] = []

    async def complete() -> None:
        unapplied.extend(await apply_results(store, results))

    # The entries that an older log lacks were on its disk: their calls were made, so their attempts stay.
    last = max(head, await store.recorded(keys.log))
    is_older = await store.settle(keys.log, last, attempts, answers, complete)
    # The last entries may be grounds whose decisions were never recorded.
    newest = next((entry for seq in range(head, 0, -1) if (entry := reader.find(seq))), None)
    unapplied = [result for result in unapplied if not result.decision.startswith(f"{keys.log}-")]
    return RecoveryResult(newest.at if newest else 0, unentered, unapplied, is_older)


async def apply_results(store: RecoveryStore, results: Iterable[OutcomeRecord]) -> list[OutcomeRecord]:
    """Add results that the store lacks. Raises `StoreUnavailable`.

    Return the results for which the store has no attempt.
    """
    unapplied: list[OutcomeRecord] = []
    for result in results:
        attempt = await store.attempt(result.decision, recovering=True)
        if attempt is None:
            unapplied.append(result)
        elif RESULT_RANK[result.result] >= RESULT_RANK[attempt[1].result]:
            await store.result(result.decision, result.result, result.at)
    return unapplied


def _attempt(record: Record, keys: Keys, month: MonthKeys) -> tuple[bytes, Attempt]:
    campaign, basis = record.facts.campaign, record.decision.basis
    attempt = Attempt(
        decision=record.id, at=record.at, campaign=campaign.id, basis=basis, goods=campaign.goods
    )
    return keys.subject(record.facts.controller.id, month.called_number(record.sealed)), attempt
