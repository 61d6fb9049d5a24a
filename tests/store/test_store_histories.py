"""Property tests of attempts, answers and ledger: each store agrees with a model after any history.

Two `Store` objects, called handles, use the same store. On SQLite only the first handle is used. Other
steps can run between a read and its commit. A handle is either closed, or abandoned as
if its process had been killed. A handle that replaces an abandoned handle reconciles the store with the log.

`DIALGATE_HISTORIES` sets the number of random histories; without it, each run has the same histories.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from dialgate.core.model import Attempt, Known
from dialgate.store import AttemptPosition, Remembered, Reservation, Shared, Store
from dialgate.store.redis import RedisStore
from dialgate.store.sqlite import SqliteStore
from tests.store.test_store import ENGINES, Engine, revoked, sqlite_engine

HISTORIES: Final = int(os.environ.get("DIALGATE_HISTORIES", "0"))
SUBJECTS: Final = [bytes([place]) * 16 for place in (1, 90, 200)]
LOGS: Final = ("one", "two")


class Enter(Struct, frozen=True):
    """Append a revocation."""

    handle: int
    subject: int


class Note(Struct, frozen=True):
    """Record the result of one of the attempts."""

    handle: int
    attempt: int
    result: Literal["no_answer", "answered"]


class Write(Struct, frozen=True):
    """Write the buffers to the database."""

    handle: int


class Release(Struct, frozen=True):
    """Undo the newest commit with `Store.release`, as if the log could not record the commit.

    The gate records a commit before the next one, so it never undoes two in a row.
    """

    handle: int


class Sync(Struct, frozen=True):
    """Record that the log is durable to its end."""

    handle: int


class Restart(Struct, frozen=True):
    """Open the store again.

    If `killed` is set, the store is not closed first, and the log loses its last `lost` commits.
    """

    handle: int
    killed: bool
    lost: int


class Commit(Struct, frozen=True):
    """Read, play the steps in `between`, then commit an attempt for each subject in `reserved`.

    The commit also contains an answer for each key in `answered`. If `synced` is set, it also records that all earlier
    log entries are durable. If `assumed` is set, call `Store.assume` first, and call `Store.read` only if `assume`
    returns None.
    """

    handle: int
    reserved: tuple[int, ...]
    answered: tuple[int, ...]
    synced: bool
    assumed: bool
    between: tuple["Step", ...] = ()


Step: TypeAlias = Enter | Note | Write | Release | Sync | Restart | Commit

handles, places = st.integers(0, 1), st.integers(0, 2)
few = st.lists(places, max_size=3).map(tuple)
enters = st.builds(Enter, handles, places)
notes = st.builds(Note, handles, st.integers(0, 9), st.sampled_from(["no_answer", "answered"]))
writes = st.builds(Write, handles)
commits = st.builds(Commit, handles, few, few, st.booleans(), st.booleans())
between = st.lists(st.one_of(enters, notes, writes, commits), max_size=2).map(tuple)
overtaken = st.builds(Commit, handles, few, few, st.booleans(), st.booleans(), between)
releases = st.builds(Release, handles)
syncs = st.builds(Sync, handles)
restarts = st.builds(Restart, handles, st.booleans(), st.integers(0, 2))
steps = st.one_of(enters, notes, writes, commits, overtaken, overtaken, releases, syncs, restarts)
histories = st.lists(steps, min_size=2, max_size=14)


class Logged(Struct):
    """A commit in a log: the entries with the sequence numbers `first` to `last`."""

    first: int
    last: int
    attempts: list[tuple[bytes, Attempt]]
    answers: list[Remembered]


def open_store(engine: Engine) -> Store:
    store = engine.open()
    if isinstance(store, RedisStore):
        store.attempts.reads_before_assuming = 0
    return store


class Model:
    """The expected content of the store."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.stores: list[Store] = [open_store(engine), open_store(engine)]
        self.abandoned: list[Store] = []
        self.logs: dict[str, list[Logged]] = {log: [] for log in LOGS}
        self.durable = dict.fromkeys(LOGS, 0)  # as last stored
        self.writes: list[set[str]] = [set(), set()]  # the logs that each handle writes
        # Keys whose answer was released. The answer that it replaced may be lost too, so an older one or none is found.
        self.released: set[bytes] = set()
        self.newest: Logged | None = None  # the last commit, unless it was released
        self.results: dict[str, str] = {}
        self.entries: list[int] = []  # subjects
        self.clock = count(10)

    # ---- expected content --------------------------------------------------------------------------------------------

    def attempts(self, subject: bytes) -> list[Attempt]:
        every = (counted for log in self.logs.values() for logged in log for counted in logged.attempts)
        return [
            structs.replace(attempt, result=self.results.get(attempt.decision, "pending"))
            for whose, attempt in every
            if whose == subject
        ]

    def state(self, subject: bytes) -> tuple[list[Attempt], list[int]]:
        entered = [seq for seq, place in enumerate(self.entries, 1) if SUBJECTS[place] == subject]
        return sorted(self.attempts(subject), key=lambda counted: counted.decision), entered

    def answer(self, key: bytes, handle: int) -> Remembered | None:
        """Return the newest answer for `key` if `handle` can read it, otherwise None.

        A handle of a shared store reads only answers from logs that it has written, and answers whose log entry is
        recorded as durable.
        """
        every = (answer for log in self.logs.values() for logged in log for answer in logged.answers)
        newest = max(
            (answer for answer in every if answer.key == key), key=lambda answer: answer.at, default=None
        )
        if newest is None or not self.engine.shared:
            return newest
        log, _, seq = newest.decision.rpartition("-")
        return newest if log in self.writes[handle] or int(seq) <= self.durable[log] else None

    def contents(self, subjects: list[bytes], keys: list[bytes]) -> list[object]:
        """Return what a reading of these subjects and answers contains."""
        every = [answer for log in self.logs.values() for logged in log for answer in logged.answers]
        newest = {answer.key: answer for answer in sorted(every, key=lambda answer: answer.at)}
        return [*map(self.state, subjects), *map(newest.get, keys)]

    # ---- steps -------------------------------------------------------------------------------------------------------

    def handle(self, place: int) -> int:
        """Return the index of the handle to use. An embedded store has one."""
        return place if self.engine.shared else 0

    async def play(self, step: Step) -> None:
        match step:
            case Enter():
                (seq,) = await self.stores[self.handle(step.handle)].append([revoked(SUBJECTS[step.subject])])
                self.entries.append(step.subject)
                assert seq == len(self.entries)
            case Note():
                await self.note(step)
            case Write():
                await self.stores[self.handle(step.handle)].maintain(0)
            case Release():
                await self.release(self.handle(step.handle))
            case Sync():
                await self.sync(step)
            case Restart():
                await self.restart(step)
            case Commit():
                await self.commit(step)

    async def note(self, step: Note) -> None:
        every = [counted.decision for subject in SUBJECTS for counted in self.attempts(subject)]
        if every:
            decision = every[step.attempt % len(every)]
            assert await self.stores[self.handle(step.handle)].result(decision, step.result, next(self.clock))
            self.results[decision] = step.result

    async def release(self, handle: int) -> None:
        log = self.logs[LOGS[handle]]
        if not log or log[-1] is not self.newest or log[-1].first <= self.durable[LOGS[handle]]:
            return
        logged, self.newest = log.pop(), None
        self.released.update(answer.key for answer in logged.answers)
        for _, attempt in logged.attempts:
            self.results.pop(attempt.decision, None)
        await self.stores[handle].release(AttemptPosition(LOGS[handle], logged.first - 1))

    async def sync(self, step: Sync) -> None:
        store, name = self.stores[step.handle], LOGS[step.handle]
        if isinstance(store, Shared) and self.logs[name]:
            self.durable[name] = self.logs[name][-1].last
            await store.note_durable(name, self.durable[name])

    async def restart(self, step: Restart) -> None:
        handle = self.handle(step.handle)
        self.writes[handle].clear()
        if not step.killed:
            await self.stores[handle].close()
            self.stores[handle] = open_store(self.engine)
            return
        killed = self.stores[handle]
        self.abandoned.append(killed)
        if isinstance(killed, SqliteStore):  # a buffer that was being written may be on disk
            await killed._writing.close()
        store = self.stores[handle] = open_store(self.engine)
        name, log = LOGS[handle], self.logs[LOGS[handle]]
        for lost in log[len(log) - step.lost :] if step.lost else []:
            log.remove(lost)
            for _, attempt in lost.attempts:
                self.results.pop(attempt.decision, None)
        attempts = [counted for logged in log for counted in logged.attempts]
        answers = [answer for logged in log for answer in logged.answers]
        head = self.durable[name] = log[-1].last if log else 0
        await store.settle(name, head, attempts, answers)
        self.writes[handle].add(name)

    async def commit(self, step: Commit) -> None:
        handle = self.handle(step.handle)
        name = LOGS[handle]
        keys = [bytes([7, handle, 9, place]) * 4 for place in step.answered]
        store = self.stores[handle]
        subjects = [SUBJECTS[place] for place in {*step.reserved, 2}]
        reading = store.assume(subjects, keys) if step.assumed else None
        if reading is None:
            reading = await store.read(subjects, keys)
        contents_before = self.contents(subjects, keys)
        for action in step.between:
            await self.play(action)
        log = self.logs[name]
        first = log[-1].last + 1 if log else 1
        logged = self._logged(name, first, step, keys)
        reserved = [Reservation(whose, attempt, (whose, SUBJECTS[2])) for whose, attempt in logged.attempts]
        position = AttemptPosition(name, logged.last, first, first - 1 if step.synced else 0)
        self.writes[handle].add(name)
        is_true = reading.known[0].seq == len(self.entries) and not any(
            any(self.state(subject)) for subject in subjects
        )
        written = await store.commit(reading, reserved, logged.answers, position)
        if reading.assumed:
            assert is_true >= written
        unchanged = self.contents(subjects, keys) == contents_before
        # A repeated result counts as a change, although the state is the same.
        repeated = any(isinstance(action, Note) for action in step.between)
        assert unchanged >= written
        assert reading.assumed or written >= (unchanged and not repeated)
        if written:
            self.durable[name] = max(self.durable[name], position.durable)
            self.released.difference_update(keys)
            log.append(logged)
            self.newest = logged

    def _logged(self, name: str, first: int, step: Commit, keys: list[bytes]) -> Logged:
        seqs, at = count(first), next(self.clock)
        attempts = [
            (SUBJECTS[place], Attempt(decision=f"{name}-{next(seqs)}", at=at, campaign="spring"))
            for place in step.reserved
        ]
        answers = [Remembered(key, at, b"{}", f"{name}-{next(seqs)}") for key in dict.fromkeys(keys)]
        return Logged(first, max(first, next(seqs) - 1), attempts, answers)

    # ---- comparison --------------------------------------------------------------------------------------------------

    async def compare(self) -> None:
        for handle, store in enumerate(self.stores):
            counts = self.engine.shared or handle == 0
            keys = [bytes([7, log, 9, place]) * 4 for log in range(2) for place in range(3)]
            reading = await store.read(SUBJECTS, keys)
            for subject, known in zip(SUBJECTS, reading.known, strict=True):
                attempts, entered = self.state(subject)
                assert [revocation.seq for revocation in known.revocations] == entered
                if counts:
                    assert sorted(known.attempts, key=lambda counted: counted.decision) == attempts
                    self._in_order(known)
            if counts:
                for key, found in zip(keys, reading.answers, strict=True):
                    expected = self.answer(key, handle)
                    is_lost = found is None or (expected is not None and found.at < expected.at)
                    assert found == expected or (is_lost and key in self.released)
        for subject in SUBJECTS:
            for attempt in self.attempts(subject):
                assert await self.stores[0].attempt(attempt.decision) == (subject, attempt)

    @staticmethod
    def _in_order(known: Known) -> None:
        instants = [counted.at for counted in known.attempts]
        assert instants == sorted(instants)

    async def close(self) -> None:
        for store in (*self.stores, *self.abandoned):
            await store.close()


def small_buffers(folder: Path) -> Engine:
    """Return the embedded store with buffers that several commits fill, so that some are being written most of the time."""
    path = folder / "store.db"
    return structs.replace(sqlite_engine(folder), open=lambda: SqliteStore.open(path, buffer_rows=3))


def folders(folder: Path) -> Iterator[Path]:
    for place in count():
        path = folder / f"{folder.name}-{place}"
        path.mkdir()
        yield path


@pytest.mark.parametrize(("engine", "many"), [(small_buffers, 60), (ENGINES["redis"], 40)])
def test_a_store_agrees_with_its_model_after_any_history(
    engine: Callable[[Path], Engine], many: int, tmp_path: Path
) -> None:
    fresh = folders(tmp_path)

    @settings(
        max_examples=HISTORIES or many,
        derandomize=not HISTORIES,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(histories)
    def run(history: list[Step]) -> None:
        async def play() -> None:
            model = Model(engine(next(fresh)))
            try:
                for step in history:
                    await model.play(step)
                    await model.compare()
            finally:
                await model.close()

        runner.run(play())

    with asyncio.Runner() as runner:
        run()
