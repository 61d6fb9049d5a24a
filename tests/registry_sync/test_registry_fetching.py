"""Tests of the copies and fault records that a full-list registry's cycle keeps between runs.

The clock is set by hand; the files are real.
"""

import os
from pathlib import Path

from dialgate.lists import release_holds
from tests.registry_sync.test_registry_lists import ListJob, publish_first_lists, us_lines
from tests.support.registry_world import alarm_kinds


async def test_replaced_file_is_fetched_again_after_a_hold(tmp_path: Path) -> None:
    job = ListJob(tmp_path, max_removed=20, coverage=["1407"])
    job.put("2026-11-20_407_a.txt", us_lines(407, *range(1000)))
    await job.run_once()
    job.put("2026-11-21_407_a.txt", us_lines(407, *range(799)))
    assert alarm_kinds(await job.run_once()) == {"held"}
    job.put("2026-11-21_407_a.txt", us_lines(407, *range(950)))
    part = await job.run_once()
    assert (alarm_kinds(part), part.removed) == (set(), 50)


async def test_unchanged_file_is_not_fetched_again_while_it_is_held(tmp_path: Path) -> None:
    """The size and time of the file stay the same, so the source reports no change."""
    job = ListJob(tmp_path, max_removed=20, coverage=["1407"])
    job.put("2026-11-20_407_a.txt", us_lines(407, *range(1000)))
    await job.run_once()
    path = job.put("2026-11-21_407_a.txt", us_lines(407, *range(799)))
    assert alarm_kinds(await job.run_once()) == {"held"}
    replace_contents(path, "x" * path.stat().st_size)
    assert alarm_kinds(await job.run_once()) == {"held"}


async def test_published_area_keeps_the_hold_of_another_area(tmp_path: Path) -> None:
    job = ListJob(tmp_path, max_removed=20)
    job.put("2026-11-20_407_a.txt", us_lines(407, *range(1000)))
    job.put("2026-11-20_321_a.txt", us_lines(321, *range(1000)))
    await job.run_once()
    job.put("2026-11-21_407_a.txt", us_lines(407, *range(799)))
    job.put("2026-11-21_321_a.txt", us_lines(321, *range(1001)))
    part = await job.run_once()
    assert (alarm_kinds(part), part.added) == ({"held"}, 1)
    (hold,) = release_holds.list_holds(job.plan.snapshots)
    for actor in ("anna", "bruno"):
        release_holds.approve(job.plan.snapshots, hold.id, actor, hold.held_at)
    part = await job.run_once()
    assert (alarm_kinds(part), part.removed) == (set(), 201)
    assert release_holds.list_holds(job.plan.snapshots) == []


async def test_published_area_keeps_the_fault_record_of_another_area(tmp_path: Path) -> None:
    """The faulty file is not fetched again before it changes, and its record ends when the file is gone."""
    job = ListJob(tmp_path)
    await publish_first_lists(job)
    faulty, correct = "407,555000O\r\n", "407,5550000\r\n"
    path = job.put("2026-11-21_407_a.txt", faulty)
    job.put("2026-11-21_321_a.txt", us_lines(321, *range(5550000, 5550010)))
    part = await job.run_once()
    assert (alarm_kinds(part), part.refreshed) == ({"file_faulty"}, 1)
    replace_contents(path, correct)
    assert alarm_kinds(await job.run_once()) == {"file_faulty"}
    path.unlink()
    assert alarm_kinds(await job.run_once()) == set()
    assert list((job.plan.work / "us_dnc").glob(f"{path.name}*")) == []


def replace_contents(path: Path, text: str) -> None:
    """Replace the contents of a file, and keep the size and time by which a change is detected."""
    before = path.stat()
    path.write_bytes(text.encode())
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
