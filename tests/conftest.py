"""Fixtures; what they make is in world.py."""

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from tests import world
from tests.ports import free_port
from tests.replaying import Tally, replay_all
from tests.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 - hooks

# How long an example takes says more of the machine than of us.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[world.World]:
    """A gate with one call list, on a real port."""
    async with world.running(tmp_path) as made:
        await world.load_list(made)
        yield made


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Mount a real disk of 4 MiB.

    Not in `tmp_path`: should the tests be killed, the mount they leave must not be in the way of the next."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    with TemporaryDirectory() as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
        yield Path(disk)
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def unused_udp_port() -> int:
    return free_port(kind=socket.SOCK_DGRAM)


# The files that take longest, in no order: they come first, that no worker is left alone with one at the end.
LONG = {
    "test_alerts", "test_alerts_fired", "test_archive", "test_cases_through_gate", "test_cli", "test_console", "test_console_browser", "test_crash",
    "test_demo", "test_evidence", "test_failover", "test_kamailio_gate", "test_pipeline", "test_race", "test_registry_versions",
    "test_store", "test_workers",
}  # fmt: skip


@pytest.hookimpl(trylast=True)  # after pytest-randomly, whose order each of the two parts keeps
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.stem not in LONG)


_TALLY = pytest.StashKey[Tally]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Every decision that the tests' gates recorded must be made again; else the run has failed.

    Where workers share the tests, their folders are below that of the one which leads them, which reads them all."""
    if hasattr(session.config, "workerinput"):
        return
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined] # the session's own
    tally = session.config.stash[_TALLY] = replay_all(factory.getbasetemp())
    if tally.different and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash.get(_TALLY, None)
    if tally is None or not (tally.logs or tally.different):
        return
    terminalreporter.section("replay")
    terminalreporter.line(
        f"{tally.records:,} decisions of {tally.logs} logs, {len(tally.different)} replayed differently;"
        f" {tally.damaged} logs were damaged by their test"
    )
    for each in tally.different[:20]:
        terminalreporter.line(each, red=True)
