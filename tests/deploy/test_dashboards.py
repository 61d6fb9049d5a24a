"""The dashboards of `deploy/grafana`: the JSON files match the code, and every panel has data from a working gate."""

import json
import re
import runpy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import ProcessCollector

from dialgate.config import loader
from dialgate.core.model import DAY
from registry_sync.run_report import Alarm, Run, Summary, export_metrics
from tests.interfaces.webhooks.test_stop_notices import WRITTEN, delivering, hook
from tests.observability.test_metrics import LINE, change_controller, check
from tests.support import yaml_files
from tests.support.paths import ROOT
from tests.support.prometheus_server import exporter, prometheus
from tests.support.world import (
    CALL,
    CALLER,
    CLEAR,
    KEY,
    LISTED,
    NOW,
    SCOPES,
    World,
    client,
    load_list,
    running,
)

FOLDER = ROOT / "deploy" / "grafana"
BOARDS = runpy.run_path(str(FOLDER / "boards.py"))
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# Values for Grafana's macros; real intervals contain several scrapes, too.
MACROS = {"$__rate_interval": "1m"}
TRIAL_KEY = "key-of-the-trial"


def panels(name: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["panels"]
    return result


def queries() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        for panel in panels(name):
            for target in panel["targets"]:
                expression = target["expr"]
                for word, meaning in MACROS.items():
                    expression = expression.replace(word, meaning)
                yield f"{name}: {panel['title']}", expression


def test_provisioning_files_lead_to_the_folder_and_the_data_source_of_the_guide() -> None:
    page = (ROOT / "docs/how-to/monitor.md").read_text("utf-8")
    files = {path.parent.name: path for path in FOLDER.glob("provisioning/*/*.yaml")}
    for kind, path in files.items():
        assert f"sudo cp {path.relative_to(ROOT)} /etc/grafana/provisioning/{kind}/" in page
    (provider,) = yaml_files.read(files["dashboards"])["providers"]
    assert f"sudo cp deploy/grafana/*.json {provider['options']['path']}/" in page
    (source,) = yaml_files.read(files["datasources"])["datasources"]
    for name in NAMES:
        board = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        (variable,) = board["templating"]["list"]
        assert (variable["type"], variable["query"]) == ("datasource", source["type"])


def test_boards_exist_for_each_audience() -> None:
    assert NAMES == sorted(BOARDS["BOARDS"]) == ["officer", "operations", "registry", "supervisor"]


@pytest.mark.parametrize("name", NAMES)
def test_committed_boards_match_the_code(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text("utf-8") == BOARDS["render"](name), "run boards.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_has_a_unique_title_a_unit_and_the_selected_source(name: str) -> None:
    all_panels = panels(name)
    assert len({panel["title"] for panel in all_panels}) == len(all_panels)
    for panel in all_panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
        assert not re.search(r"\$(?!__rate_interval)", "".join(item["expr"] for item in panel["targets"]))


# ---- every panel with a working gate ---------------------------------------------------------------------------------


async def use_everything(world: World) -> None:
    """Produce data for every panel."""
    for number in (CLEAR, LISTED, "+390612349912"):
        response = await check(world.client, to=number)
        if response["decision"] == "allow":
            await world.post(
                "/v1/outcomes", {"decision_id": response["decision_id"], "outcome": "answered"}, 200
            )
    await world.post("/v1/check", CALL | {"to": LISTED}, 200, Authorization=f"Bearer {TRIAL_KEY}")
    await world.post("/v1/revocations", {"number": CLEAR, "channel": "mail", "proof": "mail/1"})
    await world.post(
        f"/v1/subjects/{CLEAR}/requests", {"kind": "access", "identified": "code", "channel": "pec"}
    )
    await world.get(f"/v1/subjects/{CLEAR}?purpose=access")
    await world.post(
        "/v1/caller-ids/proofs", {"caller_id": LINE, "kind": "probe", "evidence": "called back"}, 204
    )
    await world.app.tick()


def write_job_metrics(textfile: Path) -> None:
    alarm = Alarm(registry="rpo", controller="acme", kind="held", text="changed more than usual")
    part = Summary(registry="rpo", controller="acme", consulted_at=NOW - DAY, numbers=2, alarms=(alarm,))
    export_metrics(Run(at=NOW, version="1", dry=False, parts=(part,)), textfile, "")


def webhook_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a webhook without a receiver."""
    folder.mkdir()
    (folder / "secret").write_text(WRITTEN, "ascii")
    return hook("http://127.0.0.1:9/")


@asynccontextmanager
async def running_gate(folder: Path) -> AsyncIterator[World]:
    """Run a gate with a webhook and a caller ID that must be called back."""
    trial = client("trial", TRIAL_KEY, "check") | {"shadow_until": date(2026, 11, 30)}
    clients = [client("tests", KEY, *SCOPES, "subjects"), trial]
    async with running(folder, clients=clients, subscribers=[webhook_settings(folder)]) as world:
        ProcessCollector(registry=world.registry)
        change_controller(folder, caller_ids=[CALLER, LINE])
        world.app.reload(loader.load(folder / "dialgate.yaml"))
        await load_list(world)
        async with delivering(world):
            yield world


def has_data(result: list[dict[str, Any]]) -> bool:
    return any(item["value"][1] != "NaN" for item in result)


async def test_every_panel_has_data_from_a_working_gate(tmp_path: Path) -> None:
    textfile = tmp_path / "registry_sync.prom"
    write_job_metrics(textfile)
    async with running_gate(tmp_path / "gate") as world, exporter(textfile) as node:
        targets = {"dialgate": [f"127.0.0.1:{world.port}"], "node": [node]}
        async with prometheus(tmp_path / "prometheus", targets) as watcher:
            await check(world.client, to=CLEAR)  # from here on its campaign has series
            await watcher.look()
            for _ in range(3):
                await use_everything(world)
                await watcher.look()
            empty = [
                panel for panel, expression in queries() if not has_data(await watcher.query(expression))
            ]
    assert empty == []
