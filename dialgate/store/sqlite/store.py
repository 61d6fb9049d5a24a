"""The embedded store: one SQLite file with a write-ahead log, on a local disk.

The *near* connection serves `read` and `commit` on the event loop's thread, because switching to another
thread would cost more than the query. If the file is locked, the near connection retries instead of blocking
the event loop. The *ledger* connection writes in one thread and the *far* connection reads in another, so that
revocations do not wait for reads. Acknowledged writes are on disk.

Attempts and remembered answers are collected in memory (`write_buffer`). A separate connection writes
thousands of rows at a time, in a thread of lower priority. After a crash, `settle` restores lost attempts and
answers from the decision log. Therefore only the process that writes the decision log may write attempts and
answers. Any process may write the ledger at any time, and ledger entries take effect at once.

A process that uses this store must not open the file by other means: closing such a second file descriptor
would release SQLite's locks (POSIX). `tables` defines the tables.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

from msgspec import structs
from msgspec.json import decode, encode

from dialgate.core.ledger_events import Draft, Entry
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.runtime.thread_pool import lower_priority
from dialgate.store import (
    CallerIdProof,
    CallList,
    Delivery,
    HourCount,
    PauseLift,
    Position,
    Reading,
    Remembered,
    Reservation,
    StoreUnavailable,
    refuse_if_short,
)
from dialgate.store.campaign_counts import oldest_hour
from dialgate.store.sqlite import campaign_counts, tables
from dialgate.store.sqlite.connection import WAIT, Connection, Step, StoreLocked, open_file
from dialgate.store.sqlite.stored_keys import StoredKeys
from dialgate.store.sqlite.write_buffer import WriteBuffer

RETRY = 0.002  # seconds between attempts by the near connection to use a locked file
BULK = 1_000  # appended entries after which a writer restarts the write-ahead log itself, in case no gate is running
BUFFER_ROWS = 65_536  # a larger buffer writes fewer pages per row

_PAUSE = 0.002  # seconds between statements of a background write
_MANY_BUFFERS = 3  # if more buffers are waiting, do not pause
_MAX_BUFFERS = 8  # in memory, about 20 MB each
_FEW_ROWS = 4_096  # a buffer with fewer rows is flushed during maintenance
_YIELD = 0.12  # seconds between parts of a buffer: processes waiting for the lock poll every 0.1 s

T = TypeVar("T")


class SqliteStore:
    def __init__(self, path: Path, patience: float, buffer_rows: int) -> None:
        self._path = path
        self._patience, self._buffer_rows = patience, buffer_rows
        self._near = Connection(path, wait=0, synchronous="NORMAL")
        self._far = Connection(path, wait=WAIT, synchronous="FULL")
        self._ledger_link = Connection(path, wait=WAIT, synchronous="FULL")
        # Consistent but not durable: a crash loses nothing, because the decision log is durable.
        self._buffer_link = Connection(path, wait=WAIT, synchronous="NORMAL")
        # Does not wait for locks: a restart of the write-ahead log blocks all writers until readers finish.
        self._maintenance = Connection(path, wait=0, synchronous="FULL")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._ledger_writer = ThreadPoolExecutor(1, thread_name_prefix="store-ledger")
        self._buffer_writer = ThreadPoolExecutor(
            1, thread_name_prefix="store-aside", initializer=lower_priority
        )
        self._write_lock = Lock()
        self._closed = False
        # The newest reading, with its connection and data version; None once it is outdated.
        self._newest: tuple[Reading, sqlite3.Connection | None, int] | None = None
        self._nothing = Known()
        self._required = 0  # the sequence that the ledger must have reached
        self._buffers = [WriteBuffer()]  # newest last; the others are being written
        self._flushing = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: StoreUnavailable | None = None
        self._stored = StoredKeys(path)

    @classmethod
    def open(cls, path: Path, *, patience: float = 0.1, buffer_rows: int = BUFFER_ROWS) -> Self:
        """Open the file, creating it (mode 0600) or migrating it. Blocks. Raises `StoreUnavailable`.

        A read or commit waits for a lock for at most `patience` seconds. Attempts and answers are written to
        the database when `buffer_rows` of them have been collected.
        """
        store = cls(path, patience, buffer_rows)
        # A Bloom filter written by earlier versions, which may still contain erased numbers.
        with suppress(OSError):
            path.with_suffix(".sieve").unlink(missing_ok=True)
        open_file(path, store._far, tables.migrate)
        return store

    async def _inline(self, step: Step[T]) -> T:
        self._refuse_if_closed()
        with suppress(StoreLocked):
            return self._near.run(step)
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    await asyncio.sleep(RETRY)
                    with suppress(StoreLocked):
                        return self._near.run(step)
        except TimeoutError:
            return self._near.run(step)

    async def _in_thread(self, step: Step[T], link: Connection | None = None) -> T:
        self._refuse_if_closed()
        worker = {self._buffer_link: self._buffer_writer, self._ledger_link: self._ledger_writer}.get(
            link or self._far, self._reader
        )
        return await asyncio.get_running_loop().run_in_executor(worker, (link or self._far).run, step)

    async def _write(self, step: Step[T], link: Connection | None = None) -> T:
        def atomic(db: sqlite3.Connection) -> T:
            # Writers in this process wait for each other without limit, but for other processes at most `WAIT` seconds.
            with self._write_lock, tables.transaction(db):
                return step(db)

        return await self._in_thread(atomic, link or self._ledger_link)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store has been closed")

    # ---- on the path of every call -----------------------------------------------------------------------------------

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        return await self._inline(lambda db: self._read(db, subjects, keys, since))

    def _read(
        self, db: sqlite3.Connection, subjects: Sequence[bytes], keys: Sequence[bytes], since: Instant
    ) -> Reading:
        seq, version = tables.state(db)
        if self._stored.has_none(
            db, seq, [*subjects, *keys]
        ):  # the usual case: most called numbers are unknown
            refuse_if_short(seq, self._required)
            nothing = self._nothing_at(seq)
            reading = Reading(subjects=subjects, known=[nothing] * len(subjects), answers=[None] * len(keys))
        else:
            with tables.transaction(db, "BEGIN"):
                version = tables.pragma(db, "data_version")
                known = self._all_known(db, subjects)
                possible = self._stored.select(keys)
                answers = tables.answers_of(db, possible)
            for buffer in self._buffers:
                answers |= {key: buffer.answers[key] for key in possible if key in buffer.answers}
            current = [answers.get(key) for key in keys]
            reading = Reading(
                subjects=subjects,
                known=[known[subject] for subject in subjects],
                answers=[answer if answer is not None and answer.at >= since else None for answer in current],
            )
        self._newest = (reading, db, version)
        return reading

    def _nothing_at(self, seq: int) -> Known:
        """Return the state of an unknown subject.

        The same object is returned until `seq` changes, so that callers can compare by identity.
        """
        if self._nothing.seq != seq:
            self._nothing = Known(seq=seq)
        return self._nothing

    def assume(self, subjects: Sequence[bytes], keys: Sequence[bytes] = ()) -> Reading | None:  # noqa: ARG002 - a read is as fast
        return None

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        if self._unwritten is not None:
            raise self._unwritten
        if len(self._buffers) > _MAX_BUFFERS:  # the disk cannot keep up: limit memory
            await self._write_oldest()
        if not await self._inline(lambda db: self._is_current(db, reading, reservations)):
            return False
        self._newest = None  # outdated by this commit
        if self._buffers[-1].rows >= self._buffer_rows:
            self._buffers.append(WriteBuffer())  # before adding: `release` looks in the newest
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_buffers())
        self._buffers[-1].add(reservations, remembered, position)
        self._stored.add([reservation.subject for reservation in reservations])
        self._stored.add([answer.key for answer in remembered])
        return True

    def _is_current(
        self, db: sqlite3.Connection, reading: Reading, reservations: Sequence[Reservation]
    ) -> bool:
        if self._newest is not None:
            newest, opened, version = self._newest
            if newest is reading and opened is db and tables.pragma(db, "data_version") == version:
                return True
        seen = dict(zip(reading.subjects, reading.known, strict=True))
        watched = list({subject for reservation in reservations for subject in reservation.watch})
        with tables.transaction(db, "BEGIN"):
            current = self._all_known(db, watched)
        return all(_is_same_state(known, seen[subject]) for subject, known in current.items())

    def _all_known(self, db: sqlite3.Connection, subjects: Sequence[bytes]) -> dict[bytes, Known]:
        """Return the states of the subjects. Must be called in a transaction."""
        seq = tables.newest(db)
        refuse_if_short(seq, self._required)
        self._stored.catch_up(db, seq)
        nothing, possible = self._nothing_at(seq), self._stored.select(subjects)
        known = dict.fromkeys(possible, nothing) | tables.known_of(db, possible, seq)
        return dict.fromkeys(subjects, nothing) | self._add_buffered(known)

    def _add_buffered(self, known: dict[bytes, Known]) -> dict[bytes, Known]:
        """Add buffered attempts to the states in `known`, because the database might not contain the attempts yet."""
        for buffer in self._buffers:
            for subject in buffer.attempts.keys() & known.keys():
                stored = known[subject]
                counted = {attempt.decision: attempt for attempt in buffer.attempts[subject]}
                counted |= {attempt.decision: attempt for attempt in stored.attempts}
                attempts = sorted(counted.values(), key=lambda attempt: (attempt.at, attempt.decision))
                known[subject] = structs.replace(stored, attempts=tuple(attempts))
        return known

    async def _write_buffers(self) -> None:
        try:
            while len(self._buffers) > 1:
                await self._write_oldest(_YIELD, 0 if len(self._buffers) > _MANY_BUFFERS else _PAUSE)
        except StoreUnavailable:
            pass  # recorded in `_unwritten`
        finally:
            self._writing = None

    async def _flush(self) -> None:
        """Write all buffers to the database. Raises `StoreUnavailable`.

        After a failure the buffers are kept, and commits are refused until a later flush succeeds.
        """
        if self._buffers[-1].rows:
            self._buffers.append(WriteBuffer())
        last = self._buffers[-2] if len(self._buffers) > 1 else None
        while last in self._buffers[:-1]:
            await self._write_oldest()

    async def _flush_if_few(self) -> None:
        """Flush the buffer if it has few rows or if a write failed.

        A larger buffer will soon be full, and flushing it then costs less per row.
        """
        if self._unwritten is not None or self._buffers[-1].rows < _FEW_ROWS:
            await self._flush()

    async def _write_oldest(self, turn: float = 0, pause: float = 0) -> None:
        async with self._flushing:
            if len(self._buffers) == 1:
                return
            oldest = self._buffers[0]
            try:
                for part in await self._in_thread(lambda _: list(oldest.parts()), self._buffer_link):
                    step = partial(tables.write_part, part=part, position=oldest.position, pause=pause)
                    await self._write(step, self._buffer_link)
                    await asyncio.sleep(turn)
            except StoreUnavailable as fault:
                self._unwritten = fault
                raise
            del self._buffers[0]
            self._newest = None
            self._unwritten = None

    # ---- the ledger and other data, durable on return ------------------------------------------------------------------

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        def step(db: sqlite3.Connection) -> list[int]:
            refuse_if_short(tables.newest(db), self._required)
            return tables.append(db, drafts)

        seqs = await self._write(step)
        if len(seqs) >= BULK:
            await self._in_thread(tables.restart_log, self._maintenance)
        return seqs

    async def subjects_with_entries(self, subjects: Sequence[bytes]) -> set[bytes]:
        # On the near connection: the threads are busy during an import.
        return await self._inline(lambda db: tables.subjects_with_entries(db, list(dict.fromkeys(subjects))))

    async def history(self, subject: bytes) -> list[Entry]:
        return await self._entries("WHERE subject = ? ORDER BY seq", subject)

    async def since(self, seq: int, limit: int) -> list[Entry]:
        return await self._entries("WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)

    async def _entries(self, where: str, *values: bytes | int) -> list[Entry]:
        return await self._in_thread(
            lambda db: [tables.entry_of(row) for row in db.execute(tables.ENTRY + where, values)]
        )

    async def attempt(
        self, decision: str, *, recovering: bool = False  # noqa: ARG002 - no older copy appears under a running gate
    ) -> tuple[bytes, Attempt] | None:  # fmt: skip
        for buffer in reversed(self._buffers):
            if (counted := buffer.attempt(decision)) is not None:
                return counted
        query = tables.ATTEMPT + "WHERE decision = ?"
        return await self._in_thread(
            lambda db: next(map(tables.attempt_of, db.execute(query, (decision,))), None)
        )

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        if any(decision in buffer.subjects for buffer in self._buffers):
            await self._flush()
        return await self._write(lambda db: campaign_counts.end_attempt(db, decision, result, at))

    async def counts(self, after: int = 0) -> tuple[list[HourCount], int]:
        return await self._in_thread(lambda db: campaign_counts.counts(db, after))

    async def lifts_version(self) -> int:
        return await self._in_thread(campaign_counts.lifts_version)

    async def pause_lifts(self) -> list[PauseLift]:
        return await self._in_thread(campaign_counts.pause_lifts)

    async def lift_pause(self, lift: PauseLift) -> None:
        await self._write(lambda db: campaign_counts.lift_pause(db, lift))

    async def lists(self) -> list[CallList]:
        return await self._in_thread(tables.lists)

    async def add_list(self, call_list: CallList) -> bool:
        values = (call_list.controller, call_list.id, encode(call_list).decode())
        insert = "INSERT INTO call_list VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._write(lambda db: db.execute(insert, values).rowcount == 1)

    async def retire_list(self, controller: str, name: str, at: Instant) -> CallList | None:
        def step(db: sqlite3.Connection) -> CallList | None:
            key = (controller, name)
            row = db.execute("SELECT body FROM call_list WHERE controller = ? AND id = ?", key).fetchone()
            if row is None:
                return None
            call_list = decode(row[0], type=CallList)
            retired = structs.replace(call_list, retired_at=call_list.retired_at or at)
            values = (encode(retired).decode(), *key)
            db.execute("UPDATE call_list SET body = ? WHERE controller = ? AND id = ?", values)
            return retired

        return await self._write(step)

    async def proofs(self) -> list[CallerIdProof]:
        return await self._in_thread(tables.proofs)

    async def put_proof(self, proof: CallerIdProof) -> None:
        values = (proof.at, encode(proof).decode())
        await self._write(lambda db: db.execute("INSERT INTO proof (at, body) VALUES (?, ?)", values))

    async def deliveries(self) -> list[Delivery]:
        return await self._in_thread(tables.deliveries)

    async def put_delivery(self, delivery: Delivery) -> None:
        values = (delivery.webhook, encode(delivery).decode())
        upsert = "INSERT INTO delivery VALUES (?, ?) ON CONFLICT (webhook) DO UPDATE SET body = excluded.body"
        await self._write(lambda db: db.execute(upsert, values))

    async def note_durable(self, log: str, seq: int) -> None:
        # Without a sync: after a power cut the note is as old as the attempts, which this connection writes too.
        await self._write(lambda db: db.execute(tables.NOTE_DURABLE, (log, seq)), self._buffer_link)

    async def recorded(self, log: str) -> int:
        query = "SELECT max(durable) FROM position WHERE log = ?"
        return await self._in_thread(lambda db: db.execute(query, (log,)).fetchone()[0] or 0)

    async def positions(self) -> dict[str, int]:
        await self._flush()
        return await self._in_thread(lambda db: dict(db.execute("SELECT log, seq FROM position").fetchall()))

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        # Rows in the newest buffer are dropped before the first await. Older rows may already be written, so they are
        # deleted from the database.
        older = set(decisions) - self._buffers[-1].drop(decisions)
        self._buffers[-1].position = position
        self._newest = None
        if not older:
            return
        await self._flush()

        def step(db: sqlite3.Connection) -> None:
            decision_list = (encode(list(older)).decode(),)
            db.execute(tables.DROP_ATTEMPTS, decision_list)
            db.execute(tables.DROP_ANSWERS, decision_list)
            db.execute(tables.NOTE, (position.log, position.seq))  # an empty buffer would not write it

        await self._write(step)

    async def settle(
        self,
        log: str,
        head: int,
        attempts: Sequence[tuple[bytes, Attempt]],
        answers: Sequence[Remembered],
        complete: Callable[[], Awaitable[None]] | None = None,
    ) -> bool:
        await self._flush()
        self._stored.add([subject for subject, _ in attempts])
        self._stored.add([answer.key for answer in answers])

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
        return False

    # ---- erasure and retention ------------------------------------------------------------------------------------------

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        def step(db: sqlite3.Connection) -> list[int]:
            refuse_if_short(tables.newest(db), self._required)
            return tables.remove(db, seqs, drafts)

        return await self._write(step)

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        return await self._write(lambda db: tables.replace_list(db, call_list, sha256))

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        await self._flush()
        if not drop:
            return await self._in_thread(lambda db: tables.attempts_before(db, before))
        dropped = 0
        while count := await self._write(lambda db: tables.drop_attempts(db, before)):
            dropped += count
        return dropped

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def ping(self) -> int:
        newest = await self._inline(tables.newest)
        refuse_if_short(newest, self._required)
        await self._flush_if_few()
        # Overwrite the format version with itself: a synced write that changes nothing.
        await self._write(lambda db: db.execute(f"PRAGMA user_version={tables.pragma(db, 'user_version')}"))
        return newest

    def require_seq(self, seq: int) -> None:
        self._required = max(self._required, seq)

    def keep_attempts(self, span: Instant) -> None:
        """Do nothing, because attempts are kept until `drop_attempts` deletes them."""

    async def maintain(self, before: Instant) -> None:
        await self._flush_if_few()
        self._stored.start_filling(self._near.database, self._unwritten_keys())
        bounds = (before, tables.FORGET_ROWS)
        while await self._write(lambda db: db.execute(tables.FORGET, bounds).rowcount):
            pass
        await self._write(lambda db: campaign_counts.drop_counts(db, oldest_hour(before)))
        await self._in_thread(tables.restart_log, self._maintenance)

    def _unwritten_keys(self) -> Iterator[bytes]:
        for buffer in self._buffers:
            yield from buffer.attempts
            yield from buffer.answers

    async def close(self) -> None:
        if not self._closed:
            await self._stored.close()
            with suppress(StoreUnavailable):  # the decision log contains the rows that were not written
                await self._flush()
            self._closed = True
            for worker in (self._buffer_writer, self._reader, self._ledger_writer):
                await asyncio.to_thread(worker.shutdown)
            for link in (self._maintenance, self._near, self._buffer_link, self._far, self._ledger_link):
                link.close()


def _is_same_state(now: Known, seen: Known) -> bool:
    """Return whether two states of a subject are equal, ignoring `seq`.

    Every new ledger entry raises `seq`, even an entry about another subject.
    """
    return now is seen or structs.replace(now, seq=seen.seq) == seen
