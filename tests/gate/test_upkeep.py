"""A gate denies calls if upkeep is late, and no other work delays upkeep or a revocation."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.core.faults import Unavailable
from dialgate.gate.facts import Gatherer
from dialgate.gate.upkeep import Pulse
from dialgate.runtime.background_work import BackgroundWork
from dialgate.runtime.thread_pool import ThreadPool
from tests.support.world import (
    CALL,
    CLEAR,
    LIST,
    LISTED,
    NOW,
    World,
    load_list,
    publish_answers,
    running,
)

BLOCKED = 64  # more than the threads of any default pool


@asynccontextmanager
async def late_gate(folder: Path, **changes: Any) -> AsyncIterator[tuple[World, "Stopwatch"]]:
    """Run a gate that denies calls if upkeep is late. The test runs the upkeep rounds and sets the stopwatch."""
    async with running(folder, **changes) as made:
        await load_list(made)
        watch = Stopwatch()
        made.app._upkeep.pulse = Pulse(watch)
        made.app._upkeep.pulse.start()
        yield made, watch


class Stopwatch:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


async def check_call(made: World) -> tuple[str, str]:
    """Return the decision of a check, and its first reason."""
    async with made.client.post("/v1/check", json=CALL) as answer:
        response = await answer.json()
    return response["decision"], response["reasons"][0]["code"] if response.get("reasons") else ""


async def test_a_gate_that_has_not_read_the_store_denies_until_it_has(tmp_path: Path) -> None:
    """The store can fail between the recovery at a start and the first round: no pause of a campaign is known then."""
    async with late_gate(tmp_path) as (made, _):
        upkeep = made.app._upkeep
        upkeep.gatherer = Gatherer(made.app.config, upkeep.gatherer.keys)
        assert await check_call(made) == ("deny", "gate.unavailable")
        assert "upkeep" in made.app.gate.readiness()
        await made.app.tick()
        assert await check_call(made) == ("allow", "")


async def test_a_gate_whose_last_round_is_too_old_denies_until_a_round_is_completed(tmp_path: Path) -> None:
    async with late_gate(tmp_path) as (made, watch):
        watch.at = 3.0
        assert await check_call(made) == ("allow", "")
        watch.at = 3.1
        assert made.sample("dialgate_ready", component="upkeep") == 0
        assert made.sample("dialgate_upkeep_age_seconds") == pytest.approx(3.1)
        async with made.client.get("/readyz") as answer:
            assert answer.status == 503
            assert "upkeep_stale_seconds" in (await answer.json())["problems"]["upkeep"]
        records = made.app.status().records
        assert await check_call(made) == ("deny", "gate.unavailable")
        assert made.app.status().records == records
        assert made.sample("dialgate_faults_total", component="upkeep") == 1
        await made.app.tick()
        assert made.app.gate.readiness() == {}
        assert made.sample("dialgate_ready", component="upkeep") == 1
        assert (await check_call(made))[0] == "allow"


async def test_the_maximum_age_of_a_round_can_be_changed_at_run_time(tmp_path: Path) -> None:
    async with late_gate(tmp_path, upkeep_stale_seconds=8) as (made, watch):
        watch.at = 7.0
        assert (await check_call(made))[0] == "allow"
        path = tmp_path / "dialgate.yaml"
        path.write_text(path.read_text().replace("upkeep_stale_seconds: 8", "upkeep_stale_seconds: 5"))
        made.app.reload(loader.load(path))
        assert await check_call(made) == ("deny", "gate.unavailable")


async def test_a_round_that_cannot_read_the_lists_does_not_count(tmp_path: Path) -> None:
    """Otherwise a list that was retired at another gate could stay in use forever."""
    async with late_gate(tmp_path) as (made, watch):
        store = made.app._upkeep._store
        watch.at = 2.0
        await store.close()
        await made.app.tick()
        assert made.app._upkeep.pulse.age == 2.0
        assert "store" in made.app.gate.readiness()


async def test_a_gate_whose_rounds_are_called_by_hand_has_no_deadline(tmp_path: Path) -> None:
    async with late_gate(tmp_path) as (made, watch):
        made.app._upkeep.pulse = Pulse(watch)
        watch.at = 1e6
        assert (await check_call(made))[0] == "allow"


async def test_run_watches_over_upkeep(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        watch = Stopwatch()
        made.app._upkeep.pulse = Pulse(watch)
        rounds = asyncio.create_task(made.app.run())
        await asyncio.sleep(0)
        assert made.app._upkeep.pulse.age <= 3
        watch.at = 3.1
        assert made.app._upkeep.pulse.age > 3
        rounds.cancel()
        await asyncio.wait([rounds])


# ---- other work does not delay it ---------------------------------------------------------------------------------------


@asynccontextmanager
async def busy_pool() -> AsyncIterator[None]:
    """Occupy every thread of asyncio's default pool with work that does not end."""
    end, loop = threading.Event(), asyncio.get_running_loop()
    taken = [loop.run_in_executor(None, end.wait) for _ in range(BLOCKED)]
    try:
        yield
    finally:
        end.set()
        await asyncio.gather(*taken)


async def test_upkeep_revocations_and_retirements_do_not_wait_for_other_work(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        await load_list(made)
        async with busy_pool():
            async with made.client.post("/v1/check", json=CALL) as answer:
                allowed = await answer.json()
            assert allowed["decision"] == "allow"
            publish_answers(made.app.config.data, {CLEAR: True, LISTED: True}, NOW)
            await made.app.tick()
            assert (await check_call(made))[1] == "registry.listed"
            await made.post(
                "/v1/outcomes", {"decision_id": allowed["decision_id"], "outcome": "opt_out"}, 200
            )
            assert (await check_call(made))[1].startswith("revocation.")
            await made.post("/v1/revocations", {"number": LISTED})
            await made.post("/v1/lists/rome/retire", {}, 200)


async def test_work_of_one_purpose_does_not_wait_for_that_of_another() -> None:
    threads = ThreadPool("own", 1)
    async with busy_pool():
        assert await threads.run(threading.get_ident) != threading.get_ident()
    threads.close()


# ---- what may take longer than a round ----------------------------------------------------------------------------------


@pytest.fixture
def slow() -> "Slow":
    return Slow()


class Slow:
    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.fault: Exception | None = None

    async def work(self) -> None:
        self.begun += 1
        await self.go.wait()
        if self.fault:
            raise self.fault


async def test_a_slow_step_runs_beside_the_rounds_and_never_twice_at_once(slow: Slow) -> None:
    part = BackgroundWork(slow.work, (Unavailable,))
    for _ in range(3):
        await part.run(0)
    assert slow.begun == 1
    slow.fault = Unavailable("the disk is full")
    slow.go.set()
    await part.close()
    assert part.problem == "the disk is full"
    slow.fault = None
    await part.run(None)
    assert (slow.begun, part.problem) == (2, "")


async def test_an_unexpected_error_is_raised_by_the_next_round(slow: Slow) -> None:
    part = BackgroundWork(slow.work, (Unavailable,))
    await part.run(0)
    slow.fault = ZeroDivisionError()
    slow.go.set()
    await part.close()
    with pytest.raises(ZeroDivisionError):
        await part.run(None)
    slow.fault = None
    await part.close()
    await part.run(None)
    assert slow.begun == 3


async def test_opening_a_list_delays_no_round_and_no_retirement(tmp_path: Path) -> None:
    """The file is a pipe, so opening it blocks until the other end is opened."""
    async with running(tmp_path) as made:
        await load_list(made)
        await made.post("/v1/lists", LIST | {"id": "large"})
        upkeep = made.app._upkeep
        files = {
            call_list.id: tmp_path / "data/lists" / call_list.file
            for call_list in await made.app._store.lists()
        }
        large = files["large"].read_bytes()
        files["large"].unlink()
        made.app.gate._gatherer.use_lists(
            {key: each for key, each in made.app.gate._gatherer._lists.items() if key[1] == "rome"}
        )
        os.mkfifo(files["large"])
        await made.app.tick(patience=0)
        assert upkeep.pulse.age < 60
        assert upkeep._opening._task is not None
        await made.app._store.retire_list("acme", "rome", made.hand())
        await made.app.tick(patience=0)
        assert (await check_call(made))[1] == "list.unknown"
        opening = upkeep._opening._task
        await asyncio.to_thread(_end_pipe, files["large"], large)
        await asyncio.wait([opening])
        assert ("acme", "rome") not in made.app.gate._gatherer._lists


def _end_pipe(path: Path, content: bytes) -> None:
    """Write the content to the pipe, and replace the pipe with a file, because the list is opened twice."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    with path.open("wb") as pipe:
        fresh.replace(path)
        pipe.write(content)
