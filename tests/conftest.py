"""Fixtures; what they make is in world.py."""

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from tests.support import world
from tests.support.ports import free_port
from tests.support.replay_check import Tally, replay_all
from tests.support.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 - hooks

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


# The files that take more than 4 s of processor time, the longest first. They run first, so that no worker ends alone with a long
# one. `make test-fast` leaves them out.
LONG = (
    "test_mutants", "test_alerts_fired", "test_cli", "test_first_minute", "test_pipeline", "test_workers", "test_archive_index", "test_crash",
    "test_start", "test_store", "test_console_browser", "test_peers", "test_shipping", "test_demo", "test_failover", "test_registry_versions",
    "test_alerts", "test_evidence", "test_tabular", "test_race", "test_streaming", "test_console", "test_shared_store", "test_lists_in_use",
    "test_cases_through_gate", "test_replay", "test_timestamps", "test_gate", "test_registry_import", "test_fastagi", "test_cli_answers",
    "test_site", "test_uploads", "test_suite", "test_kamailio_gate", "test_connections", "test_dashboards", "test_entry_ids", "test_number_privacy",
    "test_conformance", "test_dialers", "test_kamailio", "test_kamailio_fuzz", "test_sip", "test_tenants", "test_reconciliation",
    "test_registry_kill", "test_network_faults", "test_store_histories", "test_restore",
)  # fmt: skip


def pytest_configure() -> None:
    """A shell ignores SIGINT in what it starts in the background, and so would every program that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)  # after pytest-randomly, whose order the other files keep
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.hookimpl(tryfirst=True)  # before -m is read
def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.stem in LONG:
        item.add_marker("slow")


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
