"""A complete test setup: configuration, published registry answers, a gate and a real HTTP server.

Tests set the clock, which starts on Tuesday 2026-11-24 at 10:00 in Rome.
"""

import asyncio
import hashlib
import ipaddress
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiohttp import ClientSession, ClientTimeout
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY, HOUR, Call, Instant, Origin
from dialgate.core.responses import Answer
from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Reader, Record
from dialgate.gate.facts import Gatherer
from dialgate.interfaces import http_application
from dialgate.ledger.schemas import ListRequest
from dialgate.lists import call_list, number_set
from dialgate.lists.snapshot import Consultation, Snapshot
from dialgate.lists.tabular import from_lines
from dialgate.observability.traces import Traces
from dialgate.runtime.clock import wall_clock
from dialgate.store import CallList
from registry_sync import answer_merge, publication
from registry_sync.answer_merge import AnsweredConsultation, PublishedAnswers
from registry_sync.publication import PublishTarget
from tests.support import yaml_files
from tests.support.call_lists import built_from
from tests.support.commands import Done, run_command
from tests.support.paths import ROOT

CONFIG = ROOT / "config"
NOW: Instant = 1_795_510_800_000
KEY = "key-of-the-tests"
CALLER = "+390844123456"
CLEAR = "+390612345678"  # on the call list; clear in the registry
LISTED = "+390612345679"  # on the call list; enrolled in the registry
ANSWERS = {CLEAR: False, LISTED: True}
CALL = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}
SCOPES = ("check", "simulate", "outcome", "revoke", "ledger", "lists", "read", "metrics")


class Hand:
    """A clock that a test sets through `at`."""

    def __init__(self, at: Instant = NOW) -> None:
        self.at = at

    def __call__(self) -> Instant:
        return self.at


class World(Struct):
    """A running gate with its folder, its HTTP server and an authenticated client session."""

    folder: Path
    app: App
    registry: CollectorRegistry
    hand: Hand
    port: int
    client: ClientSession

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def records(self) -> list[Record]:
        """Return the decisions in the log."""
        entries = Reader(self.app.config.data / "log").entries()
        return [record for _, record in entries if isinstance(record, Record)]

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        async with self.client.get(path, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def command(self, *words: object, **environment: str) -> Done:
        """Run a `dialgate` command as a process, with this gate's configuration."""
        here = {"DIALGATE_CONFIG": str(self.folder / "dialgate.yaml"), "COLUMNS": "200", "NO_COLOR": "1"}
        variables = {**os.environ, **here, **environment}
        return await asyncio.to_thread(run_command, "dialgate", *words, environment=variables)

    async def output(self, *words: object, code: int = 0, **environment: str) -> str:
        """Return what a command writes, with its errors. `code` is the exit code that it must have."""
        done = await self.command(*words, **environment)
        assert done.code == code, done
        return done.out + done.err

    async def post(self, path: str, body: Any, status: int = 201, **headers: str) -> Any:
        """Send JSON and return the JSON response, or None if there is none (204)."""
        async with self.client.post(path, json=body, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json() if status != 204 else None


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[App]:
    """Serve a gate, so that commands find its socket in the data folder."""
    runner = await http_application.start(app, CollectorRegistry())
    try:
        yield app
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving(config: Path, hand: Callable[[], Instant] = wall_clock) -> AsyncIterator[App]:
    """Run the gate of a configuration."""
    app = await App.open(loader.load(config), registry=CollectorRegistry(), clock=hand)
    try:
        async with listening(app):
            yield app
    finally:
        await app.close()


def client(name: str, key: str, *scopes: str) -> dict[str, Any]:
    """Return a client entry for dialgate.yaml."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"name": name, "controllers": ["acme"], "scopes": list(scopes), "key_sha256": digest}


def write_folder(folder: Path, **changes: Any) -> Path:
    """Write the sample configuration to a folder and return the path of its dialgate.yaml.

    `changes` add or replace settings in dialgate.yaml. Only Italy's country file and the sample's controller are
    copied, so the gate has no law for other countries. The log is verified nightly only if a test asks for it, because each
    jump of its clock by two days would start a process.
    """
    for name in ("countries/it.yaml", "controllers/acme.yaml"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(CONFIG / name, folder / name)
    written = {
        "data": "data",
        "listen": {"host": "127.0.0.1", "port": 0},
        "clients": [client("tests", KEY, *SCOPES)],
        "verify_log_nightly": False,
        **changes,
    }
    if store := written.get("store"):
        written["store"] = with_url_file(folder / "store.url", store)
    if stream := written.get("shipping", {}).get("stream"):
        written["shipping"] = written["shipping"] | {"stream": with_url_file(folder / "stream.url", stream)}
    path = folder / "dialgate.yaml"
    yaml_files.write(path, written)
    return path


def store_time(data: Path, at: Instant) -> None:
    """Make `at` the time at which a gate last used the data folder. Otherwise retention would pause after a jump."""
    (data / "clock.latest").write_text(f"{at:020}")
    (data / "clock.ndjson").unlink(missing_ok=True)


def with_url_file(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the Redis settings. A URL that contains a password is moved to a file at `path`."""
    if "@" not in settings.get("url", ""):
        return settings
    path.write_text(settings["url"])
    others = {name: value for name, value in settings.items() if name != "url"}
    return others | {"url_file": str(path)}


def share_keys(first: Path, folder: Path) -> None:
    """Copy the keys that a node needs to share the store with the node in `first`."""
    (folder / "data").mkdir(exist_ok=True)
    keys = msgspec.json.decode((first / "data/keys.json").read_bytes())
    shared = {name: value for name, value in keys.items() if name not in {"log", "months"}} | {"months": {}}
    path = folder / "data/keys.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(shared))


def publish_answers(
    data: Path, answers: Mapping[str, bool], at: Instant, *, controller: str = "acme"
) -> None:
    """Publish the result of a consultation at `at`. `answers` maps each number to whether it is enrolled."""
    folder = data / "snapshots"
    listed = sum(answers.values())
    consultation = Consultation(
        id=f"at-{at}",
        submitted_at=at,
        answered_at=at + HOUR,
        imported_at=at + 2 * HOUR,
        receipt="TICKET-1",
        request_sha256="0" * 64,
        answer_sha256="0" * 64,
        lines=len(answers),
        listed=listed,
        clear=len(answers) - listed,
    )
    with publication.lock_folder(folder):
        merged = merge_answers(folder, answers, consultation, controller)
        publication.publish_answers(PublishTarget(folder=folder), merged, at + 2 * HOUR)


def merge_answers(
    folder: Path,
    answers: Mapping[str, bool],
    consultation: Consultation,
    controller: str = "acme",
    registry: str = "rpo",
) -> PublishedAnswers:
    """Merge the answers of a consultation with those published in `folder`."""
    pairs = sorted((int(number.removeprefix("+")), listed) for number, listed in answers.items())
    numbers = np.array([number for number, _ in pairs], np.uint64)
    is_listed = np.array([listed for _, listed in pairs], np.bool_)
    current = publication.read_current(folder, registry, controller)
    merged, _ = answer_merge.merge(current, [AnsweredConsultation(consultation, numbers, is_listed)])
    return merged


LIST = {
    "id": "rome",
    "campaigns": ["acme-fibre"],
    "basis": "directory",
    "collected_by": "Acme",
    "collected_on": "2026-10-01",
    "numbers": [CLEAR, LISTED],
}


def open_gatherer(folder: Path, prepare: Callable[[Path], None] = lambda _: None) -> Gatherer:
    """Return a gatherer of facts with the sample answers and call list, without a gate. `prepare` is as for `running`."""
    path = write_folder(folder)
    prepare(folder)
    config = loader.load(path)
    publish_answers(config.data, ANSWERS, NOW - DAY)
    gatherer = Gatherer(config, Keys.open(config.data / "keys.json"))
    gatherer.use_snapshot(Snapshot.open(config.data / "snapshots"))
    gatherer.use_lists(gatherer.open_lists([write_list(config.data)], config.data))
    return gatherer


def write_list(folder: Path, numbers_on: tuple[str, ...] = (CLEAR, LISTED), **changes: Any) -> CallList:
    """Write a call list's number set and return the list's record. `changes` replace fields of the record."""
    record = CallList(
        id="rome",
        controller="acme",
        campaigns=("acme-fibre",),
        bases=("directory",),
        origin=Origin(collected_by="Acme", collected_on=date(2026, 10, 1)),
        file="rome.numbers",
        sha256="",
        numbers=len(numbers_on),
        loaded_at=NOW - DAY,
        actor="tests",
    )
    record = msgspec.structs.replace(record, **changes)
    sorted_numbers = np.array(sorted(int(number.removeprefix("+")) for number in numbers_on), np.uint64)
    tags = np.arange(len(numbers_on), dtype=np.uint16) if len(record.bases) > 1 else None
    number_set.write(folder / record.file, [sorted_numbers], meta=b"{}", tags=tags)
    return msgspec.structs.replace(record, sha256=call_list.sha256_of(folder / record.file))


@asynccontextmanager
async def running(  # noqa: PLR0913 - what tests vary
    folder: Path,
    hand: Hand | None = None,
    prepare: Callable[[Path], None] = lambda _: None,
    steady: Callable[[], float] = time.monotonic,
    answers: Mapping[str, bool] = ANSWERS,
    answered_at: Instant = NOW - DAY,
    *,
    traces: Traces | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """Run a gate and its server, with registry answers and no call list.

    `prepare` may change the configuration folder before the start. `steady` is the clock that measures durations.
    """
    path = write_folder(folder, **changes)
    prepare(folder)
    config = loader.load(path)
    publish_answers(config.data, answers, answered_at)
    hand, registry = hand or Hand(), CollectorRegistry()
    app = await App.open(config, registry=registry, clock=hand, steady=steady, traces=traces)
    runner = await http_application.start(app, registry)
    port = runner.addresses[0][1]
    session = ClientSession(
        f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=ClientTimeout(total=60),  # a busy machine takes seconds for a large upload
    )
    try:
        async with session:
            yield World(folder=folder, app=app, registry=registry, hand=hand, port=port, client=session)
    finally:
        await runner.cleanup()
        await app.close()


async def load_list(world: World) -> None:
    """Load `LIST` and wait until the gate uses it."""
    await world.post("/v1/lists", LIST)
    await world.app.tick(patience=None)


# ---- a gate without its server ---------------------------------------------------------------------------------------


async def ask(app: App, call_id: str = "", to: str = CLEAR) -> Answer:
    """Check a call of the first client."""
    client = app.config.settings.clients[0]
    call = Call(to=to, from_=CALLER, campaign="acme-fibre", call_id=call_id)
    return await app.gate.check(call, client)


def codes(answer: Answer) -> list[str]:
    return [reason.code for reason in answer.reasons]


async def load_numbers(app: App, numbers: Sequence[str] = (CLEAR,)) -> None:
    """Load `LIST` with other numbers. The gate uses the list from its next tick."""
    fields = {name: value for name, value in LIST.items() if name != "numbers"}
    await app.registrar.call_lists.load_from(
        app.config.settings.clients[0], msgspec.convert(fields, ListRequest), built_from(from_lines(numbers))
    )


# ---- certificates ----------------------------------------------------------------------------------------------------


def write_certificate(folder: Path, days: int = 36_500) -> dict[str, str]:
    """Write a certificate and key for loopback, valid for `days` from 2026-01-01. Return the settings for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dialgate")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {"tls_certificate": "cert.pem", "tls_key": "key.pem"}
