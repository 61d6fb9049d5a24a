"""A connection to an SQLite file in the data folder."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from msgspec import DecodeError

from dialgate.runtime.file_lock import hold_lock
from dialgate.store import StoreUnavailable
from dialgate.store.sqlite.tables import LONG_LOG

WAIT = 5.0  # seconds to wait for a lock in a thread: longer than it takes to write a buffer

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only: make both writable for this user",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: it must exist and be readable and writable for this user",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error: check the system log",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: stop the gate and restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is damaged or not a store: stop the gate and restore it from a backup",
}
_BUSY = dict.fromkeys(
    (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL),
    "the store is locked by another process or a long write: wait for it or stop it",
)
_REASONS |= _BUSY

T = TypeVar("T")
Step: TypeAlias = Callable[[sqlite3.Connection], T]


class StoreLocked(StoreUnavailable):
    """Another connection holds the lock. A retry may succeed."""


class Connection:
    """An SQLite connection that is opened on demand and reopened after a fault."""

    def __init__(self, path: Path, *, wait: float, synchronous: str) -> None:
        """Store the path and options without connecting.

        `wait` is the time in seconds to wait for a lock. `synchronous` is the value of the SQLite pragma.
        """
        self._path = path
        self._wait = wait
        self._synchronous = synchronous
        self._db: sqlite3.Connection | None = None

    def run(self, step: Step[T]) -> T:
        """Run `step` and return its result. Raises `StoreLocked` and `StoreUnavailable`."""
        try:
            return step(self._db or self._connect())
        except sqlite3.DatabaseError as fault:
            code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            text = f"{self._path}: {_REASONS.get(code, 'SQLite reports an error')} ({fault})"
            if code in _BUSY:
                raise StoreLocked(text) from fault
            self.close()
            raise StoreUnavailable(text) from fault
        except DecodeError as fault:
            raise StoreUnavailable(
                f"{self._path}: a row was written by a newer dialgate: install that version ({fault})"
            ) from fault
        except StoreUnavailable:
            self.close()
            raise

    @property
    def database(self) -> sqlite3.Connection | None:
        """The open database, or None. After a fault, the reopened database is a different object."""
        return self._db

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a missing file is a fault, not an empty store.
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        db = sqlite3.connect(uri, uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False)
        self._db = db
        db.execute(f"PRAGMA synchronous={self._synchronous}")
        db.execute("PRAGMA wal_autocheckpoint=0")  # not during commits; `maintain` does it
        db.execute(f"PRAGMA journal_size_limit={LONG_LOG * 4_096 * 2}")
        db.execute("PRAGMA cache_size=-32768")  # KiB
        return db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None


def open_file(path: Path, connection: Connection, migrate: Step[None]) -> None:
    """Create the file (mode 0600) if it is missing, and migrate it. Raises `StoreUnavailable`.

    A lock file makes other processes wait, because SQLite does not wait when the journal mode changes.
    """
    with suppress(OSError):  # SQLite reports why it cannot be created
        path.touch(mode=0o600, exist_ok=False)
    try:
        with hold_lock(path.with_suffix(".lock")):
            connection.run(migrate)
    except OSError as fault:
        raise StoreUnavailable(f"{path}: {_REASONS[sqlite3.SQLITE_CANTOPEN]} ({fault})") from fault
