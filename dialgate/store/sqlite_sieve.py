"""Fills the sieve of a store. Of a long store in a process of its own: to read every key takes the interpreter millions of times,
and who decides calls would have to win it back each time.

`python -m dialgate.store.sqlite_sieve FILE FD` sets the bits in the memory that FD is, and says for how many keys it is made, how
many there are, and the newest sequence of the ledger among them.

What the ledger held is kept beside the database as `<name>.sieve`, so that the next start need not read it: a line of JSON, the
fields of `_Head`, then the field of bits. It serves only where it is sure to miss no entry. That is where its last entry stands in
the ledger under the same sequence, with the same sealed number, whose nonce was drawn by lot: then every entry before stands
there too, and those after are read. A database from a backup has another history from there on, and other nonces. A command that
reads many subjects beside a gate uses it as well (`of_ledger`). How it may change: another layout is a higher `format`, and what is
not understood is made anew.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from hashlib import sha256
from io import BufferedReader
from mmap import mmap
from pathlib import Path

import msgspec
from msgspec import Struct

from dialgate.runtime.atomic_write import replace_file
from dialgate.runtime.chunked_write import write_in_chunks
from dialgate.store import StoreUnavailable
from dialgate.store import sqlite_tables as tables
from dialgate.store.sieve import Sieve, bytes_for

_LONG = 100_000  # keys; fewer are read sooner than a process is started
_NICE = 5
_READ = 10_000  # rows at a time
_PIECE = 1 << 16  # bytes: any field has a whole number of them
_ROOM = 1 << 24  # keys for which a sieve is made that is to be small: 64 MiB
_MOST_SINCE = 1_000_000  # entries that are read for such a one: they take a second
_FORMAT = 1
_OTHERS = ("SELECT subject FROM attempt", "SELECT key FROM answer")
_SINCE = "SELECT subject FROM ledger WHERE seq > ?"
_AT_LEAST = "SELECT count(*) FROM (SELECT 1 FROM {} LIMIT ?)"
_LAST = "SELECT seq, hex(sealed) FROM ledger WHERE length(sealed) > 12 ORDER BY seq DESC LIMIT 1"


class _Head(Struct, frozen=True):
    """`seq`, `sealed`: of the last entry that is surely in it. `sha256`: of the field."""

    format: int
    room: int
    keys: int
    seq: int
    sealed: str
    sha256: str


def fill(db: sqlite3.Connection) -> tuple[Sieve, int]:
    """A sieve of every key in the database, and the newest ledger sequence that it holds."""
    with tables.whole(db, "BEGIN"):
        seq = tables.newest(db)
        sieve = Sieve(2 * _needed(db, seq))
        for query in ("SELECT subject FROM ledger", *_OTHERS):
            _add(sieve, db.execute(query))
    return sieve, seq


def kept_of(path: Path) -> Path:
    """Where the bits of this store's ledger are kept."""
    return path.with_suffix(".sieve")


def is_long(db: sqlite3.Connection) -> bool:
    """No row is counted beyond that."""
    counts = (db.execute(_AT_LEAST.format(table), (_LONG + 1,)) for table in ("ledger", "attempt", "answer"))
    return sum(int(cursor.fetchone()[0]) for cursor in counts) > _LONG


async def fill_aside(path: Path) -> tuple[Sieve, int]:
    """As `fill`. Raises `StoreUnavailable`."""
    fd = os.memfd_create("sieve")
    try:
        words = (sys.executable, "-m", __name__, str(path), str(fd))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, pass_fds=[fd], stdout=pipe, stderr=pipe
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


def of_ledger(db: sqlite3.Connection, path: Path) -> tuple[Sieve, int] | None:
    """A sieve of the ledger alone, from what was kept of it, and the newest sequence that it holds. None where nothing was, or
    it does not serve. Whatever the ledger's length, it takes a bounded memory; of a very long one more passes."""
    with tables.whole(db, "BEGIN"):
        seq = tables.newest(db)

        def empty(head: _Head) -> Sieve | None:
            return Sieve(min(head.room, _ROOM)) if seq - head.seq <= _MOST_SINCE else None

        loaded = _loaded(db, kept_of(path), empty)
        if loaded is None:
            return None
        head, sieve = loaded
        _add(sieve, db.execute(_SINCE, (head.seq,)))
    return sieve, seq


def _loaded(
    db: sqlite3.Connection, kept: Path, empty: Callable[[_Head], Sieve | None]
) -> tuple[_Head, Sieve] | None:
    """What was kept, where it serves. `empty` gives the sieve that it is read into, or none where it would not do."""
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError), kept.open("rb") as file:
        head = msgspec.json.decode(file.readline(1 << 12), type=_Head)
        sieve = empty(head) if head.format == _FORMAT and _stands(db, head) else None
        if sieve is not None and _read(head, file, sieve):
            return head, sieve
    return None


def _stands(db: sqlite3.Connection, head: _Head) -> bool:
    row = db.execute("SELECT hex(sealed) FROM ledger WHERE seq = ?", (head.seq,)).fetchone()
    return row is not None and bool(head.sealed) and row[0] == head.sealed


def _read(head: _Head, file: BufferedReader, sieve: Sieve) -> bool:
    """Whether it was whole."""
    digest, length = sha256(), 0
    while some := file.read(_PIECE):
        digest.update(some)
        sieve.lay(some, length)
        length += len(some)
    sieve.keys = head.keys
    return length == bytes_for(head.room) and digest.hexdigest() == head.sha256


def _needed(db: sqlite3.Connection, seq: int) -> int:
    counts = (
        db.execute(query.replace("key", "count(*)").replace("subject", "count(*)")) for query in _OTHERS
    )
    return seq + sum(int(cursor.fetchone()[0]) for cursor in counts)


def _add(sieve: Sieve, cursor: sqlite3.Cursor) -> None:
    while rows := cursor.fetchmany(_READ):
        sieve.add([key for (key,) in rows])


# ---- the process -----------------------------------------------------------------------------------------------------


def _main() -> None:
    path, fd = Path(sys.argv[1]), int(sys.argv[2])
    os.nice(_NICE)  # calls come first
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)) as db,
        tables.whole(db, "BEGIN"),
    ):
        seq = tables.newest(db)
        field, room = _filled(db, kept_of(path), fd, seq)
    sys.stdout.write(f"{room} {field.keys} {seq}\n")


def _filled(db: sqlite3.Connection, kept: Path, fd: int, seq: int) -> tuple[Sieve, int]:
    """And for how many keys it is made."""
    needed = _needed(db, seq)

    def empty(head: _Head) -> Sieve | None:
        return _in_memory(fd, head.room) if bytes_for(needed) <= bytes_for(head.room) else None

    loaded = _loaded(db, kept, empty)
    if loaded is None:
        room, missing = 2 * needed, seq
        sieve = _in_memory(fd, room)
        _add(sieve, db.execute("SELECT subject FROM ledger"))  # in the index's order: less than half to read
    else:
        head, sieve = loaded
        room, missing = head.room, seq - head.seq
        _add(sieve, db.execute(_SINCE, (head.seq,)))
    if missing > _LONG:
        with suppress(OSError):  # then the next start reads all of it
            _keep(db, kept, sieve, room)
    for query in _OTHERS:
        _add(sieve, db.execute(query))
    return sieve, room


def _in_memory(fd: int, room: int) -> Sieve:
    size = bytes_for(room)
    os.ftruncate(fd, 0)  # what was read before, and found not to serve, goes
    os.ftruncate(fd, size)
    return Sieve(room, mmap(fd, size))


def _keep(db: sqlite3.Connection, kept: Path, sieve: Sieve, room: int) -> None:
    """Whole or not at all. Raises OSError."""
    last = db.execute(_LAST).fetchone()
    if last is None:
        return
    seq, sealed = last
    with memoryview(sieve.field) as view:
        head = _Head(_FORMAT, room, sieve.keys, seq, sealed, sha256(view).hexdigest())
        with replace_file(kept) as file:
            file.write(msgspec.json.encode(head) + b"\n")
            write_in_chunks(file, view)


if __name__ == "__main__":
    _main()
