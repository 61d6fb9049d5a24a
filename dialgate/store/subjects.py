"""The store for look-ups, data-subject requests and restricted entries.

These records are not in the ledger, but in a separate SQLite 3 file, `subjects.db`, with application id 0x64677375.
The file's `user_version` counts the scripts of `MIGRATIONS` that have run. Never edit a released script: add a new
script at the end. A file with a higher version is refused.

Numbers are stored as ciphertext (`sealed`) and as the keyed hash that the ledger uses (`subject`). `body` is JSON of
`dialgate.core.request_deadlines`, or the ciphertext of a restricted entry. Rows are deleted when their
retention period is over, and attachments with their request. Triggers prevent updates of these records.

Several processes can open the file. Acknowledged writes are on disk.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from msgspec import Struct, structs

from dialgate.core.ledger_events import Entry
from dialgate.core.model import Instant
from dialgate.crypto.keys import Sealer
from dialgate.store.sqlite.connection import SqliteThread, open_file, run_migrations, transaction

T = TypeVar("T")

APPLICATION = 0x64677375
_STAYS = "CREATE TRIGGER {0}_stays BEFORE UPDATE ON {0} BEGIN SELECT raise(ABORT, 'append-only'); END"
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE lookup (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, client TEXT NOT NULL, node TEXT NOT NULL,
            controller TEXT NOT NULL, subject BLOB NOT NULL, sealed BLOB NOT NULL, what TEXT NOT NULL,
            purpose TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE request (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, at INTEGER NOT NULL, controller TEXT NOT NULL,
            subject BLOB NOT NULL, sealed BLOB NOT NULL, closes INTEGER NOT NULL, body TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE restricted (
            seq INTEGER PRIMARY KEY, controller TEXT NOT NULL, subject BLOB NOT NULL, until INTEGER NOT NULL,
            body BLOB NOT NULL
        ) STRICT
        """,
        "CREATE TABLE job (name TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX lookup_client ON lookup (client, at)",
        "CREATE INDEX lookup_subject ON lookup (subject)",
        "CREATE INDEX request_id ON request (id)",
        "CREATE INDEX request_subject ON request (subject)",
        "CREATE INDEX restricted_subject ON restricted (subject)",
        *map(_STAYS.format, ("lookup", "request", "restricted")),
    ),
    (
        """
        CREATE TABLE attachment (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, at INTEGER NOT NULL, sha256 TEXT NOT NULL,
            name TEXT NOT NULL, bytes INTEGER NOT NULL, actor TEXT NOT NULL, content BLOB NOT NULL
        ) STRICT
        """,
        "CREATE UNIQUE INDEX attachment_id ON attachment (id, sha256)",
        _STAYS.format("attachment"),
    ),
)

_LOOKUP = "SELECT at, client, node, controller, subject, sealed, what, purpose, seq FROM lookup "
_EVENT = "SELECT id, at, controller, subject, sealed, closes, body, seq FROM request "
_ATTACHED = "SELECT id, at, sha256, name, bytes, actor FROM attachment WHERE id = ? ORDER BY seq"
_OPEN = "id NOT IN (SELECT id FROM request WHERE closes)"
DISCLOSURE = "disclosure"  # the `what` of a look-up that does not count towards the limit
# The number of other subjects that a client has looked up. Only the last look-up of each subject counts.
_OTHERS = """
    SELECT count(*), min(at) FROM
        (SELECT max(at) AS at FROM lookup WHERE client = ? AND at > ? AND subject <> ? AND what <> ? GROUP BY subject)
"""
_OLD_LOOKUPS = "FROM lookup WHERE at < ?"
# The last result of each request, if it names call lists that still contain the number.
_WAITING = """
    seq IN (SELECT max(seq) FROM request WHERE json_type(body, '$.lists') IS NOT NULL GROUP BY id)
    AND json_array_length(body, '$.lists')
"""
_OLD_REQUESTS = f"""
    SELECT DISTINCT id, controller, subject FROM request WHERE id IN (SELECT id FROM request WHERE closes AND at < ?)
    AND id NOT IN (SELECT id FROM request WHERE {_WAITING})
"""  # noqa: S608 - constants
_DELETED_REQUEST = ("DELETE FROM attachment WHERE id = ?", "DELETE FROM request WHERE id = ?")
_OLD_RESTRICTED = "SELECT seq, controller, subject FROM restricted WHERE until < ?"


class Lookup(Struct, frozen=True):
    """A record that `client` looked up a number.

    `what` names the data that was shown, `purpose` is the reason given by the client, and `node` is the gate
    that showed the data.
    """

    at: Instant
    client: str
    node: str
    controller: str
    subject: bytes
    sealed: bytes
    what: str
    purpose: str
    seq: int = 0


class CaseEvent(Struct, frozen=True):
    """A step in a data-subject request. `closes` is true if the step closes the request."""

    id: str
    at: Instant
    controller: str
    subject: bytes
    sealed: bytes
    closes: bool
    body: str
    seq: int = 0


class AttachedFile(Struct, frozen=True):
    """A file attached to the data-subject request `id`. `size` is that of the clear content, in bytes, and `content` is encrypted."""

    id: str
    at: Instant
    sha256: str
    name: str
    size: int
    actor: str
    content: bytes = b""


class Restricted(Struct, frozen=True):
    """A ledger entry that was taken out of use and is kept only for legal claims (GDPR art. 18).

    `seq` is the entry's sequence number in the ledger.
    """

    seq: int
    controller: str
    subject: bytes
    until: Instant
    body: bytes

    @classmethod
    def seal(cls, entry: Entry, until: Instant, sealer: Sealer, nonce: bytes) -> Self:
        body = msgspec.json.encode(entry).decode()
        return cls(entry.seq, entry.controller, entry.subject, until, sealer.seal(body, nonce))

    def unseal(self, sealer: Sealer) -> Entry:
        return msgspec.json.decode(sealer.unseal(self.body), type=Entry)


class SubjectStore:
    def __init__(self, path: Path) -> None:
        self._thread = SqliteThread(path, "subjects")
        self._read, self._write, self.close = self._thread.run, self._thread.write, self._thread.close

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, creating it (mode 0600) or migrating it. Blocks. Raises `StoreUnavailable`."""
        store = cls(path)
        open_file(path, store._thread.connection, _migrate)
        return store

    # ---- lookups -----------------------------------------------------------------------------------------------------

    async def look_up(self, lookup: Lookup, since: Instant, limit: int) -> Instant | None:
        """Record a look-up and return None, unless the client has reached the limit.

        The limit is reached if the client has looked up `limit` other numbers after `since`. For each number, only the
        last look-up counts. Disclosures do not count. If the limit is reached, return the time of the oldest look-up
        that counts. The client must wait at least until that look-up is older than `since`.
        """

        def step(db: sqlite3.Connection) -> Instant | None:
            values = (lookup.client, since, lookup.subject, DISCLOSURE)
            others, oldest = db.execute(_OTHERS, values).fetchone()
            if others >= limit:
                return int(oldest)
            db.execute(
                "INSERT INTO lookup (at, client, node, controller, subject, sealed, what, purpose)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                structs.astuple(lookup)[:-1],
            )
            return None

        return await self._write(step)

    async def lookups(self, subject: bytes) -> list[Lookup]:
        return await self._lookups("WHERE subject = ? ORDER BY seq", subject)

    async def lookups_between(self, start: Instant, end: Instant) -> list[Lookup]:
        return await self._lookups("WHERE at >= ? AND at < ? ORDER BY seq", start, end)

    async def find_lookups(
        self,
        span: tuple[Instant, Instant],
        before: tuple[Instant, int, str],
        filters: Mapping[str, Sequence[str]],
        most: int,
    ) -> list[Lookup]:
        """Return at most `most` look-ups, newest first, whose (at, seq, node) is less than `before`.

        For each column in `filters` the row must have one of the values.
        """
        wanted = {column: values for column, values in filters.items() if values}
        tests = [f"{column} IN ({', '.join('?' * len(values))})" for column, values in wanted.items()]
        where = " AND ".join(["at >= ? AND at < ? AND (at, seq, node) < (?, ?, ?)", *tests])
        values: list[int | str] = [*span, *before, *chain.from_iterable(wanted.values()), most]
        return await self._lookups(f"WHERE {where} ORDER BY at DESC, seq DESC, node DESC LIMIT ?", *values)

    async def _lookups(self, where: str, *values: bytes | int | str) -> list[Lookup]:
        return await self._read(lambda db: [Lookup(*row) for row in db.execute(_LOOKUP + where, values)])

    # ---- data-subject requests ----------------------------------------------------------------------------------------------------

    async def add_event(self, event: CaseEvent) -> None:
        await self._write(lambda db: _insert_event(db, event))

    async def add_step(self, event: CaseEvent) -> bool:
        """Store a further step of a request. Return False, and store nothing, if the request was removed meanwhile."""

        def step(db: sqlite3.Connection) -> bool:
            exists = db.execute("SELECT 1 FROM request WHERE id = ?", (event.id,)).fetchone() is not None
            if exists:
                _insert_event(db, event)
            return exists

        return await self._write(step)

    async def attach(self, file: AttachedFile, event: CaseEvent, most: int) -> list[AttachedFile]:
        """Store a file and its step, and return all attachments of the request, without their contents.

        Nothing is stored if the request has this file or `most` others, or was removed.
        """

        def step(db: sqlite3.Connection) -> list[AttachedFile]:
            has_request = db.execute("SELECT 1 FROM request WHERE id = ?", (file.id,)).fetchone()
            attached = _attachments(db, file.id)
            if (
                has_request
                and len(attached) < most
                and file.sha256 not in {other.sha256 for other in attached}
            ):
                db.execute(
                    "INSERT INTO attachment (id, at, sha256, name, bytes, actor, content) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    structs.astuple(file),
                )
                _insert_event(db, event)
            return _attachments(db, file.id)

        return await self._write(step)

    async def attachments(self, name: str) -> list[AttachedFile]:
        """Return the attachments of a request, oldest first, without their contents."""
        return await self._read(lambda db: _attachments(db, name))

    async def attached_content(self, name: str, digest: str) -> bytes | None:
        """Return the encrypted content of an attachment, or None."""
        query = "SELECT content FROM attachment WHERE id = ? AND sha256 = ?"
        row = await self._read(lambda db: db.execute(query, (name, digest)).fetchone())
        return row[0] if row else None

    async def case(self, name: str) -> list[CaseEvent]:
        return await self._events("WHERE id = ? ORDER BY seq", name)

    async def cases(self, subject: bytes) -> list[CaseEvent]:
        return await self._events("WHERE subject = ? ORDER BY seq", subject)

    async def open_cases(self) -> list[CaseEvent]:
        return await self._events(f"WHERE {_OPEN} ORDER BY seq")

    async def closed_cases(self, since: Instant) -> list[CaseEvent]:
        closed = "SELECT id FROM request WHERE closes AND at >= ?"
        return await self._events(f"WHERE id IN ({closed}) ORDER BY seq", since)

    async def _events(self, where: str, *values: bytes | str | int) -> list[CaseEvent]:
        return await self._read(lambda db: [CaseEvent(*row) for row in db.execute(_EVENT + where, values)])

    async def postponed_erasures(self) -> list[CaseEvent]:
        """Return the last result of each request, if it names call lists that still contain the number."""
        return await self._events(f"WHERE {_WAITING} ORDER BY seq")

    # ---- restricted entries ------------------------------------------------------------------------------------------

    async def restrict(self, entries: Sequence[Restricted]) -> None:
        """Store restricted entries. Existing entries are unchanged."""
        rows = [structs.astuple(entry) for entry in entries]
        await self._write(
            lambda db: db.executemany("INSERT OR IGNORE INTO restricted VALUES (?, ?, ?, ?, ?)", rows)
        )

    async def restricted(self, subject: bytes) -> list[Restricted]:
        query = "SELECT seq, controller, subject, until, body FROM restricted WHERE subject = ? ORDER BY seq"
        return await self._read(lambda db: [Restricted(*row) for row in db.execute(query, (subject,))])

    async def restricted_after(self, seq: int, limit: int) -> list[Restricted]:
        """Return at most `limit` restricted entries after `seq`, of all subjects."""
        query = (
            "SELECT seq, controller, subject, until, body FROM restricted WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        return await self._read(lambda db: [Restricted(*row) for row in db.execute(query, (seq, limit))])

    # ---- retention -------------------------------------------------------------------------------------------

    async def count_expired(
        self,
        lookups: Instant,
        requests: Instant,
        restricted: Instant,
        *,
        drop: bool,
        stays: Callable[[str, bytes], bool],
    ) -> dict[str, int]:
        """Count the expired rows of each kind, and delete them if `drop` is set.

        `lookups`, `requests` and `restricted` are times: older rows of that kind have expired. `stays` returns True if
        the requests and the restricted entries of a controller and subject must be kept.
        """
        kinds = {
            "subject_requests": (_OLD_REQUESTS, requests, _DELETED_REQUEST),
            "restricted": (_OLD_RESTRICTED, restricted, ("DELETE FROM restricted WHERE seq = ?",)),
        }

        def step(db: sqlite3.Connection) -> dict[str, int]:
            db.execute("PRAGMA secure_delete=ON")
            counts = {}
            (counts["lookups"],) = db.execute(f"SELECT count(seq) {_OLD_LOOKUPS}", (lookups,)).fetchone()
            if drop and counts["lookups"]:
                with transaction(db):
                    db.execute(f"DELETE {_OLD_LOOKUPS}", (lookups,))
            for kind, (query, bound, deletes) in kinds.items():
                old = db.execute(query, (bound,)).fetchall()
                expired = [(name,) for name, *owner in old if not stays(*owner)]
                counts[kind] = len(expired)
                if drop and expired:
                    with transaction(db):
                        for delete in deletes:
                            db.executemany(delete, expired)
            return counts

        return await self._read(step)

    async def note_job(self, job: str, at: Instant) -> None:
        """Store `at` as the time of the job's last run."""
        query = "INSERT INTO job VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET at = ?2"
        await self._write(lambda db: db.execute(query, (job, at)))

    async def last_run(self, job: str) -> Instant:
        """Return when the job last ran, or 0."""
        query = "SELECT coalesce(max(at), 0) FROM job WHERE name = ?"
        at: Instant = await self._read(lambda db: db.execute(query, (job,)).fetchone()[0])
        return at

    async def maintain(self) -> None:
        """Keep the write-ahead log short. Call this regularly."""
        await self._read(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())


def _insert_event(db: sqlite3.Connection, event: CaseEvent) -> None:
    db.execute(
        "INSERT INTO request (id, at, controller, subject, sealed, closes, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        structs.astuple(event)[:-1],
    )


def _attachments(db: sqlite3.Connection, name: str) -> list[AttachedFile]:
    return [AttachedFile(*row) for row in db.execute(_ATTACHED, (name,))]


def _migrate(db: sqlite3.Connection) -> None:
    run_migrations(db, "subjects.db", APPLICATION, MIGRATIONS, oldest=1)
