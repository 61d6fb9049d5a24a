"""The embedded store: one SQLite file with a write-ahead log, on a local disk. Its tables are in `sqlite_tables`.

Three ways in. The *near* connection serves `read`, `recall` and `commit` on the event loop's own thread: a hop to a
thread would cost more than the query. It never waits. The *ledger* connection writes in one thread, the *far* connection reads
in another, so that no stop waits for reads; what has been acknowledged is on the disk.

Attempts and remembered answers are gathered in memory and written thousands at a time (`recent`), by a connection and a
thread of their own, which gives way to the one that decides: after a crash
the decision log is the truth about them, and `settle` brings back what was lost. So they belong to the one process
that writes the log beside this file; the ledger may be written by any process at any time, and binds at once.

A process that has this file open must not open it by other means: closing it would drop SQLite's locks (POSIX).
"""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

from msgspec import structs
from msgspec.json import Decoder, encode

from dialgate.core.ledger_events import Draft, Entry
from dialgate.core.model import Attempt, Instant, Known, Result
from dialgate.runtime.thread_pool import lower_priority
from dialgate.store import (
    CallerIdProof,
    CallList,
    Delivery,
    Position,
    Reading,
    Remembered,
    Reservation,
    StoreUnavailable,
    refuse_if_short,
)
from dialgate.store import sqlite_tables as tables
from dialgate.store.sqlite_connection import WAIT, Connection, Step, StoreLocked, open_file
from dialgate.store.sqlite_keys import StoredKeys
from dialgate.store.write_buffer import Recent

RETRY = 0.002  # seconds between two tries of the near connection on a locked file
BULK = 1_000  # entries written at once, after which the log is looked after: no gate may be there to do it
GATHERED = (
    65_536  # rows of attempts and answers that are written together: the more, the fewer pages for each
)

_PAUSE = 0.002  # seconds, between two statements that are written aside,
_IN_ARREARS = 3  # unless so many gatherings wait
_MOST = 8  # gatherings in memory, about 20 MB each
_MUCH = 4_096  # rows that come in between two rounds of upkeep
_TURN = 0.12  # seconds for other processes, between two parts of a gathering: who waits for a lock looks every 0.1 s

T = TypeVar("T")
_call_list = Decoder(CallList)
_proof = Decoder(CallerIdProof)
_delivery = Decoder(Delivery)


class SqliteStore:
    def __init__(self, path: Path, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._near = Connection(path, wait=0, synchronous="NORMAL")
        self._far = Connection(path, wait=WAIT, synchronous="FULL")
        self._ledger = Connection(path, wait=WAIT, synchronous="FULL")
        # It need not be durable, for the log is, but whole.
        self._behind = Connection(path, wait=WAIT, synchronous="NORMAL")
        # To restart the log is to hold the write lock while readers end: only where there is nothing to wait for.
        self._tidy = Connection(path, wait=0, synchronous="FULL")
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-ledger")
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="store-aside", initializer=lower_priority)
        self._one = Lock()
        self._closed = False
        # What the newest `read` saw, by which connection, at which of its data versions; none once that has changed.
        self._newest: tuple[Reading, sqlite3.Connection | None, int] | None = None
        self._nothing = Known()
        self._reaches = 0  # the ledger, at least
        self._recent = [Recent()]  # the newest last; elder ones are being written
        self._flushing = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: StoreUnavailable | None = None
        self._stored = StoredKeys(path)

    @classmethod
    def open(cls, path: Path, *, patience: float = 0.1) -> Self:
        """Makes the file (mode 0600) or brings it forward; blocks. `patience`: seconds for which a read or commit
        waits for a lock. Raises `StoreUnavailable`."""
        store = cls(path, patience)
        # Earlier versions kept a Bloom filter there, which may still have the bits of numbers that were erased since.
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
        worker = {self._behind: self._aside, self._ledger: self._writer}.get(link or self._far, self._worker)
        return await asyncio.get_running_loop().run_in_executor(worker, (link or self._far).run, step)

    async def _write(self, step: Step[T], link: Connection | None = None) -> T:
        def whole(db: sqlite3.Connection) -> T:
            # Whoever writes here waits for the other as long as it takes; for another process, no longer than `WAIT`.
            with self._one, tables.whole(db):
                return step(db)

        return await self._in_thread(whole, link or self._ledger)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store has been closed")

    # ---- in the path of every call -----------------------------------------------------------------------------------

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        absent = await self._inline(lambda db: self._read_absent(db, subjects, keys))
        if absent is not None:
            return absent

        def step(db: sqlite3.Connection) -> tuple[int, dict[bytes, Known], dict[bytes, Remembered]]:
            with tables.whole(db, "BEGIN"):
                version = tables.pragma(db, "data_version")
                known = self._all_known(db, subjects)
                return version, known, tables.answers_of(db, self._stored.select(keys))

        version, known, answers = await self._inline(step)
        self._with_recent_answers(answers, keys)
        found = [answers.get(key) for key in keys]
        reading = Reading(
            subjects=subjects,
            known=[known[subject] for subject in subjects],
            answers=[answer if answer is not None and answer.at >= since else None for answer in found],
        )
        self._newest = (reading, self._near.database, version)
        return reading

    def _read_absent(
        self, db: sqlite3.Connection, subjects: Sequence[bytes], keys: Sequence[bytes]
    ) -> Reading | None:
        """Return a reading without a look-up, if the filter holds none of the keys: most calls are to unknown numbers."""
        seq, version = tables.state(db)
        if not self._stored.has_none(db, seq, [*subjects, *keys]):
            return None
        refuse_if_short(seq, self._reaches)
        reading = Reading(
            subjects=subjects, known=[self._nothing_at(seq)] * len(subjects), answers=[None] * len(keys)
        )
        self._newest = (reading, db, version)
        return reading

    def _nothing_at(self, seq: int) -> Known:
        """The same object for as long as it says the same: callers may then judge by it that nothing is new."""
        if self._nothing.seq != seq:
            self._nothing = Known(seq=seq)
        return self._nothing

    def _with_recent_answers(self, answers: dict[bytes, Remembered], keys: Sequence[bytes]) -> None:
        for recent in self._recent:
            for key in recent.answers.keys() & set(keys) if recent.answers else ():
                answers[key] = recent.answers[key]

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> bool:
        if self._unwritten is not None:
            raise self._unwritten
        if len(self._recent) > _MOST:  # the disk cannot keep up, and memory is not to hold it all
            await self._write_eldest()
        if not await self._inline(lambda db: self._is_as_read(db, reading, reservations)):
            return False
        self._newest = None  # what it saw is no longer all there is
        if self._recent[-1].rows >= GATHERED:
            self._recent.append(Recent())  # before it is added to: `release` looks in the newest
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_recent())
        self._recent[-1].add(reservations, remembered, position)
        self._stored.add([reservation.subject for reservation in reservations])
        self._stored.add([answer.key for answer in remembered])
        return True

    def _is_as_read(
        self, db: sqlite3.Connection, reading: Reading, reservations: Sequence[Reservation]
    ) -> bool:
        if self._newest is not None:
            newest, opened, version = self._newest
            if newest is reading and opened is db and tables.pragma(db, "data_version") == version:
                return True
        seen = dict(zip(reading.subjects, reading.known, strict=True))
        watched = list({subject for reservation in reservations for subject in reservation.watch})
        with tables.whole(db, "BEGIN"):
            current = self._all_known(db, watched)
        return all(_same(known, seen[subject]) for subject, known in current.items())

    def _all_known(self, db: sqlite3.Connection, subjects: Sequence[bytes]) -> dict[bytes, Known]:
        """Call it in a transaction."""
        seq = tables.newest(db)
        refuse_if_short(seq, self._reaches)
        self._stored.catch_up(db, seq)
        known = dict.fromkeys(subjects, self._nothing_at(seq))
        known.update(tables.known_of(db, self._stored.select(subjects), seq))
        return self._with_recent(known)

    def _with_recent(self, known: dict[bytes, Known]) -> dict[bytes, Known]:
        """And the attempts that are not in the database yet; one may be in both for a moment."""
        for recent in self._recent:
            for subject in recent.attempts.keys() & known.keys():
                held = known[subject]
                counted = {attempt.decision: attempt for attempt in recent.attempts[subject]}
                counted |= {attempt.decision: attempt for attempt in held.attempts}
                attempts = sorted(counted.values(), key=lambda attempt: (attempt.at, attempt.decision))
                known[subject] = structs.replace(held, attempts=tuple(attempts))
        return known

    async def _write_recent(self) -> None:
        try:
            while len(self._recent) > 1:
                await self._write_eldest(_TURN, 0 if len(self._recent) > _IN_ARREARS else _PAUSE)
        except StoreUnavailable:
            pass  # it has been noted
        finally:
            self._writing = None

    async def _flush(self) -> None:
        """Bring what was gathered into the database. Raises `StoreUnavailable`: then it is kept for the next time, and
        until that succeeds nothing more is committed."""
        if self._recent[-1].rows:
            self._recent.append(Recent())
        last = self._recent[-2] if len(self._recent) > 1 else None
        while last in self._recent[:-1]:
            await self._write_eldest()

    async def _flush_little(self) -> None:
        """Where much comes in, there is soon enough for a whole gathering, which costs less a row."""
        if self._unwritten is not None or self._recent[-1].rows < _MUCH:
            await self._flush()

    async def _write_eldest(self, turn: float = 0, pause: float = 0) -> None:
        async with self._flushing:
            if len(self._recent) == 1:
                return
            eldest = self._recent[0]
            try:
                for part in await self._in_thread(lambda _: list(eldest.parts()), self._behind):
                    step = partial(tables.write_down, part=part, position=eldest.position, pause=pause)
                    await self._write(step, self._behind)
                    await asyncio.sleep(turn)
            except StoreUnavailable as fault:
                self._unwritten = fault
                raise
            del self._recent[0]
            self._newest = None
            self._unwritten = None

    # ---- the ledger and the rest, durable at return ------------------------------------------------------------------

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        def step(db: sqlite3.Connection) -> list[int]:
            refuse_if_short(tables.newest(db), self._reaches)
            return tables.append(db, drafts)

        seqs = await self._write(step)
        if len(seqs) >= BULK:
            await self._in_thread(tables.restart_log, self._tidy)
        return seqs

    async def entered(self, subjects: Sequence[bytes]) -> set[bytes]:
        # Not in the thread: there, an import writes at the same time.
        return await self._inline(lambda db: tables.entered(db, list(dict.fromkeys(subjects))))

    async def history(self, subject: bytes) -> list[Entry]:
        return await self._entries("WHERE subject = ? ORDER BY seq", subject)

    async def since(self, seq: int, limit: int) -> list[Entry]:
        return await self._entries("WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)

    async def _entries(self, where: str, *values: bytes | int) -> list[Entry]:
        return await self._in_thread(
            lambda db: [tables.entry_of(row) for row in db.execute(tables.ENTRY + where, values)]
        )

    async def attempt(self, decision: str) -> tuple[bytes, Attempt] | None:
        for recent in reversed(self._recent):
            if (held := recent.attempt(decision)) is not None:
                return held
        query = tables.ATTEMPT + "WHERE decision = ?"
        return await self._in_thread(
            lambda db: next(map(tables.attempt_of, db.execute(query, (decision,))), None)
        )

    async def result(self, decision: str, result: Result, at: Instant) -> bool:
        if any(decision in recent.subjects for recent in self._recent):
            await self._flush()
        values = {"decision": decision, "result": result, "at": at}
        return await self._write(lambda db: db.execute(tables.RESULT, values).rowcount == 1)

    async def lists(self) -> list[CallList]:
        query = "SELECT body FROM call_list ORDER BY controller, id"
        return await self._in_thread(lambda db: [_call_list.decode(row[0]) for row in db.execute(query)])

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
            held = _call_list.decode(row[0])
            retired = structs.replace(held, retired_at=held.retired_at or at)
            values = (encode(retired).decode(), *key)
            db.execute("UPDATE call_list SET body = ? WHERE controller = ? AND id = ?", values)
            return retired

        return await self._write(step)

    async def proofs(self) -> list[CallerIdProof]:
        def step(db: sqlite3.Connection) -> list[CallerIdProof]:
            every = (_proof.decode(body) for (body,) in db.execute("SELECT body FROM proof ORDER BY at, id"))
            return list({(each.controller, each.caller_id): each for each in every}.values())

        return await self._in_thread(step)

    async def put_proof(self, proof: CallerIdProof) -> None:
        values = (proof.at, encode(proof).decode())
        await self._write(lambda db: db.execute("INSERT INTO proof (at, body) VALUES (?, ?)", values))

    async def deliveries(self) -> list[Delivery]:
        query = "SELECT body FROM delivery"
        return await self._in_thread(lambda db: [_delivery.decode(row[0]) for row in db.execute(query)])

    async def put_delivery(self, delivery: Delivery) -> None:
        values = (delivery.webhook, encode(delivery).decode())
        upsert = "INSERT INTO delivery VALUES (?, ?) ON CONFLICT (webhook) DO UPDATE SET body = excluded.body"
        await self._write(lambda db: db.execute(upsert, values))

    async def positions(self) -> dict[str, int]:
        await self._flush()
        return await self._in_thread(lambda db: dict(db.execute("SELECT log, seq FROM position").fetchall()))

    async def release(self, decisions: Sequence[str], position: Position) -> None:
        # What was committed a moment ago is here, and gone before anything can be awaited. Elder rows may be on their
        # way to the database, and are deleted there.
        elder = set(decisions) - self._recent[-1].drop(decisions)
        self._recent[-1].position = position
        self._newest = None
        if not elder:
            return
        await self._flush()

        def step(db: sqlite3.Connection) -> None:
            named = (encode(list(elder)).decode(),)
            db.execute(tables.DROP_ATTEMPTS, named)
            db.execute(tables.DROP_ANSWERS, named)
            db.execute(tables.NOTE, (position.log, position.seq))  # an empty gathering would not write it

        await self._write(step)

    async def settle(
        self, log: str, head: int, attempts: Sequence[tuple[bytes, Attempt]], answers: Sequence[Remembered]
    ) -> None:
        await self._flush()
        self._stored.add([subject for subject, _ in attempts])
        self._stored.add([answer.key for answer in answers])

        def step(db: sqlite3.Connection) -> None:
            tables.drop_beyond(db, log, head)
            tables.count_attempts(db, attempts)
            tables.remember(db, answers)
            db.execute(tables.NOTE, (log, head))

        await self._write(step)

    # ---- the end of storage ------------------------------------------------------------------------------------------

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        def step(db: sqlite3.Connection) -> list[int]:
            refuse_if_short(tables.newest(db), self._reaches)
            return tables.remove(db, seqs, drafts)

        return await self._write(step)

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        return await self._write(lambda db: tables.replace_list(db, call_list, sha256))

    async def drop_attempts(self, before: Instant, *, drop: bool) -> int:
        await self._flush()
        if not drop:
            return await self._in_thread(lambda db: tables.attempts_before(db, before))
        dropped = 0
        while some := await self._write(lambda db: tables.drop_attempts(db, before)):
            dropped += some
        return dropped

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def ping(self) -> int:
        newest = await self._inline(tables.newest)
        refuse_if_short(newest, self._reaches)
        await self._flush_little()
        # The format written over itself: a real, synced write that changes nothing.
        await self._write(lambda db: db.execute(f"PRAGMA user_version={tables.pragma(db, 'user_version')}"))
        return newest

    def hold_to(self, seq: int) -> None:
        self._reaches = max(self._reaches, seq)

    async def maintain(self, before: Instant) -> None:
        await self._flush_little()
        self._stored.start_filling(self._near.database, self._unwritten_keys())
        bounds = (before, tables.FORGOTTEN_AT_ONCE)
        while await self._write(lambda db: db.execute(tables.FORGET, bounds).rowcount):
            pass
        await self._in_thread(tables.restart_log, self._tidy)

    def _unwritten_keys(self) -> Iterator[bytes]:
        for recent in self._recent:
            yield from recent.attempts
            yield from recent.answers

    async def close(self) -> None:
        if not self._closed:
            await self._stored.close()
            with suppress(StoreUnavailable):  # the log has it
                await self._flush()
            self._closed = True
            for worker in (self._aside, self._worker, self._writer):
                await asyncio.to_thread(worker.shutdown)
            for link in (self._tidy, self._near, self._behind, self._far, self._ledger):
                link.close()


def _same(now: Known, seen: Known) -> bool:
    """But for the sequence, which is the whole ledger's: it moves when others' entries come."""
    return now is seen or structs.replace(now, seq=seen.seq) == seen
