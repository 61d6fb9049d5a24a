"""The gates that serve the histories of `test_last_word`: one on SQLite, or two on one Redis.

Each gate has its HTTP server. The gates share the clock, the registry's answers and the files of the call lists.
"""

import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from aiohttp import ClientSession
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.model import DAY, HOUR, Instant
from dialgate.decision_log import LogUnavailable
from dialgate.interfaces import http_application
from dialgate.interfaces.http import server
from dialgate.ledger.consent_voiding import EnrolmentRequest
from dialgate.lists.snapshot import Consultation
from registry_sync import publication
from registry_sync.publication import PublishTarget
from tests.properties.histories import Kind, Owner
from tests.properties.person import Campaign
from tests.store.test_shared_store import ask_server, at, back_up
from tests.support import redis_servers, world, yaml_files
from tests.support.ports import free_port
from tests.support.world import CALLER, Hand

Engine: TypeAlias = Literal["sqlite", "redis"]
OWNERS: Final[tuple[Owner, Owner]] = ("acme", "bolt")
AGENCY: Final = "agency"
KEPT_DAYS: Final = 2
POLL_LIMIT, POLL_DAYS = 3, 30  # calls of the poll to one number, and the days in which they count
HISTORIES: Final = 250
# Each history has two numbers: the person's, and a number about which only the second controller writes.
NUMBERS: Final[Mapping[Kind, str]] = {
    "directory": "+390612{:06}",
    "mobile": "+39331{:06}",
    "unlisted": "+390212{:06}",
}
CALLERS: Final[Mapping[Owner, tuple[str, str]]] = {
    "acme": (CALLER, "+390843123456"),
    "bolt": ("+390844223456", "+390843223456"),
}
_STORE_FILES: Final = ("store.db", "store.db-wal", "store.db-shm", "ledger.durable")
_VERSIONS: Final = ("controllers", "renamed")
_OPEN_FILES: Final = 20  # closed gates after which the memory is collected
_ROUNDS: Final = 3  # of upkeep, after which every gate has added its attempts to an older store


class Reply(NamedTuple):
    status: int
    text: str

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.text)


class Gate(Struct):
    data: Path
    app: App
    site: server.Runner

    def client(self, name: str) -> Client:
        return next(client for client in self.app.config.settings.clients if client.name == name)


class House:
    """The gates and all that they share. `hand` is their clock, `seconds` their clock for durations."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine, self.hand, self.seconds = folder, engine, Hand(), Hand(0)
        self.names = ("one", "two") if engine == "redis" else ("one",)
        self.numbers = {kind: _pairs(form) for kind, form in NUMBERS.items()}
        self.is_renamed = False
        self.gates: list[Gate] = []
        self._undo, self._closed = AsyncExitStack(), 0

    @property
    def now(self) -> Instant:
        return self.hand.at

    # ---- opening and closing -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if self.engine == "redis":
            folder = self.folder / "redis"
            redis = redis_servers.start(folder, unixsocket=str(folder / "socket"))
            self._undo.callback(redis_servers.kill, redis)
        ports = {name: free_port() for name in self.names}
        self._configs = {name: self._write(name, ports) for name in self.names}
        self._session = await self._undo.enter_async_context(ClientSession())
        await self._open_gates()
        for _ in _VERSIONS:  # a list names campaigns that exist
            await self.rename()
            for owner in OWNERS:
                await self._load_base(owner)

    async def close(self) -> None:
        await self._close_gates()
        await self._undo.aclose()

    async def _load_base(self, owner: Owner) -> None:
        """Load the list with all numbers that are in the directory."""
        numbers = [NUMBERS["directory"].format(place) for place in range(2 * HISTORIES)]
        reply = await self.load_list(0, owner, owner, _VERSIONS[self.is_renamed], "\n".join(numbers).encode())
        assert reply.status == 201, reply

    def _write(self, name: str, ports: Mapping[str, int]) -> list[Config]:
        """Write two configurations of a gate: at first, and after campaigns were renamed and removed."""
        folder = self.folder / name
        folder.mkdir()
        shared: dict[str, Any] = {}
        if self.engine == "redis":
            peers = {other: f"http://127.0.0.1:{port}" for other, port in ports.items()}
            store = {"url": at(self.folder / "redis"), "name": "histories", "patience": 5}
            shared = {"store": store, "peers": peers}
        storage = {"consents_days": KEPT_DAYS, "contracts_days": KEPT_DAYS, "call_requests_days": 1}
        path = world.write_folder(
            folder,
            node=name,
            clients=[*(_client(owner, (owner,)) for owner in OWNERS), _client(AGENCY, OWNERS, "admin")],
            listen={"host": "127.0.0.1", "port": ports[name]},
            limits={"lookups_an_hour": 1_000_000},
            storage=storage | {"daily": False},
            log_segment_hours=0,
            **shared,
        )
        _permit_more_calls(folder / "countries/it.yaml")
        sample, settings = yaml_files.read(folder / "controllers/acme.yaml"), yaml_files.read(path)
        for version in _VERSIONS:
            (folder / version).mkdir(exist_ok=True)
            for owner in OWNERS:
                written = _controller(sample, owner, is_renamed=version == "renamed")
                yaml_files.write(folder / version / f"{owner}.yaml", written)
            yaml_files.write(folder / f"{version}.yaml", settings | {"controllers": version})
        if name == self.names[0]:
            for files in ("lists", "snapshots"):
                (folder / "data" / files).mkdir(mode=0o700, parents=True)
        return [loader.load(folder / f"{version}.yaml") for version in _VERSIONS]

    async def _open_gates(self) -> None:
        first = self.folder / self.names[0]
        for name in self.names[len(self.gates) :]:
            folder = self.folder / name
            if not (folder / "data").exists():
                world.share_keys(first, folder)
                for files in ("lists", "snapshots"):
                    (folder / "data" / files).symlink_to(first / "data" / files)
            registry = CollectorRegistry()
            config = self._configs[name][self.is_renamed]
            app = await App.open(config, registry=registry, clock=self.hand, steady=self.seconds)
            self.gates.append(Gate(folder / "data", app, await http_application.start(app, registry)))
        for _ in range(_ROUNDS if self.engine == "redis" else 1):
            await self.tick()
            self.seconds.at += 3

    async def _close_gates(self) -> None:
        while self.gates:
            gate = self.gates.pop()
            await gate.site.cleanup()
            await gate.app.close()
            self._closed += 1
        if self._closed % _OPEN_FILES < len(self.names):
            gc.collect()  # the files of call lists stay open as long as a closed gate is in memory

    # ---- what an operator does -----------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Let every gate take up lists, answers and the state of the store."""
        for gate in self.gates:
            await gate.app.tick(patience=None)

    async def pass_time(self, time: Instant) -> None:
        """Advance the clock without a jump, as if the gates had run meanwhile."""
        self.hand.at += time
        for gate in self.gates:
            world.store_time(gate.data, self.now)
        await self.tick()

    async def rename(self) -> None:
        """Use the other configuration."""
        self.is_renamed = not self.is_renamed
        for gate, name in zip(self.gates, self.names, strict=True):
            gate.app.reload(self._configs[name][self.is_renamed])
        await self.tick()

    def campaigns(self, owner: Owner) -> list[Campaign]:
        config = self._configs[self.names[0]][self.is_renamed]
        campaigns = config.controllers[owner].campaigns
        return [
            Campaign(campaign.id, campaign.purpose, campaign.call_type, campaign.goods)
            for campaign in campaigns
        ]

    async def remove(self) -> None:
        await self.pass_time(KEPT_DAYS * DAY + 1)
        await self.gates[0].app.subjects.retire(self.now, drop=True)

    async def restart(self) -> None:
        await self._close_gates()
        await self._open_gates()

    async def back_up(self) -> None:
        """Copy the store and the log of the first gate, while no gate runs."""
        data = self.gates[0].data
        await self._close_gates()
        shutil.rmtree(self.folder / "older", ignore_errors=True)
        shutil.copytree(data / "log", self.folder / "older/log")
        if self.engine == "redis":
            await back_up(self.folder / "redis")
        else:
            shutil.copy(data / "store.db", self.folder / "older/store.db")
        await self._open_gates()

    async def restore(self) -> None:
        """Replace the store by its copy."""
        folders = [gate.data for gate in self.gates]
        await self._close_gates()
        for data in folders:
            for name in _STORE_FILES:
                (data / name).unlink(missing_ok=True)
        if self.engine == "redis":
            ask_server(self.folder / "redis", "SWAPDB", "0", "1")
            await back_up(self.folder / "redis")
        else:
            shutil.copy(self.folder / "older/store.db", folders[0] / "store.db")
        await self._open_gates()

    async def restore_log(self) -> None:
        """Replace the log of the first gate by its copy. If the gate refuses to start, put the newest log back."""
        data, newest = self.gates[0].data, self.folder / "newest"
        await self._close_gates()
        (data / "log").rename(newest)
        shutil.copytree(self.folder / "older/log", data / "log")
        try:
            await self._open_gates()
        except LogUnavailable:
            shutil.rmtree(data / "log")
            newest.rename(data / "log")
            await self._open_gates()
        else:
            shutil.rmtree(newest)

    # ---- requests ------------------------------------------------------------------------------------------------------

    async def request(
        self,
        gate: int,
        client: str,
        method: str,
        path: str,
        body: Any = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """Send a request. A body of bytes is a file."""
        headers = {"Authorization": f"Bearer key-of-{client}"}
        content: dict[str, Any] = {"json": body} if body is not None else {}
        if isinstance(body, bytes):
            content, is_xlsx = {"data": body}, body.startswith(b"PK")
            headers["Content-Type"] = _XLSX if is_xlsx else "text/csv"
        port = self.gates[gate % len(self.gates)].site.addresses[0][1]
        url = f"http://127.0.0.1:{port}{path}"
        async with self._session.request(method, url, params=query, headers=headers, **content) as response:
            return Reply(response.status, await response.text())

    async def load_list(
        self, gate: int, client: str, owner: Owner, name: str, file: bytes, *, as_json: bool = False
    ) -> Reply:
        """Load a list for all campaigns of a controller: as a file, or its lines as JSON."""
        fields = {
            "controller": owner,
            "id": name,
            "basis": "directory",
            "collected_by": owner,
            "collected_on": "2026-10-01",
        }
        campaigns = [campaign.id for campaign in self.campaigns(owner)]
        if as_json:
            body: Any = {**fields, "campaigns": campaigns, "numbers": file.decode().splitlines()}
            reply = await self.request(gate, client, "POST", "/v1/lists", body)
        else:
            query = [*fields.items(), *(("campaigns", campaign) for campaign in campaigns)]
            reply = await self.request(gate, client, "POST", "/v1/lists", file, query)
        await self.tick()
        return reply

    async def import_file(self, gate: int, client: str, ask: Any, file: bytes) -> str:
        """Import a file as the commands do, and return the report."""
        chosen = self.gates[gate % len(self.gates)]
        registrar = chosen.app.registrar
        service = registrar.consents.record_all if hasattr(ask, "kind") else registrar.revocations.revoke_all
        report = await service(chosen.client(client), ask, BytesIO(file))
        return msgspec.json.encode(report).decode()

    async def answer(
        self, owner: Owner, numbers: Sequence[str], *, enrolled: bool, ahead: Instant
    ) -> Instant:
        """Publish an answer that was given an hour ago, to a query that was sent a day before. Return when it was sent.

        `ahead`: by how much the clock of the nightly job was wrong.
        """
        self.hand.at += 1  # a later query than the last one
        now = self.now + ahead
        answered = now - HOUR
        consultation = Consultation(
            id=f"at-{now}",
            submitted_at=answered - DAY,
            answered_at=answered,
            imported_at=now,
            receipt="TICKET-1",
            request_sha256="0" * 64,
            answer_sha256="0" * 64,
            lines=len(numbers),
            listed=enrolled * len(numbers),
            clear=(not enrolled) * len(numbers),
        )
        gate = self.gates[0]
        folder = gate.data / "snapshots"
        with publication.lock_folder(folder):
            merged = world.merge_answers(folder, dict.fromkeys(numbers, enrolled), consultation, owner)
            publication.publish_answers(PublishTarget(folder=folder), merged, now)
        if enrolled:
            enrolment = EnrolmentRequest(
                controller=owner,
                registry="rpo",
                listed_by=datetime.fromtimestamp(consultation.listed_by / 1_000, UTC),
                proof="TICKET-1",
                channel="registry",
                numbers=tuple(f"+{int(number)}" for number in numbers),
            )
            job = gate.app.config.operator("registry-sync")
            await gate.app.registrar.consents.void(job, enrolment)
        await self.tick()
        return consultation.submitted_at


_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def _pairs(form: str) -> Iterator[tuple[str, str]]:
    return ((form.format(place), form.format(place + HISTORIES)) for place in range(HISTORIES))


def _client(name: str, controllers: Sequence[Owner], *more: str) -> dict[str, Any]:
    client = world.client(name, f"key-of-{name}", *world.SCOPES, "subjects", *more)
    return client | {"controllers": list(controllers)}


def _permit_more_calls(path: Path) -> None:
    """Change the law so that no rule denies calls but those about the person's words and a limit on polls."""
    law = yaml_files.read(path)
    limit = {
        "source": "a limit of these tests",
        "from": date(2018, 2, 4),
        "severity": "operator",
        "purposes": ["statistics"],
        "events": "attempts",
        "after": POLL_LIMIT,
        "per": f"{POLL_DAYS}d",
        "counting": "calendar",
        "among": "campaign",
    }
    yaml_files.write(path, law | {"limits": [limit]})


def _controller(sample: dict[str, Any], owner: Owner, *, is_renamed: bool) -> dict[str, Any]:
    """Return a controller with a sale by agents, a sale by robots and a poll. A renamed one has no robots."""
    (campaign,) = sample["campaigns"]
    sale, poll = CALLERS[owner]
    fibre = campaign | {"id": f"{owner}-fibre", "caller_ids": [sale]}
    robot = fibre | {"id": f"{owner}-robot", "call_type": "automated"}
    poll = fibre | {"id": f"{owner}-poll", "purpose": "statistics", "goods": "", "caller_ids": [poll]}
    if is_renamed:
        campaigns = [fibre | {"id": f"{owner}-glass", "goods": "glass"}, poll]
    else:
        campaigns = [fibre, robot, poll]
    return sample | {"id": owner, "name": owner, "campaigns": campaigns, "consent_after_listing": True}
