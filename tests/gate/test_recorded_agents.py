"""The agent of a call: recorded only for a controller that asks for it, encrypted, and forgotten with the month's keys."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from dialgate.client import Dialgate
from dialgate.config import loader
from dialgate.core.model import DAY
from dialgate.crypto.keys import Keys
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from tests.support import world, yaml_files
from tests.support.world import CALL, CLEAR, KEY, SCOPES, World

AGENT, OTHER = "a-4711", "a-4712"
PERIOD = "first=2026-11-24&last=2026-12-25"


def record_agents(folder: Path, *, is_on: bool = True) -> None:
    path = folder / "controllers/acme.yaml"
    yaml_files.write(path, yaml_files.read(path) | {"record_agents": is_on})


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    clients = [world.client("tests", KEY, *SCOPES, "watch")]
    async with world.running(tmp_path, prepare=record_agents, clients=clients) as running:
        await world.load_list(running)
        yield running


async def check(gate: World, **fields: str) -> str:
    return str((await gate.post("/v1/check", {**CALL, **fields}, 200))["decision_id"])


async def found(gate: World, agent: str, **query: str) -> list[Any]:
    page = await gate.get(f"/v1/decisions/search?{urlencode({'agent': agent, **query})}")
    return [row["decision_id"] for row in page["decisions"]]


def log_bytes(gate: World) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((gate.folder / "data/log").glob("*.ndjson")))


async def test_decisions_of_an_agent_are_found_until_the_keys_are_destroyed(gate: World) -> None:
    first, second = await check(gate, agent=AGENT), await check(gate, agent=OTHER)
    await check(gate)
    gate.hand.at += 31 * DAY
    await gate.app.tick()
    third = await check(gate, agent=AGENT)
    assert await found(gate, AGENT) == [third, first]
    assert await found(gate, OTHER) == [second]
    assert (await gate.get(f"/v1/history?{PERIOD}&agent={AGENT}"))["total"]["denied"] == 1
    assert (await gate.get(f"/v1/history?{PERIOD}"))["total"]["allowed"] == 3
    row = (await gate.get(f"/v1/decisions/search?agent={OTHER}"))["decisions"][0]
    assert row["agent"] == OTHER
    assert AGENT.encode() not in log_bytes(gate)
    for segment in closed_segments(gate.folder / "data/log", 1 << 60):
        pack(segment)
    assert await found(gate, AGENT) == [third, first]
    lines = await gate.output("log", "search", "--agent", AGENT, "--json")
    assert lines.count("decision_id") == 2
    Keys.open(gate.folder / "data/keys.json").retire("2026-11")
    assert await found(gate, AGENT) == [third]
    everything = (await gate.get("/v1/decisions/search"))["decisions"]
    assert [row["agent"] for row in everything] == [AGENT, "", "", ""]


async def test_a_number_in_place_of_an_agent_is_not_recorded(gate: World) -> None:
    """A dialer that is set up wrongly sends the called number as the agent."""
    decision = await check(gate, agent=CLEAR)
    (row,) = (await gate.get("/v1/decisions/search"))["decisions"]
    assert row["decision_id"] == decision
    assert CLEAR[1:] not in row["agent"]


async def test_without_the_setting_the_field_changes_nothing(gate: World) -> None:
    record_agents(gate.folder, is_on=False)
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
    await check(gate, agent=AGENT)
    assert b'"agent":' not in log_bytes(gate)
    assert await found(gate, AGENT) == []


async def test_every_interface_takes_the_agent(gate: World) -> None:
    query = urlencode({**CALL, "agent": AGENT})
    async with gate.client.get(f"/v1/check.txt?{query}") as answer:
        assert (await answer.text()).startswith("allow")
    async with Dialgate(f"http://127.0.0.1:{gate.port}", KEY) as dialer:
        await dialer.check(to=CALL["to"], from_=CALL["from"], campaign=CALL["campaign"], agent=AGENT)
    await gate.command(
        "check", "--to", CLEAR, "--from", CALL["from"], "--campaign", CALL["campaign"], "--agent", AGENT
    )
    assert len(await found(gate, AGENT)) == 3
    async with gate.client.post("/v1/check", json={**CALL, "agent": "a" * 65}) as answer:
        assert (answer.status, (await answer.json())["error"]["field"]) == (400, "agent")
