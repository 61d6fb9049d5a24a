"""One run over all registries, with the time as an argument."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from dialgate.config.configuration import ConfigError
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.publisher_signature import SnapshotSigner
from dialgate.lists.number_set import DamagedFile
from dialgate.lists.release_holds import ReleaseRequired
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.file_lock import hold_lock
from dialgate.runtime.instants import ClockJumped, KeptInstants
from dialgate.store import CallList, Ledger, factory
from registry_sync import (
    disconnection,
    full_list_cycle,
    publication,
    query_cycle,
    run_report,
    source_settings,
)
from registry_sync.config import FullListRegistry, Plan, QueriedRegistry
from registry_sync.formats.text import FaultyFile, Progress
from registry_sync.import_checks import ImportRefused
from registry_sync.publication import PublishTarget
from registry_sync.query_candidates import select_candidates
from registry_sync.query_cycle import QueryContext
from registry_sync.query_packages import PackageStore
from registry_sync.run_report import Run, Summary
from registry_sync.sources import Source, SourceFailed, open_source

FAULTS = (
    ImportRefused,
    ReleaseRequired,
    Refused,
    ConfigError,
    FaultyFile,
    DamagedFile,
    SourceFailed,
    Unavailable,
    OSError,
)
LAST_RUN = "last-run.json"
_log = structlog.get_logger(__name__)


class RunContext(NamedTuple):
    """Values that all parts of a run share."""

    plan: Plan
    target: PublishTarget
    clock: Callable[[], Instant]
    progress: Progress
    dry: bool


class OpenedLedger(NamedTuple):
    store: Ledger
    keys: Keys
    lists: Sequence[CallList]


def publish_target(plan: Plan) -> PublishTarget:
    """Return the configured publication target. Raises Unavailable if the signing key is not usable."""
    key = plan.registries.signing_key_file
    sign = SnapshotSigner.open(plan.folder / key).sign if key else None
    return PublishTarget(folder=plan.snapshots, kept=plan.registries.kept, sign=sign)


async def run(
    plan: Plan, progress: Progress, *, dry: bool = False, clock: Callable[[], Instant] = wall_clock
) -> Run:
    """Run the job for each registry in turn. If one registry fails, raise an alarm and continue with the others.

    With `dry`, nothing is submitted, stored or published. Raises Refused if another run or import is in
    progress, and DamagedFile, Unavailable and OSError.
    """
    with lock_work_folder(plan.work):
        context = RunContext(plan, publish_target(plan), clock, progress, dry)
        parts = [await _run_full_list(context, settings) for settings in plan.registries.listed]
        if plan.registries.asked:
            async with _open_ledger(plan) as ledger:
                parts += [await _run_queries(context, settings, ledger) for settings in plan.registries.asked]
        if not dry:
            publication.sign_current(context.target)
        version = publication.current_manifest(plan.snapshots).version
        result = Run(at=clock(), version=version, dry=dry, parts=tuple(parts))
        if not dry:
            _store_result(plan, result)
        return result


async def _run_full_list(context: RunContext, settings: FullListRegistry) -> Summary:
    plan = context.plan
    cycle = full_list_cycle.FullListCycle(
        settings,
        context.target,
        plan.work,
        context.clock,
        context.progress,
        plan.zones.get(settings.registry, ""),
    )
    run = partial(cycle.run, dry=context.dry)
    return await _run_part(context, settings.source, Summary(registry=settings.registry, controller=""), run)


async def _run_queries(context: RunContext, settings: QueriedRegistry, ledger: OpenedLedger) -> Summary:
    plan = context.plan
    summary = Summary(registry=settings.registry, controller=settings.controller)

    async def run(source: Source) -> Summary:
        candidates = await asyncio.to_thread(
            select_candidates, plan.gate, settings, ledger.lists, context.clock()
        )
        wanted, consents = candidates.numbers, None
        if settings.registry in plan.about_disconnection:
            wanted, consents = await disconnection.read_newest_consents(
                ledger.store, ledger.keys, settings.controller, wanted
            )
        query = QueryContext(
            plan=plan,
            settings=settings,
            packages=PackageStore(plan.work, settings),
            target=context.target,
            store=ledger.store,
            keys=ledger.keys,
            wanted=wanted,
            planned=candidates.planned,
            consents=consents,
            clock=context.clock,
            retention_at=_retention_at(plan.gate.data, context.clock()),
            progress=context.progress,
        )
        result = await query_cycle.QueryCycle(query).run(source, dry=context.dry)
        damaged = (summary.alarm("file_faulty", text) for text in candidates.damaged)
        return msgspec.structs.replace(result, foreign=candidates.foreign, alarms=(*result.alarms, *damaged))

    return await _run_part(context, settings.source, summary, run)


async def _run_part(
    context: RunContext,
    source: source_settings.Source,
    summary: Summary,
    run: Callable[[Source], Awaitable[Summary]],
) -> Summary:
    try:
        _make_folders(source, context.plan)
        async with open_source(source, context.plan.folder, context.clock()) as opened:
            return await run(opened)
    except SourceFailed as failed:
        alarm = summary.alarm("source_failed", str(failed))
    except FAULTS as fault:
        alarm = summary.alarm("refused", str(fault))
    return msgspec.structs.replace(summary, alarms=(alarm,))


def _make_folders(source: source_settings.Source, plan: Plan) -> None:
    """Create the source's folders in the data folder. One elsewhere may be a mount that is missing, so it is not created."""
    names = (source.outbox, source.inbox) if isinstance(source, source_settings.FolderSource) else ()
    for path in ((plan.folder / name).resolve() for name in names if name):
        if path.is_relative_to(plan.gate.data):
            path.mkdir(parents=True, exist_ok=True)


def read_last_run(plan: Plan) -> Run | None:
    """Return the result of the last real run (not a dry run), or None."""
    try:
        return msgspec.json.decode((plan.work / LAST_RUN).read_bytes(), type=Run)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _store_result(plan: Plan, result: Run) -> None:
    write_file(plan.work / LAST_RUN, msgspec.json.encode(result))
    textfile = plan.folder / plan.registries.textfile if plan.registries.textfile else None
    run_report.export_metrics(result, textfile, plan.registries.pushgateway)


@contextmanager
def lock_work_folder(work: Path) -> Iterator[None]:
    """Lock the work folder against other runs. Raises Refused and OSError."""
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(
        work / ".lock", ImportRefused(f"another run is in progress in {work}. Wait until it ends")
    ):
        yield


def _retention_at(data: Path, now: Instant) -> Instant:
    """Return the time at which to evaluate the retention periods of packages.

    Return 0 if the clock jumped within the last two days, so that no data of an ended package is deleted.
    """
    try:
        KeptInstants(data).refuse_jump(now)
    except ClockJumped as jumped:
        _log.warning("package retention skipped", problem=str(jumped))
        return 0
    return now


@asynccontextmanager
async def _open_ledger(plan: Plan) -> AsyncIterator[OpenedLedger]:
    store = await factory.open_reader(plan.gate)
    try:
        yield OpenedLedger(store, Keys.open(plan.gate.data / "keys.json"), await store.lists())
    finally:
        await store.close()
