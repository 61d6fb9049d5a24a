"""Tests of clock jumps, with and without a restart of the gate.

An expired registry answer stays expired. After a clock jump, no data is destroyed for two days.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Instant
from dialgate.crypto.keys import Keys
from dialgate.runtime.clock import Clock, ClockWrong
from dialgate.runtime.instants import ClockJumped, KeptInstants
from tests.support import world
from tests.support.world import CLEAR, NOW, Hand, ask, codes, load_numbers

YEARS = 6 * 365 * DAY  # longer than attempts are stored


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    """Create the data folder of a gate with a call list and without decisions."""
    path = world.write_folder(tmp_path)
    world.publish_answers(tmp_path / "data", {CLEAR: False}, NOW - DAY)
    async with gate_at(path, NOW - HOUR) as app:
        await load_numbers(app)
    return path


@asynccontextmanager
async def gate_at(path: Path, at: Instant) -> AsyncIterator[App]:
    app = await App.open(loader.load(path), registry=CollectorRegistry(), clock=(hand := Hand(at)))
    app.hand = hand  # type: ignore[attr-defined]
    try:
        yield app
    finally:
        await app.close()


async def attempts(app: App) -> int:
    return await app._store.drop_attempts(NOW + 10 * YEARS, drop=False)


async def run_upkeep(app: App, at: Instant) -> None:
    """Run one upkeep round at `at`, and wait for any removal that the round starts."""
    app.hand.at = at  # type: ignore[attr-defined]
    await app.tick()
    if app.subjects._removing is not None:
        await app.subjects._removing


async def test_an_answer_that_expired_while_the_gate_was_idle_stays_expired(config: Path) -> None:
    async with gate_at(config, NOW + 14 * DAY) as app:
        assert "snapshot" in app.gate.readiness()
        assert codes(await ask(app)) == ["registry.expired"]
    async with gate_at(config, NOW) as app:
        assert "clock" in app.gate.readiness()
        assert codes(await ask(app)) == ["gate.unavailable"]


async def test_an_idle_gate_keeps_the_instant_of_its_upkeep(config: Path) -> None:
    """The log is empty, so only the stored time of the last upkeep shows that the clock was set back."""
    async with gate_at(config, NOW):
        pass
    async with gate_at(config, NOW - SECOND) as app:  # a clock that is disciplined steps back by less
        assert "clock" not in app.gate.readiness()
    async with gate_at(config, NOW - MINUTE) as app:
        assert "clock" in app.gate.readiness()


@pytest.mark.parametrize("skipped", [100, 93])
async def test_a_jump_forward_drops_no_attempt_for_as_long_as_it_skipped(config: Path, skipped: int) -> None:
    """Even if the clock was wrong, the attempt is then older than the law counts."""
    async with gate_at(config, NOW) as app:
        assert (await ask(app)).decision == "allow"
    to = NOW + skipped * DAY
    async with gate_at(config, to) as app:
        for day in range(skipped):
            await run_upkeep(app, to + day * DAY)
            assert await attempts(app) == 1
        assert app.metrics.retention_unconfirmed._value.get() == 1
        assert app.gate.readiness().keys() == {"snapshot"}, "it is no reason to deny calls"
        await run_upkeep(app, to + skipped * DAY)
        assert await attempts(app) == 0
        assert app.metrics.retention_unconfirmed._value.get() == 0


def test_a_jump_counts_until_it_is_settled_even_after_a_shorter_one(tmp_path: Path) -> None:
    kept = KeptInstants(tmp_path)
    for at in (NOW - 60 * DAY, NOW, NOW + DAY, NOW + 3 * DAY):
        kept.advance(at)
    with pytest.raises(ClockJumped, match="until 2027-01-23"):
        kept.refuse_jump(NOW + 4 * DAY)
    (tmp_path / "clock.latest").unlink()
    kept.refuse_jump(NOW - DAY)  # the clock was wrong and has been corrected


async def test_a_running_gate_whose_clock_jumps_drops_nothing(config: Path) -> None:
    async with gate_at(config, NOW) as app:
        assert (await ask(app)).decision == "allow"
        await run_upkeep(app, NOW + YEARS)
        await run_upkeep(app, NOW + YEARS + HOUR)
        assert await attempts(app) == 1


async def test_a_gate_that_keeps_running_removes_expired_data(config: Path) -> None:
    async with gate_at(config, NOW) as app:
        assert (await ask(app)).decision == "allow"
        kept = KeptInstants(app.config.data)
        for day in range(1, YEARS // DAY):
            kept.advance(NOW + day * DAY)
        await run_upkeep(app, NOW + YEARS)
        assert await attempts(app) == 0


async def test_a_corrected_clock_needs_a_start_without_the_stored_time(config: Path) -> None:
    async with gate_at(config, NOW + YEARS):
        pass
    (config.parent / "data/clock.latest").unlink()
    async with gate_at(config, NOW) as app:
        assert app.gate.readiness() == {}
        assert (await ask(app)).decision == "allow"


@pytest.mark.parametrize("after", [0, HOUR, 23 * HOUR, DAY, 30 * DAY])
def test_the_time_that_has_passed_is_counted_without_the_jump(tmp_path: Path, after: Instant) -> None:
    kept = KeptInstants(tmp_path)
    kept.advance(NOW)
    assert kept.cutoff(NOW, DAY) == NOW - DAY
    kept.advance(NOW + YEARS)
    horizon = kept.cutoff(NOW + YEARS + after, DAY)
    assert horizon == (NOW + after - DAY if after < DAY else NOW + YEARS + after - DAY)


def test_a_day_or_less_is_not_a_jump(tmp_path: Path) -> None:
    kept = KeptInstants(tmp_path)
    for at in (NOW, NOW + DAY, NOW + DAY - HOUR):
        kept.advance(at)
    assert kept.latest() == NOW + DAY
    kept.refuse_jump(NOW + 2 * DAY)
    with pytest.raises(ClockJumped, match="no expired data is destroyed until"):
        kept.refuse_jump(NOW + 2 * DAY + 1)


def test_a_jump_is_found_again_if_a_crash_truncated_its_record(tmp_path: Path) -> None:
    kept = KeptInstants(tmp_path)
    kept.advance(NOW)
    (tmp_path / "clock.ndjson").write_bytes(b'{"type":"jum')
    assert kept.last_jump() is None
    for since, to in ((NOW, NOW + 3 * DAY), (NOW + 3 * DAY, NOW + YEARS)):
        kept.advance(to)
        jump = kept.recent_jump(to)
        assert jump is not None
        assert (jump.since, jump.to) == (since, to), "the last of two binds"


async def test_the_commands_destroy_nothing_for_two_days_after_a_jump(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    keys, kept = Keys.open(tmp_path / "data/keys.json"), KeptInstants(tmp_path / "data")
    keys.month(NOW - 5 * YEARS)
    keys.month(NOW)
    kept.advance(NOW - 2 * DAY)
    async with world.running(tmp_path) as gate:
        for words in (["retention"], ["log", "retire", "--yes"]):
            assert "the clock jumped from" in await gate.output(*words, code=1)
        assert len(keys.live()) == 2
        for _ in range(2):
            gate.hand.at += DAY
            await gate.app.tick()
        for words in (["retention"], ["log", "retire", "--yes"]):
            await gate.output(*words)
    assert len(keys.live()) == 1


@pytest.mark.parametrize(
    ("store_time", "problem"),
    [
        (NOW - 5_000, ""),
        (NOW - 5_001, "5 s ahead of the store's"),
        (NOW + 8_000, ""),  # the clock advanced by 3 s between request and answer
        (NOW + 303_000, "300 s behind the store's, which shows 2026-11-24T09:05:03"),
    ],
)
def test_a_clock_that_differs_from_the_stores_is_refused(store_time: Instant, problem: str) -> None:
    clock = Clock(hand := Hand(NOW), tolerance=5 * SECOND)
    with pytest.raises(ClockWrong, match="not been compared"):
        clock()
    hand.at += 3 * SECOND
    clock.compare(NOW, store_time)
    if problem:
        with pytest.raises(ClockWrong, match=problem):
            clock()
        clock.compare(hand.at, hand.at)
    assert clock() == hand.at
