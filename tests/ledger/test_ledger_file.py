"""An export has the same content on every engine, and no gate opens a store whose import is incomplete."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from dialgate.core.ledger_events import Draft, Revoked
from dialgate.core.model import DAY, Attempt, Origin
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.ledger import ledger_file
from dialgate.ledger.ledger_file import Kind, LedgerImportRefused
from dialgate.runtime.clock import wall_clock
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    CampaignPause,
    ClientKey,
    ClientKeys,
    Delivery,
    PauseLift,
    Presence,
    Remembered,
    Reservation,
    Shared,
    Store,
    StoreUnavailable,
)
from dialgate.store.breaches import BreachStep, StoredBreach
from dialgate.store.law_acknowledgements import LawAcknowledgement
from dialgate.store.redis import RedisStore
from dialgate.store.sqlite import SqliteStore
from dialgate.store.watermark import LedgerWatermark
from tests.support import redis_servers, world, yaml_files
from tests.support.commands import Done, run_command
from tests.support.running_gate import serving
from tests.support.world import CALL, CLEAR, LISTED

NOW = 1_795_510_800_000
NUMBER = "+390612345678"
BRUNO = b"bruno---" * 2
ROWS: dict[Kind, int] = {
    "position": 1, "attempt": 40, "answer": 2, "list": 1, "proof": 1, "delivery": 1, "lift": 1, "pause": 1, "key": 1, "breach": 1, "law": 1, "count": 1, "entry": 3,
}  # fmt: skip
ENGINES = ("sqlite", "redis")
Open = Callable[[str, str], Store]


@pytest.fixture
async def open_(tmp_path: Path) -> AsyncIterator[Open]:
    """Open a store by engine and name."""
    opened: list[Store] = []

    def open_store(engine: str, name: str) -> Store:
        store: Store = (
            SqliteStore.open(tmp_path / f"{name}.db")
            if engine == "sqlite"
            else RedisStore(redis_servers.alone(), name=f"{tmp_path.name}-{name}", patience=5)
        )
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (tmp_path / "data").mkdir()
    return Keys.open(tmp_path / "keys.json")


def revoked(keys: Keys, at: int) -> Draft:
    return Draft(
        at=at,
        controller="acme",
        subject=keys.subject("acme", NUMBER),
        event=Revoked(at=at),
        actor="anna",
        channel="web",
        sealed=keys.ledger.seal(NUMBER, next(nonces())),
    )


async def fill(store: Store, keys: Keys) -> None:
    await store.append([revoked(keys, at) for at in range(1, 6)])
    await store.remove([2, 5])  # so that the newest sequence number has no entry
    reading = await store.read([BRUNO])
    attempts = [
        Attempt(decision=f"log-{n}", at=n, campaign="spring", goods="broadband") for n in range(1, 41)
    ]
    answers = [Remembered(b"k%d" % n * 8, NOW, b"{}", f"log-{n}") for n in range(1, 3)]
    reserved = [Reservation(BRUNO, attempt, (BRUNO,)) for attempt in attempts]
    assert await store.commit(reading, reserved, answers, AttemptPosition("log", 40))
    await store.note_durable("log", 42)
    await store.result("log-7", "busy", 99)
    await store.result("log-8", "answered", 99)
    await store.lift_pause(PauseLift(campaign="spring", at=5, ground="new dialer", actor="dpo"))
    pause = CampaignPause(controller="acme", campaign="spring", at=5, reason="wrong price", actor="anna")
    await store.put_pause(pause)
    key = ClientKey(sha256="0" * 64, disabled_at=5, disabled_by="anna")
    await store.change_client_keys("dialer", ClientKeys(client="dialer", keys=(key,)).merged)
    opened = BreachStep(at=5, by="dpo", kind="opened", done_at=4, texts={"nature": "a key was lost"})
    breach = StoredBreach(
        id="b1", controller="acme", aware_at=4, start=1, end=4, client="dialer", node="", steps=(opened,)
    )
    await store.change_breach("b1", lambda _: breach)
    await store.add_law_acknowledgement(
        LawAcknowledgement(
            controller="acme", country="IT", law="0" * 64, until=date(2027, 1, 1), at=5, by="dpo"
        )
    )
    await store.add_list(
        CallList(
            id="rome", controller="acme", campaigns=("spring",), bases=(), file="f", sha256="0", numbers=1,
            origin=Origin(collected_by="acme", collected_on=date(2026, 1, 1)), loaded_at=1, actor="anna",
        )
    )  # fmt: skip
    for at in (1, 2):
        await store.put_proof(CallerIdProof(controller="acme", caller_id="+39", at=at, kind="probe"))
    await store.put_delivery(Delivery(webhook="crm", seq=3))


async def lines_of(store: Store, keys: Keys, *, numbers: bool = False) -> list[bytes]:
    exported = [lines async for lines in ledger_file.export(store, keys, numbers=numbers)]
    return b"".join(exported).splitlines(keepends=True)


def rows_in(lines: list[bytes]) -> set[str]:
    return {
        repr(msgspec.json.decode(line.row, type=ledger_file.TYPES[line.kind]))
        for line in (msgspec.json.decode(line, type=ledger_file.ExportLine) for line in lines[1:-1])
        if line.kind != "end"
    }


async def load(store: Store, keys: Keys, lines: list[bytes], data: Path) -> dict[Kind, int]:
    return await ledger_file.load(store, keys, LedgerWatermark(data), iter(lines), NOW)


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize("source", ENGINES)
async def test_an_imported_store_decides_as_its_source(
    open_: Open, keys: Keys, tmp_path: Path, source: str, target: str
) -> None:
    old, new = open_(source, "old"), open_(target, "new")
    await fill(old, keys)
    lines = await lines_of(old, keys)
    assert await load(new, keys, lines, tmp_path / "data") == ROWS
    subjects, answered = [keys.subject("acme", NUMBER), BRUNO], [b"k1" * 8, b"k2" * 8]
    before, after = [await store.read(subjects, answered) for store in (old, new)]
    assert (before.known, before.answers) == (after.known, after.answers)
    assert rows_in(await lines_of(new, keys)) == rows_in(lines)
    assert await new.recorded("log") == 42
    assert await new.append([revoked(keys, 9)]) == [6], "a sequence number is never reused"


@pytest.mark.parametrize("cut", [1, 3, 44, 50, -2, -1])
@pytest.mark.parametrize("target", ENGINES)
async def test_an_incomplete_import_is_refused_and_its_store_not_opened(
    open_: Open, keys: Keys, tmp_path: Path, target: str, cut: int
) -> None:
    old, new = open_("sqlite", "old"), open_(target, "new")
    await fill(old, keys)
    lines = await lines_of(old, keys)
    with pytest.raises(LedgerImportRefused, match="incomplete"):
        await load(new, keys, lines[:cut], tmp_path / "data")
    again = open_(target, "new")
    again.require_seq(LedgerWatermark(tmp_path / "data").read())
    with pytest.raises(StoreUnavailable, match="had reached 5"):
        await again.ping()
    if isinstance(again, RedisStore):  # a node without a watermark refuses it too
        with pytest.raises(StoreUnavailable, match="was interrupted"):
            await open_(target, "new").refuse_unless_safe()  # type: ignore[attr-defined]


async def test_the_number_in_clear_is_for_other_programs_only(
    open_: Open, keys: Keys, tmp_path: Path
) -> None:
    old, new = open_("sqlite", "old"), open_("redis", "new")
    await fill(old, keys)
    assert not any(NUMBER.encode() in line for line in await lines_of(old, keys))
    lines = await lines_of(old, keys, numbers=True)
    assert [msgspec.json.decode(line).get("number") for line in lines if b'"entry"' in line] == [NUMBER] * 3
    assert await load(new, keys, lines, tmp_path / "data") == ROWS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", ["entry", "attempt", "list", "erased"])
async def test_a_store_that_is_not_empty_is_refused(
    open_: Open, keys: Keys, tmp_path: Path, engine: str, what: str
) -> None:
    old, new = open_("sqlite", "old"), open_(engine, "new")
    await fill(old, keys)
    if what == "entry":
        await new.append([revoked(keys, 1)])
    elif what == "erased":
        await new.remove(await new.append([revoked(keys, 1)]))
    elif what == "list":
        await new.add_list((await old.lists())[0])
    else:
        counted = Reservation(BRUNO, Attempt(decision="log-1", at=5, campaign="spring"), ())
        assert await new.commit(await new.read([BRUNO]), [counted], [], AttemptPosition("log", 1))
    with pytest.raises(LedgerImportRefused, match="not empty"):
        await load(new, keys, await lines_of(old, keys), tmp_path / "data")


async def test_what_cannot_be_imported_is_refused(open_: Open, keys: Keys, tmp_path: Path) -> None:
    old, new, data = open_("sqlite", "old"), open_("redis", "new"), tmp_path / "data"
    await fill(old, keys)
    lines = await lines_of(old, keys)
    with pytest.raises(LedgerImportRefused, match="not an export"):
        await load(new, keys, [b"number,when\n"], data)
    with pytest.raises(LedgerImportRefused, match="other keys"):
        await load(new, Keys.open(tmp_path / "other.json"), lines, data)
    assert isinstance(new, Shared)
    await new.members(Presence(node="rome", config="", version="", at=NOW - 1))
    with pytest.raises(LedgerImportRefused, match="stop every gate"):
        await load(new, keys, lines, data)
    await new.dismiss("rome")
    await LedgerWatermark(data).expect(6)
    with pytest.raises(StoreUnavailable, match="ends at 5, but had reached 6"):
        await load(new, keys, lines, data)


async def test_the_claim_of_an_empty_store_with_other_keys_is_removed(
    open_: Open, keys: Keys, tmp_path: Path
) -> None:
    """A gate with other keys may have opened the target by mistake. Its claim would exclude the keys of the source."""
    old, new = open_("sqlite", "old"), open_("redis", "new")
    await fill(old, keys)
    assert isinstance(new, Shared)
    await new.claim("made by mistake")
    again = open_("redis", "new")
    assert await load(again, keys, await lines_of(old, keys), tmp_path / "data") == ROWS
    assert isinstance(again, Shared)
    assert await again.claim(keys.mark)


async def test_attempts_after_the_exported_position_are_left_to_crash_recovery(
    open_: Open, keys: Keys
) -> None:
    """Otherwise the import would count calls whose records the log may lack."""
    store = open_("redis", "old")
    await fill(store, keys)
    late = Attempt(decision="log-41", at=50, campaign="spring")
    exported = ledger_file.export(store, keys)
    lines = [await anext(exported), await anext(exported)]
    reading = await store.read([BRUNO])
    assert await store.commit(reading, [Reservation(BRUNO, late, ())], [], AttemptPosition("log", 41))
    lines += [some async for some in exported]
    decisions = [msgspec.json.decode(line)["row"]["attempt"]["decision"] for line in b"".join(lines).splitlines()
                 if b'"attempt"' in line]  # fmt: skip
    assert len(decisions) == 40
    assert "log-41" not in decisions


async def test_a_gate_moves_to_another_store_and_its_data_to_another_program(tmp_path: Path) -> None:
    folder, exported, shown = tmp_path / "gate", tmp_path / "ledger.ndjson", tmp_path / "shown.ndjson"
    config = world.write_folder(folder)
    world.publish_answers(folder / "data", {CLEAR: False}, wall_clock() - DAY)

    async def ledger(*words: object) -> Done:
        return await asyncio.to_thread(run_command, "dialgate", "ledger", *words, "--config", config)

    async with serving(config) as gate:
        await gate.post("/v1/revocations", {"number": CLEAR})
        assert "rows written" in (await ledger("export", shown, "--numbers")).out
        assert (CLEAR in shown.read_text(), shown.stat().st_mode & 0o777) == (True, 0o600)
        serve = ("serve", "--port", "0", "--config", config)
        for refused in (
            await ledger("import", shown),
            await asyncio.to_thread(run_command, "dialgate", *serve),
        ):
            assert (refused.code, "is in use by a gate" in " ".join(refused.err.split())) == (1, True)
        await gate.post("/v1/revocations", {"number": LISTED})
    assert (await ledger("export", exported, "--json")).json["rows"] >= 2
    assert CLEAR not in exported.read_text()
    shared = world.with_url_file(folder / "store.url", {"url": redis_servers.alone(), "name": tmp_path.name})
    yaml_files.write(config, yaml_files.read(config) | {"store": shared})
    before = await ledger("import", shown)
    assert (before.code, "had reached" in before.err) == (1, True), "exported before the ledger's end"
    assert (await ledger("import", exported, "--json")).json["entry"] == 3
    again = await ledger("import", exported)
    assert (again.code, "not empty" in again.err) == (1, True)
    async with serving(config) as gate:
        assert "revocation" in str(await gate.post("/v1/check", CALL))


async def test_a_client_without_every_controller_cannot_export(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        client = structs.replace(running.app.config.operator("tests"), controllers=())
        with pytest.raises(Refused, match="every controller"):
            await running.app.registrar.export(client)
