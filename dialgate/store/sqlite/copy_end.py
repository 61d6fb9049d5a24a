"""The embedded store as source or target of a copy.

A target is written as `NAME.copying` and renamed when it is complete.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.json import encode

from dialgate.core.ledger_events import Entry
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    Delivery,
    HourCount,
    PauseLift,
    Remembered,
)
from dialgate.store.copying import CopyRefused, CountedAttempt, Kind, Row
from dialgate.store.sqlite import campaign_counts, tables

_T = TypeVar("_T")
_BATCH_ROWS: Final = 2_000
_QUERIES: Final[dict[Kind, str]] = {
    "ledger": tables.ENTRY + "WHERE seq > ? ORDER BY seq",
    "attempts": "SELECT at, decision, campaign, basis, result, goods, subject, result_at FROM attempt WHERE ? = 0",
    "answers": "SELECT key, at, answer, decision FROM answer WHERE ? = 0",
    "positions": "SELECT log, seq, 0, durable FROM position WHERE ? = 0",
    "counts": f"{campaign_counts.COUNTS} WHERE ? = 0",
}
# Kinds with so few rows that they are read at once.
_FEW: Final[dict[Kind, Callable[[sqlite3.Connection], Sequence[Row]]]] = {
    "lists": tables.lists,
    "proofs": tables.proofs,  # only the newest, because a shared store keeps no earlier ones
    "deliveries": tables.deliveries,
    "lifts": campaign_counts.pause_lifts,
}
# Rows that the gate has not yet compared with its log after a crash.
_UNSETTLED: Final = "SELECT log FROM position WHERE reached > seq LIMIT 1"
_TABLES: Final = ("ledger", "attempt", "answer")


class SqliteEnd:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = False

    def _open(self) -> sqlite3.Connection:
        path = self._path.with_name(f"{self._path.name}.copying") if self._target else self._path
        if not self._target and not path.exists():
            raise CopyRefused(f"{path} does not exist")
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        tables.migrate(db)
        return db

    async def _run(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            with self._database_errors(), closing(self._open()) as db:
                return step(db)

        return await asyncio.to_thread(run)

    @contextmanager
    def _database_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CopyRefused(f"{self._path}: {error}") from error

    async def newest(self) -> int:
        def newest(db: sqlite3.Connection) -> int:
            if db.execute(_UNSETTLED).fetchone() is not None:
                raise CopyRefused(
                    f"{self._path}: the gate that used this store was killed. Start and stop the gate once, then copy again"
                )
            return tables.newest(db)

        return await self._run(newest)

    async def count(self) -> int:
        def count_rows(db: sqlite3.Connection) -> int:
            return sum(int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in _TABLES)  # noqa: S608 - constants

        return await self._run(count_rows)

    async def rows(self, kind: Kind, after: int = 0) -> AsyncGenerator[list[Row], None]:
        with self._database_errors(), closing(await asyncio.to_thread(self._open)) as db:
            if kind in _FEW:
                yield list(await asyncio.to_thread(_FEW[kind], db))
                return
            cursor = db.execute(_QUERIES[kind], (after,))
            while batch := await asyncio.to_thread(cursor.fetchmany, _BATCH_ROWS):
                yield [_row(kind, columns) for columns in batch]

    async def begin(self) -> None:
        if self._path.exists():
            raise CopyRefused(f"{self._path} already exists: use a new file")
        self._target = True

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:  # noqa: ARG002 - rows have their own types
        def write_rows(db: sqlite3.Connection) -> None:
            db.execute("PRAGMA synchronous=FULL")
            with tables.transaction(db):
                for row in rows:
                    _insert(db, row)

        await self._run(write_rows)

    async def finish(self, newest: int) -> None:
        def finish_file(db: sqlite3.Connection) -> None:
            with tables.transaction(db):
                db.execute("DELETE FROM sqlite_sequence WHERE name = 'ledger'")
                db.execute("INSERT INTO sqlite_sequence VALUES ('ledger', ?)", (newest,))
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._run(finish_file)
        self._path.with_name(f"{self._path.name}.copying").rename(self._path)
        self._target = False

    async def close(self) -> None:
        """Do nothing, because each step opens and closes the file."""


def _row(kind: Kind, columns: Sequence[Any]) -> Row:
    match kind:
        case "ledger":
            return tables.entry_of(columns)
        case "attempts":
            subject, attempt = tables.attempt_of(columns[:7])
            return CountedAttempt(subject, attempt, 0 if attempt.result == "pending" else columns[7])
        case "answers":
            return Remembered(*columns)
        case "positions":
            return AttemptPosition(*columns)
        case _:  # counts; the other kinds are in `_FEW`
            return HourCount(*columns)


def _insert(db: sqlite3.Connection, row: Row) -> None:
    match row:
        case Entry():
            tables.enter(db, row.seq, [row])
        case CountedAttempt(subject, attempt, at):
            attempt_row = (
                attempt.decision,
                subject,
                attempt.at,
                attempt.campaign,
                attempt.basis,
                attempt.result,
                at,
                attempt.goods,
            )
            db.execute("INSERT OR REPLACE INTO attempt VALUES (?,?,?,?,?,?,?,?)", attempt_row)
        case Remembered():
            db.execute("DELETE FROM answer WHERE key = ?", (row.key,))
            answer_row = (row.key, row.at, row.answer, row.decision)
            db.execute("INSERT INTO answer (key, at, answer, decision) VALUES (?,?,?,?)", answer_row)
        case AttemptPosition():
            db.execute(tables.NOTE, (row.log, row.seq))
            db.execute(tables.NOTE_DURABLE, (row.log, row.durable))
        case CallList():
            db.execute(
                "INSERT OR REPLACE INTO call_list VALUES (?,?,?)",
                (row.controller, row.id, encode(row).decode()),
            )
        case CallerIdProof():
            body = encode(row).decode()
            db.execute("DELETE FROM proof WHERE body = ?", (body,))
            db.execute("INSERT INTO proof (at, body) VALUES (?,?)", (row.at, body))
        case HourCount():
            campaign_counts.put_count(db, row)
        case PauseLift():
            campaign_counts.lift_pause(db, row)
        case Delivery():
            db.execute("INSERT OR REPLACE INTO delivery VALUES (?,?)", (row.webhook, encode(row).decode()))
