"""The alert rules of `deploy/prometheus`: sound, each tried on its fault and on health, each with what to do, and each on a
metric that there is; and a real Prometheus tells of real faults of a real gate."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession

from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.core.model import DAY
from docs.reference_pages import exposed
from registry_sync.run_report import Alarm, Run, Summary, build_metrics, export_metrics
from tests.observability.test_metrics import LINE, change_controller
from tests.project.test_docs import shipping_metrics
from tests.support.fired_alerts import fires
from tests.support.prometheus_server import MACHINE, RULES, exporter, prometheus
from tests.support.world import CALL, KEY, NOW, SCOPES, World, client, confirm_clock, load_list, running

FOLDER = RULES.parent
CASES = sorted(FOLDER.glob("*.test.yml"))


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        yield from (rule for rule in group["rules"] if "alert" in rule)


NAMES = [each["alert"] for each in alerts()]


def promtool(*words: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_and_the_example_are_sound() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    promtool("check", "config", FOLDER / "prometheus.yml")


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_every_case_of_the_alerts_comes_out_as_it_says(case: Path) -> None:
    promtool("test", "rules", case)


def test_every_alert_is_tried_on_its_fault_and_on_health() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for test in case["alert_rule_test"]:
                (fires if test["exp_alerts"] else silent).add(test["alertname"])
    assert fires == silent == set(NAMES)


def test_every_alert_says_what_to_do() -> None:
    headings = re.findall(r"^## (\w+)$", (FOLDER / "runbook.md").read_text("utf-8"), re.MULTILINE)
    assert headings == NAMES
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}


def told_by_the_job() -> set[str]:
    """The names of what the nightly job tells."""
    run = Run(at=NOW, version="", dry=False, parts=(Summary(registry="rpo", controller="acme"),))
    return {family.name for family in build_metrics(run).collect()}


ELSEWHERE = {"dialgate_reconcile_findings"}  # told by the comparison with the switch's own records


def test_every_metric_in_a_rule_is_one_that_something_tells() -> None:
    named = set(re.findall(r"(?<![:\w])(?:dialgate|registry_sync)_[a-z_]+", RULES.read_text("utf-8")))
    plain = {re.sub("_bucket$", "", name) for name in named}
    assert plain <= exposed().keys() | told_by_the_job() | shipping_metrics() | ELSEWHERE


async def check(session: ClientSession, **changes: str) -> None:
    async with session.post("/v1/check", json={**CALL, **changes}) as answer:
        await answer.read()


async def made_wrong(world: World) -> None:
    """A caller ID without a proof, a configuration that is none, numbers made up in a row, a person who waits."""
    change_controller(world.folder, caller_ids=[CALL["from"], LINE])
    world.app.reload(loader.load(world.folder / "dialgate.yaml"))
    ask = {"kind": "access", "identified": "code read back", "channel": "pec"}
    async with world.client.post(f"/v1/subjects/{CALL['to']}/requests", json=ask) as answer:
        assert answer.status == 201, await answer.text()
    world.app.gate.reject_config(ConfigError(["dialgate.yaml: made up"]))
    for last in range(10, 90):
        await check(world.client, to=f"+3906123499{last}")
    world.hand.at += 13 * DAY + DAY // 2  # the registry's answers, of the day before, hold for fifteen
    confirm_clock(world.app.config.data, world.hand.at)
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
async def test_a_real_prometheus_tells_of_real_faults_and_of_none_before(tmp_path: Path) -> None:
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

            await made_wrong(world)
            alarm = Alarm(registry="rpo", controller="acme", kind="held", text="changed more than usual")
            part = Summary(registry="rpo", controller="acme", consulted_at=NOW - 40 * DAY, alarms=(alarm,))
            export_metrics(Run(at=NOW - 40 * DAY, version="", dry=False, parts=(part,)), textfile, "")
            wanted = BY_THE_GATE | BY_THE_JOB
            assert await watcher.until(lambda firing: wanted <= firing) - MACHINE == wanted

            world.hand.at -= DAY  # a clock that stepped back
            await world.app.tick()
            await check(world.client)
            wanted |= BY_THE_CLOCK
            assert await watcher.until(lambda firing: wanted <= firing) >= wanted
