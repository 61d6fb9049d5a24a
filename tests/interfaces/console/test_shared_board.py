"""Tests of the live board of several gates on one store."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import SECOND
from dialgate.interfaces.console.live import SECONDS, Live, View
from tests.support import redis_servers, world
from tests.support.world import ANSWERS, CLEAR, NOW

BOTH = ("acme", "beta")


class Gate(Struct):
    app: App
    live: Live
    hand: world.Hand

    async def board(self, view: View = BOTH) -> dict[str, Any]:
        async with self.live.watching(view) as key:
            message: dict[str, Any] = json.loads(self.live.first(key, ("watch",)))
            return message


@pytest.fixture
async def gates(tmp_path: Path) -> AsyncIterator[list[Gate]]:
    """Open two gates on one store, with one clock and without a server."""
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    hand, gates = world.Hand(NOW + SECOND // 2), list[Gate]()
    for name in ("rome", "milan"):
        folder = tmp_path / name
        folder.mkdir()
        if gates:
            world.share_keys(tmp_path / "rome", folder)
        config = loader.load(world.write_folder(folder, node=name, store=store))
        world.publish_answers(config.data, ANSWERS, NOW - SECOND)
        app = await App.open(config, registry=CollectorRegistry(), clock=hand)
        gates.append(Gate(app, Live(app), hand))
    yield gates
    for gate in gates:
        await gate.app.close()


async def tick(gates: list[Gate], times: int = 1) -> None:
    for _ in range(times):
        for gate in gates:
            await gate.live.tick()
        gates[0].hand.at += SECOND


def denied(message: dict[str, Any]) -> int:
    return sum(second[2] for second in message["seconds"])


async def test_the_board_of_one_gate_shows_what_both_decided(gates: list[Gate]) -> None:
    rome, milan = gates
    ids = {(await world.ask(gate.app, to=CLEAR)).decision_id for gate in gates}
    async with milan.live.watching(BOTH) as view:
        await tick(gates, times=3)  # each tick reads the last seconds again
        for message in (milan.live.first(view, ("watch",)), milan.live.message(view, ("watch",))):
            assert denied(json.loads(message)) == 2
    later = await rome.board()
    assert denied(later) == 2
    assert len(later["rows"]) == len(ids) == 2
    assert [reason for reason, _ in later["reasons"]] == ["list.unknown"]
    assert {row["at"] for row in later["rows"]} == {NOW + SECOND // 2}


async def test_a_board_does_not_show_what_others_did_longer_ago(gates: list[Gate]) -> None:
    rome, milan = gates
    await world.ask(rome.app)
    await tick(gates, times=2)
    assert denied(await milan.board()) == 1
    await tick(gates, times=SECONDS)
    assert denied(await milan.board()) == 0
    assert (await milan.board())["rows"] == []


async def test_a_board_shows_the_problems_of_the_other_gates(gates: list[Gate]) -> None:
    rome, milan = gates
    rome.app.gate._upkeep.report("log", "No space left on device")
    await tick(gates, times=2)
    assert (await milan.board())["problems"] == {"log (rome)": "No space left on device"}
    assert (await milan.board(("beta",)))["problems"] == {"log": ""}
    rome.app.gate._upkeep.report("log", "")
    await tick(gates, times=5)
    assert (await milan.board())["ready"]
