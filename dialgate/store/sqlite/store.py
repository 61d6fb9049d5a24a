"""The embedded store: one SQLite file with a write-ahead log, on a local disk, for one gate.

The reader serves `read` on the event loop's thread, because switching to another thread would cost more than the
query. Longer look-ups have a thread and a connection of their own, so that a stop does not wait for them. The writer does
everything else in its own thread, one step after the other. Acknowledged writes are on disk.

Attempts and remembered answers are collected in memory (`write_buffer`), and written together. After a crash, `settle`
restores lost attempts and answers from the decision log.

A process that uses this store must not open the file by other means: closing such a second file descriptor
would release SQLite's locks (POSIX). `tables` defines the tables.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from msgspec import structs

from dialgate.core.ledger_events import Draft, Entry
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.runtime.background_work import BackgroundWork
from dialgate.store import (
    AttemptPosition,
    CountedAttempt,
    HourCount,
    Reading,
    Remembered,
    Reservation,
    StoreUnavailable,
    refuse_if_short,
)
from dialgate.store.campaign_counts import oldest_hour
from dialgate.store.documents import (
    CampaignPauses,
    DocumentKind,
    DocumentSwap,
    KeysOfClients,
    OfficerDocuments,
    PersonAccounts,
)
from dialgate.store.encoded_entries import AnyDraft, EncodedEntry
from dialgate.store.sqlite import campaign_counts, migrations, tables
from dialgate.store.sqlite.connection import (
    SqliteConnection,
    SqliteThread,
    Step,
    closed_store,
    open_file,
    pragma,
)
from dialgate.store.sqlite.write_buffer import WriteBuffer

BUFFER_ROWS: Final = 16_384  # a larger buffer writes fewer pages per row, and makes ledger writes wait longer
_MAX_BUFFERS: Final = 3  # if more are waiting, the disk cannot keep up: commits wait
VERSIONS: Final = 65_536  # subjects and answers whose last change is kept in memory

T = TypeVar("T")


class VersionedReading(Reading, frozen=True, gc=False, kw_only=True):
    """A reading with the store's version and the newest sequence of the ledger at that time.

    `keys` are the subjects, and the keys of answers, that a commit compares.
    """

    keys: Sequence[bytes]
    version: int
    seq: int


class SqliteStore(CampaignPauses, PersonAccounts, KeysOfClients, OfficerDocuments):
    def __init__(self, path: Path, buffer_rows: int = BUFFER_ROWS, *, read_only: bool = False) -> None:
        self._path, self._buffer_rows = path, buffer_rows
        self._reader = SqliteConnection(path, wait=5.0 if read_only else 0.1, read_only=read_only)
        self._writer = SqliteThread(path, "store", read_only=read_only)
        self._lookups = SqliteThread(path, "store-lookup", read_only=read_only)
        self._closed = False
        self._nothing = Known()
        self._required = 0  # the sequence that the ledger must have reached
        # The store's version, and for each subject the version of its last change. Others have changed at `_floor` or
        # earlier.
        self._version = self._floor = 0
        self._versions: dict[bytes, int] = {}
        self._buffers = [WriteBuffer()]  # newest last; the others are being written
        self._flushing = asyncio.Lock()
        self._writing = BackgroundWork(self._write_full_buffers, (StoreUnavailable,))
        self._fault: StoreUnavailable | None = (
            None  # why the last write failed; until one succeeds, no call is decided
        )

    @classmethod
    def open(cls, path: Path, *, buffer_rows: int = BUFFER_ROWS) -> Self:
        """Open the file, creating it (mode 0600) or migrating it. Blocks. Raises `StoreUnavailable`.

        Attempts and answers are written to the database when `buffer_rows` of them have been collected, and by
        `maintain`.
        """
        store = cls(path, buffer_rows)
        open_file(path, store._writer.connection, migrations.migrate)
        return store

    @classmethod
    def open_reader(cls, path: Path) -> Self:
        """Open the file of a gate for a job beside it. Writes are refused. Blocks. Raises `StoreUnavailable`."""
        if not path.exists():
            raise StoreUnavailable(f"{path} does not exist yet: start the gate first")
        store = cls(path, read_only=True)
        store._reader.run(migrations.refuse_other_format)
        return store

    def _read_now(self, step: Step[T]) -> T:
        self._refuse_if_closed()
        return self._reader.run(step)

    async def _write(self, step: Step[T]) -> T:
        try:
            done = await self._writer.write(step)
        except StoreUnavailable as fault:
            self._fault = fault
            raise
        self._fault = None
        return done

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise closed_store()

    # ---- on the path of every call -----------------------------------------------------------------------------------

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        distinct = list(dict.fromkeys(subjects))
        seq, known, answers = self._read_now(lambda db: tables.state_of(db, distinct, keys))
        refuse_if_short(seq, self._required)
        if self._nothing.seq != seq:  # otherwise the same object, so that callers can compare by identity
            self._nothing = Known(seq=seq)
        for buffer in self._buffers:
            for subject in buffer.attempts.keys() & distinct:
                known[subject] = _with_attempts(known.get(subject, self._nothing), buffer.attempts[subject])
            answers |= {key: buffer.answers[key] for key in buffer.answers.keys() & keys}
        current = [answers.get(key) for key in keys]
        return VersionedReading(
            subjects=subjects,
            known=[known.get(subject, self._nothing) for subject in subjects],
            answers=[answer if answer is not None and answer.at >= since else None for answer in current],
            keys=(*distinct, *keys),
            version=self._version,
            seq=seq,
        )

    def assume(self, subjects: Sequence[bytes], keys: Sequence[bytes] = ()) -> Reading | None:  # noqa: ARG002 - a read is as fast
        return None

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: AttemptPosition,
    ) -> bool:
        self._refuse_if_closed()
        if self._fault is not None:
            raise self._fault
        if len(self._buffers) > _MAX_BUFFERS:
            await self._flush()
        if isinstance(reading, VersionedReading):
            if not self._is_current(reading):
                return False
        elif reservations:
            return False
        if self._buffers[-1].rows >= self._buffer_rows:
            self._buffers.append(WriteBuffer())
            self._writing.start()
        self._buffers[-1].add(reservations, remembered, position)
        self._note_changes(reservation.subject for reservation in reservations)
        self._note_changes(answer.key for answer in remembered)
        return True

    def _is_current(self, reading: VersionedReading) -> bool:
        return self._version == reading.version or all(
            self._versions.get(key, self._floor) <= reading.version for key in reading.keys
        )

    def _note_changes(self, keys: Iterable[bytes]) -> None:
        """Make earlier readings of these subjects and answers stale."""
        self._version += 1
        self._versions.update(dict.fromkeys(keys, self._version))
        if len(self._versions) > VERSIONS:
            self._note_any_change()

    def _note_any_change(self) -> None:
        """Make all earlier readings stale."""
        self._version += 1
        self._floor = self._version
        self._versions.clear()

    async def _flush(self) -> None:
        """Write all buffers to the database. Raises `StoreUnavailable`.

        After a failure the buffers are kept.
        """
        if self._buffers[-1].rows:
            self._buffers.append(WriteBuffer())
        await self._write_full_buffers()

    async def _write_full_buffers(self) -> None:
        async with self._flushing:
            while len(self._buffers) > 1:
                await self._write(partial(tables.write_buffer, buffer=self._buffers[0]))
                del self._buffers[0]

    # ---- the ledger and other data, durable on return ------------------------------------------------------------------

    async def append(self, drafts: Sequence[AnyDraft]) -> list[int]:
        # A write goes on in its thread if its caller is cancelled, so noting the change must go on too.
        return await asyncio.shield(self._append(drafts))

    async def _append(self, drafts: Sequence[AnyDraft]) -> list[int]:
        def step(db: sqlite3.Connection) -> list[int]:
            refuse_if_short(tables.newest(db), self._required)
            return tables.append(db, drafts)

        seqs = await self._write(step)
        self._note_changes(draft.subject for draft in drafts)
        return seqs

    async def subjects(self) -> AsyncGenerator[tuple[bool, list[bytes]]]:
        await self._flush()
        for for_all, query in tables.SUBJECTS:
            last = b""
            while found := await self._lookups.run(partial(tables.subjects_after, query=query, subject=last)):
                yield for_all, found
                last = found[-1]

    async def history(self, subject: bytes) -> list[Entry]:
        return await self._entries("WHERE subject = ? ORDER BY seq", subject)

    async def histories(self, subjects: Sequence[bytes]) -> dict[bytes, list[EncodedEntry]]:
        return await self._lookups.run(lambda db: tables.histories(db, list(dict.fromkeys(subjects))))

    async def since(self, seq: int, limit: int) -> list[Entry]:
        return await self._entries("WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)

    async def _entries(self, where: str, *values: bytes | int) -> list[Entry]:
        return await self._lookups.run(
            lambda db: [tables.entry_of(row) for row in db.execute(tables.ENTRY + where, values)]
        )

    async def attempt(
        self, decision: str, *, recovering: bool = False  # noqa: ARG002 - no older copy appears under a running gate
    ) -> tuple[bytes, Attempt] | None:  # fmt: skip
        for buffer in reversed(self._buffers):
            if (counted := buffer.attempt(decision)) is not None:
                return counted
        return await self._lookups.run(partial(tables.find_attempt, decision=decision))

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        if any(decision in buffer.subjects for buffer in self._buffers):
            await self._flush()
        ended = await self._write(lambda db: campaign_counts.end_attempt(db, decision, result, at))
        self._note_changes([ended] if ended else [])
        return ended is not None

    async def counts(self, after: int = 0) -> tuple[list[HourCount], int]:
        return await self._lookups.run(lambda db: campaign_counts.counts(db, after))

    async def put_counts(self, counts: Sequence[HourCount]) -> None:
        await self._write(partial(campaign_counts.put_counts, counts=counts))

    async def _documents(self, kind: DocumentKind) -> dict[str, bytes]:
        return await self._lookups.run(lambda db: dict(db.execute(tables.DOCUMENTS, (kind,)).fetchall()))

    async def _document(self, kind: DocumentKind, key: str) -> bytes | None:
        row = await self._lookups.run(lambda db: db.execute(tables.DOCUMENT, (kind, key)).fetchone())
        return row and bytes(row[0])

    async def _swap_documents(self, kind: DocumentKind, swaps: Sequence[DocumentSwap]) -> bool:
        return await self._write(lambda db: tables.swap_documents(db, kind, swaps))

    async def _put_document(self, kind: DocumentKind, key: str, body: bytes) -> None:
        await self._write(lambda db: db.execute(tables.PUT_DOCUMENT, (kind, key, body)))

    async def note_durable(self, log: str, seq: int) -> None:
        await self._write(lambda db: db.execute(tables.NOTE_DURABLE, (log, seq)))

    async def recorded(self, log: str) -> int:
        query = "SELECT max(durable) FROM position WHERE log = ?"
        return await self._lookups.run(lambda db: db.execute(query, (log,)).fetchone()[0] or 0)

    async def positions(self) -> dict[str, int]:
        await self._flush()
        return await self._lookups.run(
            lambda db: dict(db.execute("SELECT log, seq FROM position").fetchall())
        )

    async def release(self, position: AttemptPosition) -> None:
        # The newest commit is dropped before the first await. It is in the newest buffer, unless that was written meanwhile.
        is_buffered = self._buffers[-1].position is not None
        self._buffers[-1].drop(position)
        self._note_any_change()
        if is_buffered:
            return
        await self._flush()

        def step(db: sqlite3.Connection) -> None:
            tables.drop_beyond(db, position.log, position.seq)
            db.execute(tables.NOTE, (position.log, position.seq))  # an empty buffer would not write it

        await self._write(step)
        self._note_any_change()  # again: a read in the meantime may have found the removed rows

    async def settle(
        self,
        log: str,
        head: int,
        attempts: Sequence[tuple[bytes, Attempt]],
        answers: Sequence[Remembered],
        complete: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        await self._flush()

        def step(db: sqlite3.Connection) -> None:
            tables.drop_beyond(db, log, head)
            tables.count_attempts(db, attempts)
            tables.remember(db, answers)

        await self._write(step)
        if complete is not None:
            await complete()

        def complete_step(db: sqlite3.Connection) -> None:
            db.execute(tables.NOTE, (log, head))
            db.execute(tables.NOTE_DURABLE, (log, head))

        await self._write(complete_step)
        self._note_any_change()

    async def counted_attempts(self) -> AsyncGenerator[list[CountedAttempt]]:
        await self._flush()
        rows, last = await self._lookups.run(partial(tables.attempts_after, last=0))
        while rows:
            yield rows
            rows, last = await self._lookups.run(partial(tables.attempts_after, last=last))

    async def remembered_answers(self) -> AsyncGenerator[list[Remembered]]:
        await self._flush()
        last = b""
        while rows := await self._lookups.run(partial(tables.answers_after, key=last)):
            yield rows
            last = rows[-1].key

    # ---- erasure and retention ------------------------------------------------------------------------------------------

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        def step(db: sqlite3.Connection) -> list[int]:
            refuse_if_short(tables.newest(db), self._required)
            return tables.remove(db, seqs, drafts)

        added = await self._write(step)
        self._note_any_change()
        return added

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        await self._flush()
        count, last = 0, -1
        while last:
            ids, last = await self._lookups.run(partial(tables.old_attempts, before=before, after=last))
            for start in range(0, len(ids), tables.DROP_ROWS):
                some = ids[start : start + tables.DROP_ROWS]
                count += await self._write(partial(tables.drop_attempts, ids=some)) if drop else len(some)
                if drop:  # a step of its own, for which a stop waits no longer than for a transaction
                    await self._writer.run(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone())
        return count

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def ping(self) -> int:
        def step(db: sqlite3.Connection) -> int:
            # Overwrite the format version with itself: a synced write that changes nothing.
            db.execute(f"PRAGMA user_version={pragma(db, 'user_version')}")
            return tables.newest(db)

        newest = await self._write(step)
        refuse_if_short(newest, self._required)
        return newest

    def require_seq(self, seq: int) -> None:
        self._required = max(self._required, seq)

    def keep_attempts(self, span: Instant) -> None:
        """Do nothing, because attempts are kept until `drop_attempts` deletes them."""

    async def maintain(self, before: Instant) -> None:
        await self._flush()
        bounds = (before, tables.FORGET_ROWS)
        while await self._write(lambda db: db.execute(tables.FORGET, bounds).rowcount):
            pass
        await self._write(lambda db: campaign_counts.drop_counts(db, oldest_hour(before)))

    async def close(self) -> None:
        if not self._closed:
            with suppress(StoreUnavailable):  # the decision log contains the rows that were not written
                await self._flush()
            await self._writing.close()
            self._closed = True
            await self._writer.close()
            await self._lookups.close()
            self._reader.close()


def _with_attempts(known: Known, unwritten: Sequence[Attempt]) -> Known:
    """Add attempts from a buffer. The database contains them already if the buffer was written a moment ago."""
    counted = {attempt.decision: attempt for attempt in (*unwritten, *known.attempts)}
    attempts = sorted(counted.values(), key=lambda attempt: (attempt.at, attempt.decision))
    return structs.replace(known, attempts=tuple(attempts))
