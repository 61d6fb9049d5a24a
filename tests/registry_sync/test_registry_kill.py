"""The nightly job, killed at random points while it submits, imports and publishes.

After two further runs, the state equals that of a job that was never killed, and no package was submitted twice.
pytest-randomly prints the seed. DIALGATE_REGISTRY_KILLS sets the number of kills.
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
from registry_sync.simulator import is_enrolled
from tests.support.registry_world import JobWorld, load_list, no_progress

KILLS = int(os.environ.get("DIALGATE_REGISTRY_KILLS", "6"))
NUMBERS = [f"+3933{12340000 + n}" for n in range(1000)]


def run_job(path: Path, at: Instant, begins: Event) -> None:
    plan = config.load(path)
    begins.set()
    asyncio.run(nightly_job.run(plan, no_progress, clock=lambda: at))


class Killer:
    """A helper that runs the job in a child process and can kill the process.

    The child is forked from a server that has already imported the modules.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.support.registry_world"])
        self.longest = 0.0
        self.killed = 0

    def run(self, job: JobWorld, *, kill_after: float | None) -> None:
        begins = self._context.Event()
        process = self._context.Process(target=run_job, args=(job.path, job.clock.at, begins))
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


def state(job: JobWorld) -> dict[str, tuple[str, Instant, Instant]]:
    answers = job.answers_for(NUMBERS)
    return {
        number: (answer.answer, answer.consulted_at, answer.listed_at) for number, answer in answers.items()
    }


async def make_pair(tmp_path: Path) -> tuple[JobWorld, JobWorld]:
    pair = []
    for name in ("disturbed", "left alone"):
        (tmp_path / name).mkdir()
        job = JobWorld(tmp_path / name, package_numbers=100)
        await load_list(job, NUMBERS)
        pair.append(job)
    return pair[0], pair[1]


async def test_job_killed_at_any_point_recovers_and_submits_nothing_twice(tmp_path: Path) -> None:
    disturbed, alone = await make_pair(tmp_path)
    killer = Killer()
    for _ in range(2):  # measures how long submitting and importing take
        await asyncio.to_thread(killer.run, alone, kill_after=None)
        await disturbed.run_once()
        for job in (alone, disturbed):
            job.registry.work()
    while killer.killed < KILLS:
        for job in (disturbed, alone):
            job.clock.at += 13 * DAY
        await alone.run_once()
        alone.registry.work()
        await alone.run_once()
        for _ in range(2):
            moment = random.uniform(0, killer.longest)
            await asyncio.to_thread(killer.run, disturbed, kill_after=moment)
            disturbed.registry.work()
        for _ in range(2):
            assert not {alarm.kind for alarm in (await disturbed.run_once()).alarms} & {
                "refused",
                "answer_faulty",
            }
            disturbed.registry.work()
        assert state(disturbed) == state(alone)
        assert disturbed.registry.submitted == alone.registry.submitted
        assert set(disturbed.registry.packages.values()) == {1}
        assert {package.state for package in disturbed.packages()} == {"answered"}
    assert state(disturbed)[NUMBERS[0]][0] == ("listed" if is_enrolled(NUMBERS[0][3:]) else "clear")
