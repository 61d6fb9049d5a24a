"""A controller with a call list, a nightly job and a simulated registry in one folder, with a manual clock."""

import io
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.model import RegistryAnswer
from dialgate.crypto.keys import Keys
from dialgate.ledger.host_gate import NoGate
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import ListRequest
from dialgate.lists.manifest import SnapshotMissing
from dialgate.lists.snapshot import Snapshot
from dialgate.observability.metrics import Metrics
from dialgate.store.sqlite import SqliteStore
from registry_sync import config as registries
from registry_sync import nightly_job
from registry_sync.query_packages import REQUEST, Package, PackageStore
from registry_sync.run_report import Run, Summary
from registry_sync.simulator import SimulatedRegistry
from tests.support import yaml_files
from tests.support.call_lists import built_from
from tests.support.world import NOW, Hand, serving, write_folder

# In the simulator some of these are enrolled and most are clear.
NUMBERS = [f"+3906{12340000 + n}" for n in range(300)]
ASKED: dict[str, Any] = {
    "registry": "rpo",
    "controller": "acme",
    "source": {"kind": "folder", "outbox": "rpo/outbox", "inbox": "rpo/inbox", "settle_seconds": 0},
    "submit_every_hours": 0,
    "package_numbers": 100,
}


def no_progress(_what: str, _size: int) -> Callable[[int], None]:
    return lambda _done: None


class JobWorld:
    """The configuration of the nightly job, the simulated registry and the clock."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder, self.clock = folder, Hand(NOW)
        self.gate = write_folder(folder)
        self.asked = ASKED | changes
        self.path = folder / "registries.yaml"
        self.configure()
        self.registry = SimulatedRegistry(folder / "rpo")

    def configure(self, **more: Any) -> None:
        settings = {"work": "data/registries", "textfile": "metrics.prom", "asked": [self.asked], **more}
        yaml_files.write(self.path, settings)
        self.__dict__.pop("plan", None)

    @cached_property
    def plan(self) -> registries.Plan:
        return registries.load(self.path)

    async def run(self, *, dry: bool = False) -> Run:
        return await nightly_job.run(self.plan, no_progress, dry=dry, clock=self.clock)

    async def run_once(self) -> Summary:
        (part,) = (await self.run()).parts
        return part

    async def answer_and_run(self) -> Summary:
        """Let the registry answer the submitted packages, then run the job."""
        self.registry.work()
        return await self.run_once()

    def answer_again(self, package: Package) -> None:
        """Let the registry answer a submitted package once more, from the request that the job keeps."""
        request = self.plan.work / "rpo.acme" / package.id / REQUEST
        shutil.copy(request, self.folder / "rpo" / "waiting" / f"{package.id}.zip")
        self.registry.work()

    def packages(self) -> list[Package]:
        return PackageStore(self.plan.work, self.plan.registries.asked[0]).all()

    def answer_for(self, number: str, controller: str = "acme", registry: str = "rpo") -> RegistryAnswer:
        return self.answers_for([number], controller, registry)[number]

    def answers_for(
        self, numbers: Iterable[str], controller: str = "acme", registry: str = "rpo"
    ) -> dict[str, RegistryAnswer]:
        try:
            opened = Snapshot.open(self.plan.snapshots)
        except SnapshotMissing:
            return {number: RegistryAnswer(registry=registry, answer="unknown") for number in numbers}
        try:
            return {number: opened.answer(registry, controller, int(number[1:])) for number in numbers}
        finally:
            opened.close()

    def answers(self) -> dict[str, str]:
        return {number: answer.answer for number, answer in self.answers_for(NUMBERS).items()}

    def published_files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.plan.snapshots.glob("*.*[!k]")}

    def metric(self, name: str, **labels: str) -> float:
        text = (self.folder / "metrics.prom").read_text()
        wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name}{{{wanted}}}"))
        return float(line.split()[-1])

    def alarm(self, kind: str, registry: str = "rpo", controller: str = "acme") -> float:
        return self.metric("registry_sync_alarm", alarm=kind, controller=controller, registry=registry)


def alarm_kinds(part: Summary) -> set[str]:
    return {alarm.kind for alarm in part.alarms}


@asynccontextmanager
async def registrar(config: Config) -> AsyncIterator[tuple[Registrar, Client]]:
    config.data.mkdir(exist_ok=True)
    store, keys = SqliteStore.open(config.data / "store.db"), Keys.open(config.data / "keys.json")
    try:
        registrar_ = Registrar(config, keys, store, Hand(NOW), Metrics(CollectorRegistry()), NoGate())
        yield registrar_, Client(name="tests", controllers=tuple(config.controllers), scopes=())
    finally:
        await store.close()


async def load_list(
    job: JobWorld, numbers: Iterable[str] = NUMBERS, name: str = "rome", **changes: Any
) -> None:
    fields: dict[str, Any] = {
        "id": name,
        "campaigns": ("acme-fibre",),
        "basis": "directory",
        "collected_by": "Acme",
        "collected_on": "2026-10-01",
    }
    ask = msgspec.convert(fields | changes, ListRequest)
    async with registrar(job.plan.gate) as (registrar_, client):
        await registrar_.call_lists.load_from(
            client, ask, built_from(io.BytesIO("".join(f"{number}\n" for number in numbers).encode()))
        )


@asynccontextmanager
async def gate_of(job: JobWorld) -> AsyncIterator[tuple[Registrar, Client]]:
    """Run the gate of the job's configuration, with its socket in the data folder."""
    async with serving(job.plan.gate.path, job.clock) as app:
        yield app.registrar, app.config.operator("tests")
