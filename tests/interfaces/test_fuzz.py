"""A short run of `make fuzz`, and the same bytes sent to the listeners of a real gate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialgate import decision_log
from dialgate.core.model import HOUR
from tests.fuzz.targets import SEEDS, TARGETS, WORDS, Loop
from tests.support import pbx
from tests.support.pbx import Pbx
from tests.support.world import CALLER, KEY, LIST, NOW, publish_answers


def damaged(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Generate damaged seeds, seed fragments in any order, and arbitrary bytes."""
    cut = st.tuples(
        st.sampled_from(seeds), st.integers(0, 200), st.integers(0, 20), st.binary(max_size=20)
    ).map(lambda parts: parts[0][: parts[1]] + parts[3] + parts[0][parts[1] + parts[2] :])
    return st.one_of(
        cut, st.lists(st.sampled_from(WORDS), max_size=30).map(b"".join), st.binary(max_size=300)
    )


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_promise(name: str) -> None:
    @settings(max_examples=200)
    @given(damaged(SEEDS[name]))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    async def all_of_them() -> None:
        run()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(all_of_them())


@pytest.mark.parametrize("name", TARGETS)
def test_the_targets_accept_a_valid_check(name: str) -> None:
    """A target that refuses every input would pass the other tests."""

    async def seeds() -> None:
        read = [TARGETS[name](seed) for seed in SEEDS[name]]
        assert read[0]

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(seeds())


POOL = [f"+39061234{at:04}" for at in range(100)]


@pytest.fixture
async def asterisk(tmp_path: Path) -> AsyncIterator[Pbx]:
    """Run a gate with a hundred numbers that may be called."""
    async with pbx.run_gate(tmp_path, fastagi={"deadline_seconds": 0.3}) as made:
        publish_answers(made.made.app.config.data, dict.fromkeys(POOL, False), NOW - HOUR)
        await made.made.post("/v1/lists", {**LIST, "id": "pool", "numbers": POOL})
        await made.made.app.tick()
        yield made


def sound(number: str) -> list[bytes]:
    """Return a valid check for each listener."""
    query = f"to={quote(number)}&from={quote(CALLER)}&campaign=acme-fibre"
    head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    return [
        f"agi_network_script: check\nagi_arg_1: {number}\nagi_arg_2: {CALLER}\nagi_arg_3: acme-fibre\n\n".encode(),
        f"GET /v1/check.txt?{query} {head}\r\n".encode(),
        f"POST /v1/check.form {head}Content-Length: {len(query)}\r\n\r\n{query}".encode(),
    ]


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(damaged([item for number in POOL for item in sound(number)]), min_size=40, max_size=40))
async def test_no_allow_leaves_the_gate_without_a_full_check(asterisk: Pbx, sent: list[bytes]) -> None:
    """Every permitted call in a response has a record in the decision log."""
    log = asterisk.made.app.config.data / "log"
    before = decision_log.verify(log).allows
    heard = await asyncio.gather(*(exchange(asterisk, data) for data in sent))
    reply = sum(map(allows, heard))
    report = decision_log.verify(log)
    assert report.ok
    assert reply <= report.allows - before


async def test_a_valid_check_is_allowed_on_each_listener(asterisk: Pbx) -> None:
    """Otherwise `test_no_allow_leaves_the_gate_without_a_full_check` would pass on a gate that denies every call."""
    assert [allows(await exchange(asterisk, data)) for data in sound(POOL[0])] == [True, True, True]


def allows(heard: bytes) -> bool:
    return any(sign in heard for sign in (b',allow"\n', b"\r\n\r\nallow", b"decision=allow"))


async def exchange(asterisk: Pbx, data: bytes) -> bytes:
    """Send the data. Return the bytes that arrive before the listener closes, or within 0.4 seconds.

    Reply to every FastAGI command.
    """
    agi = data.startswith(b"agi_")
    reader, writer = await asyncio.open_connection("127.0.0.1", asterisk.port if agi else asterisk.made.port)
    writer.write(data)
    heard = b""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.4):
            while part := await reader.read(4096):
                heard += part
                writer.write(b"200 result=1\n" if agi else b"")
    writer.close()
    return heard
