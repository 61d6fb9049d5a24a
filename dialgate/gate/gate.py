"""The gate, which decides calls in batches and records each decision before it sends the response.

Read `Gate` from top to bottom to follow a call. `enqueue` adds the call to the queue, and `_run_batch` takes a batch from
the queue and replies. `_decide_batch` reads the store, decides, commits, writes the log and syncs it. If any step
fails, every call of the batch is denied.

A batch usually needs one store read, one commit and one log sync. With a shared store, the read may be skipped if
the store probably has no data on the numbers. If the state of a number has changed since the read, the gate reads and
decides again, at most `_COMMIT_TRIES` times.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import structlog
from msgspec import structs

from dialgate import __version__
from dialgate.config import content_store
from dialgate.config.clients import Client
from dialgate.config.configuration import Config, ConfigError, fixed_at_start, missing_controllers
from dialgate.core.decision import decide
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_state import merge
from dialgate.core.model import HOUR, SECOND, Call, Instant, Known
from dialgate.core.responses import Answer, Simulation, make_simulation, refusal
from dialgate.crypto.nonces import nonces
from dialgate.decision_log import LogUnavailable
from dialgate.gate import observation
from dialgate.gate.admission_queue import AdmissionQueue, AnswerFuture, QueuedCall, reply
from dialgate.gate.batch import Batch, CallVerdict, decide_all
from dialgate.gate.client_limits import ClientLimits
from dialgate.gate.counted_campaigns import CountedCampaigns
from dialgate.gate.facts import Gatherer
from dialgate.gate.fixed_answers import answer_for_test
from dialgate.gate.question import BatchQuery
from dialgate.gate.recorder import LogRecorder
from dialgate.gate.upkeep import Upkeep
from dialgate.lists.snapshot import Snapshot, SnapshotPart
from dialgate.observability.traces import Traces
from dialgate.runtime.clock import Clock
from dialgate.store import Attempts, Reading, StoreUnavailable

_COMMIT_TRIES = 5
_EXPIRED = "the decision took so long that the call is no longer permitted by it; ask again"
_MAX_BATCHES, _MAX_CALLS = 32, 4  # recent batches for the console, and calls from each batch
_log = structlog.get_logger(__name__)


class Gate:
    """The decision service. `dialgate.app.App` builds it and runs its upkeep."""

    def __init__(
        self,
        store: Attempts,
        recorder: LogRecorder,
        upkeep: Upkeep,
        clock: Clock,
        traces: Traces | None = None,
    ) -> None:
        self.config = config = upkeep.gatherer.config
        self.metrics = upkeep.metrics
        self._entry_ids = upkeep.gatherer.keys.entries
        self._store, self._recorder, self._clock = store, recorder, clock
        self._upkeep = upkeep
        self._steady = clock.steady
        self._limits = ClientLimits(clock.steady, upkeep.disk_shares)
        self._nonces = nonces()
        self._verdicts: dict[tuple[object, ...], CallVerdict] = {}
        self._traces = traces
        # Recent batches; the console removes and shows them.
        self.recent: deque[tuple[Instant, list[QueuedCall], list[Answer], list[str]]] = deque(
            maxlen=_MAX_BATCHES
        )
        self._loop = asyncio.get_running_loop()
        self._queue = AdmissionQueue(config.settings.batch_calls)
        self._batches: set[asyncio.Task[None]] = set()
        self._preparing: list[QueuedCall] | None = None  # the batch whose commit has not begun
        self._is_leaving = False

    # ---- requests ----------------------------------------------------------------------------------------------------

    def check(self, call: Call, client: Client, interface: str = "") -> asyncio.Future[Answer]:
        """Return a future for the answer, which is set once the decision is recorded.

        If the gate fails, the answer is a denial without a decision id.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self.enqueue(call, client, interface, answer)
        return answer

    def enqueue(self, call: Call, client: Client, interface: str, answer: AnswerFuture) -> None:
        """Queue a call. The gate later sets the result on `answer`, which need not be an asyncio future."""
        if (denial := self._limits.refuse(client)) is not None:
            self.metrics.calls_refused.labels(client.name).inc()
            self._loop.call_soon(_set_answer, answer, denial)
            return
        self._queue.add(QueuedCall(call, client, interface, self._steady(), answer))
        if self._preparing is None:
            self._start_batch()

    # ---- the path of a call ------------------------------------------------------------------------------------------

    def _start_batch(self) -> None:
        if self._preparing is None and self._queue.ready:
            self._preparing = []
            batch = asyncio.create_task(self._run_batch(self._preparing))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    def _end_preparing(self, requests: list[QueuedCall]) -> None:
        """Let the next batch start. Called when the batch of `requests` begins to commit, or is done."""
        if self._preparing is requests:
            self._preparing = None
        self._start_batch()

    async def _run_batch(self, requests: list[QueuedCall]) -> None:
        try:
            requests += self._queue.take()
            start = self._steady()
            answers = await self._answers(requests)
            reply(zip(requests, answers, strict=True), self.metrics.calls.took, self._steady())
            if self._traces is not None:
                calls = [(request.interface, request.arrived) for request in requests]
                span = observation.TraceSpan(start, self._steady(), time.time_ns())
                campaigns = [self._campaign(request) for request in requests]
                observation.trace(self._traces, campaigns, calls, answers, span)
        finally:
            self._queue.mark_answered(requests)
            self._end_preparing(requests)

    async def _answers(self, requests: list[QueuedCall]) -> Sequence[Answer]:
        """Decide a batch, or deny all of its calls if the gate fails. Never raises."""
        try:
            return await self._decide_batch(requests)
        except Unavailable as fault:
            component, problem = fault.component, str(fault)
        except Exception:  # noqa: BLE001 - after any error the calls are denied and the gate keeps running
            _log.exception("a batch failed")
            component, problem = "gate", "an error in the gate; see its service log for the details"
        self._upkeep.report(component, problem)
        self.metrics.faults.labels(component).inc(len(requests))
        text = f"the gate cannot decide now ({component}); retry in a few seconds"
        return [refusal("gate.unavailable", text)] * len(requests)

    async def _decide_batch(self, requests: list[QueuedCall]) -> Sequence[Answer]:
        """Read, decide, commit and record a batch. If this raises `Unavailable`, no call is allowed.

        A round trip is the main cost of a shared store, so the read may be skipped (`Attempts.assume`), and a batch may
        read while the previous one commits. The commit refuses a reading that has changed since. Only one batch reads at
        a time, and only one commits.
        """
        self._upkeep.refuse_if_stops_wait()
        self._upkeep.refuse_if_late()
        query = self._query(requests)
        reading = self._store.assume(query.subjects, query.keys) or await self._read(query)
        async with self._recorder.turn:
            batch = await self._commit(requests, query, reading)
            if batch.bodies:
                await self._record(batch)
        self._end_preparing(requests)  # a batch without a commit has not done this yet
        # Sync even if this batch wrote nothing: the record of a repeated answer may not be on the disk yet. If the sync
        # fails, the records and their attempts are kept, and recovery completes the log.
        await self._recorder.sync()
        if batch.remembered:
            self._upkeep.durable_note.schedule()
        self._upkeep.refuse_if_late()  # again: the process may have stood still since the start of the batch
        self._count(requests, batch)
        answers = self._without_expired(batch)
        if not any(request.client.test_numbers for request in requests):
            return answers
        ends = batch.now + int(self.config.settings.answer_seconds * SECOND)
        return [
            answer_for_test(answer, request.call.to, ends) if request.client.test_numbers else answer
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _without_expired(self, batch: Batch) -> Sequence[Answer]:
        """Return the answers for clients. Replace each allow that expired before it could be sent by a denial."""
        now = self._clock()
        return [
            answer if answer.decision == "deny" or ends > now else refusal("gate.unavailable", _EXPIRED)
            for answer, ends in zip(batch.public_answers(), batch.ends, strict=True)
        ]

    async def _commit(self, requests: list[QueuedCall], query: BatchQuery, reading: Reading) -> Batch:
        """Decide and commit. If another batch or gate has changed the state since `reading`, read and try again.

        A batch without writes is committed too, because its reading may contain what another batch failed to record.
        Raises `StoreUnavailable`.
        """
        log_grounds = self._recorder.grounds(query.now)
        first = self._recorder.log.next_seq  # constant here: the holder of the log's turn is its only writer
        for tries_left in reversed(range(_COMMIT_TRIES)):
            batch = decide_all(query, reading, first, self._nonces, log_grounds, self._verdicts)
            self._end_preparing(requests)
            position = structs.replace(batch.position, durable=self._recorder.log.durable)
            if await self._store.commit(reading, batch.reservations, batch.remembered, position):
                return batch
            self.metrics.stale.inc()
            if tries_left:
                query = self._query(requests)
                reading = await self._read(query)
        raise StoreUnavailable("too many concurrent updates for this number")

    def _query(self, requests: list[QueuedCall]) -> BatchQuery:
        gatherer, now = self._gatherer, self._clock()
        since = now - self.config.settings.remember_hours * HOUR
        read = gatherer.read
        questions = [read(request.call, request.client, request.interface) for request in requests]
        return gatherer.query(now, since, questions)

    async def _read(self, query: BatchQuery) -> Reading:
        return await self._store.read(query.subjects, query.keys, query.since)

    async def _record(self, batch: Batch) -> None:
        try:
            self._recorder.write(batch.bodies, batch.grounds)
        except LogUnavailable:
            # `write` failed, so the log holds no record of the batch.
            # If the release fails too, the attempts stay counted, which can only deny calls.
            await self._store.release(batch.before)
            raise
        self._upkeep.disk_shares.count(batch.written)

    def _count(self, requests: list[QueuedCall], batch: Batch) -> None:
        observation.count(self.metrics, batch)
        # Keep only some calls: freeing an object late is slow, because it has left the processor's caches by then.
        self.recent.append(
            (batch.now, requests[-_MAX_CALLS:], batch.answers[-_MAX_CALLS:], batch.codes[-_MAX_CALLS:])
        )

    def _campaign(self, request: QueuedCall) -> str:
        """Return the campaign's label in traces: `other` if it belongs to another client.

        The owner of a campaign must not see other clients' requests for it.
        """
        campaign = request.call.campaign
        return campaign if self.config.line_of(campaign, request.client) else "other"

    # ---- simulation --------------------------------------------------------------------------------------------------

    async def simulate(self, call: Call, client: Client, at: Instant | None = None) -> Simulation:
        """Decide a call as of `at`, with the current attempts and ledger. The decision is not recorded or counted.

        Raises `StoreUnavailable`, `ClockWrong`.
        """
        at = self._clock() if at is None else at
        question = self._gatherer.choose_caller_id(self._gatherer.read(call, client), at)
        known = (await self._store.read(question.subjects)).known
        facts = self._gatherer.terms.facts(question, merge(*known) if known else Known(), at)
        decision = decide(facts, self.config.laws[question.country])
        seconds = self.config.settings.answer_seconds
        simulation = make_simulation(decision, facts, question.e164, question.presentation.number, seconds)
        if not self.config.shared:
            return simulation
        worded = self._entry_ids.worded
        return structs.replace(
            simulation, reasons=worded(simulation.reasons), outcomes=worded(simulation.outcomes)
        )

    # ---- the state of the gate ---------------------------------------------------------------------------------------

    def readiness(self) -> dict[str, str]:
        """Return the problem for each failed component. An empty dict means that the gate is ready."""
        return self.failures() | ({"listen": "the gate is about to stop"} if self._is_leaving else {})

    def failures(self) -> dict[str, str]:
        """Return the problem for each component whose failure makes the gate deny."""
        return self._upkeep.problems

    def leave(self) -> None:
        """Report the gate as not ready, while it still decides: load balancers then send it no more calls."""
        self._is_leaving = True

    def now(self) -> Instant:
        return self._clock.at_least()

    @property
    def snapshot(self) -> Snapshot | None:
        return self._gatherer.snapshot

    def snapshot_parts(self) -> tuple[SnapshotPart, ...]:
        return self.snapshot.parts() if self.snapshot else ()

    @property
    def counted(self) -> CountedCampaigns:
        """The campaigns with their call counts, as last read from the store."""
        return self._gatherer.counted

    @property
    def _gatherer(self) -> Gatherer:
        return self._upkeep.gatherer

    def reload(self, config: Config) -> None:
        """Apply a new configuration, starting with the next batch.

        Raises the errors of `refuse_config`, and `OSError` if the configuration cannot be archived. To keep that work
        off the event loop, call `content_store.keep` before.
        """
        self.refuse_config(config)
        content_store.keep(config.data / "kept", config)
        self.config = config
        self._verdicts.clear()  # decisions under the old configuration
        self._queue.resize(config.settings.batch_calls)
        self._upkeep.reload(config)
        self.metrics.info.info({"version": __version__, "config": config.hash})

    def refuse_config(self, config: Config) -> None:
        """Raise `ConfigError` if a changed setting needs a restart, or a controller is missing."""
        old, new = fixed_at_start(self.config), fixed_at_start(config)
        problems = [
            f"dialgate.yaml: `{key}` cannot be changed while the gate runs; restart it"
            for key in new
            if new[key] != old[key]
        ]
        problems += missing_controllers(self.config.controllers, config)
        if problems:
            raise ConfigError(problems)

    def reject_config(self, error: ConfigError) -> None:
        """Count and log an invalid configuration. The gate stays ready with its current one."""
        self.metrics.config_rejected.inc()
        for problem in error.problems:
            _log.error("configuration rejected; the previous one stays in use", problem=problem)

    async def close(self) -> None:
        """Wait until all batches have been answered."""
        while self._batches:
            await asyncio.wait(self._batches)


def _set_answer(answer: AnswerFuture, denial: Answer) -> None:
    if not answer.done():
        answer.set_result(denial)
