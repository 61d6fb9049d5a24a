"""What a sieve says is not there must not be there: an allow may hang on it."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.ledger import Draft, Revoked
from dialgate.model import Attempt, Known
from dialgate.store import Position, Remembered, Reservation, StoreUnavailable
from dialgate.store.sieve import Sieve
from dialgate.store.sqlite import SqliteStore
from dialgate.store.sqlite_sieve import fill, fill_aside, is_long, of_ledger

KEYS = st.lists(st.binary(min_size=1, max_size=20), max_size=50)


@given(one_by_one=KEYS, together=KEYS, others=KEYS)
def test_every_key_that_was_added_passes_in_order_and_once(
    one_by_one: list[bytes], together: list[bytes], others: list[bytes]
) -> None:
    """Invariant: however keys are added, none that is there is ever kept back."""
    sieve = Sieve(1)
    sieve.add(one_by_one)
    sieve.add(together)
    there = set(one_by_one) | set(together)
    asked = one_by_one + others + together
    passed = sieve.passes(asked)
    assert [key for key in passed if key in there] == list(
        dict.fromkeys(key for key in asked if key in there)
    )
    assert len(passed) == len(set(passed))


@given(KEYS)
def test_what_passed_a_long_sieve_passes_a_shorter_one_that_it_is_laid_over(there: list[bytes]) -> None:
    """And little else: as if the keys had been added to it."""
    long, short, direct = Sieve(1 << 19), Sieve(1), Sieve(1)
    long.add(there)
    direct.add(there)
    for at in range(0, len(long.field), 1 << 20):
        short.lay(bytes(long.field[at : at + (1 << 20)]), at)
    assert len(short.field) < len(long.field)
    assert short.field == direct.field


def keys(kind: str, count: int) -> list[bytes]:
    return [blake2b(f"{kind}{n}".encode(), digest_size=16).digest() for n in range(count)]


@pytest.mark.parametrize("count", [1_000, 300_000])
def test_few_keys_that_are_not_there_pass(count: int) -> None:
    sieve = Sieve(count)
    sieve.add(keys("there", count))
    assert len(sieve.passes(keys("there", count))) == count
    assert len(sieve.passes(keys("absent", 20_000))) < 20_000 / 200
    assert not sieve.full


def test_it_is_full_when_it_holds_twice_what_it_was_made_for() -> None:
    sieve = Sieve(1 << 18)
    sieve.add(keys("there", 1 << 19))
    assert not sieve.full
    sieve.add(keys("more", 1))
    assert sieve.full


async def test_of_a_long_store_another_process_fills_it_as_this_one_would(tmp_path: Path) -> None:
    """And what other processes enter meanwhile is looked for in the ledger itself, by its sequence."""
    store = SqliteStore.open(tmp_path / "store.db")
    subjects = keys("there", 5_000)
    revoked = Revoked(at=1, scope="controller", campaign="")
    await store.append(
        [
            Draft(at=1, controller="acme", subject=each, event=revoked, actor="a", channel="c")
            for each in subjects
        ]
    )
    sieve, seq = await fill_aside(tmp_path / "store.db")
    db = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    here, newest = fill(db)
    db.close()
    await store.close()
    assert (seq, sieve.keys) == (newest, here.keys) == (5_000, 5_000)
    absent = keys("absent", 20_000)
    assert sieve.passes(subjects) == subjects
    assert sieve.passes(absent) == here.passes(absent)


ROWS: dict[str, str] = {
    "ledger": "INSERT INTO ledger SELECT i, zeroblob(16), 1, '', '', '', '', x'', '' FROM n",
    "attempt": "INSERT INTO attempt SELECT 'log-' || i, zeroblob(16), 1, '', '', 'pending', 0 FROM n",
    "answer": "INSERT INTO answer SELECT i, CAST(i AS BLOB), 1, x'', '' FROM n",
}


@pytest.mark.parametrize("table", ROWS)
async def test_a_store_is_long_whatever_it_is_that_it_has_many_of(tmp_path: Path, table: str) -> None:
    await SqliteStore.open(tmp_path / "store.db").close()
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        many = "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) "
        db.execute(many + ROWS[table], (1, 100_000))
        assert not is_long(db)
        db.execute(many + ROWS[table], (100_001, 100_001))
        assert is_long(db)


MANY = 101_000  # more than are read again at each start


def drafts(kind: str, count: int) -> list[Draft]:
    revoked = Revoked(at=1, scope="controller", campaign="")
    return [
        Draft(
            at=1,
            controller="acme",
            subject=each,
            event=revoked,
            actor="a",
            channel="c",
            sealed=os.urandom(44),
        )
        for each in keys(kind, count)
    ]


async def entered(path: Path, *some: tuple[str, int]) -> None:
    store = SqliteStore.open(path)
    for kind, count in some:
        await store.append(drafts(kind, count))
    await store.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long store, and the sieve that was kept of it; `early.db`: the same store, before most of it was entered."""
    folder = tmp_path_factory.mktemp("kept")
    asyncio.run(entered(folder / "store.db", ("early", 10)))
    shutil.copy(folder / "store.db", folder / "early.db")
    asyncio.run(entered(folder / "store.db", ("there", MANY)))
    asyncio.run(fill_aside(folder / "store.db"))
    return folder


def copied(kept: Path, folder: Path, database: str = "store.db") -> Path:
    shutil.copy(kept / database, folder / "store.db")
    shutil.copy(kept / "store.sieve", folder / "store.sieve")
    return folder / "store.db"


async def test_what_was_kept_serves_the_next_start_with_what_came_since(kept: Path, tmp_path: Path) -> None:
    path = copied(kept, tmp_path)
    before = (tmp_path / "store.sieve").stat()
    await entered(path, ("since", 50))
    sieve, seq = await fill_aside(path)
    assert (seq, sieve.keys) == (10 + MANY + 50, 10 + MANY + 50)
    for kind, count in (("early", 10), ("there", MANY), ("since", 50)):
        assert len(sieve.passes(keys(kind, count))) == count
    after = (tmp_path / "store.sieve").stat()
    assert (after.st_ino, before.st_mode & 0o077) == (before.st_ino, 0)


async def test_what_was_kept_goes_with_the_first_entry_that_is_removed(kept: Path, tmp_path: Path) -> None:
    """Whoever has the key could tell by its bits that a number once stood in the ledger."""
    store = SqliteStore.open(copied(kept, tmp_path))
    assert (tmp_path / "store.sieve").exists()
    await store.remove([3])
    assert not (tmp_path / "store.sieve").exists()
    await store.remove([4])  # also where there is none
    await store.close()


async def test_of_a_restored_database_nothing_is_missed(kept: Path, tmp_path: Path) -> None:
    """Its ledger goes on from an earlier state, under sequences that what was kept has seen with other entries."""
    path = copied(kept, tmp_path, "early.db")
    await entered(path, ("others", MANY + 20))
    sieve, _ = await fill_aside(path)
    assert len(sieve.passes(keys("others", MANY + 20))) == MANY + 20


@pytest.mark.parametrize("database", ["store.db", "early.db"])
async def test_who_reads_many_beside_a_gate_reads_what_he_would_read_without(
    kept: Path, tmp_path: Path, database: str
) -> None:
    """What was kept says nothing of attempts and answers, which the gate alone writes."""
    path = copied(kept, tmp_path, database)
    await entered(path, ("since", 50))
    gate, beside, plain = (SqliteStore.open(path) for _ in range(3))
    await beside.expect_many()
    assert (beside._sieve is not None) == (database == "store.db")
    await gate.append(drafts("meanwhile", 20))
    subjects = [*keys("there", 3_000), *keys("since", 50), *keys("meanwhile", 20), *keys("absent", 3_000)]
    called, answers = subjects[::7], [Remembered(each, 5, b"allow", "log-1") for each in keys("asked", 9)]
    attempts = [Attempt(decision=f"log-{at}", at=5, campaign="spring") for at in range(len(called))]
    reading = await gate.read(called)
    reserved = [Reservation(*each, ()) for each in zip(called, attempts, strict=True)]
    assert await gate.commit(reading, reserved, answers, Position("log", 1))
    await gate.positions()  # written down
    for some in (subjects, keys("absent", 10)):
        read = [await store.read(some, keys("asked", 9)) for store in (beside, plain)]
        assert read[0] == read[1]
        assert read[0].answers == answers
    for store in (gate, beside, plain):
        await store.close()


async def test_who_read_the_ledger_alone_reads_the_rest_when_he_serves_calls(
    kept: Path, tmp_path: Path
) -> None:
    store = SqliteStore.open(copied(kept, tmp_path))
    only_ledger = []
    for step in (store.expect_many(), sifting(store), store.expect_many()):
        await step
        only_ledger.append(store._only_ledger)
    assert only_ledger == [True, False, False]
    await store.close()


async def sifting(store: SqliteStore) -> None:
    await store.maintain(0)
    if store._filling is not None:
        await asyncio.wait([store._filling])


async def test_a_database_that_was_put_back_under_an_open_store_is_asked_itself(tmp_path: Path) -> None:
    """Its ledger goes on under sequences that the sieve has seen with other entries."""
    store, other = (SqliteStore.open(tmp_path / "store.db") for _ in range(2))
    await store.append(drafts("before", 3))
    await sifting(store)
    (subject,) = keys("after", 1)
    assert (await store.read([subject])).known == [Known(seq=3)]
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        db.execute("DELETE FROM ledger WHERE seq > 1")
        db.execute("UPDATE sqlite_sequence SET seq = 1")
        assert (await store.read([subject])).known == [Known(seq=1)]
        assert await other.append(drafts("after", 1)) == [2]
        assert await other.append(drafts("more", 1)) == [3]
        assert len((await store.read([subject])).known[0].revocations) == 1
    await store.close()
    await other.close()


async def test_after_a_fault_the_sieve_is_trusted_no_more(tmp_path: Path) -> None:
    """The file that is opened next may be another's, put there against the fault."""
    store, other = (SqliteStore.open(tmp_path / name) for name in ("store.db", "other.db"))
    await store.append(drafts("before", 3))
    await other.append(drafts("others", 3))
    await other.close()
    await sifting(store)
    (subject,) = keys("others", 1)
    assert (await store.read([subject])).known == [Known(seq=3)]
    store._near.close()
    (tmp_path / "other.db").rename(tmp_path / "store.db")
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink()
    assert len((await store.read([subject])).known[0].revocations) == 1
    await store.close()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a byte": lambda data: data[:-9] + bytes([data[-9] ^ 255]) + data[-8:],
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "no head": lambda data: b"\xff" + data,
    "said to be longer": lambda data: data.replace(b'"room":2', b'"room":9'),
    "a newer format": lambda data: data.replace(b'"format":1', b'"format":2'),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_was_kept_and_is_damaged_is_made_anew(kept: Path, tmp_path: Path, damage: str) -> None:
    path = copied(kept, tmp_path)
    file = tmp_path / "store.sieve"
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert of_ledger(db, path) is None
    sieve, _ = await fill_aside(path)
    assert len(sieve.passes(keys("there", MANY))) == MANY
    assert file.read_bytes() == whole
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert of_ledger(db, path) is not None


async def test_a_process_that_cannot_read_the_store_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await fill_aside(tmp_path / "none.db")
