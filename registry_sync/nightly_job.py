"""One run over every registry, and everything else here that begins with a look at the clock: its only reader."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from dialgate.config.configuration import ConfigError
from dialgate.core.faults import Unavailable
from dialgate.core.model import HOUR, Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.publisher_signature import Signer
from dialgate.lists.number_set import DamagedFile
from dialgate.lists.snapshot import Manifest
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.file_lock import hold_lock
from dialgate.runtime.instants import ClockUnconfirmed, KeptInstants
from dialgate.store import CallList, Ledger, factory
from registry_sync import (
    config,
    full_list_cycle,
    manual_import,
    publication,
    query_cycle,
    release_holds,
    rollback,
    run_report,
    snapshot_mirror,
)
from registry_sync.config import Asked, Listed, Plan
from registry_sync.formats.text import FaultyFile
from registry_sync.import_checks import Refused
from registry_sync.publication import Press
from registry_sync.query_candidates import span, wanted
from registry_sync.query_cycle import Bar, Desk
from registry_sync.query_packages import Shelf
from registry_sync.release_holds import Hold
from registry_sync.run_report import Alarm, Kind, Run, Summary
from registry_sync.sources import Source, SourceFailed, open_source

PATIENCE = 5.0  # seconds: nobody waits for this job
FAULTS = (Refused, ConfigError, FaultyFile, DamagedFile, SourceFailed, Unavailable, OSError)
LAST = "last-run.json"
_log = structlog.get_logger(__name__)


class Shared(NamedTuple):
    """What all parts of a run share."""

    plan: Plan
    press: Press
    clock: Callable[[], Instant]
    bar: Bar
    dry: bool


class LedgerAccess(NamedTuple):
    store: Ledger
    keys: Keys
    lists: Sequence[CallList]


def now() -> Instant:
    return time.time_ns() // 1_000_000


def press_of(plan: Plan) -> Press:
    """Raises Unavailable where the signing key cannot be used."""
    key = plan.registries.signing_key_file
    sign = Signer.open(plan.folder / key).sign if key else None
    return Press(folder=plan.snapshots, kept=plan.registries.kept, sign=sign)


async def run(plan: Plan, bar: Bar, *, dry: bool = False, clock: Callable[[], Instant] = now) -> Run:
    """Every registry in turn; what fails in one is an alarm and disturbs no other. `dry`: nothing is sent, taken or
    published. Raises Refused while another run is at work, Unavailable, OSError."""
    with locked(plan.work):
        shared = Shared(plan, press_of(plan), clock, bar, dry)
        parts = [await _list(shared, listed) for listed in plan.registries.listed]
        if plan.registries.asked:
            async with _ledger(plan) as ledger:
                parts += [await _ask(shared, asked, ledger) for asked in plan.registries.asked]
        version = publication.published(plan.snapshots).version
        done = Run(at=clock(), version=version, dry=dry, parts=tuple(parts))
        return done if dry else _remembered(plan, done)


async def _list(shared: Shared, listed: Listed) -> Summary:
    cycle = full_list_cycle.Cycle(listed, shared.press, shared.plan.work, shared.clock, shared.bar)
    run = partial(cycle.run, dry=shared.dry)
    return await _part(shared, listed.source, Summary(registry=listed.registry, controller=""), run)


async def _ask(shared: Shared, asked: Asked, ledger: LedgerAccess) -> Summary:
    plan = shared.plan
    summary = Summary(registry=asked.registry, controller=asked.controller)

    async def run(source: Source) -> Summary:
        until = span(shared.clock(), asked.look_ahead_hours)
        found = await asyncio.to_thread(
            wanted, plan.gate, asked.registry, asked.controller, ledger.lists, until
        )
        desk = Desk(
            asked=asked,
            shelf=Shelf(plan.work, asked.registry, asked.controller),
            press=shared.press,
            store=ledger.store,
            keys=ledger.keys,
            wanted=found.numbers,
            validity=plan.validity[asked.registry],
            keeps_listed=plan.gate.controllers[asked.controller].consent_after_listing,
            next_run=int(plan.registries.next_run_hours * HOUR),
            clock=shared.clock,
            retention_at=_retention_at(plan.gate.data, shared.clock()),
            bar=shared.bar,
        )
        done = await query_cycle.Cycle(desk).run(source, dry=shared.dry)
        damaged = (_alarm(summary, "file_faulty", text) for text in found.damaged)
        return msgspec.structs.replace(done, foreign=found.foreign, alarms=(*done.alarms, *damaged))

    return await _part(shared, asked.source, summary, run)


async def _part(
    shared: Shared, source: config.Source, summary: Summary, run: Callable[[Source], Awaitable[Summary]]
) -> Summary:
    try:
        async with open_source(source, shared.plan.folder, shared.clock()) as opened:
            return await run(opened)
    except SourceFailed as failed:
        alarm = _alarm(summary, "source_failed", str(failed))
    except FAULTS as fault:
        alarm = _alarm(summary, "refused", str(fault))
    return msgspec.structs.replace(summary, alarms=(alarm,))


def _alarm(summary: Summary, kind: Kind, text: str) -> Alarm:
    return Alarm(registry=summary.registry, controller=summary.controller, kind=kind, text=text)


async def forever(plan: Plan, bar: Bar, told: Callable[[Run], None], stop: asyncio.Event) -> None:
    """A run every `every_minutes`, until `stop`: the scheduler for where there is none. Raises as `run` does."""
    while not stop.is_set():
        told(await run(plan, bar))
        try:
            async with asyncio.timeout(plan.registries.every_minutes * 60):
                await stop.wait()
        except TimeoutError:
            continue


def last(plan: Plan) -> Run | None:
    """What the last run that was not dry found."""
    try:
        return msgspec.json.decode((plan.work / LAST).read_bytes(), type=Run)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _remembered(plan: Plan, done: Run) -> Run:
    write_file(plan.work / LAST, msgspec.json.encode(done))
    textfile = plan.folder / plan.registries.textfile if plan.registries.textfile else None
    run_report.tell(done, textfile, plan.registries.pushgateway)
    return done


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """One run at a time. Raises Refused, OSError."""
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(work / ".lock", Refused(f"{work}: another run is at work here: wait for it")):
        yield


def _retention_at(data: Path, now: Instant) -> Instant:
    """The instant at which to judge what is past its time: 0, at which nothing is, while the gate's clock jumped."""
    try:
        KeptInstants(data).refuse_jump(now)
    except ClockUnconfirmed as unconfirmed:
        _log.warning("ended packages are kept", problem=str(unconfirmed))
        return 0
    return now


@asynccontextmanager
async def _ledger(plan: Plan) -> AsyncIterator[LedgerAccess]:
    data = plan.gate.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = await factory.opened(plan.gate, patience=PATIENCE)
    try:
        yield LedgerAccess(store, Keys.open(data / "keys.json"), await store.lists())
    finally:
        await store.close()


# ---- by hand ---------------------------------------------------------------------------------------------------------


def import_answer(order: manual_import.Order, bar: Bar) -> manual_import.Report:
    """Raises as `importing.run` does."""
    return manual_import.run(order, bar, now())


def approve(folder: Path, name: str, actor: str) -> Hold:
    """Raises Refused, OSError."""
    return release_holds.approve(folder, name, actor, now())


def roll_back(press: Press, version: str) -> tuple[Manifest, list[rollback.Difference]]:
    """Raises Refused, DamagedFile, OSError."""
    with publication.locked(press.folder):
        return rollback.roll_back(press, version, now())


async def pull(source: config.Source, press: Press, key: str) -> snapshot_mirror.Pull:
    """Raises one of FAULTS."""
    async with open_source(source, Path.cwd(), now()) as opened:
        return await snapshot_mirror.pull(opened, press, key, now())
