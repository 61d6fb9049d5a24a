import gc
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from dialgate.runtime.garbage_collection import without_collector
from tests.support import redis_servers, world
from tests.support.ports import free_port
from tests.support.replay_check import Tally, replay_all
from tests.support.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 - hooks

# Prometheus collects garbage less often. This saves a third of the processor time of its many short runs.
os.environ.setdefault("GOGC", "400")
# No deadline: the time of an example depends more on the machine than on the code.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[world.World]:
    """Run a gate with one call list on a real port."""
    async with world.running(tmp_path) as made:
        await world.load_list(made)
        yield made


@pytest.fixture(params=["sqlite", "redis"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a gate's store: an embedded one, or one of its own name on the tests' Redis."""
    if request.param == "sqlite":
        return {}
    return {"store": {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """Run a Redis for one test, on `socket` in the returned folder."""
    process = redis_servers.start(tmp_path, unixsocket=str(tmp_path / "socket"))
    yield tmp_path
    redis_servers.kill(process)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Mount a real disk of 4 MiB.

    The mount is outside `tmp_path`, because a killed test leaves it mounted. Pytest cannot delete an old `tmp_path`
    that contains a mount.
    """
    if os.geteuid():
        pytest.skip("mounting needs root")
    with TemporaryDirectory() as disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
        yield Path(disk)
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def unused_udp_port() -> int:
    return free_port(kind=socket.SOCK_DGRAM)


# The files that take more than a second of processor time, longest first. They run first, so that no worker runs a long file alone at the end.
# `make test-fast` leaves them out.
LONG = (
    "test_openapi", "test_shipped_logs", "test_first_minute", "test_shared_store", "test_demo", "test_console_browser", "test_shipping",
    "test_request_lines", "test_last_word", "test_shadow_report", "test_cases_over_http", "test_pipeline", "test_init", "test_console",
    "test_incoming", "test_one_way", "test_call_plans", "test_site", "test_store", "test_pull", "test_fastagi", "test_scrub", "test_ledger_file",
    "test_gate", "test_peers", "test_uploads", "test_failover", "test_network_faults", "test_breach", "test_configuration_diff",
    "test_notify_socket", "test_alerts", "test_streaming", "test_registry_cycle", "test_bulk_import", "test_evidence", "test_several_gates",
    "test_framing", "test_start", "test_stop_notices", "test_registrar", "test_entry_ids", "test_registry_sources", "test_kubernetes",
    "test_conformance", "test_race", "test_http", "test_crash", "test_cli", "test_kamailio", "test_web_pages", "test_turning_points",
    "test_connections", "test_registry_import", "test_repeated_names", "test_probe", "test_file_jobs", "test_tabular", "test_retention",
    "test_large_heads", "test_decision_log", "test_lasting_decisions", "test_pacing", "test_replay", "test_dialers", "test_decision",
    "test_archive_index", "test_registry_kill", "test_registry_versions", "test_sip_redirect", "test_kamailio_gate", "test_list_origin",
    "test_settings", "test_number_set", "test_platform_trunk", "test_dashboards", "test_shadow", "test_archive", "test_restore", "test_subjects",
    "test_layers", "test_mutants", "test_fairness", "test_recall", "test_suite", "test_http_hand_over", "test_operations", "test_store_histories",
    "test_grid", "test_dead_letters", "test_scrub_columns", "test_clock", "test_expiry", "test_registry_layouts", "test_registry_lists",
    "test_consent_states", "test_check_fast_path", "test_older_copy", "test_packed_figures", "test_number_privacy", "test_reasons", "test_mcp",
    "test_registry_merging", "test_own_process", "test_bulk_revocation", "test_cases", "test_repetitions", "test_backup", "test_texts",
    "test_search", "test_phone", "test_erasure", "test_report", "test_lists_in_use", "test_timestamps", "test_deploy", "test_docs", "test_span",
    "test_country_cases", "test_checkpoints", "test_stop_requests", "test_reconciliation", "test_response_slots", "test_registry_pull",
    "test_decision_log_stored", "test_tenants", "test_counted_campaigns", "test_policy", "test_process_pool", "test_changes_of_law",
    "test_error_table", "test_retention_page", "test_client_key_histories", "test_decisions_page", "test_recorded_agents", "test_roles",
    "test_breaches_browser", "test_release_browser", "test_accounts_browser", "test_history", "test_past_report", "test_evidence_page",
    "test_history_page", "test_officer_browser", "test_cases_browser", "test_console_lists", "test_campaign_pause", "test_log_proof",
    "test_breach_register", "test_decision_pages", "test_change_events", "test_enclosed_files", "test_error_shape", "test_consent_proofs",
    "test_attachments", "test_accounts", "test_client_keys",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the files in LONG of tests/conftest.py")


def pytest_configure() -> None:
    """Restore the default SIGINT handler.

    A shell starts background jobs with SIGINT ignored. The programs that the tests interrupt would inherit this.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)  # after pytest-randomly, which orders the other files
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Hide what the collection makes from the garbage collector: 400,000 objects, each time 0.4 s of processor time."""
    with without_collector():
        result = yield
    gc.collect()
    gc.freeze()
    return result


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--fast") and collection_path.stem in LONG else None


_TALLY = pytest.StashKey[Tally]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Replay every decision that the tests' gates recorded. Fail the run if one differs.

    With pytest-xdist only the controller replays. The folders of the workers are inside the controller's folder.
    """
    if hasattr(session.config, "workerinput"):
        return
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined] # no public access
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
    for difference in tally.different[:20]:
        terminalreporter.line(difference, red=True)
