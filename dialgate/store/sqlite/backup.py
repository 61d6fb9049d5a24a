"""A consistent backup of an SQLite database in use."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from dialgate.store import StoreUnavailable
from dialgate.store.sqlite import tables

_PAGES = 4_096  # pages per step; writers can run between steps
_WAIT = 10.0  # seconds to wait for a lock


def copy_database(path: Path, out: Path) -> None:
    """Copy the database to a new file `out`. Raises `FileNotFoundError` and `StoreUnavailable`.

    Do not call this in a process that has the database open: when this function closes the file, that process
    would lose SQLite's locks (POSIX).
    """
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
            # In a read transaction, or each concurrent write would restart the backup.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            source.backup(target, pages=_PAGES)
    except sqlite3.DatabaseError as fault:
        raise StoreUnavailable(f"{path}: the database cannot be copied ({fault})") from fault


def newest_entry(path: Path) -> int:
    """Return the newest sequence number of the ledger in a copied database. Raises `StoreUnavailable`."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return tables.newest(db)
    except sqlite3.DatabaseError as fault:
        raise StoreUnavailable(f"{path}: the database cannot be read ({fault})") from fault
