"""Changes of law around today: who has acknowledged them, what asks for it again, and what an auditor gets."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.core.model import DAY
from tests.interfaces.console.test_console import browser, get, send
from tests.support import console_world, world, yaml_files
from tests.support.console_world import OFFICER, SUPERVISOR
from tests.support.world import World


def add_change(folder: Path) -> None:
    """Give Italy a ban that begins on 1 December 2026, a week after the clock of the tests."""
    path = folder / "countries/it.yaml"
    law = yaml_files.read(path)
    bans = [
        {**law["sector_bans"][0], "from": "2026-12-01", "sectors": ["banking"], "source": "L. 1/2026 art. 1"}
    ]
    yaml_files.write(path, {**law, "sector_bans": [*law["sector_bans"], *bans]})


def change_text(folder: Path) -> None:
    path = folder / "countries/it.yaml"
    path.write_text(path.read_text("utf-8") + "\n# corrected\n", "utf-8")


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    clients = [world.client("tests", world.KEY, *world.SCOPES, "subjects", "watch")]
    async with world.running(tmp_path, clients=clients, prepare=add_change) as running:
        yield running


async def review(gate: World, **query: str) -> Any:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return (await gate.get(f"/v1/law-changes?{text}"))["laws"][0]


async def tasks(gate: World) -> list[str]:
    found = (await gate.get("/v1/tasks"))["tasks"]
    return [task["name"] for task in found if task["kind"] == "law_changed"]


async def acknowledge(gate: World, status: int = 201, **more: Any) -> Any:
    law = (await review(gate))["law"]
    return await gate.post("/v1/law-changes", {"country": "IT", "law": law, **more}, status)


async def test_a_change_is_a_task_until_an_officer_acknowledges_it(gate: World) -> None:
    found = await review(gate)
    assert [(change["day"], change["kind"], change["line"]["source"]) for change in found["changes"]] == [
        ("2026-12-01", "begins", "L. 1/2026 art. 1")
    ]
    assert (found["since"], found["until"], found["pending"]) == ("2026-08-26", "2027-02-22", ["acme"])
    assert (await review(gate, language="it"))["changes"][0]["line"]["subject"] == "Settori vietati"
    assert await tasks(gate) == ["IT"]
    for _ in range(2):  # the second changes nothing
        read = (await acknowledge(gate, note="=no loans are sold", actor="Maria"))["laws"][0]
        gate.hand.at += 1
    assert (read["pending"], len(read["read_by"]), await tasks(gate)) == ([], 1, [])
    async with gate.client.get("/v1/law-changes/acknowledgements") as answer:
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [(row["controller"], row["by"], row["note"], row["until"]) for row in rows] == [
        ("acme", "Maria", "'=no loans are sold", "2027-02-22")
    ]


async def test_a_new_file_and_only_a_new_file_asks_again(gate: World) -> None:
    await acknowledge(gate)
    old = (await review(gate))["law"]
    gate.hand.at += 10 * DAY  # the change is in force now
    assert await tasks(gate) == []
    change_text(gate.folder)
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
    assert (await review(gate))["law"] != old
    assert await tasks(gate) == ["IT"]
    refused = await acknowledge(gate, 400, law=old)
    assert refused["error"]["field"] == "law"
    await acknowledge(gate)
    assert await tasks(gate) == []
    assert [read["law"] == old for read in (await review(gate))["read_by"]] == [True, False]


async def test_without_a_change_nothing_asks(tmp_path: Path) -> None:
    clients = [world.client("tests", world.KEY, *world.SCOPES, "subjects", "watch")]
    async with world.running(tmp_path, clients=clients) as gate:
        assert (await review(gate))["changes"] == []
        assert await tasks(gate) == []


async def test_an_officer_acknowledges_on_the_page_and_a_supervisor_cannot(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        console_world.write_controllers(folder)
        add_change(folder)

    async with world.running(tmp_path, prepare=prepare, clients=console_world.clients()) as gate:
        async with browser(gate, SUPERVISOR) as session:
            page = await get(session, "/console/law")
            assert "not acknowledged" in page
            assert "I have read the changes" not in page
        async with browser(gate, OFFICER) as session:
            page = await get(session, "/console/law")
            law = page.split('name="law" value="')[1].split('"')[0]
            await send(session, "/console/law", 303, country="IT", law=law, note="none")
            done = await get(session, "/console/law?country=IT&done=read")
            assert "Recorded: you have read the changes." in done
            assert "not acknowledged" not in done
            assert done.count("<strong>dpo</strong>") == 2  # acme and beta
