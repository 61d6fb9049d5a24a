"""The dashboards of `deploy/grafana`: what is committed is what the code makes, and every panel shows something of a gate
that works."""

import json
import re
import runpy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import ProcessCollector

from dialgate.config import loader
from dialgate.core.model import DAY
from registry_sync.run_report import Alarm, Run, Summary, export_metrics
from tests.interfaces.webhooks.test_stop_notices import WRITTEN, delivering, hook
from tests.observability.test_metrics import LINE, change_controller, check
from tests.support.paths import ROOT
from tests.support.prometheus_server import exporter, prometheus
from tests.support.world import CALLER, CLEAR, KEY, LISTED, NOW, SCOPES, World, client, load_list, running

FOLDER = ROOT / "deploy" / "grafana"
BOARDS = runpy.run_path(str(FOLDER / "boards.py"))
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# What stands for Grafana's own words; a span of which every real one has several scrapes.
WORDS = {"$__rate_interval": "1m"}


def panels(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["panels"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        for panel in panels(name):
            for target in panel["targets"]:
                expression = target["expr"]
                for word, meaning in WORDS.items():
                    expression = expression.replace(word, meaning)
                yield f"{name}: {panel['title']}", expression


def test_there_is_a_board_for_each_who_looks() -> None:
    assert NAMES == sorted(BOARDS["BOARDS"]) == ["officer", "operations", "registry", "supervisor"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text("utf-8") == BOARDS["render"](name), "run boards.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_has_a_name_of_its_own_a_unit_and_the_source_that_is_chosen(name: str) -> None:
    shown = panels(name)
    assert len({panel["title"] for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
        assert not re.search(r"\$(?!__rate_interval)", "".join(each["expr"] for each in panel["targets"]))


# ---- every panel on a gate that works --------------------------------------------------------------------------------


async def post(world: World, path: str, **body: Any) -> dict[str, Any]:
    async with world.client.post(path, json=body) as answer:
        assert answer.status < 300, await answer.text()
        told: dict[str, Any] = await answer.json() if answer.content_type == "application/json" else {}
        return told


async def a_days_work(world: World) -> None:
    """A little of everything that a panel is about."""
    for number in (CLEAR, LISTED, "+390612349912"):
        told = await check(world.client, to=number)
        if told["decision"] == "allow":
            await post(world, "/v1/outcomes", decision_id=told["decision_id"], outcome="answered")
    await post(world, "/v1/revocations", number=CLEAR, channel="mail", proof="mail/1")
    await post(world, f"/v1/subjects/{CLEAR}/requests", kind="access", identified="code", channel="pec")
    async with world.client.get(f"/v1/subjects/{CLEAR}", params={"purpose": "access"}) as answer:
        assert answer.status == 200, await answer.text()
    await post(world, "/v1/caller-ids/proofs", caller_id=LINE, kind="probe", evidence="called back")
    await world.app.tick()


def the_nights_work(textfile: Path) -> None:
    alarm = Alarm(registry="rpo", controller="acme", kind="held", text="changed more than usual")
    part = Summary(registry="rpo", controller="acme", consulted_at=NOW - DAY, numbers=2, alarms=(alarm,))
    export_metrics(Run(at=NOW, version="1", dry=False, parts=(part,)), textfile, "")


def hooked(folder: Path) -> dict[str, Any]:
    """A webhook that nobody listens to."""
    folder.mkdir()
    (folder / "secret").write_text(WRITTEN, "ascii")
    return hook("http://127.0.0.1:9/")


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[World]:
    """A gate with a webhook and a caller ID that must be called back."""
    clients = [client("tests", KEY, *SCOPES, "subjects")]
    async with running(folder, clients=clients, subscribers=[hooked(folder)]) as world:
        ProcessCollector(registry=world.registry)
        change_controller(folder, caller_ids=[CALLER, LINE])
        world.app.reload(loader.load(folder / "dialgate.yaml"))
        await load_list(world)
        async with delivering(world):
            yield world


def shows(found: list[dict[str, Any]]) -> bool:
    return any(each["value"][1] != "NaN" for each in found)


async def test_every_panel_shows_something_of_a_gate_that_works(tmp_path: Path) -> None:
    textfile = tmp_path / "registry_sync.prom"
    the_nights_work(textfile)
    async with watched(tmp_path / "gate") as world, exporter(textfile) as node:
        targets = {"dialgate": [f"127.0.0.1:{world.port}"], "node": [node]}
        async with prometheus(tmp_path / "prometheus", targets) as watcher:
            await watcher.look()
            for _ in range(3):
                await a_days_work(world)
                await watcher.look()
            empty = [panel for panel, expression in queries() if not shows(await watcher.query(expression))]
    assert empty == []
