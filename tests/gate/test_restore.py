"""Tests of restored backups.

After an older ledger is restored, each revocation in the log is in force again, and the ledger contains it once.
"""

import asyncio
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.ledger_events import ConsentWithdrawn, Entry, Lifted, Revoked
from dialgate.core.model import DAY, HOUR, MINUTE, Instant
from dialgate.crypto.keys import Keys
from dialgate.decision_log import DecisionLog, LogUnavailable, chains
from dialgate.ledger.schemas import (
    ConsentRequest,
    LiftRequest,
    OutcomeRequest,
    RevocationRequest,
    WithdrawalRequest,
)
from dialgate.runtime.clock import wall_clock
from dialgate.store.sqlite import SqliteStore
from dialgate.tools.backup import back_up, ledger_end
from tests.subjects.test_subjects import CONSENT
from tests.support import redis_servers, sample_log, world
from tests.support.running_gate import serving
from tests.support.world import CALLER, CLEAR, KEY, LISTED, NOW, Hand, ask, codes, load_numbers


async def opt_out(app: App, decision: str) -> None:
    report = OutcomeRequest(decision_id=decision, outcome="opt_out")
    await app.registrar.outcomes.result(app.config.settings.clients[0], report)


class House:
    """A gate that is opened several times in one folder. `restore` restores an older `store.db`."""

    def __init__(self, folder: Path) -> None:
        self.path = world.write_folder(folder)
        self.data = folder / "data"
        world.publish_answers(self.data, {CLEAR: False, LISTED: True}, NOW - DAY)

    @asynccontextmanager
    async def open(self, at: Instant = NOW) -> AsyncIterator[App]:
        app = await App.open(loader.load(self.path), registry=CollectorRegistry(), clock=Hand(at))
        try:
            yield app
        finally:
            await app.close()

    def save(self) -> None:
        shutil.copy(self.data / "store.db", self.data.parent / "older.db")

    def restore(self) -> None:
        for name in ("store.db", "store.db-wal", "store.db-shm", "ledger.durable"):
            (self.data / name).unlink(missing_ok=True)
        shutil.copy(self.data.parent / "older.db", self.data / "store.db")

    async def ledger(self) -> list[Entry]:
        store = SqliteStore.open(self.data / "store.db")
        try:
            return await store.since(0, 100)
        finally:
            await store.close()


@pytest.fixture
async def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    async with made.open() as app:
        await load_numbers(app)
    made.save()
    return made


async def test_an_opt_out_of_the_log_binds_on_an_older_store(house: House) -> None:
    async with house.open() as app:
        allowed = await ask(app)
        assert allowed.decision == "allow"
        await opt_out(app, allowed.decision_id)
    house.restore()
    assert await house.ledger() == []
    for _ in range(2):  # entered once, however often the gate starts
        async with house.open() as app:
            assert codes(await ask(app)) == ["revocation.revoked"]
        (entry,) = await house.ledger()
        assert isinstance(entry.event, Revoked)
        assert (entry.proof, entry.actor, entry.channel) == (
            f"decision:{allowed.decision_id}",
            "tests",
            "call",
        )
        number = Keys.open(house.data / "keys.json").ledger.unseal(entry.sealed)
        assert number == CLEAR


async def test_an_attempt_of_the_log_is_restored_with_its_goods_and_result(house: House) -> None:
    async with house.open() as app:
        allowed = await ask(app)
        report = OutcomeRequest(decision_id=allowed.decision_id, outcome="refused")
        await app.registrar.outcomes.result(app.config.settings.clients[0], report)
        before = await app._store.attempt(allowed.decision_id)
    assert before is not None
    assert (before[1].goods, before[1].result) == ("broadband", "refused")
    house.restore()
    async with house.open() as app:
        assert await app._store.attempt(allowed.decision_id) == before


async def test_a_withdrawal_cited_by_a_decision_is_entered_again(house: House) -> None:
    async with house.open() as app:
        client = app.config.settings.clients[0]
        await app.registrar.consents.record(client, msgspec.convert(CONSENT, ConsentRequest))
    house.save()
    async with house.open() as app:
        await app.registrar.consents.record(client, WithdrawalRequest(number=CLEAR, id=f"form-{CLEAR}"))
        await ask(app)
    house.restore()
    for _ in range(2):
        async with house.open() as app:
            await ask(app)
        assert [entry.event for entry in await house.ledger()][1:] == [
            ConsentWithdrawn(
                id=(await house.ledger())[0].event.id,  # type: ignore[union-attr]
                at=NOW,
                purposes=("sale",),
                goods=("broadband",),
            )
        ]


async def test_a_stop_that_was_lifted_is_not_entered_again(house: House) -> None:
    async with house.open() as app:
        allowed = await ask(app)
        await opt_out(app, allowed.decision_id)
        assert codes(await ask(app)) == ["revocation.revoked"]
        client = app.config.settings.clients[0]
        await app.registrar.revocations.lift(
            client, 1, LiftRequest(ground="error", reason="another number was meant")
        )
    newest = house.data.parent / "newest.db"
    shutil.copy(house.data / "store.db", newest)
    house.restore()
    shutil.copy(newest, house.data / "store.db")
    store = SqliteStore.open(house.data / "store.db")
    await store.settle(Keys.open(house.data / "keys.json").log, 0, [], [])  # the whole log is read again
    await store.close()
    async with house.open() as app:
        assert (await ask(app)).decision == "allow"
    assert [type(entry.event) for entry in await house.ledger()] == [Revoked, Lifted]


AT = datetime.fromtimestamp((NOW - HOUR) / 1000, UTC)


Step: TypeAlias = Callable[[App, list[str]], Awaitable[object]]  # the list holds the ids of decisions


async def asks(app: App, decisions: list[str]) -> None:
    decisions.append((await ask(app)).decision_id)


async def opts_out(app: App, decisions: list[str]) -> None:
    await opt_out(app, decisions[0])


def revokes(channel: str = "letter", at: datetime | None = AT, campaign: str = "") -> Step:
    scope: Literal["campaign", "controller"] = "campaign" if campaign else "controller"
    stop = RevocationRequest(number=CLEAR, channel=channel, at=at, scope=scope, campaign=campaign)
    return lambda app, _: app.registrar.revocations.revoke(app.config.settings.clients[0], stop)


def lifts(seq: int, ground: Literal["error", "new_consent"] = "error") -> Step:
    lift = LiftRequest(ground=ground, reason="a letter", consent="c" if ground == "new_consent" else "")
    return lambda app, _: app.registrar.revocations.lift(app.config.settings.clients[0], seq, lift)


def consents(at: Instant) -> Step:
    return lambda app, _: consent(app, at)


# What the copy holds, what it lacks, what happens after it was restored, and how many revocations the ledger holds then.
STOPS: dict[str, tuple[list[Step], list[Step], list[Step], int]] = {
    "cited by a decision": ([], [revokes(), asks], [], 1),
    "reported about a call that the copy holds": ([asks], [opts_out], [], 1),
    "of an instant at which another was lifted": ([], [revokes(), revokes("mail"), lifts(2), asks], [], 1),
    "entered again after it was lifted": ([revokes(), lifts(1)], [revokes(), asks], [], 2),
    "reported again after it was lifted": ([asks, opts_out, lifts(1)], [opts_out], [], 2),
    "reported, while one of another channel is lifted": ([asks, revokes("mail")], [opts_out], [lifts(1)], 2),
    "lifted by a consent that was lost": (
        [],
        [revokes(), consents(NOW), lifts(1, "new_consent"), asks],
        [],
        1,
    ),
    "later than one of the copy": (
        [revokes(at=AT - timedelta(days=2))],
        [revokes(), asks],
        [consents(NOW - DAY), lifts(1, "new_consent")],
        2,
    ),
    "dated earlier than one of the copy": ([revokes(at=None)], [revokes(), asks], [lifts(1)], 2),
    "seen together with another": ([], [revokes(campaign="acme-fibre"), revokes(), asks], [], 2),
}


@pytest.mark.parametrize("stop", STOPS)
async def test_each_stop_of_the_log_binds_on_an_older_store_and_is_entered_once(
    house: House, stop: str
) -> None:
    held, lost, then, revocations = STOPS[stop]
    decisions: list[str] = []
    for minute, steps in enumerate((held, lost, then, ())):
        if steps is lost:
            house.save()
        if steps is then:
            house.restore()
        async with house.open(NOW + minute * MINUTE) as app:
            for step in steps:
                await step(app, decisions)
            if minute > 1:
                assert "revocation.revoked" in codes(await ask(app))
    entered = [entry for entry in await house.ledger() if isinstance(entry.event, Revoked)]
    assert len(entered) == revocations


async def consent(app: App, at: Instant) -> None:
    given = msgspec.convert(CONSENT, ConsentRequest)
    given = msgspec.structs.replace(given, id="c", collected_at=datetime.fromtimestamp(at / 1000, UTC))
    await app.registrar.consents.record(app.config.settings.clients[0], given)


async def test_a_withdrawal_binds_although_the_consent_was_given_again(house: House) -> None:
    async with house.open() as app:
        await consent(app, NOW - DAY)
    house.save()
    async with house.open() as app:
        withdrawal = WithdrawalRequest(number=CLEAR, id="c", at=AT)
        await app.registrar.consents.record(app.config.settings.clients[0], withdrawal)
        await consent(app, NOW)
        assert (await ask(app)).decision == "allow"
    house.restore()
    for _ in range(2):
        async with house.open() as app:
            assert codes(await ask(app)) == ["consent.withdrawn"]
        assert [entry.event for entry in await house.ledger()][1:] == [
            ConsentWithdrawn(id="c", at=NOW - HOUR, purposes=("sale",), goods=("broadband",))
        ]


async def test_a_restored_withdrawal_objects_to_what_a_lost_form_of_the_consent_covered(house: House) -> None:
    statistics = msgspec.structs.replace(
        msgspec.convert(CONSENT, ConsentRequest), id="c", purposes=("statistics",)
    )
    async with house.open() as app:
        await app.registrar.consents.record(app.config.settings.clients[0], statistics)
    house.save()
    async with house.open() as app:
        await consent(app, NOW - HOUR)
        client = app.config.settings.clients[0]
        await app.registrar.consents.record(client, WithdrawalRequest(number=CLEAR, id="c"))
        assert codes(await ask(app)) == ["consent.withdrawn"]
    house.restore()
    async with house.open() as app:
        assert (await ask(app)).decision == "deny"


async def test_a_milder_report_of_the_log_does_not_replace_a_stricter_one(house: House) -> None:
    async with house.open() as app:
        allowed = await ask(app)
        client = app.config.settings.clients[0]
        await app.registrar.outcomes.result(
            client, OutcomeRequest(decision_id=allowed.decision_id, outcome="abandoned")
        )
        await opt_out(app, allowed.decision_id)
    house.restore()
    async with house.open() as app:
        assert codes(await ask(app)) == ["revocation.revoked", "frequency.rest"]


# ---- several logs on a shared store ------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, Any]:
    """Return the `store` setting for a Redis whose data the tests delete."""
    return {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}


async def emptied(shared: dict[str, Any], *folders: Path) -> None:
    async with redis.asyncio.from_url(shared["url"]) as client:
        async for key in client.scan_iter(f"*{shared['name']}*"):
            await client.delete(key)
    for folder in folders:
        (folder / "data/ledger.durable").unlink(missing_ok=True)


async def open_app(path: Path) -> App:
    return await App.open(loader.load(path), registry=CollectorRegistry(), clock=Hand())


async def test_a_stop_in_the_log_of_an_earlier_worker_binds(tmp_path: Path, shared: dict[str, Any]) -> None:
    """Gates of earlier versions had several processes, each with a log."""
    path, data = world.write_folder(tmp_path, store=shared), tmp_path / "data"
    world.publish_answers(data, {CLEAR: False}, NOW - DAY)
    app = await open_app(path)
    await load_numbers(app)
    allowed = await ask(app)
    await app.close()
    keys = Keys.open(data / "keys.json", 2)
    with closing(DecisionLog.open(chains.folder(data, 2), log=keys.log, now=NOW, gate={})) as log:
        outcome = sample_log.outcome(log.next_seq, allowed.decision_id, NOW)
        log.write([msgspec.json.encode(msgspec.structs.replace(outcome, result="opt_out"))])
    await emptied(shared, tmp_path)
    app = await open_app(path)
    assert "revocation.revoked" in codes(await ask(app))
    await app.close()


async def test_a_gate_with_an_older_log_does_not_start_and_its_calls_still_count(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    path, data = world.write_folder(tmp_path, store=shared), tmp_path / "data"
    world.publish_answers(data, {CLEAR: False}, NOW - DAY)
    app = await open_app(path)
    await load_numbers(app)
    await app.close()
    await asyncio.to_thread(back_up, data, tmp_path / "copy", lambda *_: None)
    app = await open_app(path)
    allowed = await ask(app)
    report = OutcomeRequest(decision_id=allowed.decision_id, outcome="abandoned")
    await app.registrar.outcomes.result(app.config.settings.clients[0], report)
    assert codes(await ask(app)) == ["frequency.rest"]
    await app.close()
    data.rename(tmp_path / "newest")
    shutil.copytree(tmp_path / "copy", data)
    with pytest.raises(
        LogUnavailable, match=r"log ends at entry \d+, but had reached \d+: it is an older copy"
    ):
        await open_app(path)
    shutil.rmtree(data)
    (tmp_path / "newest").rename(data)
    app = await open_app(path)
    assert codes(await ask(app)) == ["frequency.rest"]
    await app.close()


async def test_a_stop_of_a_call_that_another_gate_allowed_is_requested_until_it_is_found(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    folders = [tmp_path / name for name in ("rome", "milan")]
    gates: list[App] = []
    for folder in folders:
        folder.mkdir()
        world.write_folder(folder, store=shared, node=folder.name)
        world.publish_answers(folder / "data", {CLEAR: False}, NOW - DAY)
        if gates:
            world.share_keys(folders[0], folder)
        gates.append(await open_app(folder / "dialgate.yaml"))
    rome, milan = gates
    await load_numbers(rome)
    await rome.tick()
    allowed = await ask(rome)
    await opt_out(milan, allowed.decision_id)
    for app in gates:
        await app.close()
    await emptied(shared, *folders)
    milan = await open_app(folders[1] / "dialgate.yaml")
    assert allowed.decision_id in milan.gate.readiness()["ledger"]
    assert codes(await ask(milan)) == ["gate.unavailable"]
    # Rome counts its calls again, so that the store contains the person.
    rome = await open_app(folders[0] / "dialgate.yaml")
    for app in (rome, milan, rome, milan):  # on a busy machine, Rome counts them only at its tick
        await app.tick()
    assert "ledger" not in milan.gate.readiness()
    assert "revocation.revoked" in codes(await ask(rome))
    for app in (rome, milan):
        await app.close()


# ---- what a copy holds -------------------------------------------------------------------------------------------------


async def test_a_stop_recorded_while_the_log_is_copied_is_in_the_copy(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    data, out = tmp_path / "data", tmp_path / "copy"
    world.publish_answers(data, {CLEAR: False}, wall_clock() - DAY)
    async with serving(path) as app:
        await app.post("/v1/check", {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"})
        url, stopped = f"{app.ready['url']}/v1/revocations", list[int]()

        def stop_once(*_: int) -> None:
            """Record a revocation after the first file, which is a log file, has been copied."""
            if not stopped:
                body = json.dumps({"number": CLEAR}).encode()
                headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
                with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
                    stopped.append(json.load(answer)["seq"])

        await asyncio.to_thread(back_up, data, out, stop_once)
    assert stopped == [1]
    assert ledger_end(out) == 1
