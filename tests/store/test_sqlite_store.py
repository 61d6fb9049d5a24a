"""Tests of the embedded store when something other than its gate changes the file."""

import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

from dialgate.core.ledger_events import Draft, Revoked
from dialgate.core.model import Attempt, Known
from dialgate.store import AttemptPosition, Reservation
from dialgate.store.sqlite import SqliteStore
from dialgate.store.sqlite.store import VERSIONS


def keys(kind: str, count: int) -> list[bytes]:
    return [blake2b(f"{kind}{n}".encode(), digest_size=16).digest() for n in range(count)]


def drafts(kind: str, count: int) -> list[Draft]:
    revoked = Revoked(at=1, scope="controller", campaign="")
    return [
        Draft(at=1, controller="acme", subject=subject, event=revoked, actor="a", channel="c")
        for subject in keys(kind, count)
    ]


async def test_a_database_restored_under_an_open_store_is_read(tmp_path: Path) -> None:
    """New entries reuse the sequence numbers of entries that the store read before the restore."""
    store, other = (SqliteStore.open(tmp_path / "store.db") for _ in range(2))
    await store.append(drafts("before", 3))
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


async def test_after_a_fault_the_current_file_is_read(tmp_path: Path) -> None:
    """The file may have been replaced because of the fault."""
    store, other = (SqliteStore.open(tmp_path / name) for name in ("store.db", "other.db"))
    await store.append(drafts("before", 3))
    await other.append(drafts("others", 3))
    await other.close()
    (subject,) = keys("others", 1)
    assert (await store.read([subject])).known == [Known(seq=3)]
    store._reader.close()
    (tmp_path / "other.db").rename(tmp_path / "store.db")
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink()
    assert len((await store.read([subject])).known[0].revocations) == 1
    await store.close()


async def test_a_change_is_not_forgotten_after_many_others(tmp_path: Path) -> None:
    """The store keeps the versions of a limited number of subjects and answers."""
    store = SqliteStore.open(tmp_path / "store.db")
    (subject, *others) = keys("called", VERSIONS + 1)
    reading = await store.read([subject])
    for some in ([subject], others):
        attempts = [Attempt(decision=f"{some[0]!r}-{at}", at=5, campaign="spring") for at in range(len(some))]
        reserved = [Reservation(*pair, ()) for pair in zip(some, attempts, strict=True)]
        assert await store.commit(await store.read([]), reserved, [], AttemptPosition("log", 1))
    own = Reservation(subject, Attempt(decision="log-9", at=5, campaign="spring"), (subject,))
    assert not await store.commit(reading, [own], [], AttemptPosition("log", 2))
    assert await store.commit(await store.read([subject]), [own], [], AttemptPosition("log", 2))
    await store.close()
