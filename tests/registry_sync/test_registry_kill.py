"""The nightly job is killed at points drawn by lot, while it submits and while it takes in and publishes. After the next
run everything is as in a twin that nobody disturbed, and nothing was submitted twice.

pytest-randomly prints the seed; DIALGATE_REGISTRY_KILLS sets how often.
"""

import asyncio
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from dialgate.core.model import DAY, Instant
from registry_sync import config, nightly_job
from registry_sync.simulator import enrolled
from tests.support.registry_world import Night, load_list, still

KILLS = int(os.environ.get("DIALGATE_REGISTRY_KILLS", "6"))
NUMBERS = [f"+3933{12340000 + n}" for n in range(1000)]


def run_job(path: Path, at: Instant, begins: Event) -> None:
    plan = config.load(path)
    begins.set()
    asyncio.run(nightly_job.run(plan, still, clock=lambda: at))


class Killer:
    """Runs the job in a process of its own; what is loaded once is forked."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.support.registry_world"])
        self.longest = 0.0
        self.killed = 0

    def run(self, night: Night, *, kill_after: float | None) -> None:
        begins = self._context.Event()
        process = self._context.Process(target=run_job, args=(night.path, night.hand.at, begins))
        process.start()
        assert begins.wait(30)
        began = time.monotonic()
        process.join(kill_after)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            self.killed += 1
            process.join()
        else:
            assert process.exitcode == 0
            self.longest = max(self.longest, time.monotonic() - began)
        process.close()


def state(night: Night) -> dict[str, tuple[str, Instant, Instant]]:
    said = night.say(NUMBERS)
    return {number: (each.answer, each.consulted_at, each.listed_at) for number, each in said.items()}


async def twins(tmp_path: Path) -> tuple[Night, Night]:
    pair = []
    for name in ("disturbed", "left alone"):
        (tmp_path / name).mkdir()
        night = Night(tmp_path / name, package_numbers=100)
        await load_list(night, NUMBERS)
        pair.append(night)
    return pair[0], pair[1]


async def test_a_job_that_is_killed_anywhere_goes_on_and_submits_nothing_twice(tmp_path: Path) -> None:
    disturbed, alone = await twins(tmp_path)
    killer = Killer()
    for _ in range(2):  # how long it takes to submit, and to take in
        await asyncio.to_thread(killer.run, alone, kill_after=None)
        await disturbed.part()
        for night in (alone, disturbed):
            night.registry.work()
    while killer.killed < KILLS:
        for night in (disturbed, alone):
            night.hand.at += 13 * DAY
        await alone.part()
        alone.registry.work()
        await alone.part()
        for _ in range(2):
            moment = random.uniform(0, killer.longest)
            await asyncio.to_thread(killer.run, disturbed, kill_after=moment)
            disturbed.registry.work()
        for _ in range(2):
            assert not {alarm.kind for alarm in (await disturbed.part()).alarms} & {
                "refused",
                "answer_faulty",
            }
            disturbed.registry.work()
        assert state(disturbed) == state(alone)
        assert disturbed.registry.submitted == alone.registry.submitted
        assert set(disturbed.registry.packages.values()) == {1}
        assert {package.state for package in disturbed.packages()} == {"answered"}
    assert state(disturbed)[NUMBERS[0]][0] == ("listed" if enrolled(NUMBERS[0][3:]) else "clear")
