"""Attempts in Redis: their form, and the lines that version 0.2 wrote."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from dialgate.core.model import Attempt, Known, Result
from dialgate.store import AttemptPosition, CountedAttempt, Reservation, StoreUnavailable
from dialgate.store.redis import RedisStore, subject_codec
from tests.store.test_store import ANNA, BRUNO, attempt
from tests.support import redis_servers

CALL = Attempt(
    decision="1f2e3d4c-4711", at=1_764_000_000_123, campaign="spring", basis="directory", goods="energy"
)
LINES = b"""\
["a","log-1",10,"spring","consent:1","broadband"]
["a","log-2",20,"spring"]
["r","log-1",15,"busy"]
["r","log-1",12,"answered"]
"""
OLD = (
    structs.replace(attempt("log-1"), result="busy"),
    Attempt(decision="log-2", at=20, campaign="spring"),
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RedisStore]:
    """Return a store with the lines of two attempts, as version 0.2 left it."""
    opened = RedisStore(redis_servers.alone(), name=tmp_path.name, patience=5)
    commands = opened.commands
    await commands.run("SET", commands.of_layout, b"2")
    await commands.run("SET", commands.of_subject + ANNA, LINES)
    await commands.run("SETRANGE", commands.key("a:", b"log:0"), 16, ANNA + ANNA)
    yield opened
    await opened.close()


@pytest.mark.parametrize("basis", ["directory", "consent:1", "request:" + "à" * 128, ""])
@pytest.mark.parametrize("seq", [1, (1 << 40) - 1])
def test_an_attempt_is_stored_in_26_bytes_and_the_name_of_its_basis(basis: str, seq: int) -> None:
    call = structs.replace(CALL, decision=f"1f2e3d4c-{seq}", basis=basis)
    record, term = subject_codec.encode_attempt(call)
    terms = {int.from_bytes(term[:8]): msgspec.json.decode(term[8:], type=subject_codec.Term)}
    assert len(record) == 26 + len(basis.partition(":")[2].encode())
    assert subject_codec.attempts(record, terms) == [(call, 0)]
    changed = subject_codec.with_result(record, call.decision, "refused", call.at + 7, terms)
    assert changed is not None
    assert subject_codec.attempts(changed[0], terms) == [
        (structs.replace(call, result="refused"), call.at + 7)
    ]
    assert subject_codec.contains(changed[0], record)
    with pytest.raises(subject_codec.UnknownTerm):
        subject_codec.attempts(record, {})


@pytest.mark.parametrize(
    "value", [b"\x80", b"\x8a" + bytes(25), b"\xff" + bytes(25), b'["x",1]\n', b'["a","log-1",1,"s"]']
)
def test_an_unknown_form_makes_the_subject_unavailable(value: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="written by a newer dialgate"):
        subject_codec.entries(value, ANNA)


def test_version_0_2_refuses_a_subject_with_a_new_attempt() -> None:
    """It decodes the value as lines of JSON, and denies the call if it cannot."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.Decoder().decode_lines(LINES + subject_codec.encode_attempt(CALL)[0])


async def test_lines_are_read_beside_new_attempts_get_results_and_are_removed(store: RedisStore) -> None:
    await store._refuse_another_layout()
    assert await store.commands.run("GET", store.commands.of_layout) == b"3"
    reading = await store.read([ANNA, BRUNO])
    assert reading.known == [Known(attempts=OLD), Known()]
    reserved = Reservation(ANNA, CALL, (ANNA,))
    assert await store.commit(reading, [reserved], [], AttemptPosition("1f2e3d4c", 4711))
    results: tuple[Result, ...] = ("answered", "no_answer", "busy")
    times = (("log-1", 15), ("log-2", 21), (CALL.decision, CALL.at))
    for (decision, at), result in zip(times, results, strict=True):
        assert await store.result(decision, result, at)
    expected = [
        structs.replace(call, result=result) for call, result in zip((*OLD, CALL), results, strict=True)
    ]
    assert [(await store.attempt(call.decision)) for call in expected] == [(ANNA, call) for call in expected]
    rows = [row async for page in store.counted_attempts() for row in page]
    assert rows == [
        CountedAttempt(ANNA, call, at) for call, at in zip(expected, (15, 21, CALL.at), strict=True)
    ]
    assert await store.drop_attempts(20, drop=True) == 1
    assert (await store.read([ANNA])).known[0].attempts == tuple(expected[1:])
    await store.undo.remove("log", [2])
    assert (await store.read([ANNA])).known[0].attempts == (expected[2],)


async def test_another_gate_reads_the_terms_that_it_lacks(store: RedisStore, tmp_path: Path) -> None:
    other = RedisStore(redis_servers.alone(), name=tmp_path.name, patience=5)
    reading = await store.read([BRUNO])
    assert await store.commit(reading, [Reservation(BRUNO, CALL, ())], [], AttemptPosition("1f2e3d4c", 4711))
    assert (await other.read([BRUNO])).known[0].attempts == (CALL,)
    await other.close()
    await store.commands.run("DEL", store.commands.of_terms)
    damaged = RedisStore(redis_servers.alone(), name=tmp_path.name, patience=5)
    with pytest.raises(StoreUnavailable, match="the hash of terms is incomplete"):
        await damaged.read([BRUNO])
    await damaged.close()
