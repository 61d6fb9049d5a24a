"""A batch is decided on what the store holds, and what it allows is reserved against that very state, and recorded.

While one batch is committed the store may be read for the next already: a round trip is most of what a shared store costs.
Such a reading is used only if that commit went well, its records are all that came into the log since, and neither a subject
nor a question of the next is among those of the batch. What others have written meanwhile the commit finds out, for it looks
at the state of every allowed call again.
"""

from collections.abc import Callable

from dialgate.batch import Batch, Inquiry, Judged
from dialgate.decision_log import LogUnavailable
from dialgate.keys import nonces
from dialgate.metrics import Metrics
from dialgate.recorder import LogRecorder
from dialgate.store import Reading, Store, StoreUnavailable

_TRIES = 4


class Reserver:
    def __init__(self, store: Store, recorder: LogRecorder, metrics: Metrics) -> None:
        self._store, self._recorder, self._metrics = store, recorder, metrics
        self._nonces = nonces()
        self._judged: dict[tuple[object, ...], Judged] = {}
        # Whose commit was begun last; and the last that went well, and is in the log.
        self._begun: Batch | None = None
        self._recorded: Batch | None = None

    async def decide(self, ask: Callable[[], Inquiry], leave: Callable[[], None]) -> Batch:
        """What it allows is counted, and it is in the log, not yet durably. `ask` is called when the store is read, again
        where that has to be done anew; `leave` when another may be read for: only one at a time may be on its way to that.

        Raises `StoreUnavailable`, `LogUnavailable`; then nothing of it is in the log."""
        before, seq = self._begun, self._recorder.log.next_seq
        inquiry = ask()
        reading = await self._read(inquiry)
        async with self._recorder.turn:
            if not self._holds(inquiry, before, seq):
                inquiry = ask()
                reading = await self._read(inquiry)
            decided = await self._reserved(inquiry, reading, leave)
            if decided.bodies:
                await self._write(decided)
            if decided is self._begun:
                self._recorded = decided
        return decided

    async def _read(self, inquiry: Inquiry) -> Reading:
        return await self._store.read(inquiry.subjects, inquiry.keys, inquiry.since)

    def _holds(self, inquiry: Inquiry, before: Batch | None, seq: int) -> bool:
        """The answer to an inquiry that began while, or after, `before` was committed, and the log's next sequence was `seq`."""
        if before is not self._begun or before is not self._recorded:
            return False  # it failed, or was decided again: nobody knows what of it was read
        follows = self._recorder.log.next_seq
        if before is None or follows == seq:
            return follows == seq
        return follows == before.position.seq + 1 and not before.concerns(inquiry)

    async def _reserved(self, inquiry: Inquiry, reading: Reading, leave: Callable[[], None]) -> Batch:
        """If the state has changed, again."""
        written = self._recorder.grounds(inquiry.now)
        for _ in range(_TRIES):
            known, answers = iter(reading.known), iter(reading.answers)
            first = self._recorder.log.next_seq
            decided = Batch(inquiry.gatherer, inquiry.now, first, self._nonces, written, self._judged)
            for question in inquiry.questions:
                earlier = next(answers) if question.key else None
                decided.add(question, tuple([next(known) for _ in question.subjects]), earlier)
            if not (decided.reservations or decided.remembered):
                return decided
            self._begun = decided
            leave()
            if await self._store.commit(reading, decided.reservations, decided.remembered, decided.position):
                return decided
            self._begun = self._recorded = None
            self._metrics.stale.inc()
            reading = await self._read(inquiry)
        raise StoreUnavailable("what is known of a number kept changing while it was decided on")

    async def _write(self, decided: Batch) -> None:
        try:
            self._recorder.write(decided.bodies, decided.grounds)
        except LogUnavailable:
            # Nothing of the batch is in the log. Should this fail too, the attempts stay counted: a call too few.
            await self._store.release(decided.names, decided.before)
            raise
