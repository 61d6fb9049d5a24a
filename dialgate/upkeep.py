"""What keeps a gate in repair, once a second: newly published snapshots, call lists, caller-ID proofs, a log or a store
that failed and may work again. Nothing here decides; whatever fails here closes the gate and says so."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from dialgate.archive import Background
from dialgate.decision_log import Checkpointer, DecisionLog
from dialgate.faults import Unavailable
from dialgate.gather import Gatherer
from dialgate.kept_instants import KeptInstants
from dialgate.law import Registry
from dialgate.metrics import Metrics
from dialgate.model import DAY, HOUR, MINUTE, Instant
from dialgate.numberset import DamagedFile
from dialgate.reached import Reached
from dialgate.shared_run import SharedRun
from dialgate.snapshot import Part, Snapshot, SnapshotMissing, changed, pulled_at
from dialgate.store import Store
from dialgate.timestamps import NoTimestamp, Stamper
from dialgate.vitals import Vitals

COMPONENTS = ("clock", "config", "gate", "keys", "ledger", "log", "snapshot", "store")
_log = structlog.get_logger(__name__)


class Upkeep:
    """`problems` says, for each component that does not work, why; the gate is ready while it is empty. `gatherer`: the
    one in use, which its owner replaces when the configuration changes. `chain`: the folder of its log. `lacking`: the
    files of call lists that are recorded, and missing or damaged here; None while the store is away."""

    gatherer: Gatherer

    def __init__(
        self,
        folder: Path,
        store: Store,
        log: DecisionLog,
        checkpoints: Checkpointer,
        metrics: Metrics,
        chain: Path,
    ) -> None:
        self.problems: dict[str, str] = {}
        self.metrics = metrics
        self._folder, self._store, self._log = folder, store, log
        self._checkpoints, self._uncovered = checkpoints, ""
        self._stamping: asyncio.Task[None] | None = None
        self._refused: tuple[int, int, int] | None = None
        self.chain = chain
        self.lacking: frozenset[str] | None = None
        self._archiving = Background(chain)
        self._reached = Reached(folder)
        self._instants = KeptInstants(folder)
        self._vitals = Vitals(folder, metrics)
        self.refresh = SharedRun(self._refresh)
        for component in COMPONENTS:
            metrics.ready.labels(component).set(1)
            metrics.faults.labels(component)  # from 0 on: a count that begins at 1 looks like no increase

    def failed(self, component: str, problem: str) -> None:
        if self.problems.get(component) != problem:
            _log.error("not available", component=component, problem=problem)
        self.problems[component] = problem
        self.metrics.ready.labels(component).set(0)

    def works(self, component: str) -> None:
        if self.problems.pop(component, None) is not None:
            _log.info("available again", component=component)
        self.metrics.ready.labels(component).set(1)

    def report(self, component: str, problem: str) -> None:
        """An empty `problem`: it works."""
        if problem:
            self.failed(component, problem)
        else:
            self.works(component)

    async def round(self, now: Instant) -> None:
        """One round at `now`. Raises nothing that was foreseen."""
        gatherer = self.gatherer
        for component in ("gate", "keys"):
            self.works(component)  # a batch says so again if it is not true
        gatherer.prepare(now)
        await self._try("clock", lambda: self._keep_instant(now))
        await self._try("log", lambda: self._mend_log(gatherer, now))
        await self._try("store", lambda: self._look_up(now))
        await self._try("snapshot", lambda: self._renew(now))
        self.metrics.log_records.set(self._log.next_seq - 1)
        self._vitals.observe(gatherer, now)
        await self._checkpoint(now)

    async def _try(self, component: str, step: Callable[[], Awaitable[str]]) -> None:
        try:
            problem = await step()
        except (Unavailable, SnapshotMissing, DamagedFile, OSError) as error:
            problem = str(error)
        self.report(component, problem)

    async def _keep_instant(self, now: Instant) -> str:
        await asyncio.to_thread(self._instants.advance, now)
        self.metrics.retention_unconfirmed.set(self._instants.jump() is not None)
        return ""

    async def _mend_log(self, gatherer: Gatherer, now: Instant) -> str:
        await asyncio.to_thread(self._log.recover, now)
        keep = int(gatherer.config.settings.log_archive_hours * HOUR)
        await asyncio.to_thread(self._archiving.round, now, keep)
        return ""

    async def _checkpoint(self, now: Instant) -> None:
        """No call waits for a checkpoint, and none is refused for want of one."""
        problem = ""
        try:
            covered = await asyncio.to_thread(self._checkpoints.advance, self._log.durable, now)
            self.metrics.log_covered.set(covered)
        except Unavailable as error:
            problem = str(error)
        if problem and problem != self._uncovered:
            _log.error("no checkpoint can be made", problem=problem)
        self._uncovered = problem

    def stamp(self, stamper: Stamper, now: Instant) -> None:
        """Begins to ask the authority, unless it is being asked still: nobody waits for it."""
        if self._stamping is None or self._stamping.done():
            self._stamping = asyncio.create_task(self._stamp(stamper, now))

    async def _stamp(self, stamper: Stamper, now: Instant) -> None:
        try:
            await asyncio.to_thread(stamper.stamp, now)
        except (NoTimestamp, Unavailable, OSError) as error:
            _log.error("no time stamp", problem=str(error))

    async def close(self, now: Instant) -> None:
        """A log that rests is covered to its end."""
        try:
            await asyncio.to_thread(self._checkpoints.finish, self._log.durable, now)
        except Unavailable as error:
            _log.error("no checkpoint can be made", problem=str(error))
        if self._stamping is not None:
            await self._stamping
        await self.refresh.close()

    async def _look_up(self, now: Instant) -> str:
        self.lacking = None
        await self.refresh()
        await self._reached.keep(self._store)  # before `maintain`, which tidies up after every write
        remembered = int(self.gatherer.config.settings.remember_hours * HOUR)
        await self._store.maintain(self._instants.elapsed(now, remembered))
        return ""

    async def _refresh(self) -> None:
        """Use the call lists and proofs that the store holds. Only one runs at a time: else an older reading could replace
        a newer one, and a retired list would open calls again. Raises `StoreUnavailable`."""
        lists, proofs = await self._store.lists(), await self._store.proofs()
        opened = await asyncio.to_thread(self.gatherer.open_lists, lists, self._folder / "lists")
        gatherer = self.gatherer  # a reload may have replaced it meanwhile
        gatherer.use_lists(opened)
        gatherer.load_proofs(proofs)
        used = {each.record.file for each in opened.values()}
        self.lacking = frozenset(each.file for each in lists if not each.retired_at) - used

    # ---- the snapshot ------------------------------------------------------------------------------------------------

    async def _renew(self, now: Instant) -> str:
        folder = self._folder / "snapshots"
        if changed(folder, self.gatherer.snapshot):
            await self._replace(folder)
        gatherer = self.gatherer
        if gatherer.snapshot is None:
            return "no registry answers are published yet; run `registry-sync import`"
        behind = _behind(folder, gatherer.config.settings.snapshot_behind_minutes, now)
        return behind or self._freshness(gatherer, gatherer.snapshot, now)

    async def _replace(self, folder: Path) -> None:
        """A damaged publication is refused and the last good one stays; every byte is read before the first answer."""
        try:
            key = self.gatherer.config.settings.snapshot_key
            opened = await asyncio.to_thread(_verified, folder, key)
        except (DamagedFile, SnapshotMissing):
            self.metrics.snapshot_rejected.inc()
            raise
        self.gatherer.snapshot = opened  # of now: a reload may have replaced the one that was there before
        _log.info("snapshot in use", version=opened.version)

    def _freshness(self, gatherer: Gatherer, snapshot: Snapshot, now: Instant) -> str:
        rules = {rule.id: rule for law in gatherer.config.laws.values() for rule in law.registries}
        ends = [
            self._observe(part, rules[part.registry], now)
            for part in snapshot.parts()
            if part.registry in rules
        ]
        if ends and max(ends) > now:
            return ""
        return "every registry answer has expired; consult the registry and import its answer"

    def _observe(self, part: Part, rule: Registry, now: Instant) -> Instant:
        ends = part.newest_consulted_at + rule.validity_days * DAY
        age = now - part.newest_consulted_at
        self.metrics.snapshot(part.registry, part.controller, part.numbers, age, ends - now)
        return ends


def _behind(folder: Path, minutes: float, now: Instant) -> str:
    """`minutes`: for how long a copy may not have been compared with what is published elsewhere; 0: for ever."""
    seen = pulled_at(folder) if minutes else None
    if seen is None or now - seen <= minutes * MINUTE:
        return ""
    return "this node's registry answers were not compared with the published ones for too long; see `registry-sync pull`"


def _verified(folder: Path, key: str) -> Snapshot:
    opened = Snapshot.open(folder, key)
    try:
        opened.verify()
    except DamagedFile:
        opened.close()
        raise
    return opened
