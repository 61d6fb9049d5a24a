"""The embedded store as an end of a copy. A target is written beside (`NAME.copying`), and takes its name when it is whole."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.json import Decoder, encode

from dialgate.core.ledger_events import Entry
from dialgate.store import CallerIdProof, CallList, Delivery, Position, Remembered
from dialgate.store import sqlite_tables as tables
from dialgate.store.copying import CopyRefused, Counted, Kind, Row

_T = TypeVar("_T")
_AT_ONCE: Final = 2_000
_list, _proof, _delivery = Decoder(CallList), Decoder(CallerIdProof), Decoder(Delivery)
_QUERIES: Final[dict[Kind, str]] = {
    "ledger": tables.ENTRY + "WHERE seq > ? ORDER BY seq",
    "attempts": "SELECT at, decision, campaign, basis, result, subject, result_at FROM attempt WHERE ? = 0",
    "answers": "SELECT key, at, answer, decision FROM answer WHERE ? = 0",
    "positions": "SELECT log, seq FROM position WHERE ? = 0",
    "lists": "SELECT body FROM call_list WHERE ? = 0",
    "proofs": "SELECT body FROM proof WHERE ? = 0 ORDER BY at, id",
    "deliveries": "SELECT body FROM delivery WHERE ? = 0",
}
# Only before the gate has settled them with its log after a crash.
_UNSETTLED: Final = "SELECT log FROM position WHERE reached > seq LIMIT 1"
_TABLES: Final = ("ledger", "attempt", "answer")


class SqliteEnd:
    def __init__(self, path: Path) -> None:
        self._path, self._db = path, sqlite3.connect(":memory:")
        self._target = False

    def _open(self) -> sqlite3.Connection:
        path = self._path.with_name(f"{self._path.name}.copying") if self._target else self._path
        if not self._target and not path.exists():
            raise CopyRefused(f"{path} is not there")
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        tables.migrate(db)
        return db

    async def _run(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        def run() -> _T:
            with self._refusing(), closing(self._open()) as db:
                return step(db)

        return await asyncio.to_thread(run)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CopyRefused(f"{self._path}: {error}") from error

    async def newest(self) -> int:
        def newest(db: sqlite3.Connection) -> int:
            if db.execute(_UNSETTLED).fetchone() is not None:
                raise CopyRefused(f"{self._path}: its gate was killed; start and stop it once, then copy")
            return tables.newest(db)

        return await self._run(newest)

    async def count(self) -> int:
        def counted(db: sqlite3.Connection) -> int:
            return sum(int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in _TABLES)  # noqa: S608 - constants

        return await self._run(counted)

    async def rows(self, kind: Kind, after: int = 0) -> AsyncGenerator[list[Row], None]:
        with self._refusing(), closing(await asyncio.to_thread(self._open)) as db:
            cursor = db.execute(_QUERIES[kind], (after,))
            while found := await asyncio.to_thread(cursor.fetchmany, _AT_ONCE):
                rows = [_row(kind, each) for each in found]
                yield list(_newest_proofs(db, rows)) if kind == "proofs" else rows

    async def begin(self) -> None:
        if self._path.exists():
            raise CopyRefused(f"{self._path} is there already: name a file that is not")
        self._target = True

    async def write(self, kind: Kind, rows: Sequence[Row]) -> None:  # noqa: ARG002 - a row says itself what it is
        def written(db: sqlite3.Connection) -> None:
            db.execute("PRAGMA synchronous=FULL")
            with tables.whole(db):
                for row in rows:
                    _insert(db, row)

        await self._run(written)

    async def finish(self, newest: int) -> None:
        def finished(db: sqlite3.Connection) -> None:
            with tables.whole(db):
                db.execute("DELETE FROM sqlite_sequence WHERE name = 'ledger'")
                db.execute("INSERT INTO sqlite_sequence VALUES ('ledger', ?)", (newest,))
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._run(finished)
        self._path.with_name(f"{self._path.name}.copying").rename(self._path)
        self._target = False

    async def close(self) -> None:
        self._db.close()


def _row(kind: Kind, found: Sequence[Any]) -> Row:
    match kind:
        case "ledger":
            return tables.entry_of(found)
        case "attempts":
            subject, attempt = tables.attempt_of(found[:6])
            return Counted(subject, attempt, 0 if attempt.result == "pending" else found[6])
        case "answers":
            return Remembered(*found)
        case "positions":
            return Position(*found)
        case "lists":
            return _list.decode(found[0])
        case "proofs":
            return _proof.decode(found[0])
        case "deliveries":
            return _delivery.decode(found[0])


def _newest_proofs(db: sqlite3.Connection, rows: Sequence[Row]) -> Iterator[Row]:
    """Of each caller ID the newest only: a shared store keeps no other."""
    every = [_proof.decode(body) for (body,) in db.execute(_QUERIES["proofs"], (0,))]
    newest = {(each.controller, each.caller_id): each for each in every}
    yield from (row for row in rows if row in newest.values())


def _insert(db: sqlite3.Connection, row: Row) -> None:
    match row:
        case Entry():
            values = (
                row.seq,
                row.subject,
                row.at,
                row.controller,
                row.actor,
                row.channel,
                row.proof,
                row.sealed,
            )
            db.execute("INSERT INTO ledger VALUES (?,?,?,?,?,?,?,?,?)", (*values, encode(row.event).decode()))
        case Counted(subject, attempt, at):
            known = (
                attempt.decision,
                subject,
                attempt.at,
                attempt.campaign,
                attempt.basis,
                attempt.result,
                at,
            )
            db.execute("INSERT OR REPLACE INTO attempt VALUES (?,?,?,?,?,?,?)", known)
        case Remembered():
            db.execute("DELETE FROM answer WHERE key = ?", (row.key,))
            told = (row.key, row.at, row.answer, row.decision)
            db.execute("INSERT INTO answer (key, at, answer, decision) VALUES (?,?,?,?)", told)
        case Position():
            db.execute(tables.NOTE, (row.log, row.seq))
        case CallList():
            db.execute(
                "INSERT OR REPLACE INTO call_list VALUES (?,?,?)",
                (row.controller, row.id, encode(row).decode()),
            )
        case CallerIdProof():
            body = encode(row).decode()
            db.execute("DELETE FROM proof WHERE body = ?", (body,))
            db.execute("INSERT INTO proof (at, body) VALUES (?,?)", (row.at, body))
        case Delivery():
            db.execute("INSERT OR REPLACE INTO delivery VALUES (?,?)", (row.webhook, encode(row).decode()))
