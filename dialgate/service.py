"""The gate: it reads the clock, gathers facts, decides, reserves, records, counts and answers. In that order.

Calls that arrive while a batch is in flight form the next batch. Each batch has one clock reading, one read of the
store, one atomic step that reserves its attempts against the very state that was read, one append to
the log and one sync; only then do its answers leave. While a shared store commits one batch it may be read for the next already; what
of the former that reading may lack is found out. Whatever of this fails, the answer is a deny: no log, no call.
"""

import asyncio
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from dialgate import __version__, chains, kept, localtime, observed, roster, stores
from dialgate.admission_queue import AdmissionQueue, Asked, Awaited, reply
from dialgate.answers import Answer, Simulation, simulated, unavailable
from dialgate.batch import Batch, Inquiry
from dialgate.clock import Clock, ClockSteppedBack
from dialgate.decision import decide
from dialgate.decision_log import Checkpointer, DecisionLog
from dialgate.faults import Unavailable
from dialgate.gather import Gatherer
from dialgate.kept_instants import KeptInstants
from dialgate.keys import Keys
from dialgate.ledger import merge
from dialgate.listcopies import ListCopies
from dialgate.metrics import Metrics
from dialgate.model import HOUR, SECOND, Call, Instant, Known
from dialgate.peers import Called
from dialgate.permit import permitted
from dialgate.permit_key import PermitKey
from dialgate.primitives import COMPILED
from dialgate.recorder import LogRecorder
from dialgate.registrar import Registrar
from dialgate.reserving import Reserver
from dialgate.roster import Roster
from dialgate.runtime.background_work import BackgroundWork
from dialgate.settings import Client, Config, ConfigError, fixed_at_start
from dialgate.settling import settle
from dialgate.signing import Signer
from dialgate.snapshot import Part
from dialgate.stop_retries import StopRetries
from dialgate.store import CallerIdProof, Store
from dialgate.subjects import Subjects
from dialgate.traces import Traces
from dialgate.upkeep import PATIENCE, Upkeep, stamper_of

_RECENT, _SHOWN = 32, 16  # batches, and calls of each
_PERIOD = (
    0.75  # of upkeep, in seconds: what it takes up is promised to bind within a second, its own time included
)
_STOP = 2.0  # seconds in which other gates are asked whose number it was: then it is stopped by what the store knows
_log = structlog.get_logger(__name__)


def wall_clock() -> Instant:
    return time.time_ns() // 1_000_000


def spare_collector() -> None:
    """To be called once a gate, or a long command, is open. What was loaded stays: else each full collection walks all of it and keeps
    callers waiting for 40 ms. What a call leaves behind holds no cycles, so there is little to look for."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Status(Struct, frozen=True, kw_only=True):
    """Only `ready` is for everybody."""

    ready: bool
    problems: dict[str, str] = {}
    node: str = ""
    version: str = ""
    config: str = ""
    laws: dict[str, str] = {}
    snapshot: str = ""
    records: int = 0
    nodes: dict[str, str] = {}


class Gate:
    """One process's gate. Made by `open`; `run` keeps it in repair; `close` ends it after the last answer."""

    def __init__(
        self, config: Config, keys: Keys, store: Store, log: DecisionLog, upkeep: Upkeep, clock: Clock
    ) -> None:
        self.config = config
        self.metrics = metrics = upkeep.metrics
        self._store, self._clock, self._upkeep = store, clock, upkeep
        self._recorder = LogRecorder(config.data, log, keys, clock.at_least, metrics, clock.steady)
        self._reserver = Reserver(store, self._recorder, metrics)
        self.registrar = Registrar(config, keys, store, clock.at_least, metrics, self._recorder)
        self.subjects = Subjects(self.registrar, keys, store, clock.at_least, metrics)
        self._observing = BackgroundWork(self.subjects.observe, ())
        self.registrar.elsewhere = self._called_elsewhere
        self.registrar.steady = self._steady = clock.steady
        self._copies = ListCopies(config.data, store, self.subjects.peers, self.registrar.changed)
        self._stops = StopRetries(config.data, keys, store, self._called_elsewhere)
        self._permit_key = PermitKey.open(config.data / "permit.json", clock.at_least())
        self._gatherer = upkeep.gatherer = Gatherer(config, keys)
        self.refresh = self.registrar.refresh = upkeep.refresh
        self._own = roster.presence(config, keys.log)
        self._first = (
            chains.folder(config.data, 1) == upkeep.chain
        )  # of the node's workers, which share their files
        self.roster = Roster(store, metrics)
        self._stamper = stamper_of(config, upkeep.chain)
        self.traces: Traces | None = None
        self.recent: deque[tuple[Instant, list[Asked], list[Answer], list[str]]] = deque(
            maxlen=_RECENT
        )  # for who watches, to take out
        self._loop = asyncio.get_running_loop()
        crowded = 1 < config.settings.workers >= len(os.sched_getaffinity(0))
        self._queue = AdmissionQueue(config.settings.batch_calls, crowded=crowded)
        self._batches: set[asyncio.Task[None]] = set()
        self._deciding: asyncio.Task[None] | None = None  # of the batches one, up to its commit

    @classmethod
    async def open(
        cls,
        config: Config,
        *,
        registry: CollectorRegistry,
        clock: Callable[[], Instant] = wall_clock,
        steady: Callable[[], float] = time.monotonic,
        worker: int = 1,
    ) -> "Gate":
        """`steady`: the clock of durations, in seconds. `worker`: which of the node's decision logs it writes. Raises `KeysUnusable`, `StoreUnavailable`,
        `LogUnavailable`, `OSError`: a gate that cannot record does not start."""
        folder = chains.folder(config.data, worker)
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.keep(config.data / "kept", config)
        keys = Keys.open(config.data / "keys.json", worker)
        async with AsyncExitStack() as undo:
            # Before the log: who is refused here leaves none that would be in the way later.
            store = await stores.opened(config, keys)
            undo.push_async_callback(store.close)
            await roster.refuse_twins(store, roster.presence(config, keys.log), clock())
            log = DecisionLog.open(
                folder,
                log=keys.log,
                now=clock(),
                gate={"dialgate": __version__, **localtime.versions()},
                segment_bytes=config.settings.log_segment_mb << 20,
                segment_span=config.settings.log_segment_hours * HOUR,
            )
            undo.callback(log.close)
            checkpoints = Checkpointer.open(
                folder,
                log=keys.log,
                signer=partial(Signer.open, config.data / "signing.json"),
                interval=int(config.settings.checkpoint_seconds * SECOND),
                durable=log.durable,
            )
            answer_span = int(config.settings.answer_seconds * SECOND)
            head = log.next_seq - 1
            settled = await settle(config.data, folder, keys, store, head, answer_span, clock())
            instants = KeptInstants(config.data)
            instants.advance(settled.latest)
            upkeep = Upkeep(config.data, store, log, checkpoints, Metrics(registry), folder)
            gate = cls(config, keys, store, log, upkeep, Clock(clock, instants.latest(), steady))
            gate.reload(config)
            gate._stops.add(settled.unentered)
            undo.pop_all()
        await gate.tick(patience=None)
        return gate

    # ---- asking ------------------------------------------------------------------------------------------------------

    def check(self, call: Call, client: Client) -> asyncio.Future[Answer]:
        """The answer, once it is recorded. A fault of ours is an answer too: a deny without a decision id."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self.ask(call, client, answer)
        return answer

    def ask(self, call: Call, client: Client, answer: Awaited) -> None:
        """The same for who does without a future."""
        self._queue.add(Asked(call, client, self._steady(), answer))
        if self._deciding is None:
            self._next_batch()

    def permitted(self, answer: Answer) -> Answer:
        """An answer of `check`, with a permit."""
        seconds = self.config.settings.permit_seconds
        return permitted(answer, self._permit_key.sign, seconds, self._clock.at_least())

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
        made, worded = simulated(decision, facts, question.e164, shown.number, seconds), self.registrar.worded
        return structs.replace(made, reasons=worded(made.reasons), outcomes=worded(made.outcomes))

    # ---- the pipeline ------------------------------------------------------------------------------------------------

    def _next_batch(self) -> None:
        """Begin one, if no other is being decided, and enough wait."""
        if self._deciding is None and self._queue.ready:
            self._deciding = asyncio.create_task(self._batch())
            self._batches.add(self._deciding)
            self._deciding.add_done_callback(self._batches.discard)

    async def _batch(self) -> None:
        """Of those who are there, in the same turn of the event loop too."""
        batch: list[Asked] = []
        try:
            batch = await self._queue.take()
            begun = self._steady()
            answers = await self._answers(batch)
            reply(zip(batch, answers, strict=True), self.metrics.calls.took, self._steady())
            if self.traces is not None:
                asked = [(each.call, each.arrived) for each in batch]
                span = observed.Span(begun, self._steady(), time.time_ns())
                campaigns = [self._campaign(each) for each in batch]
                observed.trace(self.traces, campaigns, asked, answers, span)
        finally:
            self._queue.answered(batch)
            self._leave(asyncio.current_task())

    async def _answers(self, batch: list[Asked]) -> Sequence[Answer]:
        """Never raises: one answer for each call, a deny where the gate could not do its work."""
        try:
            return await self._decided(batch)
        except Unavailable as fault:
            component, problem = fault.component, str(fault)
        except Exception:  # noqa: BLE001 - whatever broke, the call is refused and the gate lives
            _log.exception("a batch failed")
            component, problem = "gate", "an error in the gate; its log has the details"
        self._upkeep.failed(component, problem)
        self.metrics.faults.labels(component).inc(len(batch))
        return [unavailable(f"the gate cannot decide now ({component}); ask again")] * len(batch)

    async def _decided(self, batch: list[Asked]) -> Sequence[Answer]:
        leave = partial(self._leave, asyncio.current_task())
        try:
            self._stops.refuse_if_unentered()
            self._upkeep.refuse_if_late()
            decided = await self._reserver.decide(partial(self._inquiry, batch), leave)
        finally:
            leave()
        # Also where nothing was written: what is repeated may be on its way to the disk still. If this fails the
        # records stay, and so do the attempts: the log is completed when it is mended.
        await self._recorder.sync()
        self._count(batch, decided)
        return decided.outside()

    def _inquiry(self, batch: list[Asked]) -> Inquiry:
        gatherer, now = self._gatherer, self._clock()
        since = now - self.config.settings.remember_hours * HOUR
        return Inquiry(gatherer, now, since, [gatherer.read(each.call, each.client) for each in batch])

    def _leave(self, batch: asyncio.Task[None] | None) -> None:
        """If that was the one being decided, none is. The next may be begun, for others wait now, or are answered."""
        if self._deciding is batch:
            self._deciding = None
        self._next_batch()

    def _count(self, batch: list[Asked], decided: Batch) -> None:
        observed.count(self.metrics, [asked.call for asked in batch], decided)
        # Not the whole batch: what is kept is let go late, when it is no longer at hand.
        self.recent.append((decided.now, batch[-_SHOWN:], decided.answers[-_SHOWN:], decided.codes[-_SHOWN:]))

    def _campaign(self, asked: Asked) -> str:
        """`other` where it is not the client's: what a stranger asks is not its owner's to see, and may be made up."""
        campaign = asked.call.campaign
        return campaign if self.config.line_of(campaign, asked.client) else "other"

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    def readiness(self) -> dict[str, str]:
        """What does not work, by component, in words; empty when the gate is ready."""
        return dict(self._upkeep.problems)

    def status(self) -> Status:
        snapshot = self._gatherer.snapshot
        return Status(
            ready=not self._upkeep.problems,
            problems=self.readiness(),
            node=self.config.settings.node,
            version=__version__,
            config=self.config.hash,
            laws=self.config.law_hash,
            snapshot=snapshot.version if snapshot else "",
            records=self._recorder.log.next_seq - 1,
            nodes=dict(self.roster.problems),
        )

    def now(self) -> Instant:
        return self._clock.at_least()

    def consulted(self) -> tuple[Part, ...]:
        """Whose registry answers are in use, and how old they are."""
        snapshot = self._gatherer.snapshot
        return snapshot.parts() if snapshot else ()

    async def _called_elsewhere(self, decision: str) -> tuple[str, str] | None:
        return next(
            iter(await self.subjects.peers.first(Called(decision), list[tuple[str, str]], within=_STOP)), None
        )

    async def proofs(self) -> list[CallerIdProof]:
        """Raises `StoreUnavailable`."""
        return await self._store.proofs()

    def reload(self, config: Config) -> None:
        """Put a configuration in force for every batch that begins from now on. Raises `ConfigError` where it cannot
        be changed while the gate runs, `OSError` where it cannot be kept."""
        old, new = fixed_at_start(self.config), fixed_at_start(config)
        moved = [key for key in new if new[key] != old[key]]
        if moved:
            raise ConfigError(
                [f"dialgate.yaml: `{key}` cannot be changed while the gate runs; restart it" for key in moved]
            )
        kept.keep(config.data / "kept", config)
        self.config = self.registrar.config = config
        self._queue.most = config.settings.batch_calls
        self._gatherer = self._upkeep.gatherer = self._gatherer.configured(config)
        self.registrar.registry_answers = self._gatherer.registry_answers
        self._upkeep.works("config")
        self.metrics.info.info({"version": __version__, "compiled": COMPILED, "config": config.hash})

    def config_rejected(self, error: ConfigError) -> None:
        """A new configuration could not be used; the last good one stays in force, and the gate ready."""
        self.metrics.config_rejected.inc()
        for problem in error.problems:
            _log.error("configuration refused; the last good one stays", problem=problem)

    async def tick(self, patience: float | None = PATIENCE) -> None:
        """Do one round of upkeep; `patience`: see `Upkeep.round`."""
        try:
            now = self._clock()
        except ClockSteppedBack as error:
            self._upkeep.failed("clock", str(error))
            return
        await self._upkeep.round(now, patience)
        self._stops.look(now)
        self._upkeep.report("ledger", self._stops.problem)
        await self.roster.tick(structs.replace(self._own, at=now, laws=self.config.law_hash), self.config)
        await self._observing.run(patience, now)
        if self._first and self._upkeep.lacking is not None:
            self._copies.look(self._upkeep.lacking, now)
        if self._stamper:
            await self._upkeep.stamp(self._stamper, now)

    async def run(self) -> None:
        """Run upkeep every `_PERIOD` seconds, or sooner when a list was copied here; until cancelled. From here on a gate whose last
        complete round is older than `upkeep_stale_seconds` denies."""
        self._upkeep.pulse.start()
        while True:
            due = self._loop.time() + _PERIOD
            self.registrar.changed.clear()
            try:
                await self.tick()
            except Exception:  # noqa: BLE001 - whatever broke, upkeep goes on: it is what mends the gate
                _log.exception("a round of upkeep failed")
                self._upkeep.failed("gate", "an error in its upkeep; its log has the details")
            try:
                async with asyncio.timeout_at(due):  # `wait_for` may swallow the cancellation
                    await self.registrar.changed.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """After the answers that are still awaited."""
        while self._batches:
            await asyncio.wait(self._batches)
        await self.subjects.peers.close()
        await self._copies.close()
        await self._stops.close()
        await self._observing.close()
        await self.subjects.close()
        await self.roster.leave()
        await self._upkeep.rest()
        await self._store.close()
        await self._upkeep.close(self._clock.at_least())
        self._recorder.close()
