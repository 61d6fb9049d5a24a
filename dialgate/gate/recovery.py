"""Recovery, which makes the store agree with this node's decision logs.

A batch reserves its attempts before it is recorded, so a crash can leave attempts without a record. Recovery removes
them. A store that was restored from a backup, or a Redis that lost its last writes in a failover, can lack attempts,
results, entries of the ledger and pauses of campaigns that the log proves. Recovery adds them.

Recovery reads only the log entries after the position that the store holds. No earlier log entry proves a missing
ledger entry. The store saves the position together with the ledger, and an outcome is logged only after its ledger
entry is written.

A gate recovers when it starts, and when a shared store begins a generation. Until every gate has acknowledged the
generation, the store refuses reads.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import structlog
from msgspec import Struct

from dialgate.core.decision_ids import log_of
from dialgate.core.model import RESULT_RANK, SHADOW, Attempt, Instant, OutcomeRecord
from dialgate.core.responses import encode_answer, end_of, make_answer
from dialgate.core.shadow import mark
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys
from dialgate.decision_log.records import Reader, Record
from dialgate.gate import stop_recovery
from dialgate.gate.stop_recovery import Stop, cited_stops, reported_stop
from dialgate.store import CampaignPause, Generation, Remembered, Shared, Store

_AT_ONCE = 256  # records
_log = structlog.get_logger(__name__)


class LogEnd(Struct, frozen=True):
    """The folder and the keys of a log, and the sequence number of its newest record."""

    folder: Path
    keys: Keys
    head: int


class Recovery:
    """The recovery of one gate's logs, oldest first, and what of it has to wait for other gates.

    `ends` returns the ends of the logs. `answer_span` returns the maximum validity of an `allow` answer, in ms.
    """

    def __init__(
        self,
        data: Path,
        keys: Keys,
        store: Store,
        ends: Callable[[], Sequence[LogEnd]],
        answer_span: Callable[[], Instant],
    ) -> None:
        self._data, self._keys, self._store, self._ends = data, keys, store, ends
        self._answer_span = answer_span
        self._settled = 0  # the generation to which the logs were settled
        # Results of calls through other gates, which might not have added their attempts yet.
        self._unapplied: list[OutcomeRecord] = []
        # Reported opt-outs and wrong numbers of such calls, whose called number this node does not know.
        self._unentered: list[OutcomeRecord] = []

    @property
    def _generation(self) -> Generation:
        return self._store.generation if isinstance(self._store, Shared) else Generation(0, frozenset())

    @property
    def is_due(self) -> bool:
        """Whether the store waits for this gate's logs, and `settle` has not run since."""
        generation = self._generation
        logs = {end.keys.log for end in self._ends()} if generation.waiting else ()
        return not generation.waiting.isdisjoint(logs) and generation.number != self._settled

    @property
    def problem(self) -> str:
        if not self._unentered:
            return ""
        return (
            f"{len(self._unentered)} stops (opt-outs or wrong-number reports) in the log are missing from the ledger,"
            " and the store lacks the calls that they are about. The first stop is about decision"
            f" {self._unentered[0].decision}. Start the gate that made this decision, or enter the stops with"
            " `dialgate revoke` and restart this gate"
        )

    async def settle(self, now: Instant) -> Instant:
        """Make the store agree with the logs. Return the time of the newest record, or 0 if there is none.

        The gate must not write to its log meanwhile. Raises `StoreUnavailable`, `LogDamaged`.
        """
        latest, begun = 0, -1
        while (
            begun != self._generation.number
        ):  # another one began meanwhile, for example because attempts were missing
            begun = self._generation.number
            for end in self._ends():
                latest = max(latest, await self._settle(end, now))
        self._settled = begun
        return latest

    async def _settle(self, end: LogEnd, now: Instant) -> Instant:
        log, keys = end.keys.log, end.keys
        position = (await self._store.positions()).get(log, 0)
        attempts: list[tuple[bytes, Attempt]] = []
        answers: list[Remembered] = []
        results: list[OutcomeRecord] = []
        stops: dict[tuple[str, str], list[Stop]] = {}  # by controller and number, as of the latest decision
        paused_at: dict[
            tuple[str, str], Instant
        ] = {}  # by controller and campaign, as of the latest decision
        reader = Reader(end.folder)
        for count, (_, record) in enumerate(reader.entries(first=position + 1)):
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)  # a running gate must be able to deny calls meanwhile
            if isinstance(record, OutcomeRecord):
                results.append(record)
                continue
            paused_at[record.facts.controller.id, record.facts.campaign.id] = record.facts.campaign.paused_at
            try:
                month = keys.month(record.at)
            except KeyRetired:  # older than every limit's window
                continue
            known, controller = record.facts.known, record.facts.controller.id
            if known.revocations or known.consents or known.wrong_numbers or known.objections:
                number = month.called_number(record.sealed)
                stops[controller, number] = list(cited_stops(keys, record, number))
            if _is_attempt(record):
                attempts.append(_attempt(record, keys, month))
            if record.question:
                most = record.at + self._answer_span()
                answer = make_answer(record.decision, record.facts, end_of(record.decision, most))
                answer = mark(answer, most) if record.shadow else answer
                question = month.mask(record.question, record.id)
                answers.append(Remembered(question, record.at, encode_answer(answer), record.id))
        await self._restore_pauses(paused_at)
        # Enter stops before the new position is stored. If this fails, the next start finds the same stops again.
        entered = await stop_recovery.enter(self._store, keys, chain.from_iterable(stops.values()), now)
        reported = [result for result in results if result.result in {"opt_out", "wrong_number"}]
        unentered = await self._enter_reported(reported, keys, now)
        if entered:
            _log.warning(
                "entries that forbid calls were missing from the ledger and have been added from the log",
                stops=entered,
            )
        unapplied: list[OutcomeRecord] = []

        async def complete() -> None:
            unapplied.extend(await self._apply(results))

        # The entries that an older log lacks were on its disk: their calls were made, so their attempts stay.
        last = max(end.head, await self._store.recorded(log))
        await self._store.settle(log, last, attempts, answers, complete)
        self._unentered += unentered
        self._unapplied += [result for result in unapplied if log_of(result.decision) != log]
        # The last entries may be grounds whose decisions were never recorded.
        newest = next((entry for seq in range(end.head, 0, -1) if (entry := reader.find(seq))), None)
        return newest.at if newest else 0

    async def finish(self, now: Instant) -> None:
        """Retry what needs the attempts of other gates, and acknowledge the generation. Raises `StoreUnavailable`."""
        self._unentered = await self._enter_reported(self._unentered, self._keys, now)
        self._unapplied = await self._apply(self._unapplied)
        store, generation = self._store, self._generation
        if not isinstance(store, Shared) or not generation.waiting or generation.number != self._settled:
            return
        own = {end.keys.log for end in self._ends()}
        others = generation.waiting - own
        if not self._unentered and not any(log_of(result.decision) in others for result in self._unapplied):
            for log in own & generation.waiting:
                await store.acknowledge(log, generation.number)

    async def _enter_reported(
        self, outcomes: Sequence[OutcomeRecord], keys: Keys, now: Instant
    ) -> list[OutcomeRecord]:
        """Add the stops that these outcomes report. Return the outcomes whose called number is unknown on this node."""
        unentered = []
        for outcome in outcomes:
            try:
                stop = await reported_stop(self._data, self._store, keys, outcome)
            except KeyRetired:
                _log.error(
                    "an opt-out or wrong-number report cannot be added to the ledger: the keys for the month of the"
                    " call were destroyed",
                    decision=outcome.decision,
                )
                continue
            if stop is None:
                unentered.append(outcome)
            else:
                await stop_recovery.enter(self._store, keys, [stop], now)
        return unentered

    async def _restore_pauses(self, paused_at: Mapping[tuple[str, str], Instant]) -> None:
        """Store the pauses that the store lacks. The log holds no reason for a pause."""
        for (controller, campaign), at in paused_at.items():
            if at:
                reason = "restored from the decision log; the store had lost this pause and its reason"
                pause = CampaignPause(
                    controller=controller, campaign=campaign, at=at, reason=reason, actor="recovery"
                )
                await self._store.put_pause(pause)

    async def _apply(self, results: Sequence[OutcomeRecord]) -> list[OutcomeRecord]:
        """Add results that the store lacks. Return those for which the store has no attempt."""
        unapplied: list[OutcomeRecord] = []
        for result in results:
            attempt = await self._store.attempt(result.decision, recovering=True)
            if attempt is None:
                unapplied.append(result)
            elif RESULT_RANK[result.result] >= RESULT_RANK[attempt[1].result]:
                await self._store.result(result.decision, result.result, result.at)
        return unapplied


def _is_attempt(record: Record) -> bool:
    """Return whether the call of a decision is counted: if it was permitted, also by shadow mode, and its person is known."""
    facts = record.facts
    return record.decision.allow or (
        record.shadow and facts.campaign.known and facts.number.kind != "invalid"
    )


def _attempt(record: Record, keys: Keys, month: MonthKeys) -> tuple[bytes, Attempt]:
    campaign, basis = record.facts.campaign, record.decision.basis if record.decision.allow else SHADOW
    attempt = Attempt(
        decision=record.id, at=record.at, campaign=campaign.id, basis=basis, goods=campaign.goods
    )
    return keys.subject(record.facts.controller.id, month.called_number(record.sealed)), attempt
