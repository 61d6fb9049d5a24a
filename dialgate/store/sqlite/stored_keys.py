"""An in-memory filter for the SQLite store's keys, which avoids queries for most absent keys (ADR 0009).

Only this process writes attempts and answers. It adds their keys to the filter before it writes them. Any
process may write the ledger, so each read first adds the keys of new ledger entries. The filter is never saved, so an
erased number leaves no trace on disk.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from dialgate.runtime.thread_pool import lower_priority
from dialgate.store import StoreUnavailable
from dialgate.store.sqlite import tables
from dialgate.store.sqlite.connection import WAIT, Connection
from dialgate.store.sqlite.key_filter import KeyFilter

# Maximum ledger entries that a read adds on the event loop. If there are more, a thread fills the filter again.
CATCH_UP = 10_000
_CHUNK = 500  # keys added before the filling thread releases the interpreter


class StoredKeys:
    """A filter that rules out keys not in the store.

    No key is ruled out before the filter is filled, or after the database was reopened because of a fault.
    """

    def __init__(self, path: Path) -> None:
        self._connection = Connection(path, wait=WAIT, synchronous="NORMAL")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-filter", initializer=lower_priority)
        self._filter: KeyFilter | None = None
        self._seq = 0  # ledger entries up to this sequence are in the filter
        self._database: sqlite3.Connection | None = None  # the connection for which the filter is valid
        self._filling: asyncio.Task[None] | None = None
        self._added: list[bytes] = []  # keys added while a new filter is being filled

    def add(self, keys: Sequence[bytes]) -> None:
        """Add the keys for attempts and answers. Must be called before the attempts and answers are written."""
        if self._filter is not None:
            self._filter.add(keys)
        if self._filling is not None:
            self._added += keys

    def has_none(self, db: sqlite3.Connection, seq: int, keys: Sequence[bytes]) -> bool:
        """Return True only if none of the keys is in the database or about to be written to it.

        `seq` is the newest sequence number of the ledger that `db` can read.
        """
        if self._filter is None or self._seq != seq or self._database is not db:
            return False
        return not self._filter.select(keys)

    def catch_up(self, db: sqlite3.Connection, seq: int) -> None:
        """Add the keys of new ledger entries. `seq` is the newest sequence number in the ledger.

        Must be called in the same transaction as the query for keys.
        """
        if self._filter is None:
            return
        if (
            self._database is not db or not 0 <= seq - self._seq <= CATCH_UP
        ):  # the file may have been replaced
            self._filter = None
            return
        if seq == self._seq:
            return
        added = db.execute("SELECT subject FROM ledger WHERE seq > ?", (self._seq,))
        self._filter.add([subject for (subject,) in added])
        self._seq = seq

    def select(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that may be in the database, without duplicates.

        `catch_up` must be called first, in the same transaction.
        """
        return list(dict.fromkeys(keys)) if self._filter is None else self._filter.select(keys)

    def start_filling(self, database: sqlite3.Connection | None, unwritten: Iterable[bytes]) -> None:
        """Start filling a new filter in a thread, if there is no filter or the current filter is full.

        `unwritten` contains the keys that are not in the database yet.
        """
        if self._filling is None and database is not None and (self._filter is None or self._filter.is_full):
            self._added = list(unwritten)
            self._filling = asyncio.create_task(self._fill(database))

    async def _fill(self, database: sqlite3.Connection) -> None:
        run = asyncio.get_running_loop().run_in_executor
        try:
            keys, seq = await run(self._thread, self._connection.run, _read_keys)
            while len(self._added) > _CHUNK:
                added, self._added = self._added, []
                await run(self._thread, _add, keys, added)
            keys.add(self._added)
        except StoreUnavailable:
            return  # retried by the next maintenance
        finally:
            self._filling, self._added = None, []
        self._filter, self._seq, self._database = keys, seq, database

    async def close(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
            with suppress(asyncio.CancelledError):
                await self._filling
        if self._connection.database is not None:
            self._connection.database.interrupt()
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()


def _read_keys(db: sqlite3.Connection) -> tuple[KeyFilter, int]:
    with tables.transaction(db, "BEGIN"):
        seq = tables.newest(db)
        counts = "SELECT (SELECT count(*) FROM ledger) + (SELECT count(*) FROM attempt) + (SELECT count(*) FROM answer)"
        keys = KeyFilter(db.execute(counts).fetchone()[0])
        for query in ("SELECT subject FROM ledger", "SELECT subject FROM attempt", "SELECT key FROM answer"):
            cursor = db.execute(query)
            while rows := cursor.fetchmany(_CHUNK):
                keys.add([key for (key,) in rows])
    return keys, seq


def _add(keys: KeyFilter, added: Sequence[bytes]) -> None:
    for start in range(0, len(added), _CHUNK):
        keys.add(added[start : start + _CHUNK])
