"""Tests of background syncing, which reports each completed sync and each error."""

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from dialgate.decision_log.syncing import CompiledSyncing, Syncing, SyncResult, ThreadSyncing
from dialgate.native import COMPILED

WAYS: list[Callable[[], Syncing]] = [
    ThreadSyncing,
    *([CompiledSyncing] if COMPILED == "yes" else []),
]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def collect_results(syncing: Syncing, count: int) -> list[SyncResult]:
    done: list[SyncResult] = []
    while len(done) < count:
        assert select.select([syncing.fileno()], [], [], 30)[0]
        done += syncing.done()
    return done


@pytest.mark.parametrize("way", WAYS)
def test_each_sync_is_reported_once(way: Callable[[], Syncing], tmp_path: Path) -> None:
    """Results are in order, even for many syncs of several files, and no sync opens another file descriptor."""
    syncing = way()
    assert syncing.done() == []
    files = [os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("log", "another")]
    before = descriptors()
    for ticket in range(40):
        fd = files[ticket % 7 == 0]
        os.write(fd, b"x" * 1000)
        syncing.begin(fd, ticket)
    assert descriptors() == before
    assert collect_results(syncing, 40) == [SyncResult(ticket, 0) for ticket in range(40)]
    assert syncing.done() == []
    syncing.close()
    for fd in files:
        os.close(fd)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_cannot_be_synced_gives_an_error(way: Callable[[], Syncing]) -> None:
    """A pipe cannot be synced."""
    syncing = way()
    read, write = os.pipe()
    try:
        syncing.begin(write, 7)
        results = collect_results(syncing, 1)
    except OSError as error:
        results = [SyncResult(7, error.errno or 0)]
    assert results == [SyncResult(7, errno.EINVAL)]
    for fd in (read, write):
        os.close(fd)
    syncing.close()


@pytest.mark.parametrize("way", WAYS)
def test_closing_waits_for_pending_syncs(way: Callable[[], Syncing], tmp_path: Path) -> None:
    """The descriptor still tells after the closing that the sync ended, because this test has a copy of it."""
    syncing = way()
    ended = os.dup(syncing.fileno())
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        syncing.begin(file.fileno(), 1)
        syncing.close()
    assert os.eventfd_read(ended) == 1
    os.close(ended)
