"""A copy of a database that is in use: one state of it, whole, as SQLite's own online backup makes it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from dialgate.store import StoreUnavailable
from dialgate.store import sqlite_tables as tables

_PAGES = 4_096  # at once, after which writers get their turn
_WAIT = 10.0  # seconds for a lock


def copy_database(path: Path, out: Path) -> None:
    """Never in a process that has the file open: closing it would drop SQLite's locks (POSIX). Raises `FileNotFoundError`,
    `StoreUnavailable`."""
    if not path.exists():
        raise FileNotFoundError(path)
    os.close(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT)
            ) as source,
            closing(sqlite3.connect(out)) as target,
        ):
            # From within a transaction, so that a writer in between does not make it begin anew without end.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            source.backup(target, pages=_PAGES)
    except sqlite3.DatabaseError as fault:
        raise StoreUnavailable(f"{path}: it cannot be copied ({fault})") from fault


def newest_entry(path: Path) -> int:
    """The newest ledger sequence in a copied database. Raises `StoreUnavailable`."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return tables.newest(db)
    except sqlite3.DatabaseError as fault:
        raise StoreUnavailable(f"{path}: it cannot be read ({fault})") from fault
