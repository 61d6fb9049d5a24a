"""Tests of the key filter of the embedded store.

A key that the filter reports as absent must be absent. Otherwise a gate could miss a revocation or an attempt and
permit an unlawful call.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.core.ledger_events import Draft, Revoked
from dialgate.core.model import Attempt
from dialgate.store import Position, Remembered, Reservation, StoreUnavailable
from dialgate.store.sqlite import SqliteStore
from dialgate.store.sqlite.connection import Connection
from dialgate.store.sqlite.key_filter import KeyFilter
from dialgate.store.sqlite.stored_keys import CATCH_UP, StoredKeys

KEYS = st.lists(st.binary(min_size=1, max_size=20), max_size=50)


def random_keys(count: int) -> list[bytes]:
    return [os.urandom(16) for _ in range(count)]


def drafts(subjects: list[bytes]) -> list[Draft]:
    revoked = Revoked(at=1, scope="controller", campaign="")
    return [
        Draft(at=1, controller="acme", subject=subject, event=revoked, actor="a", channel="c")
        for subject in subjects
    ]


async def fill(store: SqliteStore) -> None:
    await store.ping()
    await store.maintain(0)
    if store._stored._filling is not None:
        await store._stored._filling
    assert store._stored._filter is not None


async def finish_filling(stored: StoredKeys, db: sqlite3.Connection, unwritten: Iterable[bytes]) -> None:
    stored.start_filling(db, unwritten)
    if stored._filling is not None:
        await stored._filling


@given(first=KEYS, second=KEYS, others=KEYS)
def test_added_keys_are_selected_in_order_and_once(
    first: list[bytes], second: list[bytes], others: list[bytes]
) -> None:
    keys = KeyFilter()
    keys.add(first)
    keys.add(second)
    added = {*first, *second}
    searched = first + others + second
    selected = keys.select(searched)
    assert [key for key in selected if key in added] == list(
        dict.fromkeys(key for key in searched if key in added)
    )
    assert len(selected) == len(set(selected))


@pytest.mark.parametrize("count", [1_000, 300_000])
def test_few_absent_keys_are_selected(count: int) -> None:
    keys, added = KeyFilter(count), random_keys(count)
    keys.add(added)
    assert keys.select(added) == added
    assert len(keys.select(random_keys(20_000))) < 20_000 / 200
    assert not keys.is_full


async def test_a_filled_filter_answers_for_absent_numbers_without_a_lookup(tmp_path: Path) -> None:
    store, present = SqliteStore.open(tmp_path / "store.db"), random_keys(20)
    await store.append(drafts(present))
    await fill(store)
    db = store._near.database
    assert db is not None
    absent = random_keys(20)
    assert store._stored.has_none(db, 20, absent)
    assert not any(store._stored.has_none(db, 20, [*absent, key]) for key in present)
    assert [len(known.revocations) for known in (await store.read([*present, *absent])).known] == [1] * 20 + [
        0
    ] * 20
    await store.close()


@pytest.mark.parametrize("count", [1, CATCH_UP, CATCH_UP + 1])
async def test_a_revocation_by_another_process_is_read_at_once(tmp_path: Path, count: int) -> None:
    """The other process may append more entries than one read may add to the filter."""
    gate, command = (SqliteStore.open(tmp_path / "store.db") for _ in range(2))
    await command.append(drafts(random_keys(3)))
    await fill(gate)
    before, after, absent = random_keys(3)
    assert (await gate.read([before])).known[0].revocations == ()
    await command.append(drafts([*random_keys(count - 1), before]))
    assert len((await gate.read([before])).known[0].revocations) == 1
    assert (gate._stored._filter is not None) == (count <= CATCH_UP), "discarded only if it takes too long"
    await command.append(drafts([after]))
    known = (await gate.read([before, after, absent])).known
    assert [len(states.revocations) for states in known] == [1, 1, 0]
    for store in (gate, command):
        await store.close()


async def test_a_commit_notices_a_revocation_after_its_read(tmp_path: Path) -> None:
    gate, command = (SqliteStore.open(tmp_path / "store.db") for _ in range(2))
    await fill(gate)
    (subject,) = random_keys(1)
    attempt = Attempt(decision="log-1", at=5, campaign="spring")
    reading = await gate.read([subject])
    await command.append(drafts([subject]))
    assert not await gate.commit(reading, [Reservation(subject, attempt, (subject,))], [], Position("log", 1))
    reading = await gate.read([subject])
    await command.append(drafts(random_keys(1)))
    assert await gate.commit(reading, [Reservation(subject, attempt, (subject,))], [], Position("log", 1))
    for store in (gate, command):
        await store.close()


async def test_keys_committed_while_the_filter_is_filled_are_in_it(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    subjects, keys = random_keys(4), random_keys(4)

    async def commit(place: int) -> None:
        reading = await store.read([subjects[place]], [keys[place]])
        attempt = Attempt(decision=f"log-{place}", at=5, campaign="spring")
        reserved = [Reservation(subjects[place], attempt, (subjects[place],))]
        remembered = [Remembered(keys[place], 5, b"allow", f"log-{place}")]
        assert await store.commit(reading, reserved, remembered, Position("log", place))

    await commit(0)
    await store.positions()  # writes the first to the database
    await commit(1)
    stored = store._stored
    stored.start_filling(store._near.database, store._unwritten_keys())
    await commit(2)
    assert stored._filling is not None
    await stored._filling
    await commit(3)
    await store.positions()
    assert stored._filter is not None
    reading = await store.read([*subjects, *random_keys(1)], [*keys, *random_keys(1)])
    assert [len(known.attempts) for known in reading.known] == [1, 1, 1, 1, 0]
    assert [answer is not None for answer in reading.answers] == [True] * 4 + [False]
    await store.close()


@pytest.mark.parametrize("count", [1, 500, 501, 1_300])
async def test_any_number_of_unwritten_keys_is_in_the_filter(tmp_path: Path, count: int) -> None:
    """A missing key would hide an attempt and permit one call too many. More than 500 keys are added in a thread."""
    store, keys = SqliteStore.open(tmp_path / "store.db"), random_keys(count)
    await store.ping()
    db = store._near.database
    assert db is not None
    await finish_filling(store._stored, db, keys)
    assert store._stored._filter is not None
    assert store._stored.select(keys) == keys
    await store.close()


async def test_the_filter_is_filled_while_another_process_writes(tmp_path: Path) -> None:
    store, (subject,) = SqliteStore.open(tmp_path / "store.db"), random_keys(1)
    await store.append(drafts([subject]))
    await store.ping()
    db, writer = store._near.database, Connection(tmp_path / "store.db", wait=1, synchronous="NORMAL")
    assert db is not None
    writer.run(lambda connection: connection.execute("BEGIN IMMEDIATE"))
    await finish_filling(store._stored, db, ())
    assert store._stored._filter is not None
    assert store._stored.select([subject, *random_keys(1)]) == [subject]
    writer.run(lambda connection: connection.execute("ROLLBACK"))
    writer.close()
    await store.close()


async def test_a_ledger_that_lost_its_end_is_refused_with_a_filter_too(tmp_path: Path) -> None:
    """The lost entries may be revocations, so a number without entries must not be called."""
    store, (absent,) = SqliteStore.open(tmp_path / "store.db"), random_keys(1)
    await store.append(drafts(random_keys(3)))
    await fill(store)
    assert (await store.read([absent])).known[0].seq == 3
    store.require_seq(4)
    with pytest.raises(StoreUnavailable):
        await store.read([absent])
    await store.close()


async def test_calls_are_read_and_committed_while_another_process_writes(tmp_path: Path) -> None:
    store, (subject,) = SqliteStore.open(tmp_path / "store.db"), random_keys(1)
    await store.append(drafts([subject]))
    writer = Connection(tmp_path / "store.db", wait=1, synchronous="NORMAL")
    writer.run(lambda connection: connection.execute("BEGIN IMMEDIATE"))
    reading = await store.read([subject])
    assert len(reading.known[0].revocations) == 1
    await store.read(random_keys(1))  # so that the commit compares the states
    attempt = Attempt(decision="log-1", at=5, campaign="spring")
    assert await store.commit(reading, [Reservation(subject, attempt, (subject,))], [], Position("log", 1))
    writer.run(lambda connection: connection.execute("ROLLBACK"))
    writer.close()
    await store.close()


async def test_a_commit_on_an_older_reading_is_compared_with_the_state(tmp_path: Path) -> None:
    """An attempt that is still in memory does not change the database's version. So the version alone cannot show that a reading is stale."""
    store, (subject,) = SqliteStore.open(tmp_path / "store.db"), random_keys(1)
    await fill(store)
    first, second = [await store.read([subject]) for _ in range(2)]
    committed = []
    for place, reading in enumerate((second, first)):
        attempt = Attempt(decision=f"log-{place}", at=5, campaign="spring")
        reserved = [Reservation(subject, attempt, (subject,))]
        committed.append(await store.commit(reading, reserved, [], Position("log", place)))
        await store.read(random_keys(1))
    assert committed == [True, False]
    assert len((await store.read([subject])).known[0].attempts) == 1
    await store.close()


async def test_a_commit_on_a_reading_of_an_earlier_connection_is_compared(tmp_path: Path) -> None:
    gate, command = (SqliteStore.open(tmp_path / "store.db") for _ in range(2))
    (subject,) = random_keys(1)
    reading = await gate.read([subject])
    await command.append(drafts([subject]))
    gate._near.close()
    attempt = Attempt(decision="log-1", at=5, campaign="spring")
    assert not await gate.commit(reading, [Reservation(subject, attempt, (subject,))], [], Position("log", 1))
    for store in (gate, command):
        await store.close()


async def test_a_release_removes_what_is_already_in_the_database(tmp_path: Path) -> None:
    """Otherwise an answer that was never recorded would be repeated."""
    store, (subject, key) = SqliteStore.open(tmp_path / "store.db"), random_keys(2)
    reserved = [Reservation(subject, Attempt(decision="log-1", at=5, campaign="spring"), (subject,))]
    remembered = [Remembered(key, 5, b"allow", "log-1")]
    assert await store.commit(await store.read([subject]), reserved, remembered, Position("log", 1))
    assert await store.positions() == {"log": 1}  # writes both to the database
    await store.release(["log-1"], Position("log", 0))
    reading = await store.read([subject], [key])
    assert (reading.known[0].attempts, list(reading.answers)) == ((), [None])
    assert await store.positions() == {"log": 0}
    await store.close()


async def test_recovered_attempts_are_in_the_filter(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    await fill(store)
    subject, key = random_keys(2)
    attempt = Attempt(decision="log-1", at=5, campaign="spring")
    await store.settle("log", 1, [(subject, attempt)], [Remembered(key, 5, b"allow", "log-1")])
    reading = await store.read([subject], [key])
    assert (reading.known[0].attempts, reading.answers[0] is not None) == ((attempt,), True)
    await store.close()


async def test_the_filter_is_not_used_for_a_file_opened_after_a_fault(tmp_path: Path) -> None:
    """The file may have been replaced because of the fault."""
    store, other = (SqliteStore.open(tmp_path / name) for name in ("store.db", "other.db"))
    (subject,) = random_keys(1)
    await store.append(drafts(random_keys(3)))
    await other.append(drafts([*random_keys(2), subject]))
    await other.close()
    await fill(store)
    assert (await store.read([subject])).known[0].revocations == ()
    store._near.close()
    (tmp_path / "other.db").rename(tmp_path / "store.db")
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink()
    assert len((await store.read([subject])).known[0].revocations) == 1
    await store.close()


async def test_the_filter_is_not_used_for_a_ledger_that_became_shorter(tmp_path: Path) -> None:
    store, absent = SqliteStore.open(tmp_path / "store.db"), random_keys(1)
    await store.append(drafts(random_keys(3)))
    await fill(store)
    stored, db = store._stored, store._near.database
    assert db is not None
    assert [stored.has_none(db, seq, absent) for seq in (2, 3, 4)] == [False, True, False]
    kept = []
    for seq in (3, 2):
        stored.catch_up(db, seq)
        kept.append(stored._filter is not None)
    assert kept == [True, False]
    assert stored.select([*absent, *absent]) == absent
    await store.close()


async def test_keys_are_collected_only_while_a_filter_is_filled(tmp_path: Path) -> None:
    """Otherwise the keys would fill the memory."""
    store = SqliteStore.open(tmp_path / "store.db")
    stored = store._stored
    stored.add(random_keys(3))
    assert stored._added == []
    await fill(store)
    stored.add(random_keys(3))
    assert stored._added == []
    await store.close()


async def test_a_full_filter_is_replaced_and_used_meanwhile(tmp_path: Path) -> None:
    await SqliteStore.open(tmp_path / "store.db").close()
    stored = StoredKeys(tmp_path / "store.db")
    connection = Connection(tmp_path / "store.db", wait=1, synchronous="NORMAL")
    connection.run(lambda db: db.execute("SELECT 1"))
    db = connection.database
    assert db is not None
    await finish_filling(stored, db, ())
    first, keys = stored._filter, random_keys(600_000)
    await finish_filling(stored, db, ())
    assert stored._filter is first
    stored.add(keys)
    stored.start_filling(db, keys[:3])
    assert (stored._filter, stored.select(keys[:9])) == (first, keys[:9])
    await finish_filling(stored, db, ())
    assert stored._filter is not first
    assert stored.select(keys) == keys[:3]  # the rest is not in the database
    connection.close()
    await stored.close()


async def test_a_store_closes_while_its_filter_is_filled(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    await store.append(drafts(random_keys(20_000)))
    await store.ping()
    store._stored.start_filling(store._near.database, ())
    filling = store._stored._filling
    assert filling is not None
    await asyncio.sleep(0)  # until the task waits for its thread
    await store.close()
    assert filling.cancelled()
