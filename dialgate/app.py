"""The composition root, which builds a gate: its ledger, data-subject requests and upkeep.

Interfaces get an `App` and use its parts directly.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import structlog
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from dialgate import __version__
from dialgate.audit.log_proof import NightlyProof
from dialgate.cluster import membership
from dialgate.cluster.list_replication import ListReplication
from dialgate.cluster.membership import Roster
from dialgate.cluster.peer_questions import FindCall
from dialgate.cluster.peers import Peers
from dialgate.cluster.shipped_logs import ShippedLogs
from dialgate.config import content_store
from dialgate.config.configuration import Config, ConfigError, missing_controllers
from dialgate.core import local_time
from dialgate.core.faults import Unavailable
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import Checkpointer, DecisionLog, LogUnavailable, chains, make_checkpoint
from dialgate.gate.facts import Gatherer
from dialgate.gate.gate import Gate
from dialgate.gate.recorder import LogRecorder
from dialgate.gate.recovery import LogEnd, Recovery
from dialgate.gate.upkeep import PATIENCE, Upkeep, stamper_of
from dialgate.ledger.pending_stops import PendingFolder
from dialgate.ledger.registrar import Registrar
from dialgate.observability.metrics import Metrics
from dialgate.observability.traces import Traces
from dialgate.people.account_directory import AccountDirectory
from dialgate.people.client_keys import KeyDirectory
from dialgate.report.law_review import LawReading
from dialgate.report.mailing import ReportMailing
from dialgate.runtime.background_work import BackgroundWork
from dialgate.runtime.clock import TOLERANCE, Clock, ClockWrong, wall_clock
from dialgate.runtime.instants import KeptInstants
from dialgate.store import CallerIdProof, Shared, Store, factory
from dialgate.subjects.breach_register import BreachRegister
from dialgate.subjects.casework import Casework
from dialgate.subjects.rights import Subjects

# Seconds between upkeep rounds: a new list or proof must be in use within a second, including the round itself.
_PERIOD = 0.75
# Timeout, in seconds, for a request that asks another gate for a decision's called number.
_FIND_CALL_TIMEOUT = 2.0
_log = structlog.get_logger(__name__)


class Status(Struct, frozen=True, kw_only=True):
    """The state of a gate. Only `ready` is public; the other fields need a key."""

    ready: bool
    problems: dict[str, str] = {}
    node: str = ""
    version: str = ""
    config: str = ""
    laws: dict[str, str] = {}
    snapshot: str = ""
    records: int = 0
    nodes: dict[str, str] = {}


class App:
    """One gate.

    `open` creates it, `run` keeps it up to date, and `close` ends it after the last response.
    """

    def __init__(
        self,
        store: Store,
        log: DecisionLog,
        upkeep: Upkeep,
        recovery: Recovery,
        clock: Clock,
        traces: Traces | None,
    ) -> None:
        config, keys = upkeep.gatherer.config, upkeep.gatherer.keys
        self.metrics = metrics = upkeep.metrics
        self._store, self._log, self._upkeep, self._clock = store, log, upkeep, clock
        self._recovery = recovery
        self._recovering = BackgroundWork(self._recover, (Unavailable,))
        self._recorder = LogRecorder(log, clock.at_least, metrics, clock.steady)
        peers = Peers(lambda: self.config, keys, store, clock.at_least)
        host = _Host(self._recorder, peers, upkeep, clock.steady)
        self.registrar = Registrar(config, keys, store, clock.at_least, metrics, host)
        self.refresh = upkeep.refresh
        self.people = AccountDirectory(store, keys, clock.at_least, lambda: self.config)
        self.client_keys = KeyDirectory(store, config.data, clock.at_least, lambda: self.config)
        self._reading_keys = BackgroundWork(self.client_keys.read, (Unavailable, OSError))
        self.subjects = Subjects(self.registrar, peers)
        self.casework = Casework(self.subjects, self.registrar)
        self.law_reading = LawReading(store, lambda: self.config, clock.at_least)
        self.report_mailing = ReportMailing(store, lambda: self.config, clock.at_least, metrics)
        self.breaches = BreachRegister(store, self.subjects, self.registrar)
        self.shipped_logs = ShippedLogs(keys, store, config.data)
        self.roster = Roster(store, metrics, clock)
        self.gate = Gate(store, self._recorder, upkeep, clock, traces)
        self._pending = PendingFolder(self.registrar.access, self.registrar.revocations)
        self._entering = BackgroundWork(self._pending.enter, ())
        self._list_replication = ListReplication(config.data, store, peers, self.registrar.changed)
        self._observing = BackgroundWork(self.subjects.observe, ())
        self._exchanging = BackgroundWork(self.shipped_logs.tick, ())
        self._presence = membership.presence(config, keys.log)
        self._stamper = stamper_of(config, upkeep.chain)
        self._proving = NightlyProof(lambda: self.config, clock.at_least())

    @classmethod
    async def open(
        cls,
        config: Config,
        *,
        registry: CollectorRegistry,
        clock: Callable[[], Instant] = wall_clock,
        steady: Callable[[], float] = time.monotonic,
        traces: Traces | None = None,
    ) -> "App":
        """Open every part and do the first upkeep round.

        A shared store's clock is compared with `clock` if that is the wall clock. `steady` is the clock for
        durations, in seconds. Raises `KeysUnusable`, `StoreUnavailable`, `LogUnavailable` and `OSError`, because a gate
        that cannot record must not start, and `ConfigError` if an earlier controller is missing.
        """
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if missing := missing_controllers(content_store.controllers(config.data / "kept"), config):
            raise ConfigError(missing)
        if config.settings.store is None:  # on a shared store, such a node gets an empty data folder
            chains.begin_restored_log(config.data)
        ended, number = chains.logs_of(config.data)
        folder, keys = chains.folder(config.data, number), Keys.open(config.data / "keys.json", number)
        async with AsyncExitStack() as undo:
            # Open the store before the log, so that a gate that is refused here creates no log.
            store = await factory.open_store(config, keys)
            undo.push_async_callback(store.close)
            await membership.refuse_twins(store, membership.presence(config, keys.log), clock())
            log = _open_log(config, folder, keys.log, clock())
            undo.callback(log.close)
            checkpoints = Checkpointer.open(
                folder,
                log=keys.log,
                signer=partial(Signer.open, config.data / "signing.json"),
                interval=int(config.settings.checkpoint_seconds * SECOND),
                durable=log.durable,
            )
            ends = _ended_logs(config, ended, clock())
            await _refuse_older_log(store, keys.log, log.durable)
            upkeep = Upkeep(Gatherer(config, keys), store, log, checkpoints, Metrics(registry), folder)
            recovery = Recovery(
                config.data,
                keys,
                store,
                lambda: [*ends, LogEnd(folder, keys, log.next_seq - 1)],
                lambda: int(upkeep.gatherer.config.settings.answer_seconds * SECOND),
            )
            instants = KeptInstants(config.data)
            instants.advance(await recovery.settle(clock()))
            await recovery.finish(clock())
            tolerance = TOLERANCE if isinstance(store, Shared) and clock is wall_clock else None
            gate_clock = Clock(clock, instants.latest(), steady, tolerance)
            app = cls(store, log, upkeep, recovery, gate_clock, traces)
            app.reload(config)
            await app.client_keys.read()  # before the first request, because a key may be disabled
            undo.pop_all()
        await app.tick(patience=None)
        return app

    @property
    def config(self) -> Config:
        return self.gate.config

    @property
    def shared(self) -> Shared | None:
        """The store, if other gates use it too."""
        return self._store if isinstance(self._store, Shared) else None

    def status(self) -> Status:
        problems, snapshot = self.gate.readiness(), self.gate.snapshot
        return Status(
            ready=not problems,
            problems=problems,
            node=self.config.settings.node,
            version=__version__,
            config=self.config.hash,
            laws=self.config.law_hash,
            snapshot=snapshot.version if snapshot else "",
            records=self._log.next_seq - 1,
            nodes=dict(self.roster.problems),
        )

    async def proofs(self) -> list[CallerIdProof]:
        """Return the recorded caller-ID proofs. Raises `StoreUnavailable`."""
        return await self._store.proofs()

    def reload(self, config: Config) -> None:
        """Apply a configuration. Raises the same errors as `Gate.reload`."""
        self.gate.reload(config)
        self._store.keep_attempts(config.attempts_kept)
        self.registrar.reload(config)
        self.client_keys.reindex()

    async def tick(self, patience: float | None = PATIENCE) -> None:
        """Do one upkeep round. Wait up to `patience` seconds for each background task."""
        await self.enter_stops(patience)  # first: a stop binds whatever the clock shows
        await self._reading_keys.run(patience)
        presence = structs.replace(self._presence, at=self._clock.at_least(), laws=self.config.law_hash)
        # Before the clock is read, because it compares the clock.
        await self.roster.tick(presence, self.config)
        try:
            now = self._clock()
        except ClockWrong as error:
            self._upkeep.report("clock", str(error))
            return
        await self._exchanging.run(patience, now)
        await self._upkeep.round(now, patience)
        await self._recovering.run(patience, now)
        if problem := self._recovering.problem or self._reading_keys.problem:
            self._upkeep.report("store", problem)
        await self._observing.run(patience, now)
        if self._upkeep.lacking is not None:
            self._list_replication.tick(self._upkeep.lacking, now)
        if self._stamper:
            await self._upkeep.stamp(self._stamper, now)
        self._proving.tick(now)
        self.report_mailing.tick(now)

    async def enter_stops(self, patience: float | None = None) -> None:
        """Enter the stops that commands kept while no gate ran. Until that is done, every call is denied."""
        await self._entering.run(patience)
        self._upkeep.report("ledger", self._recovery.problem or self._pending.problem)

    async def _recover(self, now: Instant) -> None:
        if self._recovery.is_due:
            async with self._recorder.turn:
                await self._recorder.sync()  # other gates may repeat the answers that recovery adds
                await self._recovery.settle(now)
        await self._recovery.finish(now)

    async def run(self) -> None:
        """Run upkeep until cancelled, with a round every `_PERIOD` seconds.

        A round also starts at once after a call list is copied to this node, or an erasure removes a number from one of
        the node's call lists. After `run` has started, the gate denies every call if the last complete round is older
        than `upkeep_stale_seconds`.
        """
        self._upkeep.pulse.start()
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PERIOD
            self.registrar.changed.clear()
            try:
                await self.tick()
            except Exception:  # noqa: BLE001 - upkeep repairs the gate, so it must never end
                _log.exception("upkeep round failed")
                self._upkeep.report("gate", "an error in upkeep; see the gate's service log for the details")
            try:
                async with asyncio.timeout_at(due):  # `wait_for` may suppress the cancellation
                    await self.registrar.changed.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Close every part. Call this after the last response."""
        await self.gate.close()
        await self._proving.close()
        await self.report_mailing.close()
        self.registrar.close()
        self.people.close()
        await self.subjects.peers.close()
        await self._list_replication.close()
        await self._recovering.close()
        await self._reading_keys.close()
        await self._observing.close()
        await self._exchanging.close()
        self.shipped_logs.close()
        await self._entering.close()
        await self.subjects.close()
        await self.roster.leave()
        await self._upkeep.rest()
        await self._store.close()
        await self._upkeep.close(self._clock.at_least())
        await self._recorder.close()


class _Host:
    """The gate as the ledger sees it (`HostGate`)."""

    append = None

    def __init__(self, log: LogRecorder, peers: Peers, upkeep: Upkeep, steady: Callable[[], float]) -> None:
        self.log, self.steady = log, steady
        self.refresh, self.registry_answers = upkeep.refresh, upkeep.registry_answers
        self._peers = peers

    async def find_call_elsewhere(self, decision: str) -> tuple[str, str] | None:
        peers = await self._peers.ask(FindCall(decision), within=_FIND_CALL_TIMEOUT)
        return next(chain.from_iterable(peers.answers.values()), None)


async def _refuse_older_log(store: Store, log: str, head: int) -> None:
    """Raise `LogUnavailable` if the log lacks entries that were on disk before.

    Their calls were made. Recovery would delete their attempts, and the gate would give their ids to other calls.
    """
    recorded = await store.recorded(log)
    if recorded > head:
        raise LogUnavailable(
            f"this node's log ends at entry {head}, but had reached {recorded}: it is an older copy, which lacks calls that were"
            " made. See docs/how-to/back-up-and-restore.md"
        )


def _open_log(config: Config, folder: Path, name: str, now: Instant) -> DecisionLog:
    return DecisionLog.open(
        folder,
        log=name,
        now=now,
        gate={"dialgate": __version__, **local_time.versions()},
        segment_bytes=config.settings.log_segment_mb << 20,
        segment_span=config.settings.log_segment_hours * HOUR,
    )


def _ended_logs(config: Config, numbers: Sequence[int], now: Instant) -> list[LogEnd]:
    """Sign the ends of the logs that the gate no longer writes. Raises `LogUnavailable`, `KeysUnusable`.

    Logs without entries are left out.
    """
    signer, logs = partial(Signer.open, config.data / "signing.json"), []
    for number in numbers:
        folder, keys = chains.folder(config.data, number), Keys.open(config.data / "keys.json", number)
        if folder.is_dir() and (head := make_checkpoint(folder, log=keys.log, signer=signer(now), now=now)):
            logs.append(LogEnd(folder, keys, head))
    return logs
