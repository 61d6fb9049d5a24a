"""A copied store has the same content on every engine, and no gate opens an incomplete copy."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from dialgate.core.ledger_events import Draft, Revoked
from dialgate.core.model import HOUR, Origin
from dialgate.interfaces.cli.main import app
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    Delivery,
    PauseLift,
    Remembered,
    Reservation,
    Store,
    StoreUnavailable,
    factory,
)
from dialgate.store.copying import CopyEnd, CopyRefused, Kind, Row, copy
from dialgate.store.redis import RedisStore
from dialgate.store.sqlite import SqliteStore
from tests.store.test_store import ANNA, BRUNO, attempt, revoked
from tests.support import redis_servers

NOW = 1_795_510_800_000
EVERYTHING = {
    "ledger": 3,
    "attempts": 40,
    "answers": 2,
    "positions": 1,
    "lists": 1,
    "proofs": 1,
    "deliveries": 1,
    "counts": 1,
    "lifts": 1,
}


@pytest.fixture
def urls(tmp_path: Path) -> dict[str, str]:
    return {
        "sqlite": f"sqlite://{tmp_path}/store.db",
        "redis": redis_servers.alone(),
        "back": f"sqlite://{tmp_path}/back.db",
    }


async def fill(store: Store) -> None:
    await store.append([revoked(ANNA, at) for at in range(1, 6)])
    await store.remove([2, 5])  # so that the newest sequence has no entry
    reading = await store.read([BRUNO])
    reservations = [Reservation(BRUNO, attempt(f"log-{n}", n), (BRUNO,)) for n in range(1, 41)]
    answers = [Remembered(b"k%d" % n * 8, NOW, b"{}", f"log-{n}") for n in range(2)]
    assert await store.commit(reading, reservations, answers, AttemptPosition("log", 40))
    await store.note_durable("log", 39)
    await store.result("log-7", "busy", 99)
    await store.result("log-8", "answered", 99)
    await store.lift_pause(PauseLift(campaign="spring", at=5, ground="new dialer", actor="dpo"))
    call_list = CallList(
        id="rome",
        controller="acme",
        campaigns=("spring",),
        bases=(),
        origin=Origin(collected_by="acme", collected_on=date(2026, 1, 1)),
        file="f",
        sha256="0",
        numbers=1,
        loaded_at=1,
        actor="anna",
    )
    await store.add_list(call_list)
    await store.put_proof(CallerIdProof(controller="acme", caller_id="+39", at=1, kind="probe"))
    await store.put_proof(CallerIdProof(controller="acme", caller_id="+39", at=2, kind="probe"))
    await store.put_delivery(Delivery(webhook="crm", seq=3))


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    store = SqliteStore.open(tmp_path / "store.db", patience=5)
    await fill(store)
    await store.close()
    return tmp_path


async def ends(urls: dict[str, str], source: str, target: str, name: str) -> tuple[CopyEnd, CopyEnd]:
    return factory.copy_end(urls[source], name, NOW), factory.copy_end(urls[target], name, NOW)


async def copied(urls: dict[str, str], source: str, target: str, name: str) -> dict[Kind, int]:
    one, other = await ends(urls, source, target, name)
    try:
        return await copy(one, other, lambda _: None)
    finally:
        await one.close()
        await other.close()


async def test_a_copy_to_a_shared_store_and_back_is_identical(filled: Path, urls: dict[str, str]) -> None:
    assert await copied(urls, "sqlite", "redis", filled.name) == EVERYTHING
    shared = RedisStore(urls["redis"], name=filled.name, patience=5)
    await shared.refuse_unless_safe()
    (anna, bruno) = (await shared.read([ANNA, BRUNO])).known
    assert [revocation.seq for revocation in anna.revocations] == [1, 3, 4]
    assert [counted.result for counted in bruno.attempts if counted.decision == "log-7"] == ["busy"]
    assert anna.seq == 5, "a sequence is never reused"
    administrator = urls["redis"].replace(f"{redis_servers.USER}:{redis_servers.PASSWORD}@", "")
    async with Redis.from_url(administrator) as client:
        index = await client.pttl(shared.results.of_attempt("log", 7))
        assert abs(index - await client.pttl(shared.commands.key("s:", BRUNO))) < HOUR, (
            "a counted attempt can be found"
        )
    await shared.close()
    assert await copied(urls, "redis", "back", filled.name) == EVERYTHING
    back = SqliteStore.open(filled / "back.db", patience=5)
    assert (await back.read([ANNA, BRUNO])).known == [anna, bruno]
    assert await back.recorded("log") == 39
    assert await back.append([revoked(ANNA)]) == [6]
    await back.close()


class Broken(Exception):
    """The error that interrupts a copy."""


class InterruptedEnd:
    """A target that interrupts the copy when it receives the first rows of one kind."""

    def __init__(self, end: CopyEnd, at: Kind) -> None:
        self._end, self._at = end, at
        self.newest, self.count, self.rows, self.begin = end.newest, end.count, end.rows, end.begin
        self.finish, self.close = end.finish, end.close

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        if kind == self._at:
            raise Broken
        await self._end.write(kind, rows)


@pytest.mark.parametrize("at", ["ledger", "attempts", "lists", "deliveries"])
async def test_an_incomplete_copy_is_not_opened_and_can_be_continued(
    filled: Path, urls: dict[str, str], at: Kind
) -> None:
    one, other = await ends(urls, "sqlite", "redis", filled.name)
    with pytest.raises(Broken):
        await copy(one, InterruptedEnd(other, at), lambda _: None)
    shared = RedisStore(urls["redis"], name=filled.name, patience=5)
    with pytest.raises(StoreUnavailable, match="an incomplete copy"):
        await shared.refuse_unless_safe()
    assert await copy(one, other, lambda _: None) == EVERYTHING
    await shared.refuse_unless_safe()
    for store in (shared, one, other):
        await store.close()


async def test_a_store_in_use_is_refused_as_target(filled: Path, urls: dict[str, str]) -> None:
    shared = RedisStore(urls["redis"], name=filled.name, patience=5)
    await shared.append([revoked(BRUNO)])
    with pytest.raises(CopyRefused, match="in use"):
        await copied(urls, "sqlite", "redis", filled.name)
    with pytest.raises(CopyRefused, match="already exists"):
        await copied(urls, "redis", "sqlite", filled.name)
    await shared.close()


async def test_a_claim_of_the_empty_target_is_removed(filled: Path, urls: dict[str, str]) -> None:
    """A gate with other keys may have opened the target by mistake. Its claim would exclude the keys of the source."""
    shared = RedisStore(urls["redis"], name=filled.name, patience=5)
    assert await shared.claim("made by mistake")
    await copied(urls, "sqlite", "redis", filled.name)
    assert await shared.claim("of the source")
    await shared.close()


async def test_a_file_that_cannot_be_created_is_refused_as_target(filled: Path, urls: dict[str, str]) -> None:
    with pytest.raises(CopyRefused, match="unable to open database file"):
        await copied(
            {**urls, "nowhere": f"sqlite://{filled}/nowhere/store.db"}, "sqlite", "nowhere", filled.name
        )


async def test_a_source_whose_gate_was_killed_is_refused_until_settled(
    filled: Path, urls: dict[str, str]
) -> None:
    """The store might contain attempts that the log lacks. Only a gate with this log can remove these attempts."""
    with closing(sqlite3.connect(filled / "store.db")) as db, db:
        db.execute("UPDATE position SET reached = seq + 1")
    with pytest.raises(CopyRefused, match="Start and stop the gate once"):
        await copied(urls, "sqlite", "redis", filled.name)


class ConcurrentWrites(InterruptedEnd):
    """A target that writes to the source store during the copy."""

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:
        await self._end.write(kind, rows)
        if kind == self._at:
            store = SqliteStore.open(Path(self.path), patience=5)
            draft = Draft(
                at=9, controller="acme", subject=ANNA, event=Revoked(at=9), actor="anna", channel="web"
            )
            await store.append([draft])
            await store.close()

    path = ""


async def test_a_source_written_to_during_the_copy_is_refused(filled: Path, urls: dict[str, str]) -> None:
    one, other = await ends(urls, "sqlite", "redis", filled.name)
    meanwhile = ConcurrentWrites(other, "proofs")
    meanwhile.path = str(filled / "store.db")
    with pytest.raises(CopyRefused, match="written to during the copy"):
        await copy(one, meanwhile, lambda _: None)
    for store in (one, other):
        await store.close()


def test_the_command_reports_the_copied_rows(filled: Path, urls: dict[str, str]) -> None:
    (filled / "url").write_text(f"{urls['redis']}?name={filled.name}")
    ran = CliRunner().invoke(app, ["store", "copy", urls["sqlite"], f"@{filled / 'url'}"])
    assert ran.exit_code == 0, ran.output
    assert "attempts" in ran.output
    again = CliRunner().invoke(app, ["store", "copy", urls["sqlite"], f"@{filled / 'url'}", "--json"])
    assert again.exit_code == 1
    assert "store.not_copied" in again.output
    misuse = CliRunner().invoke(app, ["store", "copy", "mongo://x", "redis://x"])
    assert misuse.exit_code == 2
