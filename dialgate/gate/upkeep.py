"""The upkeep of a gate: once a second, it loads new data and retries a failed log or store.

The data are snapshots, call lists and caller-ID proofs. Decisions depend on them, so the gate denies calls if the last
complete round is too old. Slow work, such as the verification of a large snapshot, runs in threads. A failure is
reported and makes the gate not ready.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from dialgate.config import url_secrets
from dialgate.config.configuration import Config, ConfigError
from dialgate.core import periods
from dialgate.core.faults import Unavailable
from dialgate.core.law_sections import Registry
from dialgate.core.model import HOUR, MINUTE, SECOND, Instant, RegistryAnswer
from dialgate.decision_log import Checkpointer, DecisionLog
from dialgate.decision_log.archive import Background
from dialgate.decision_log.timestamps import NoTimestamp, Stamper
from dialgate.gate.client_limits import DiskShares
from dialgate.gate.durable_note import DurableNote
from dialgate.gate.facts import Gatherer
from dialgate.gate.health_metrics import HealthMetrics
from dialgate.lists import void_consultations
from dialgate.lists.manifest import SnapshotMissing
from dialgate.lists.number_set import DamagedFile
from dialgate.lists.snapshot import Snapshot, SnapshotPart, has_changed, pulled_at
from dialgate.observability.metrics import Metrics
from dialgate.runtime.background_work import BackgroundWork
from dialgate.runtime.clock import TOLERANCE
from dialgate.runtime.garbage_collection import return_free_memory
from dialgate.runtime.instants import KeptInstants
from dialgate.runtime.shared_run import SharedRun
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import CallList, Store
from dialgate.store.call_lists import refuse_lost_changes
from dialgate.store.watermark import LedgerWatermark

COMPONENTS = ("clock", "config", "gate", "keys", "ledger", "log", "snapshot", "store", "upkeep")
# Seconds for which a round waits for background work, which is usually done by then.
PATIENCE: Final = 0.5
# one for each task: recover, open lists, verify a snapshot, checkpoint, stamp, pack, note
_THREADS: Final = 7
_LATE: Final = (
    "no upkeep round was completed within `upkeep_stale_seconds`, so lists, proofs and registry answers may be outdated."
    " Check whether the processor, the disk or the store is overloaded"
)
_FAULTS: Final = (Unavailable, SnapshotMissing, DamagedFile, OSError)
_log = structlog.get_logger(__name__)


class UpkeepLate(Unavailable):
    component = "upkeep"


class StopsUnentered(Unavailable):
    component = "ledger"


class Pulse:
    """The age of the last complete round of upkeep.

    The age is 0 until `start` is called, so a gate without `App.run`'s periodic loop is never reported as late.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._completed = clock()
        self._started = False

    def start(self) -> None:
        self._started = True

    def complete(self) -> None:
        self._completed = self._clock()

    @property
    def age(self) -> float:
        """The age in seconds."""
        return self._clock() - self._completed if self._started else 0.0


class Upkeep:
    """The upkeep of one gate.

    `problems` describes each failed component; the gate is ready while `problems` is empty. `reload` replaces `gatherer`.
    `chain` is the log folder. `lacking` names the call-list files that are missing or damaged on this node; it is None
    while the store is unavailable.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        store: Store,
        log: DecisionLog,
        checkpoints: Checkpointer,
        metrics: Metrics,
        chain: Path,
    ) -> None:
        self._problems: dict[str, str] = {}
        self.pulse = Pulse(time.monotonic)
        self.metrics, self.gatherer = metrics, gatherer
        folder = self._folder = gatherer.config.data
        self._store, self._log = store, log
        self._checkpoints, self._uncovered = checkpoints, ""
        self.chain = chain
        self.lacking: frozenset[str] | None = None
        self._threads = ThreadPool("upkeep", _THREADS)
        self._archiving = Background(chain)
        self._watermark = LedgerWatermark(folder, self._threads.run)
        self._instants = KeptInstants(folder)
        self._health = HealthMetrics(folder, metrics, lambda: (self.gatherer, self._now))
        self.disk_shares = DiskShares()
        self._now: Instant = 0  # of the last round
        self._records: list[CallList] = []  # the call lists last read from the store
        self._read_again, self._open_again = SharedRun(self._read_lists), SharedRun(self._open_lists)
        self._opening = BackgroundWork(self._open_again, _FAULTS)
        self._verifying = BackgroundWork(self._replace, _FAULTS)
        self._tidying = BackgroundWork(self._tidy, _FAULTS)
        self.durable_note = DurableNote(store, log)
        self._keeping_clock = BackgroundWork(self._keep_instant, _FAULTS)
        self._covering = BackgroundWork(self._checkpoint, _FAULTS)
        self._stamping = BackgroundWork(self._stamp, ())
        for component in COMPONENTS:
            metrics.ready.labels(component).set(1)
            metrics.faults.labels(component)  # start at 0: Prometheus ignores a rise from nothing to 1
        metrics.ready.labels("upkeep").set_function(lambda: not self._late)
        metrics.upkeep_age.set_function(lambda: self.pulse.age)

    @property
    def problems(self) -> dict[str, str]:
        if self._late:
            return self._problems | {"upkeep": _LATE}
        return self._problems

    @property
    def _late(self) -> bool:
        is_read = self.gatherer.counted.stored.is_read
        return not is_read or self.pulse.age > self.gatherer.config.settings.upkeep_stale_seconds

    def refuse_if_late(self) -> None:
        """Raise `UpkeepLate` if the last complete round is too old."""
        if self._late:
            raise UpkeepLate(_LATE)

    def refuse_if_stops_wait(self) -> None:
        """Raise `StopsUnentered` while the ledger lacks a stop. Its number is unknown here: any call could be to it."""
        if problem := self._problems.get(StopsUnentered.component):
            raise StopsUnentered(problem)

    def report(self, component: str, problem: str) -> None:
        """Set a component's problem. An empty `problem` means that the component works."""
        if problem:
            if self._problems.get(component) != problem:
                _log.error("not available", component=component, problem=problem)
            self._problems[component] = problem
        elif self._problems.pop(component, None) is not None:
            _log.info("available again", component=component)
        self.metrics.ready.labels(component).set(not problem)

    def reload(self, config: Config) -> None:
        """Gather facts by another configuration, from the next batch on."""
        self.gatherer = self.gatherer.configured(config)
        self.report("config", "")

    def registry_answers(self, country: str, controller: str, e164: str) -> tuple[RegistryAnswer, ...]:
        """Return the answers that the registries of `country` gave to a controller about a number."""
        return self.gatherer.registry_answers(country, controller, e164)

    async def round(self, now: Instant, patience: float | None = PATIENCE) -> None:
        """Do one round of upkeep. Expected errors are reported, not raised.

        The round waits up to `patience` seconds for each background task.
        """
        self._now = now
        for component in ("gate", "keys"):
            self.report(component, "")  # the next batch that fails reports the problem again
        self.gatherer.terms.prepare(now)
        is_read = await self._try("store", lambda: self._look_up(patience))
        await self._try("snapshot", lambda: self._renew(now, patience))
        if is_read:  # if the read failed, another node may have retired a list
            # Decisions do not depend on the work below, which may wait for a busy disk or store.
            self.pulse.complete()
            self.report("upkeep", "")
        await self._try("log", lambda: self._recover_log(now))
        await self._keeping_clock.run(patience, now)
        self.report("clock", self._keeping_clock.problem)
        await self.durable_note.write(patience)
        await self._tidying.run(patience, now)
        if is_read:
            self.report("store", self._store_problem)
        self.metrics.log_records.set(self._log.next_seq - 1)
        self.disk_shares.look(*self._health.observe(), now)
        await self._covering.run(patience, now)

    async def _try(self, component: str, step: Callable[[], Awaitable[str]]) -> bool:
        """Run a step and report the problem that it returns, if any. Return False if the step raised an error."""
        try:
            self.report(component, await step())
        except _FAULTS as error:
            self.report(component, str(error))
            return False
        return True

    @property
    def _store_problem(self) -> str:
        return self._opening.problem or self.durable_note.problem or self._tidying.problem

    async def _keep_instant(self, now: Instant) -> None:
        await self._threads.run(self._instants.advance, now)
        self.metrics.retention_unconfirmed.set(self._instants.recent_jump(now) is not None)

    async def _tidy(self, now: Instant) -> None:
        await self._watermark.advance(self._store)  # first, because `maintain` also cleans up after writes
        remembered = int(self.gatherer.config.settings.remember_hours * HOUR)
        await self._store.maintain(self._instants.cutoff(now, remembered))

    async def _recover_log(self, now: Instant) -> str:
        await self._threads.run(self._log.recover, now)
        keep = int(self.gatherer.config.settings.log_archive_hours * HOUR)
        await self._threads.run(self._archiving.round, now, keep)  # starts a process without waiting
        return ""

    async def _checkpoint(self, now: Instant) -> None:
        """Write a checkpoint. If this is slow or fails, calls are not affected."""
        problem = ""
        try:
            covered = await self._threads.run(self._checkpoints.advance, self._log.durable, now)
            self.metrics.log_covered.set(covered)
        except Unavailable as error:
            problem = str(error)
        if problem and problem != self._uncovered:
            _log.error("checkpoint failed", problem=problem)
        self._uncovered = problem

    async def stamp(self, stamper: Stamper, now: Instant) -> None:
        """Request a time stamp in the background, unless an earlier request is still in progress."""
        await self._stamping.run(0, stamper, now)

    async def _stamp(self, stamper: Stamper, now: Instant) -> None:
        try:
            await self._threads.run(stamper.stamp, now)
        except (NoTimestamp, Unavailable, OSError) as error:
            _log.error("time stamp failed", problem=str(error))

    async def rest(self) -> None:
        """Wait for all background work to end. Close the store only afterwards."""
        await self.durable_note.flush()
        for part in (
            self._tidying,
            self._opening,
            self._verifying,
            self._covering,
            self._keeping_clock,
        ):
            await part.close()
        await self._read_again.close()
        await self._open_again.close()

    async def close(self, now: Instant) -> None:
        """Write the last checkpoint, which covers the whole log. Call this after `rest`."""
        try:
            await self._threads.run(self._checkpoints.finish, self._log.durable, now)
        except Unavailable as error:
            _log.error("checkpoint failed", problem=str(error))
        await self._stamping.close()
        self._threads.close()

    # ---- call lists and proofs ---------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Load the current call lists and proofs from the store. Raises `StoreUnavailable`."""
        await self._read_again()
        await self._open_again()

    async def _look_up(self, patience: float | None) -> str:
        self.lacking = None
        await self._read_again()
        await self._opening.run(patience)
        return self._store_problem

    async def _read_lists(self) -> None:
        """Read lists, proofs and campaign counts.

        Only one read may run at a time, because otherwise an older result could replace a newer one.
        """
        records, proofs = await self._store.lists(), await self._store.proofs()
        refuse_lost_changes((self._records, self.gatherer.proofs.values()), (records, proofs))
        await self.gatherer.counted.stored.read(self._store)  # shared with the gatherer after a reload
        self._records = records
        self.gatherer.drop_lists(records)
        self.gatherer.load_proofs(proofs)
        self.gatherer.counted.update(self._now)

    async def _open_lists(self) -> None:
        """Open new lists. This may be slow, so `_read_lists` removes retired lists first."""
        lists = await self._threads.run(self.gatherer.open_lists, self._records, self._folder / "lists")
        gatherer = self.gatherer  # a reload may have replaced it meanwhile
        gatherer.use_lists(lists)
        gatherer.drop_lists(self._records)  # the records may have been read again while the lists were opened
        used = {loaded.record.file for loaded in lists.values()}
        self.lacking = frozenset(record.file for record in self._records if not record.retired_at) - used

    # ---- the snapshot ------------------------------------------------------------------------------------------------

    async def _renew(self, now: Instant, patience: float | None) -> str:
        folder = self._folder / "snapshots"
        snapshot = self.gatherer.snapshot
        key = self.gatherer.config.settings.snapshot_key
        if has_changed(folder, snapshot, key) or (snapshot is not None and _is_ahead(snapshot, now)):
            await self._verifying.run(patience, folder)
            if self._verifying.problem:
                return self._verifying.problem
        gatherer = self.gatherer
        if gatherer.snapshot is None:
            if not any(law.registries for law in gatherer.config.laws.values()):
                return ""
            return "no registry answers are published; run `registry-sync import`"
        behind = _behind(folder, gatherer.config.settings.snapshot_behind_minutes, now)
        return behind or self._freshness(gatherer, gatherer.snapshot, now)

    async def _replace(self, folder: Path) -> None:
        """Use the published snapshot if it is intact. Otherwise keep the previous one."""
        try:
            key = self.gatherer.config.settings.snapshot_key
            snapshot = await self._threads.run(_open_verified, folder, key, self._now)
        except (DamagedFile, SnapshotMissing):
            self.metrics.snapshot_rejected.inc()
            raise
        self.gatherer.use_snapshot(snapshot)  # the current gatherer: a reload may have replaced it meanwhile
        _log.info("snapshot in use", version=snapshot.version)
        await self._threads.run(return_free_memory)

    def _freshness(self, gatherer: Gatherer, snapshot: Snapshot, now: Instant) -> str:
        rules = {rule.id: rule for law in gatherer.config.laws.values() for rule in law.registries}
        ends = [
            self._observe(part, rules[part.registry], now)
            for part in snapshot.parts()
            if part.registry in rules
        ]
        if ends and max(ends) > now:
            return ""
        return "all registry answers have expired; consult the registry and import its answer"

    def _observe(self, part: SnapshotPart, rule: Registry, now: Instant) -> Instant:
        ends = periods.end(rule.validity, part.newest_consulted_at)
        age = now - part.newest_consulted_at
        self.metrics.snapshot(part.registry, part.controller, part.numbers, age, ends - now)
        return ends


def stamper_of(config: Config, chain: Path) -> Stamper | None:
    """Return the client for the configured time-stamp authority, or None without one. Raises `ConfigError`."""
    settings, roots = config.settings, config.folder / config.settings.timestamp_roots
    interval = int(settings.timestamp_seconds * SECOND)
    try:
        url = url_secrets.read_url(settings.timestamp_url, settings.timestamp_url_file, config.folder)
        return Stamper(chain, url, roots, interval) if url else None
    except (OSError, ValueError) as error:
        problem = (
            f"timestamp_roots: cannot read {roots.name}, or the time stamps in the log's folder: {error}"
        )
        raise ConfigError([problem]) from error


def _behind(folder: Path, minutes: float, now: Instant) -> str:
    """Return a problem if this node last compared its snapshot with the published one more than `minutes` ago.

    Return "" if there is no problem or if `minutes` is 0.
    """
    compared_at = pulled_at(folder) if minutes else None
    if compared_at is None or now - compared_at <= minutes * MINUTE:
        return ""
    return "this node has not compared its registry answers with the published ones for too long; run `registry-sync pull`"


def _is_ahead(snapshot: Snapshot, now: Instant) -> bool:
    """Return whether an answer is dated after `now`, because a clock was wrong when it was imported."""
    return any(part.newest_consulted_at > now + TOLERANCE for part in snapshot.parts())


def _open_verified(folder: Path, key: str, now: Instant) -> Snapshot:
    snapshot = Snapshot.open(folder, key, void_consultations.note(folder.parent, folder, now))
    try:
        snapshot.verify()
    except DamagedFile:
        snapshot.close()
        raise
    return snapshot
