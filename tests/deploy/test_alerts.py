"""Tests of the alert rules in `deploy/prometheus`.

The rules are valid and use existing metrics, and each alert has an entry in the runbook. Each alert is tested with and
without the fault that it reports. One test runs Prometheus and a gate, causes faults, and checks that the alerts fire.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core.model import DAY
from docs.reference_pages import exposed
from registry_sync.run_report import Alarm, Run, Summary, build_metrics, export_metrics
from tests.deploy import test_alerts_fired  # noqa: F401 - declares alerts
from tests.observability.test_metrics import LINE, change_controller
from tests.project.test_docs import shipping_metrics
from tests.support import yaml_files
from tests.support.fired_alerts import DECLARED, fires
from tests.support.prometheus_server import MACHINE, RULES, exporter, prometheus
from tests.support.world import CALL, KEY, NOW, SCOPES, World, client, load_list, running, store_time

FOLDER = RULES.parent
CASES = sorted(FOLDER.glob("*.test.yml"))


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml_files.read(RULES)["groups"]:
        yield from (rule for rule in group["rules"] if "alert" in rule)


NAMES = [rule["alert"] for rule in alerts()]


def promtool(*words: str | Path) -> None:
    result = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_rules_and_example_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    promtool("check", "config", FOLDER / "prometheus.yml")


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_every_rule_test_passes(case: Path) -> None:
    promtool("test", "rules", case)


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for path in CASES:
        for case in yaml_files.read(path)["tests"]:
            for test in case["alert_rule_test"]:
                (fires if test["exp_alerts"] else silent).add(test["alertname"])
    assert fires == silent == set(NAMES)


def test_every_alert_has_a_test_with_a_real_fault() -> None:
    """Tests here and in `test_alerts_fired.py` declare alerts. A test fails if an alert that it declares does not fire."""
    assert set(NAMES) == DECLARED


def test_every_alert_has_a_runbook_entry() -> None:
    headings = re.findall(r"^## (\w+)$", (FOLDER / "runbook.md").read_text("utf-8"), re.MULTILINE)
    assert headings == NAMES
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}


def job_metrics() -> set[str]:
    run = Run(at=NOW, version="", dry=False, parts=(Summary(registry="rpo", controller="acme"),))
    return {family.name for family in build_metrics(run).collect()}


# Exported by `dialgate reconcile` and `dialgate webhook pull`.
OTHER_METRICS = {"dialgate_reconcile_findings", "dialgate_webhook_pull_success_timestamp_seconds"}


def test_every_metric_in_a_rule_is_exported() -> None:
    names = set(re.findall(r"(?<![:\w])(?:dialgate|registry_sync)_[a-z_]+", RULES.read_text("utf-8")))
    names_without_suffix = {re.sub("_bucket$", "", name) for name in names}
    assert names_without_suffix <= exposed().keys() | job_metrics() | shipping_metrics() | OTHER_METRICS


async def check(session: ClientSession, **changes: str) -> None:
    async with session.post("/v1/check", json={**CALL, **changes}) as answer:
        await answer.read()


async def cause_faults(world: World) -> None:
    """Cause faults: a caller ID without a proof, an invalid configuration, consecutive numbers, an open request."""
    change_controller(world.folder, caller_ids=[CALL["from"], LINE])
    world.app.reload(loader.load(world.folder / "dialgate.yaml"))
    ask = {"kind": "access", "identified": "code read back", "channel": "pec"}
    async with world.client.post(f"/v1/subjects/{CALL['to']}/requests", json=ask) as answer:
        assert answer.status == 201, await answer.text()
    world.app.gate.reject_config(ConfigError(["dialgate.yaml: made up"]))
    for last in range(10, 90):
        await check(world.client, to=f"+3906123499{last}")
    world.hand.at += 13 * DAY + DAY // 2  # the registry's answers are a day old and valid for fifteen
    store_time(world.app.config.data, world.hand.at)
    await world.app.tick()


BY_THE_GATE = {
    "DialgateCallerIdNotProved",
    "DialgateConfigRejected",
    "DialgateEnumeration",
    "DialgateRegistryWeekLeft",
    "DialgateRegistryThreeDaysLeft",
    "DialgateRegistryDayLeft",
}
BY_THE_JOB = {"DialgateConsultationOverdue", "DialgateRegistryAlarm", "DialgateNightlyJobSilent"}
BY_THE_CLOCK = {"DialgateNotReady", "DialgateFaults"}


@fires(*BY_THE_GATE, *BY_THE_JOB, *BY_THE_CLOCK)
async def test_real_prometheus_fires_on_real_faults_only(tmp_path: Path) -> None:
    clients = [client("tests", KEY, *SCOPES, "subjects")]
    textfile = tmp_path / "registry_sync.prom"
    async with running(tmp_path / "gate", clients=clients) as world, exporter(textfile) as node:
        await load_list(world)
        targets = {"dialgate": [f"127.0.0.1:{world.port}"], "node": [node]}
        async with prometheus(tmp_path / "prometheus", targets) as watcher:
            await watcher.look()
            await check(world.client)
            for _ in range(5):
                await watcher.look()
            assert await watcher.firing() - MACHINE == set()

            await cause_faults(world)
            alarm = Alarm(registry="rpo", controller="acme", kind="held", text="changed more than usual")
            part = Summary(registry="rpo", controller="acme", consulted_at=NOW - 40 * DAY, alarms=(alarm,))
            export_metrics(Run(at=NOW - 40 * DAY, version="", dry=False, parts=(part,)), textfile, "")
            expected = BY_THE_GATE | BY_THE_JOB
            assert await watcher.until(lambda firing: expected <= firing) - MACHINE == expected

            world.hand.at -= DAY  # a clock that stepped back
            await world.app.tick()
            await check(world.client)
            expected |= BY_THE_CLOCK
            assert await watcher.until(lambda firing: expected <= firing) >= expected
