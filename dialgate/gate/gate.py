"""The gate: decides calls in batches, and records each decision before its response leaves.

A call's path: `check` or `ask` adds it to the queue; `_start_batch` begins a batch when enough calls wait; `_run_batch` takes the
calls and replies; `_answers` turns any fault into denials; `_decide_batch` reads, decides, commits, records and syncs, from top to
bottom. If any of this fails the response is a denial: no log, no call.

Usually a batch costs one clock reading, one store read, one commit, one append and one sync. Where another gate changed what is
known of its numbers meanwhile, it is read and decided again, at most `_COMMIT_TRIES` times.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from msgspec import structs

from dialgate import __version__
from dialgate.config import content_store
from dialgate.config.clients import Client
from dialgate.config.configuration import Config, ConfigError, fixed_at_start
from dialgate.core.decision import decide
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import merge
from dialgate.core.model import HOUR, Call, Instant, Known, RegistryAnswer
from dialgate.core.responses import Answer, Simulation, simulated, unavailable
from dialgate.crypto.keys import Keys, nonces
from dialgate.crypto.permit import permitted
from dialgate.crypto.permit_key import PermitKey
from dialgate.decision_log import LogUnavailable
from dialgate.gate import observation
from dialgate.gate.admission_queue import AdmissionQueue, Asked, Awaited, reply
from dialgate.gate.batch import Batch, Inquiry, Judged, decide_all
from dialgate.gate.facts import Gatherer
from dialgate.gate.overlap import Overlap
from dialgate.gate.recorder import LogRecorder
from dialgate.gate.stop_retries import StopRetries
from dialgate.gate.upkeep import Upkeep
from dialgate.lists.snapshot import Part, Snapshot
from dialgate.native import COMPILED
from dialgate.observability.traces import Traces
from dialgate.runtime.clock import Clock
from dialgate.store import Attempts, Reading, StoreUnavailable

_COMMIT_TRIES = 4
_RECENT, _SHOWN = 32, 16  # batches, and calls of each
_log = structlog.get_logger(__name__)


class Gate:
    """Decides calls. `dialgate.app.App` builds it, and runs its upkeep."""

    def __init__(  # noqa: PLR0913, PLR0917 - what `App` builds, and nothing else
        self,
        config: Config,
        keys: Keys,
        store: Attempts,
        recorder: LogRecorder,
        upkeep: Upkeep,
        stops: StopRetries,
        clock: Clock,
    ) -> None:
        self.config = config
        self.metrics = upkeep.metrics
        self._entry_ids = keys.entries
        self._store, self._recorder, self._clock = store, recorder, clock
        self._upkeep, self._stops = upkeep, stops
        self._steady = clock.steady
        self._nonces = nonces()
        self._judged: dict[tuple[object, ...], Judged] = {}
        self._overlap = Overlap()
        self._permit_key = PermitKey.open(config.data / "permit.json", clock.at_least())
        self._gatherer = upkeep.gatherer = Gatherer(config, keys)
        self.traces: Traces | None = None
        # Recent batches for the console, which takes them out.
        self.recent: deque[tuple[Instant, list[Asked], list[Answer], list[str]]] = deque(maxlen=_RECENT)
        self._loop = asyncio.get_running_loop()
        crowded = 1 < config.settings.workers >= len(os.sched_getaffinity(0))
        self._queue = AdmissionQueue(config.settings.batch_calls, crowded=crowded)
        self._batches: set[asyncio.Task[None]] = set()
        self._preparing: asyncio.Task[None] | None = None  # the batch whose commit has not begun

    # ---- asking ------------------------------------------------------------------------------------------------------

    def check(self, call: Call, client: Client) -> asyncio.Future[Answer]:
        """The answer, once it is recorded. A fault of ours is an answer too: a deny without a decision id."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self.ask(call, client, answer)
        return answer

    def ask(self, call: Call, client: Client, answer: Awaited) -> None:
        """The same for who does without a future."""
        self._queue.add(Asked(call, client, self._steady(), answer))
        if self._preparing is None:
            self._start_batch()

    def permitted(self, answer: Answer) -> Answer:
        """An answer of `check`, with a permit."""
        seconds = self.config.settings.permit_seconds
        return permitted(answer, self._permit_key.sign, seconds, self._clock.at_least())

    # ---- the path of a call ------------------------------------------------------------------------------------------

    def _start_batch(self) -> None:
        """Start a batch unless one is being prepared, or too few calls wait."""
        if self._preparing is None and self._queue.ready:
            self._preparing = asyncio.create_task(self._run_batch())
            self._batches.add(self._preparing)
            self._preparing.add_done_callback(self._batches.discard)

    def _end_preparing(self) -> None:
        """Let the next batch start: the commit of the current one has begun, or it needs none, or it failed."""
        if self._preparing is asyncio.current_task():
            self._preparing = None
        self._start_batch()

    async def _run_batch(self) -> None:
        """Answer the calls that wait now, those that arrive in the same turn of the event loop included."""
        calls: list[Asked] = []
        try:
            calls = await self._queue.take()
            begun = self._steady()
            answers = await self._answers(calls)
            reply(zip(calls, answers, strict=True), self.metrics.calls.took, self._steady())
            if self.traces is not None:
                asked = [(each.call, each.arrived) for each in calls]
                span = observation.Span(begun, self._steady(), time.time_ns())
                campaigns = [self._campaign(each) for each in calls]
                observation.trace(self.traces, campaigns, asked, answers, span)
        finally:
            self._queue.answered(calls)
            self._end_preparing()

    async def _answers(self, calls: list[Asked]) -> Sequence[Answer]:
        """Return one response for each call: a denial where the gate could not do its work. Raises nothing."""
        try:
            return await self._decide_batch(calls)
        except Unavailable as fault:
            component, problem = fault.component, str(fault)
        except Exception:  # noqa: BLE001 - whatever broke, the call is refused and the gate lives
            _log.exception("a batch failed")
            component, problem = "gate", "an error in the gate; its log has the details"
        self._upkeep.failed(component, problem)
        self.metrics.faults.labels(component).inc(len(calls))
        return [unavailable(f"the gate cannot decide now ({component}); ask again")] * len(calls)

    async def _decide_batch(self, calls: list[Asked]) -> Sequence[Answer]:
        """Read, decide, commit, record: the path of every call. Raises `Unavailable`; then nothing was allowed.

        One batch at a time reads, and one at a time commits; a batch may read while the one before it commits, for a round
        trip is most of what a shared store costs. `Overlap` says whether such a reading may be used."""
        self._stops.refuse_if_unentered()
        self._upkeep.refuse_if_late()
        mark = self._overlap.mark(self._recorder.log.next_seq)
        inquiry = self._inquiry(calls)
        reading = await self._read(inquiry)
        async with self._recorder.turn:
            if not self._overlap.may_use(mark, inquiry, self._recorder.log.next_seq):
                inquiry = self._inquiry(calls)
                reading = await self._read(inquiry)
            batch = await self._commit(inquiry, reading)
            if batch.bodies:
                await self._record(batch)
            self._overlap.complete(batch)
        self._end_preparing()  # again, for a batch that had nothing to commit
        # Also where nothing was written: a repeated answer may still be on its way to the disk. If this fails, the records
        # and their attempts stay, and recovery completes the log.
        await self._recorder.sync()
        if (
            batch.remembered and self._preparing is None
        ):  # otherwise the next commit reports that it is on the disk
            self._upkeep.start_noting()
        self._count(calls, batch)
        return batch.outside()

    async def _commit(self, inquiry: Inquiry, reading: Reading) -> Batch:
        """Decide, and commit if nothing changed since `reading`; otherwise read and try again. Raises `StoreUnavailable`."""
        known_grounds = self._recorder.grounds(inquiry.now)
        first = self._recorder.log.next_seq  # it stays: whoever holds the log's turn is its only writer
        for tries_left in reversed(range(_COMMIT_TRIES)):
            batch = decide_all(inquiry, reading, first, self._nonces, known_grounds, self._judged)
            if not (batch.reservations or batch.remembered):
                return batch
            self._overlap.begin(batch)
            self._end_preparing()
            position = structs.replace(batch.position, durable=self._recorder.log.durable)
            if await self._store.commit(reading, batch.reservations, batch.remembered, position):
                return batch
            self._overlap.forget()
            self.metrics.stale.inc()
            if tries_left:
                reading = await self._read(inquiry)
        raise StoreUnavailable("too many concurrent updates for this number")

    def _inquiry(self, calls: list[Asked]) -> Inquiry:
        gatherer, now = self._gatherer, self._clock()
        since = now - self.config.settings.remember_hours * HOUR
        return Inquiry(gatherer, now, since, [gatherer.read(each.call, each.client) for each in calls])

    async def _read(self, inquiry: Inquiry) -> Reading:
        return await self._store.read(inquiry.subjects, inquiry.keys, inquiry.since)

    async def _record(self, batch: Batch) -> None:
        """Append a batch to the log. Raises `LogUnavailable`: then no record of it is in the log."""
        try:
            self._recorder.write(batch.bodies, batch.grounds)
        except LogUnavailable:
            # Should this fail too, the attempts stay counted: one call too few, never one too many.
            await self._store.release(batch.names, batch.before)
            raise

    def _count(self, calls: list[Asked], batch: Batch) -> None:
        observation.count(self.metrics, [asked.call for asked in calls], batch)
        # A part only: what is kept is freed late, when it has left the processor's caches.
        self.recent.append((batch.now, calls[-_SHOWN:], batch.answers[-_SHOWN:], batch.codes[-_SHOWN:]))

    def _campaign(self, asked: Asked) -> str:
        """`other` where it is not the client's: what a stranger asks is not its owner's to see, and may be made up."""
        campaign = asked.call.campaign
        return campaign if self.config.line_of(campaign, asked.client) else "other"

    # ---- simulation --------------------------------------------------------------------------------------------------

    async def simulate(self, call: Call, client: Client, at: Instant | None = None) -> Simulation:
        """Raises `StoreUnavailable`, `ClockSteppedBack`. The attempts and the ledger are those of now, whatever `at`."""
        question = self._gatherer.read(call, client)
        known = (await self._store.read(question.subjects)).known
        shown = self._gatherer.shown(question)
        facts = self._gatherer.facts(
            question,
            shown.fact,
            merge(*known) if known else Known(),
            self._gatherer.files(question),
            self._clock() if at is None else at,
        )
        decision = decide(facts, self.config.laws[question.country])
        seconds = self.config.settings.answer_seconds
        made = simulated(decision, facts, question.e164, shown.number, seconds)
        if not self.config.shared:
            return made
        worded = self._entry_ids.worded
        return structs.replace(made, reasons=worded(made.reasons), outcomes=worded(made.outcomes))

    # ---- the state of the gate ---------------------------------------------------------------------------------------

    def readiness(self) -> dict[str, str]:
        """Return the problem of each component that does not work; empty when the gate is ready."""
        return dict(self._upkeep.problems)

    def now(self) -> Instant:
        return self._clock.at_least()

    @property
    def snapshot(self) -> Snapshot | None:
        """The registry answers in use."""
        return self._gatherer.snapshot

    def snapshot_parts(self) -> tuple[Part, ...]:
        """Return whose registry answers are in use, and of when."""
        return self.snapshot.parts() if self.snapshot else ()

    @property
    def registry_answers(self) -> Callable[[str, str, str], tuple[RegistryAnswer, ...]]:
        """Return a registry's answers about a number, by country, controller and number."""
        return self._gatherer.registry_answers

    def reload(self, config: Config) -> None:
        """Put a configuration in force for every batch that begins from now on. Raises `ConfigError` where it cannot
        be changed while the gate runs, `OSError` where it cannot be kept."""
        old, new = fixed_at_start(self.config), fixed_at_start(config)
        moved = [key for key in new if new[key] != old[key]]
        if moved:
            raise ConfigError(
                [f"dialgate.yaml: `{key}` cannot be changed while the gate runs; restart it" for key in moved]
            )
        content_store.keep(config.data / "kept", config)
        self.config = config
        self._judged.clear()  # decisions under the old configuration
        self._queue.most = config.settings.batch_calls
        self._gatherer = self._upkeep.gatherer = self._gatherer.configured(config)
        self._upkeep.works("config")
        self.metrics.info.info({"version": __version__, "compiled": COMPILED, "config": config.hash})

    def reject_config(self, error: ConfigError) -> None:
        """Count and log a new configuration that cannot be used; the one in force stays, and the gate ready."""
        self.metrics.config_rejected.inc()
        for problem in error.problems:
            _log.error("configuration refused; the last good one stays", problem=problem)

    async def close(self) -> None:
        """Wait for the responses of all batches."""
        while self._batches:
            await asyncio.wait(self._batches)
