"""The contract of every store, tested on each engine with real files and processes. SQLite-only tests come last.

Add an engine by adding it to `ENGINES`.
"""

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct, json, structs

from dialgate.core.ledger_events import ConsentGiven, Draft, Entry, Event, Lifted, Revoked
from dialgate.core.model import DAY, HOUR, Attempt, Known, Origin, Result
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    CampaignPause,
    CountedAttempt,
    Delivery,
    HourCount,
    PauseLift,
    Reading,
    Remembered,
    Reservation,
    Shared,
    Store,
    StoreUnavailable,
)
from dialgate.store.breaches import BreachStep, StoredBreach
from dialgate.store.campaign_counts import COUNTS_KEPT
from dialgate.store.redis import RedisStore
from dialgate.store.sqlite import SqliteStore, tables
from dialgate.store.sqlite.connection import CHECKPOINT, pragma
from dialgate.store.sqlite.migrations import APPLICATION, MIGRATIONS, OLDEST
from dialgate.store.sqlite.store import _MAX_BUFFERS, BUFFER_ROWS, VERSIONS
from tests.support import redis_servers

ANNA, BRUNO, EVERYONE = b"anna" * 4, b"bruno---" * 2, b"everyone" * 2
HERE = AttemptPosition("log", 0)
NOTHING = Reading((), (), ())


class Engine(Struct):
    """A storage engine.

    `open` returns a new handle on the same data. `shared`: several handles may write.
    """

    open: Callable[[], Store]
    shared: bool


def sqlite_engine(folder: Path) -> Engine:
    path = folder / "store.db"
    return Engine(lambda: SqliteStore.open(path), shared=False)


def on_redis(url: Callable[[], str]) -> Callable[[Path], Engine]:
    """Use one server for all tests, with a separate store name for each test."""
    return lambda folder: Engine(lambda: RedisStore(url(), name=folder.name, patience=5), shared=True)


def valkey() -> str:
    if shutil.which("valkey-server") is None:
        pytest.skip("valkey-server is not installed")
    return redis_servers.alone("valkey-server")


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "sqlite": sqlite_engine,
    "redis": on_redis(redis_servers.alone),
    "tls": on_redis(redis_servers.over_tls),
    "cluster": on_redis(redis_servers.shared_cluster),
    "sentinel": on_redis(redis_servers.shared_sentinels),
    "valkey": on_redis(valkey),
}
CONNECTIONS = ("tls", "sentinel")  # to the server of `redis`: every test would prove the same
EACH = [pytest.param(name, marks=[pytest.mark.torture] * (name in CONNECTIONS)) for name in ENGINES]
SHARED = [engine for engine in EACH if engine.values != ("sqlite",)]


@pytest.fixture(params=EACH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return ENGINES[request.param](tmp_path)


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    opened = engine.open()
    yield opened
    await opened.close()


@pytest.fixture
async def other(engine: Engine, store: Store) -> AsyncIterator[Store]:
    """Return another handle, or the same one of an embedded store, which has one."""
    opened = engine.open() if engine.shared else store
    yield opened
    await opened.close()


def revoked(subject: bytes, at: int = 1) -> Draft:
    return Draft(at=at, controller="acme", subject=subject, event=Revoked(at=at), actor="anna", channel="web")


def attempt(decision: str, at: int = 10) -> Attempt:
    return Attempt(decision=decision, at=at, campaign="spring", basis="consent:1", goods="broadband")


def named(question: bytes) -> bytes:
    """Pad `question` to 16 bytes, the length of a request's key."""
    return question.ljust(16, b"-")


def answer(question: bytes, at: int = 10, decision: str = "log-1") -> Remembered:
    return Remembered(named(question), at, b'{"decision":"allow"}', decision)


async def recalled(store: Store, questions: list[bytes], since: int) -> list[Remembered | None]:
    return list((await store.read([], [named(question) for question in questions], since)).answers)


async def reserve_at(store: Store, subject: bytes, counted: Attempt) -> None:
    reading = await store.read([subject])
    assert await store.commit(reading, [Reservation(subject, counted, (subject,))], [], HERE)


async def reserve(store: Store, subject: bytes, *decisions: str, position: AttemptPosition = HERE) -> None:
    reading = await store.read([subject])
    reservations = [Reservation(subject, attempt(decision), (subject,)) for decision in decisions]
    assert await store.commit(reading, reservations, [], position)


async def decisions(store: Store, subject: bytes = ANNA) -> list[str]:
    (known,) = (await store.read([subject])).known
    return [counted.decision for counted in known.attempts]


async def run_other_tasks() -> None:
    loop = asyncio.get_running_loop()
    turn = asyncio.Event()
    loop.call_soon(turn.set)
    await turn.wait()


async def shell(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


@pytest.mark.parametrize("engine", CONNECTIONS, indirect=True)
async def test_another_connection_reads_what_was_written(store: Store, other: Store) -> None:
    await reserve(store, ANNA, "log-1", "log-2")
    (seq,) = await store.append([revoked(ANNA)])
    assert await decisions(other) == ["log-1", "log-2"]
    assert [entry.seq for entry in await other.history(ANNA)] == [seq]


# ---- reading ---------------------------------------------------------------------------------------------------------


async def test_states_are_in_the_requested_order(store: Store) -> None:
    """A subject may be repeated, and there may be more subjects than fit in one query."""
    await store.append([revoked(ANNA)])
    crowd = [index.to_bytes(16, "big") for index in range(1_100)]
    known = (await store.read([BRUNO, ANNA, *crowd, ANNA])).known
    assert [len(state.revocations) for state in known] == [0, 1, *[0] * 1_100, 1]
    assert known[0] == Known(seq=1)
    assert list((await store.read([])).known) == []


async def test_a_ledger_that_ends_before_its_known_end_is_refused(
    store: Store,
) -> None:
    """Revocations were lost, because the store was emptied or replaced."""
    (newest,) = await store.append([revoked(ANNA)])
    assert await store.ping() == newest
    store.require_seq(newest)
    await store.read([ANNA])
    store.require_seq(newest + 1)
    lost = f"ends at {newest}, but had reached {newest + 1}:"
    with pytest.raises(StoreUnavailable, match=lost):
        await store.read([ANNA])
    with pytest.raises(StoreUnavailable, match=lost):
        await store.ping()
    # Otherwise the ledger would be long enough, and the missing entries would go unnoticed.
    with pytest.raises(StoreUnavailable, match=lost):
        await store.append([revoked(BRUNO)])
    with pytest.raises(StoreUnavailable, match=lost):
        await store.remove([newest], [revoked(BRUNO)])
    assert [entry.seq for entry in await store.since(0, 9)] == [newest]


async def test_of_two_answers_the_later_is_returned_from_the_requested_instant_on(store: Store) -> None:
    await store.commit(NOTHING, [], [answer(b"k2", 10)], HERE)
    await store.commit(NOTHING, [], [answer(b"k1", 10), answer(b"k2", 11)], HERE)
    one, two = answer(b"k1", 10), answer(b"k2", 11)
    assert await recalled(store, [b"k2", b"none", b"k1", b"k2"], 10) == [two, None, one, two]
    assert await recalled(store, [b"k1", b"k2"], 11) == [None, two]
    await store.commit(NOTHING, [], [answer(b"k2", 10)], HERE)
    assert await recalled(store, [b"k2"], 0) == [two], "an earlier one does not replace it"


@pytest.mark.parametrize("engine", SHARED, indirect=True)
async def test_an_answer_of_another_log_is_returned_once_it_is_on_its_disk(
    store: Store, other: Store
) -> None:
    """A crash could lose the record of an answer. In that case, the gate that writes the log removes the answer."""
    keys = [b"k1", b"k2", b"k3"]
    one, two, three = (answer(key, decision=f"log-{seq}") for seq, key in enumerate(keys, 1))
    await store.settle("log", 0, [], [])
    await store.commit(NOTHING, [], [one, two], AttemptPosition("log", 2, 1))
    assert await recalled(other, keys, 0) == [None] * 3
    await store.note_durable("log", 2)
    # A commit that overlaps the note has an older bound.
    await store.commit(NOTHING, [], [three], AttemptPosition("log", 3, 3, 1))
    assert await recalled(other, keys, 0) == [one, two, None]
    assert await recalled(store, keys, 0) == [one, two, three], "its own log needs no proof"


async def test_many_answers_may_be_replaced_and_deleted_at_once(store: Store) -> None:
    keys = [b"k%d" % n for n in range(1_200)]
    for at in (10, 20):
        await store.commit(NOTHING, [], [answer(key, at) for key in keys], HERE)
        await store.positions()
    assert await recalled(store, keys, 20) == [answer(key, 20) for key in keys]
    newer = answer(b"newer", 21)
    await store.commit(NOTHING, [], [newer], HERE)
    await store.maintain(21)
    assert await recalled(store, [*keys, b"newer"], 0) == [*[None] * 1_200, newer]


# ---- commits ---------------------------------------------------------------------------------------------------------


class Change(Struct):
    """A change between a read and its commit."""

    happens: Callable[[Store], Awaitable[object]]
    is_stale: bool = True


CHANGES = {
    "a revocation": Change(lambda store: store.append([revoked(ANNA)])),
    "a revocation for everyone": Change(lambda store: store.append([revoked(EVERYONE)])),
    "an attempt": Change(lambda store: reserve(store, ANNA, "log-7")),
    "a result": Change(lambda store: store.result("log-1", "answered", 12)),
    "a release": Change(lambda store: store.release(HERE)),
    "a revocation of another number": Change(lambda store: store.append([revoked(BRUNO)]), is_stale=False),
    "a read": Change(lambda store: store.read([BRUNO]), is_stale=False),
    "an answer": Change(lambda store: store.commit(NOTHING, [], [answer(b"other")], HERE), is_stale=False),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("by_another_handle", [False, True])
async def test_a_commit_whose_reading_is_stale_writes_nothing(
    store: Store, other: Store, change: str, by_another_handle: bool
) -> None:
    made = CHANGES[change]
    written = not made.is_stale
    await reserve(store, ANNA, "log-1")
    reading = await store.read([b"carla---" * 2, ANNA, EVERYONE])
    await made.happens(other if by_another_handle else store)
    reservations = [
        Reservation(b"carla---" * 2, attempt("log-2"), (b"carla---" * 2, EVERYONE)),
        Reservation(ANNA, attempt("log-3"), (ANNA, EVERYONE)),
    ]
    assert await store.commit(reading, reservations, [answer(b"k")], AttemptPosition("log", 9)) == written
    assert (await decisions(store, b"carla---" * 2) == ["log-2"]) == written
    assert ("log-3" in await decisions(store)) == written
    assert (await recalled(store, [b"k"], 0) != [None]) == written
    assert (await store.positions() == {"log": 9}) == written


@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "the last one changed"])
@pytest.mark.parametrize("assumed", [False, True], ids=["read", "assumed"])
async def test_a_batch_of_thousands_is_committed_as_a_whole(
    store: Store, other: Store, assumed: bool, changed: bool
) -> None:
    numbers = [b"number-%09d" % at for at in range(2_500)]
    keys = [b"question-%07d" % at for at in range(2_500)]
    await read_unknown(store)
    reading = (store.assume(numbers, keys) if assumed else None) or await store.read(numbers, keys)
    if changed:
        await reserve(other, numbers[-1], "other-7")
    reservations = [
        Reservation(number, attempt(f"log-{at}"), (number,)) for at, number in enumerate(numbers, 1)
    ]
    answers = [Remembered(key, 10, b"an answer", f"log-{at}") for at, key in enumerate(keys, 1)]
    is_written = await store.commit(reading, reservations, answers, AttemptPosition("log", 2_500))
    assert is_written is not changed
    after = await store.read([numbers[0], numbers[-1]], [keys[0], keys[-1]])
    decided = [[each.decision for each in known.attempts] for known in after.known]
    assert decided == ([[], ["other-7"]] if changed else [["log-1"], ["log-2500"]])
    assert list(after.answers) == ([None, None] if changed else [answers[0], answers[-1]])


CARLA = b"carla---" * 2


async def read_unknown(store: Store) -> None:
    """Read unknown subjects until the store assumes that the next ones are unknown too."""
    for number in range(4):
        await store.read([b"unknown-%08d" % number])


async def answer_long_ago(store: Store) -> None:
    """Store an answer that is too old to be repeated. A commit does not check the answer's age."""
    await store.commit(NOTHING, [], [answer(b"asked", decision="other-7")], HERE)
    await store.maintain(11)


# A record says which sequence of the ledger was known, so a revocation of any number counts.
ASSUMED = CHANGES | {
    "nothing": Change(lambda _: run_other_tasks(), is_stale=False),
    "a revocation of another number": Change(lambda store: store.append([revoked(BRUNO)])),
    "an answer to the request": Change(
        lambda store: store.commit(NOTHING, [], [answer(b"asked", decision="other-7")], HERE)
    ),
    "an old answer to the request": Change(answer_long_ago),
}


@pytest.mark.parametrize("allowed", [True, False], ids=["an allow", "only denials"])
@pytest.mark.parametrize("change", sorted(ASSUMED.keys() - {"a result", "a release"}))
async def test_an_assumed_reading_is_committed_only_if_all_of_it_is_true(
    store: Store, other: Store, engine: Engine, change: str, allowed: bool
) -> None:
    """The check includes the subjects of denied calls, although a denied call has no reservation."""
    await read_unknown(store)
    reading = store.assume([CARLA, ANNA, EVERYONE], [named(b"asked")])
    if not engine.shared:
        assert reading is None, "a read is as fast"
        return
    assert reading is not None
    assert (reading.known, reading.answers) == ([Known()] * 3, [None])
    await ASSUMED[change].happens(other)
    reservations = [Reservation(CARLA, attempt("log-1"), (CARLA, EVERYONE))] if allowed else []
    is_true = not ASSUMED[change].is_stale
    assert await store.commit(reading, reservations, [answer(b"k")], AttemptPosition("log", 9)) == is_true
    assert (store.assume([CARLA]) is not None) == is_true, "after a wrong assumption it reads again"
    assert (await store.positions()).get("log", 0) == 9 * is_true
    assert await decisions(other, CARLA) == ["log-1"] * (is_true and allowed)
    assert (await recalled(store, [b"k"], 0) != [None]) == is_true


async def test_unknown_subjects_are_assumed_only_after_reads_and_never_behind_the_ledger(
    store: Store, engine: Engine
) -> None:
    if not engine.shared:
        return
    for number in range(4):
        assert store.assume([ANNA]) is None
        await store.read([b""])  # a read of the ledger's sequence only
        await store.read([b"unknown-%08d" % number])
    assert store.assume([ANNA]) is not None
    await store.append([revoked(ANNA)])
    assert store.assume([BRUNO]) is None, "the ledger is ahead of the last read"
    await store.read([BRUNO])
    reading = store.assume([BRUNO])
    assert reading is not None
    assert reading.known == [Known(seq=1)]
    await store.read([ANNA])
    assert store.assume([BRUNO]) is None, "a subject was known"


async def test_nothing_is_assumed_while_a_commit_is_unknown(store: Store) -> None:
    if not isinstance(store, RedisStore):
        return
    await read_unknown(store)
    store.undo.mark_unknown(HERE)
    assert store.assume([ANNA]) is None
    await store.read([ANNA])  # this undoes the commit
    assert store.assume([ANNA]) is not None


async def test_a_reused_decision_id_counts_the_later_attempt(store: Store) -> None:
    """A decision id is reused only if its first attempt was never recorded. The store must return the later attempt."""
    await reserve(store, ANNA, "log-1")
    await store.result("log-1", "busy", 99)
    await reserve(store, BRUNO, "log-1")
    assert await store.attempt("log-1") == (BRUNO, attempt("log-1"))
    await store.positions()  # the buffer is written by then; until then the first counts too
    assert await decisions(store, ANNA) == []
    assert await store.attempt("log-1") == (BRUNO, attempt("log-1"))


@pytest.mark.parametrize("written", [False, True], ids=["not written down yet", "written down"])
async def test_a_release_restores_the_position_for_later_starts(engine: Engine, written: bool) -> None:
    """If the position stayed ahead of the log, a restarted gate would look for records that do not exist."""
    store = engine.open()
    others = {"other": 9} if engine.shared else {}  # the log of another process
    for log, seq in others.items():
        await reserve(store, BRUNO, f"{log}-{seq}", position=AttemptPosition(log, seq))
    await reserve(store, ANNA, "log-1", position=AttemptPosition("log", 1))
    await reserve(store, ANNA, "log-2", "log-3", position=AttemptPosition("log", 7))
    if written:
        assert await store.positions() == {"log": 7, **others}
    await store.release(AttemptPosition("log", 1))
    assert await decisions(store) == ["log-1"]
    if written:
        assert await store.positions() == {"log": 1, **others}
    await store.close()
    again = engine.open()
    assert await again.positions() == {"log": 1, **others}
    assert await decisions(again) == ["log-1"]
    await reserve(again, ANNA, "log-2", position=AttemptPosition("log", 3))
    assert await again.positions() == {"log": 3, **others}
    assert await decisions(again) == ["log-1", "log-2"]
    await again.close()


async def test_the_last_durable_entry_of_each_log_is_kept_and_a_release_does_not_lower_it(
    engine: Engine,
) -> None:
    store = engine.open()
    assert await store.recorded("log") == 0
    await store.note_durable("log", 7)
    assert await store.recorded("other") == 0
    await reserve(store, ANNA, "log-8", position=AttemptPosition("log", 8))
    await store.release(AttemptPosition("log", 7))
    await store.close()
    again = engine.open()
    assert await again.recorded("log") == 7
    assert (await again.positions())["log"] == 7
    await again.settle("log", 9, [], [])
    assert await again.recorded("log") == 9
    await again.close()


# ---- the ledger ------------------------------------------------------------------------------------------------------


async def test_an_append_is_atomic(store: Store) -> None:
    bad = structs.replace(revoked(ANNA), actor="\ud800")  # no engine can store a surrogate
    with pytest.raises(UnicodeEncodeError):
        await store.append([revoked(ANNA), bad])
    assert await store.history(ANNA) == []
    assert await store.append([revoked(ANNA)]) == [1]


async def test_a_removal_appends_atomically_and_makes_readings_stale(store: Store, other: Store) -> None:
    """Sequence numbers are never reused. A removal ignores unknown sequence numbers."""
    await store.append([revoked(ANNA, 1), revoked(ANNA, 2), revoked(BRUNO, 3)])
    reading = await store.read([ANNA])
    assert await other.remove([1, 3, 99], [revoked(ANNA, 4)]) == [4]
    assert [entry.seq for entry in await store.history(ANNA)] == [2, 4]
    assert await store.history(BRUNO) == []
    assert [entry.seq for entry in await store.since(0, 9)] == [2, 4]
    reservations = [Reservation(ANNA, attempt("log-1"), (ANNA,))]
    assert not await store.commit(reading, reservations, [], HERE)
    assert [revocation.seq for revocation in (await store.read([ANNA])).known[0].revocations] == [2, 4]
    assert await store.remove([2]) == []
    assert [revocation.seq for revocation in (await store.read([ANNA])).known[0].revocations] == [4]
    assert await store.append([revoked(BRUNO)]) == [5]


async def test_subjects_are_those_with_an_entry_or_an_attempt(store: Store) -> None:
    entered, called, both, for_all = (bytes([at]) * 16 for at in range(4))
    await store.append([revoked(entered), revoked(both), revoked(both)])
    await store.append([structs.replace(revoked(for_all), controller="*")])
    for at, subject in enumerate((called, both)):
        await reserve_at(store, subject, attempt(f"log-{at + 1}"))
    found = [(may_bind, subject) async for may_bind, part in store.subjects() for subject in part]
    assert {subject for _, subject in found} == {entered, called, both, for_all}
    assert for_all in {subject for may_bind, subject in found if may_bind}


async def test_histories_are_found_among_many_subjects(store: Store) -> None:
    """There are more subjects than fit in one query. Attempts and removed entries do not count."""
    many = [place.to_bytes(16, "big") for place in range(1, 1_501)]
    await store.append([revoked(subject, at) for at in (1, 2) for subject in many[::3]])
    await reserve(store, ANNA, "log-1")
    found = await store.histories([*many, ANNA, ANNA, many[0]])
    for subject, entries in found.items():
        filled = [structs.replace(entry.decoded(), controller="acme", actor="anna") for entry in entries]
        assert filled == await store.history(subject)
    assert set(found) == set(many[::3])
    assert {len(history) for history in found.values()} == {2}
    await store.remove([1, 501])
    assert (await store.histories([many[0], many[3]])).keys() == {many[3]}
    assert await store.histories([]) == {}


async def test_the_ledger_is_read_by_sequence(store: Store) -> None:
    drafts = [revoked(ANNA, 1), revoked(BRUNO, 2), revoked(ANNA, 3)]
    entries = [
        Entry(seq=seq, **{name: getattr(draft, name) for name in Draft.__struct_fields__})
        for draft, seq in zip(drafts, await store.append(drafts), strict=True)
    ]
    assert await store.since(0, 10) == entries
    assert await store.since(1, 1) == entries[1:2]
    assert await store.since(3, 10) == []
    assert await store.history(ANNA) == [entries[0], entries[2]]


text = st.text(st.characters(codec="utf-8"), max_size=8)
instants = st.integers(0, 2**53)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Revoked, at=instants, scope=st.sampled_from(["campaign", "everyone"]), campaign=text),
    st.builds(Lifted, of=st.integers(1), ground=st.just("error"), reason=text),
    st.builds(
        ConsentGiven, id=text, collected_at=instants, purposes=st.just(("sale",)),
        call_types=st.just(("agent",)), origin=st.builds(Origin, collected_by=text, collected_on=st.dates()),
    ),
)  # fmt: skip


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events, text, st.binary(max_size=40))
async def test_appended_entries_are_read_back_unchanged(
    store: Store, event: Event, proof: str, sealed: bytes
) -> None:
    draft = structs.replace(revoked(ANNA), event=event, proof=proof, sealed=sealed)
    (seq,) = await store.append([draft])
    (entry,) = await store.since(seq - 1, 1)
    assert (entry.event, entry.proof, entry.sealed) == (event, proof, sealed)


# ---- results, lists, proofs, maintenance -----------------------------------------------------------------------------


async def test_the_later_of_two_results_is_kept(store: Store) -> None:
    await reserve(store, ANNA, "log-1")
    assert await store.result("log-1", "abandoned", 20)
    assert await store.result("log-1", "busy", 19)
    assert await store.attempt("log-1") == (ANNA, structs.replace(attempt("log-1"), result="abandoned"))
    assert await store.result("log-1", "answered", 20)
    assert await store.attempt("log-1") == (ANNA, structs.replace(attempt("log-1"), result="answered"))
    assert not await store.result("log-2", "answered", 20)
    assert await store.attempt("log-2") is None


# ---- counts of campaigns ---------------------------------------------------------------------------------------------


def hours(counts: list[HourCount]) -> dict[tuple[int, str], tuple[int, int]]:
    return {(count.hour, count.campaign): (count.answered, count.abandoned) for count in counts}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (
            [
                (0, "answered", 9),
                (1, "opt_out", 9),
                (2, "wrong_number", 9),
                (3, "abandoned", 9),
                (4, "abandoned", 9),
            ],
            {(0, "spring"): (3, 1), (1, "spring"): (0, 1)},
        ),
        ([(0, "busy", 9), (1, "no_answer", 9)], {}),
        ([(0, "abandoned", 20), (0, "answered", 19), (0, "abandoned", 20)], {(0, "spring"): (0, 1)}),
        ([(0, "abandoned", 20), (0, "answered", 21)], {(0, "spring"): (1, 0)}),
    ],
    ids=["kinds that count", "kinds that do not count", "an older and a repeated result", "a later result"],
)
async def test_results_are_counted_for_the_hour_of_their_call(
    engine: Engine,
    store: Store,
    other: Store,
    results: list[tuple[int, Result, int]],
    expected: dict[tuple[int, str], tuple[int, int]],
) -> None:
    """The counts outlast the attempts. Handles that report results take turns."""
    for number, at in enumerate((0, 1, HOUR - 1, 2, HOUR)):
        await reserve_at(store, b"%d" % number * 16, attempt(f"log-{number}", at))
    await store.positions()  # writes the buffer of SQLite, so that the other handle finds the attempts
    for turn, (number, result, at) in enumerate(results):
        assert await (store, other)[turn % 2].result(f"log-{number}", result, at)
    assert not await store.result("log-99", "abandoned", 20), "there is no such attempt"
    counts, newest = await other.counts()
    assert (hours(counts), await other.counts(newest)) == (expected, ([], newest))
    await store.drop_attempts(2 * HOUR, drop=True)
    reopened = engine.open()
    assert hours((await reopened.counts())[0]) == expected
    await reopened.close()


async def test_only_changed_counts_are_returned_and_old_ones_are_deleted(store: Store) -> None:
    seen = 0
    for number, at in enumerate((0, HOUR, 90 * DAY)):
        await reserve_at(store, b"%d" % number * 16, attempt(f"log-{number}", at))
        await store.result(f"log-{number}", "abandoned", at)
        counts, newest = await store.counts(seen)
        assert hours(counts) == {(at // HOUR, "spring"): (0, 1)}
        assert newest > seen
        seen = newest
    await store.maintain(0)
    assert len((await store.counts())[0]) == 3
    await store.maintain(2 * DAY + COUNTS_KEPT)
    assert hours((await store.counts())[0]) == {(2160, "spring"): (0, 1)}


async def test_lifted_pauses_are_kept_in_order(store: Store, other: Store) -> None:
    later = PauseLift(campaign="spring", at=20, ground="agents hired", actor="dpo", answered=3, abandoned=4)
    earlier = structs.replace(later, at=10)
    for lift in (later, earlier, later):
        await store.lift_pause(lift)
    assert await other.pause_lifts() == [earlier, later]


async def test_of_two_versions_of_a_pause_the_newer_is_kept(store: Store, other: Store) -> None:
    first = CampaignPause(controller="acme", campaign="spring", at=10, reason="script", actor="anna")
    another = structs.replace(first, controller="other", reason="holiday")
    ended = structs.replace(first, resumed_at=20, resumed_by="ben")
    later = structs.replace(first, at=30, reason="price")
    stored = [await store.put_pause(pause) for pause in (first, another, ended, first, ended, later, ended)]
    assert stored == [True, True, True, False, False, True, False]
    assert await other.campaign_pauses() == {("acme", "spring"): later, ("other", "spring"): another}


async def test_of_two_steps_of_a_breach_at_once_none_is_lost(store: Store, other: Store) -> None:
    opened = BreachStep(at=5, by="dpo", kind="opened", done_at=4)
    breach = StoredBreach(
        id="b1", controller="acme", aware_at=4, start=1, end=4, client="", node="", steps=(opened,)
    )
    assert await store.breach("b1") is None
    await store.change_breach("b1", lambda _: breach)

    def adding(at: int) -> Callable[[StoredBreach | None], StoredBreach | None]:
        step = structs.replace(opened, at=at, kind="noted")
        return lambda found: found and structs.replace(found, steps=(*found.steps, step))

    gates = (store, other)
    await asyncio.gather(*(gates[at % 2].change_breach("b1", adding(at)) for at in range(10, 20)))
    stored = await other.breach("b1")
    assert stored is not None
    assert sorted(step.at for step in stored.steps) == [5, *range(10, 20)]
    assert await store.breaches() == [stored]


def call_list(name: str) -> CallList:
    return CallList(
        id=name, controller="acme", campaigns=("c",), bases=("consent", "directory"), file="spring.set",
        origin=Origin(collected_by="acme", collected_on=date(2026, 1, 1)), sha256="00", numbers=3,
        loaded_at=1, actor="anna",
    )  # fmt: skip


async def test_a_call_list_is_replaced_by_id(store: Store) -> None:
    spring = call_list("spring")
    autumn = structs.replace(spring, id="autumn")
    assert await store.add_list(spring)
    assert await store.add_list(autumn)
    retired = structs.replace(spring, retired_at=9)
    assert await store.retire_list(spring.controller, spring.id, 9) == retired
    assert await store.retire_list(spring.controller, spring.id, 10) == retired
    assert await store.retire_list("another", spring.id, 9) is None
    assert not await store.add_list(spring), "a retired list is kept"
    shorter = structs.replace(autumn, sha256="11", numbers=2)
    assert not await store.replace_list(shorter, "99"), "it was replaced in between"
    assert await store.replace_list(shorter, "00")
    assert shorter in await store.lists()
    assert await store.replace_list(structs.replace(shorter, sha256="00", numbers=3), "11")
    assert not await store.replace_list(structs.replace(spring, id="winter"), "00")
    erased = structs.replace(spring, file="rewritten", sha256="22", numbers=2)  # read before its retirement
    assert await store.replace_list(erased, "00")
    assert structs.replace(erased, retired_at=9) in await store.lists(), "the list is still retired"
    assert await store.replace_list(spring, "22")
    others = structs.replace(spring, controller="another")
    assert await store.add_list(others)
    assert sorted(await store.lists(), key=lambda call_list: (call_list.id, call_list.controller)) == [
        autumn,
        retired,
        others,
    ]


async def test_a_list_is_added_and_another_retired_in_one_step(store: Store) -> None:
    """Nothing is written if the list to replace is not in force, for example because another load has replaced it."""
    spring = call_list("spring")
    autumn, winter = (structs.replace(spring, id=name, loaded_at=20) for name in ("autumn", "winter"))
    assert not await store.add_list(autumn, "spring"), "there is no such list"
    assert not await store.add_list(autumn, "autumn"), "a list cannot replace itself"
    assert await store.add_list(spring)
    assert sorted(await asyncio.gather(*(store.add_list(new, "spring") for new in (autumn, winter)))) == [
        False,
        True,
    ]
    (new,) = [found for found in await store.lists() if not found.retired_at]
    assert await store.lists() == [new, structs.replace(spring, retired_at=20)]
    assert not await store.add_list(new, "spring"), "it was loaded before"


async def test_attempts_older_than_the_bound_are_dropped(store: Store) -> None:
    """Attempts of subjects with ledger entries are dropped too. No decision id leads to a dropped attempt."""
    await store.append([revoked(ANNA)])
    for name, at in (("log-1", 10), ("log-2", 20)):
        reading = await store.read([ANNA, BRUNO])
        counted = structs.replace(attempt(name), at=at)
        subject = ANNA if name == "log-1" else BRUNO
        assert await store.commit(reading, [Reservation(subject, counted, (subject,))], [], HERE)
    assert await store.drop_attempts(20, drop=False) == 1
    assert await store.attempt("log-1")
    assert await store.drop_attempts(20, drop=True) == 1
    assert await store.attempt("log-1") is None
    assert [len(known.attempts) for known in (await store.read([ANNA, BRUNO])).known] == [0, 1]
    assert await store.drop_attempts(20, drop=True) == 0


async def test_an_abandoned_call_is_kept_until_a_later_call_is_answered(store: Store) -> None:
    """No later call to ANNA was answered. The last call to BRUNO was answered, so all his records are deleted."""
    calls: list[tuple[bytes, Result]] = [
        (ANNA, "answered"), (ANNA, "abandoned"), (ANNA, "no_answer"), (ANNA, "abandoned"), (ANNA, "busy"),
        (BRUNO, "abandoned"), (BRUNO, "opt_out"), (BRUNO, "abandoned"), (BRUNO, "answered"),
    ]  # fmt: skip
    for at, (subject, result) in enumerate(calls, 1):
        counted = structs.replace(attempt(f"log-{at}"), at=at)
        reading = await store.read([subject])
        assert await store.commit(reading, [Reservation(subject, counted, (subject,))], [], HERE)
        assert await store.result(counted.decision, result, at)
    for drop in (False, True):
        assert await store.drop_attempts(100, drop=drop) == len(calls) - 1
    remaining = [
        [counted.decision for counted in known.attempts] for known in (await store.read([ANNA, BRUNO])).known
    ]
    assert remaining == [["log-4"], []]
    later = structs.replace(attempt("log-10"), at=10)
    assert await store.commit(await store.read([ANNA]), [Reservation(ANNA, later, (ANNA,))], [], HERE)
    assert await store.result("log-10", "answered", 10)
    assert await store.drop_attempts(100, drop=True) == 2
    assert (await store.read([ANNA])).known[0].attempts == ()


async def test_the_newest_proof_of_each_caller_id_is_returned(store: Store) -> None:
    newest = CallerIdProof(controller="acme", caller_id="+390844", at=20, kind="probe", answered=False)
    another = structs.replace(newest, controller="other", at=5)
    for proof in (newest, structs.replace(newest, at=19), another):
        await store.put_proof(proof)
    assert sorted(await store.proofs(), key=lambda proof: proof.controller) == [newest, another]


async def test_the_sealed_months_of_a_log_are_replaced(store: Store, other: Store) -> None:
    for log, sealed in (("9f2c01ab", b"old"), ("9f2c01ac", b"\0"), ("9f2c01ab", b"new")):
        await store.put_sealed_months(log, sealed)
    assert await other.sealed_months() == {"9f2c01ab": b"new", "9f2c01ac": b"\0"}


async def test_the_cursor_of_a_webhook_is_replaced(store: Store, other: Store) -> None:
    one, two = Delivery(webhook="one", seq=1), Delivery(webhook="two", seq=2, dead=3, dead_after=1)
    for delivery in (one, two, structs.replace(one, seq=7, tries=1, failing_since=5)):
        await store.put_delivery(delivery)
    by_webhook = {delivery.webhook: delivery for delivery in await other.deliveries()}
    assert by_webhook == {"one": Delivery(webhook="one", seq=7, tries=1, failing_since=5), "two": two}


async def test_settling_with_a_log_works_both_ways_and_repeatedly(store: Store) -> None:
    """Settling removes the log's attempts and answers after the given position, and restores lost attempts and answers.

    Results are kept. Attempts from other logs are kept too.
    """
    for other in ("logs", "loh", "lo"):
        await reserve(store, ANNA, f"{other}-99", position=AttemptPosition(other, 99))
    await reserve(store, ANNA, "log-8", "log-9", "log-10", "log-100")
    await store.result("log-9", "busy", 11)
    dropped, remaining = answer(b"k10", decision="log-10"), answer(b"k9", decision="log-9")
    await store.commit(NOTHING, [], [dropped, remaining], AttemptPosition("log", 100))
    lost = [(ANNA, attempt("log-9")), (BRUNO, attempt("log-7"))]
    for _ in range(2):
        await store.settle("log", 9, lost, [answer(b"k7", decision="log-7")])
        if isinstance(store, Shared):  # attempts were missing, so the store waits for the log's gate
            await store.acknowledge("log", store.generation.number)
        (known,) = (await store.read([ANNA])).known
        assert {counted.decision: counted.result for counted in known.attempts} == {
            "log-8": "pending", "log-9": "busy", "logs-99": "pending", "loh-99": "pending",
            "lo-99": "pending",
        }  # fmt: skip
        assert await decisions(store, BRUNO) == ["log-7"]
        items = await recalled(store, [b"k7", b"k9", b"k10"], 0)
        assert [item is None for item in items] == [False, False, True]
        assert (await store.positions())["log"] == 9


async def test_a_closed_store_refuses(store: Store) -> None:
    await store.ping()
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="has been closed"):
        await store.read([ANNA])
    with pytest.raises(StoreUnavailable, match="has been closed"):
        await store.ping()


# ---- SQLite only -----------------------------------------------------------------------------------------------------


async def test_a_job_reads_the_store_beside_the_gate_and_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with pytest.raises(StoreUnavailable, match="start the gate first"):
        SqliteStore.open_reader(path)
    gate = SqliteStore.open(path)
    await gate.append([revoked(ANNA)])
    job = SqliteStore.open_reader(path)
    await gate.append([revoked(BRUNO), revoked(ANNA)])
    assert [entry.seq for entry in await job.since(0, 9)] == [1, 2, 3]
    with pytest.raises(StoreUnavailable, match="read-only"):
        await job.append([revoked(ANNA)])
    await gate.close()
    await job.close()
    stopped = SqliteStore.open_reader(path)  # also without a gate, for a report
    assert len(await stopped.since(0, 9)) == 3
    await stopped.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={OLDEST}")
    with pytest.raises(StoreUnavailable, match="start the gate, which migrates it"):
        SqliteStore.open_reader(path)


async def test_a_full_buffer_is_written(tmp_path: Path) -> None:
    store, beside = (SqliteStore.open(tmp_path / "store.db") for _ in range(2))
    await store.commit(
        NOTHING, [], [answer(b"k%d" % n) for n in range(BUFFER_ROWS)], AttemptPosition("log", 7)
    )
    await store.commit(NOTHING, [], [answer(b"next")], AttemptPosition("log", 8))
    while (await beside.positions()).get("log") != 7:
        await run_other_tasks()
    assert None not in await recalled(beside, [b"k0", b"k%d" % (BUFFER_ROWS - 1)], 0)
    assert await recalled(beside, [b"next"], 0) == [None]
    await store.close()
    await beside.close()


async def test_a_store_of_format_3_is_migrated_with_its_attempts_and_documents_and_the_counts_of_its_results(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    proof = CallerIdProof(controller="acme", caller_id="+390844", at=20, kind="probe")
    proofs = [structs.replace(proof, at=at, answered=answered) for at, answered in ((20, False), (19, True))]
    loaded, delivery = call_list("spring"), Delivery(webhook="one", seq=7)
    results = ("pending", "busy", "answered", "opt_out", "wrong_number", "abandoned")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(MIGRATIONS[0])
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute("PRAGMA user_version=3")
        db.execute("PRAGMA journal_mode=WAL")
        row = "INSERT INTO attempt VALUES (?, ?, ?, 'spring', ?, ?, ?)"
        bases = ("directory", "consent:1", "request:a:b", "", "consent:2", "directory")
        given = enumerate(zip(bases, results, strict=True))
        db.executemany(row, [(f"log-{seq}", ANNA, HOUR, *both, HOUR + seq) for seq, both in given])
        db.execute(row, ("1f2e3d4c-4711", BRUNO, 7, "directory", "no_answer", 6))
        db.execute("INSERT INTO call_list VALUES ('acme', 'spring', ?)", (json.encode(loaded).decode(),))
        rows = [(proof.at, json.encode(proof).decode()) for proof in proofs]
        db.executemany("INSERT INTO proof (at, body) VALUES (?, ?)", rows)
        db.execute("INSERT INTO delivery VALUES ('one', ?)", (json.encode(delivery).decode(),))
    store = SqliteStore.open(path)
    assert (await store.lists(), await store.proofs()) == ([loaded], proofs[:1])
    assert await store.deliveries() == [delivery]
    found = [row async for page in store.counted_attempts() for row in page]
    call = Attempt(decision="1f2e3d4c-4711", at=7, campaign="spring", basis="directory", result="no_answer")
    assert CountedAttempt(BRUNO, call, 7) in found
    found.remove(CountedAttempt(BRUNO, call, 7))
    assert [
        (row.attempt.decision, row.attempt.basis, row.attempt.result, row.result_at) for row in found
    ] == [
        (f"log-{seq}", *both, HOUR + seq if seq else 0)
        for seq, both in enumerate(zip(bases, results, strict=True))
    ]
    assert (await store.read([ANNA])).known[0].attempts == tuple(row.attempt for row in found)
    retired = structs.replace(loaded, retired_at=9)
    assert await store.retire_list("acme", "spring", 9) == retired
    await store.put_proof(structs.replace(proof, at=21))
    assert (await store.lists(), len(await store.proofs())) == ([retired], 1)
    counts, newest = await store.counts()
    assert hours(counts) == {(1, "spring"): (3, 1)}
    await store.result("log-0", "abandoned", 9)
    assert hours((await store.counts(newest))[0]) == {(1, "spring"): (3, 2)}
    await store.close()


async def test_a_stop_does_not_wait_for_the_removal_of_all_old_attempts(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    old = [
        Reservation(b"%016d" % seq, attempt(f"log-{seq}"), (b"%016d" % seq,))
        for seq in range(10 * tables.DROP_ROWS)
    ]
    reading = await store.read([reservation.subject for reservation in old])
    assert await store.commit(reading, old, [], AttemptPosition("log", len(old)))
    removal = asyncio.create_task(store.drop_attempts(20, drop=True))
    await asyncio.sleep(0)
    await store.append([revoked(ANNA)])
    assert not removal.done()
    assert await removal == len(old)
    await store.close()


async def test_commits_wait_when_the_disk_cannot_keep_up(tmp_path: Path) -> None:
    """Memory holds a fixed number of full buffers. A commit beyond that number writes the oldest buffer first."""
    store = SqliteStore.open(tmp_path / "store.db")
    with closing(
        sqlite3.connect(tmp_path / "store.db")
    ) as beside:  # a read here would not let the writer run
        for number in range(1, _MAX_BUFFERS + 4):
            answers = [answer(b"%d-%d" % (number, n)) for n in range(BUFFER_ROWS)]
            await store.commit(NOTHING, [], answers, AttemptPosition("log", number))
            (written,) = beside.execute("SELECT ifnull(max(seq), 0) FROM position").fetchone()
            if number <= _MAX_BUFFERS + 1:
                assert written == 0
            else:
                assert written >= number - _MAX_BUFFERS - 1
            assert len(store._buffers) <= _MAX_BUFFERS + 1
    await store.close()


async def test_a_revocation_does_not_wait_until_every_buffer_is_written(tmp_path: Path) -> None:
    """Under load, a gate always has more to write."""
    store = SqliteStore.open(tmp_path / "store.db")
    for number in range(1, _MAX_BUFFERS + 2):
        answers = [answer(b"%d-%d" % (number, n)) for n in range(BUFFER_ROWS)]
        await store.commit(NOTHING, [], answers, AttemptPosition("log", number))
    await run_other_tasks()  # the first is being written
    assert await store.append([revoked(ANNA)]) == [1]
    assert len(store._buffers) > 1
    await store.close()


async def test_the_newest_commit_is_released_without_waiting(tmp_path: Path) -> None:
    """If the release waited until an older, full buffer was written, the attempt would still be counted meanwhile."""
    store = SqliteStore.open(tmp_path / "store.db")
    await store.commit(NOTHING, [], [answer(b"k%d" % n) for n in range(BUFFER_ROWS)], HERE)
    await reserve(store, ANNA, "log-1")
    letting_go = store.release(HERE)
    with pytest.raises(StopIteration):  # it ends without waiting
        letting_go.send(None)
    assert await decisions(store) == []
    await store.close()


async def test_a_release_reaches_rows_that_are_still_being_written(tmp_path: Path) -> None:
    """Otherwise the writer would store the released rows after the release.

    A retry would receive a response that no log contains.
    """
    store = SqliteStore.open(tmp_path / "store.db")
    counted, answered = Reservation(ANNA, attempt("log-2"), (ANNA,)), answer(b"k", decision="log-2")
    await reserve(store, ANNA, "log-1", position=AttemptPosition("log", 1))
    await store.commit(await store.read([ANNA]), [counted], [answered], AttemptPosition("log", 2, 2))
    writing = asyncio.ensure_future(store.positions())
    await run_other_tasks()
    await store.release(AttemptPosition("log", 1))
    assert await writing
    assert (await decisions(store), await recalled(store, [b"k"], 0)) == (["log-1"], [None])
    assert await store.positions() == {"log": 1}
    await store.close()


async def test_a_change_is_not_forgotten_after_many_others(tmp_path: Path) -> None:
    """The store keeps the versions of a limited number of subjects and answers."""
    store = SqliteStore.open(tmp_path / "store.db")
    subject, *others = [n.to_bytes(16, "big") for n in range(VERSIONS + 1)]
    reading = await store.read([subject])
    for some in ([subject], others):
        attempts = [Attempt(decision=f"{some[0]!r}-{at}", at=5, campaign="spring") for at in range(len(some))]
        reserved = [Reservation(*pair, ()) for pair in zip(some, attempts, strict=True)]
        assert await store.commit(await store.read([]), reserved, [], AttemptPosition("log", 1))
    own = Reservation(subject, Attempt(decision="log-9", at=5, campaign="spring"), (subject,))
    assert not await store.commit(reading, [own], [], AttemptPosition("log", 2))
    assert await store.commit(await store.read([subject]), [own], [], AttemptPosition("log", 2))
    await store.close()


async def test_the_ledger_is_synced_before_a_write_is_acknowledged(tmp_path: Path) -> None:
    """A power failure must not undo an acknowledged revocation."""
    store = SqliteStore.open(tmp_path / "store.db")
    await store.append([revoked(ANNA)])
    full = 2
    assert store._writer.connection.run(lambda db: pragma(db, "synchronous")) == full
    await store.close()


async def test_a_full_disk_is_reported_and_the_store_works_again_once_there_is_space(
    small_disk: Path,
) -> None:
    store = SqliteStore.open(small_disk / "store.db")
    await reserve(store, ANNA, "log-1")
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize))
    big = [Remembered(b"k", 1, b"x" * 100_000, "log-2")]
    assert await store.commit(NOTHING, [], big, HERE)
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.maintain(0)
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.commit(NOTHING, [], [answer(b"k")], HERE)
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.append([revoked(ANNA)] * 1_000)
    assert await decisions(store) == ["log-1"]
    (small_disk / "ballast").unlink()
    await store.maintain(0)
    assert await store.append([revoked(ANNA)]) == [1]
    assert await store.commit(NOTHING, [], big, HERE)
    await store.close()


async def test_a_read_only_disk_is_reported_and_the_store_opens_once_it_is_writable(small_disk: Path) -> None:
    path = small_disk / "store.db"
    await SqliteStore.open(path).close()
    await shell("mount", "-o", "remount,ro", small_disk)
    with pytest.raises(StoreUnavailable, match=r"cannot be opened: it must .* writable"):
        SqliteStore.open(path)
    await shell("mount", "-o", "remount,rw", small_disk)
    store = SqliteStore.open(path)
    await store.ping()
    await store.close()


async def test_a_damaged_file_is_reported_and_the_store_works_once_it_is_repaired(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup"
    store = SqliteStore.open(path)
    await store.append([revoked(ANNA)])
    await store.close()
    shutil.copy(path, backup)
    store = SqliteStore.open(path)
    # In another process: opening and closing the file here would release the store's locks.
    overwrite = "import sys; f = open(sys.argv[1], 'r+b'); f.write(%s)"
    await shell(sys.executable, "-c", overwrite % "b'x' * 8192", path)
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.read([ANNA])
    await shell(sys.executable, "-c", overwrite % f"open({str(backup)!r}, 'rb').read()", path)
    (known,) = (await store.read([ANNA])).known
    assert len(known.revocations) == 1
    await store.close()


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        (f"PRAGMA user_version={OLDEST + len(MIGRATIONS)}", "install a newer dialgate"),
        ("PRAGMA user_version=2", "format 2, from before dialgate 0.2.0: open it once with version 0.2"),
        ("PRAGMA application_id=1", "belongs to another program"),
    ],
)
async def test_a_newer_foreign_or_much_older_file_is_refused(tmp_path: Path, sql: str, refusal: str) -> None:
    path = tmp_path / "store.db"
    await SqliteStore.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()
    with pytest.raises(StoreUnavailable, match=refusal):
        SqliteStore.open(path)


@pytest.mark.parametrize(
    "sql",
    ["""UPDATE ledger SET event = '{"type":"forbidden"}'""", "UPDATE attempt SET result = 99"],
)
async def test_a_row_of_a_newer_version_makes_its_subject_unavailable(tmp_path: Path, sql: str) -> None:
    """The row may be a revocation, so no call to its subject is allowed."""
    path = tmp_path / "store.db"
    store = SqliteStore.open(path)
    await store.append([revoked(ANNA)])
    await reserve(store, ANNA, "log-1")
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(sql)
    store = SqliteStore.open(path)
    with pytest.raises(StoreUnavailable, match="newer dialgate"):
        await store.read([ANNA])
    assert (await store.read([BRUNO])).known == [Known(seq=1)]
    await store.close()


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    await store.append([revoked(ANNA)])
    files = [tmp_path / name for name in ("store.db", "store.db-wal", "store.db-shm")]
    modes = [path.stat().st_mode & 0o777 for path in files]
    await store.close()
    assert modes == [0o600] * 3


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="the file cannot be opened: it must exist"):
        SqliteStore.open(tmp_path / "none" / "store.db")


async def test_the_write_ahead_log_does_not_grow_without_end(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "store.db")
    sizes = []
    for _ in range(3):
        await store.commit(NOTHING, [], [Remembered(b"k", 1, bytes(CHECKPOINT * 4_096), "log-1")], HERE)
        await store.maintain(0)
        sizes.append((tmp_path / "store.db-wal").stat().st_size)
    await store.close()
    assert sizes[0] == sizes[2] > CHECKPOINT * 4_096
