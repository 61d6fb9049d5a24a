"""Fills the sieve of a store. Of a long store in a process of its own: to read every key takes the interpreter millions of times,
and who decides calls would have to win it back each time.

`python -m dialgate.store.sqlite_sieve FILE FD` sets the bits in the memory that FD is, and says for how many keys it is made, how
many there are, and the newest sequence of the ledger among them.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from mmap import mmap
from pathlib import Path

from dialgate.store import StoreUnavailable
from dialgate.store import sqlite_tables as tables
from dialgate.store.sieve import Sieve, bytes_for

_LONG = 100_000  # keys; fewer are read sooner than a process is started
_NICE = 5
_READ = 10_000  # rows at a time


def fill(db: sqlite3.Connection) -> tuple[Sieve, int]:
    """A sieve of every key in the database, and the newest ledger sequence that it holds."""
    sieve, _, seq = _filled(db, lambda _: None)
    return sieve, seq


def _filled(db: sqlite3.Connection, memory: Callable[[int], mmap | None]) -> tuple[Sieve, int, int]:
    """And for how many keys it was made."""
    with tables.whole(db, "BEGIN"):
        seq = tables.newest(db)
        room = 2 * (seq + _count(db, "attempt") + _count(db, "answer"))
        sieve = Sieve(room, memory(bytes_for(room)))
        for query in ("SELECT subject FROM ledger", "SELECT subject FROM attempt", "SELECT key FROM answer"):
            cursor = db.execute(query)
            while rows := cursor.fetchmany(_READ):
                sieve.add([key for (key,) in rows])
    return sieve, room, seq


def _count(db: sqlite3.Connection, table: str) -> int:
    (rows,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - constants
    return int(rows)


def is_long(db: sqlite3.Connection) -> bool:
    """Without counting: a store that was long once, and is no more, costs a process."""
    (answers,) = db.execute("SELECT ifnull(max(id), 0) FROM answer").fetchone()
    return tables.newest(db) + int(answers) > _LONG


async def fill_aside(path: Path) -> tuple[Sieve, int]:
    """As `fill`. Raises `StoreUnavailable`."""
    fd = os.memfd_create("sieve")
    try:
        words = ("-m", __name__, str(path), str(fd))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            pass_fds=[fd],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            told, why = await process.communicate()
        finally:
            with suppress(ProcessLookupError):  # whoever waits no more, waits for nothing
                process.kill()
        if process.returncode:
            last = why.decode(errors="replace").strip().rpartition("\n")[2] or process.returncode
            raise StoreUnavailable(f"{path}: the process that reads its keys ended: {last}")
        room, keys, seq = map(int, told.split())
        sieve = Sieve(room, mmap(fd, bytes_for(room)))
        sieve.keys = keys
        return sieve, seq
    finally:
        os.close(fd)


def _main() -> None:
    path, fd = Path(sys.argv[1]), int(sys.argv[2])
    os.nice(_NICE)  # calls come first
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)) as db:
        sieve, room, seq = _filled(db, lambda size: _memory(fd, size))
    sys.stdout.write(f"{room} {sieve.keys} {seq}\n")


def _memory(fd: int, size: int) -> mmap:
    os.ftruncate(fd, size)
    return mmap(fd, size)


if __name__ == "__main__":
    _main()
