"""Connections to an SQLite file in the data folder, its transactions and its formats."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

import structlog
from msgspec import DecodeError

from dialgate.store import StoreUnavailable

CHECKPOINT = 4_096  # pages (16 MiB) of the write-ahead log after which the writer copies them to the database
_LOG_BYTES = 128 << 20  # a longer write-ahead log is cut

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only: make both writable for this user",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: it must exist and be readable and writable for this user",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error: check the system log",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: stop the gate and restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is damaged or not a store: stop the gate and restore it from a backup",
    sqlite3.SQLITE_BUSY: "the store is locked by another process: stop it",
    sqlite3.SQLITE_LOCKED: "the store is locked by another process: stop it",
}

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Step: TypeAlias = Callable[[sqlite3.Connection], T]


class SqliteConnection:
    """An SQLite connection that is opened on demand and reopened after a fault. Its commits are on disk."""

    def __init__(self, path: Path, *, wait: float = 5.0, read_only: bool = False) -> None:
        """Store the path without connecting.

        `wait` is the time in seconds to wait for a lock. The gate owns the file, so only a program of another kind could
        hold one.
        """
        self._path, self._wait, self._mode = path, wait, "ro" if read_only else "rw"
        self._db: sqlite3.Connection | None = None

    def run(self, step: Step[T]) -> T:
        """Run `step` and return its result. Raises `StoreUnavailable`."""
        try:
            return step(self._db or self._connect())
        except sqlite3.DatabaseError as fault:
            code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            self.close()
            raise StoreUnavailable(
                f"{self._path}: {_REASONS.get(code, 'SQLite reports an error')} ({fault})"
            ) from fault
        except DecodeError as fault:
            raise StoreUnavailable(
                f"{self._path}: a row was written by a newer dialgate: install that version ({fault})"
            ) from fault
        except StoreUnavailable:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        # With a mode, a missing file is a fault, not an empty store.
        uri = f"{self._path.absolute().as_uri()}?mode={self._mode}"
        db = sqlite3.connect(uri, uri=True, timeout=self._wait, isolation_level=None, check_same_thread=False)
        self._db = db
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT}")
        db.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
        db.execute("PRAGMA cache_size=-32768")  # KiB
        return db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None


class SqliteThread:
    """A connection with a thread of its own, which takes one step after the other."""

    def __init__(self, path: Path, name: str, *, read_only: bool = False) -> None:
        self.connection = SqliteConnection(path, read_only=read_only)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False

    async def run(self, step: Step[T]) -> T:
        """Run `step` and return its result. Raises `StoreUnavailable`."""
        if self._closed:
            raise closed_store()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.connection.run, step)

    async def write(self, step: Step[T]) -> T:
        """Run `step` in a transaction."""

        def atomic(db: sqlite3.Connection) -> T:
            with transaction(db):
                return step(db)

        return await self.run(atomic)

    async def close(self) -> None:
        """Finish the steps that wait, and close the connection."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._thread.shutdown)
            self.connection.close()


def closed_store() -> StoreUnavailable:
    return StoreUnavailable("the store has been closed")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction. Roll back if the block or the commit fails."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:  # also if COMMIT itself failed
            db.execute("ROLLBACK")


def open_file(path: Path, connection: SqliteConnection, migrate: Step[None]) -> None:
    """Create the file (mode 0600) if it is missing, and migrate it. Raises `StoreUnavailable`."""
    with suppress(OSError):  # SQLite reports why it cannot be created
        path.touch(mode=0o600, exist_ok=False)
    connection.run(migrate)


def run_migrations(
    db: sqlite3.Connection, name: str, application: int, scripts: Sequence[Sequence[str]], oldest: int
) -> None:
    """Run every script that has not yet run on this file, in one transaction. The first creates the format `oldest`.

    Raises `StoreUnavailable` if the file has a newer format or one from before 0.2.0, belongs to another program, or cannot
    use a write-ahead log.
    """
    (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(
            "SQLite cannot use a write-ahead log here: move the data folder to a local disk"
        )
    with transaction(db):
        version, known = pragma(db, "user_version"), oldest + len(scripts) - 1
        if version and pragma(db, "application_id") != application:
            raise StoreUnavailable(
                f"the database file of {name} belongs to another program: move it, or use another data folder"
            )
        if version > known:
            raise StoreUnavailable(
                f"{name} has format {version}, but this version supports only {known} and older: install a newer dialgate"
            )
        if 0 < version < oldest:
            raise StoreUnavailable(
                f"{name} has format {version}, from before dialgate 0.2.0: open it once with version 0.2, which converts it"
            )
        if 0 < version < known:
            _log.warning(
                "migrating a database to a new format, which can take minutes for each 10 million attempts",
                database=name,
                old_format=version,
                new_format=known,
            )
        for script in scripts[max(version - oldest + 1, 0) :]:
            for statement in script:
                db.execute(statement)
        db.execute(f"PRAGMA application_id={application}")
        db.execute(f"PRAGMA user_version={known}")


def pragma(db: sqlite3.Connection, name: str) -> int:
    value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value
