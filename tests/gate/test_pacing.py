"""A campaign that abandons too many calls is paused on all nodes until its period ends or an officer lifts the pause."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from dialgate.app import App
from dialgate.audit.replay import as_recorded, exact, replay
from dialgate.config import loader
from dialgate.core.local_time import instant_in
from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.gate.counted_campaigns import CountedCampaigns
from dialgate.interfaces.cli.main import app as cli
from dialgate.ledger.schemas import OutcomeRequest
from dialgate.runtime.clock import wall_clock
from dialgate.store import HourCount
from dialgate.store.sqlite import SqliteStore, campaign_counts
from tests.support import redis_servers, world, yaml_files
from tests.support.world import CALLER, NOW, World, ask

NUMBERS = [f"+3906123{number:05}" for number in range(40)]
OFFICER = [*world.SCOPES, "watch", "subjects"]
CLEARS = "2026-12-23T23:00:00.000Z"  # thirty days after the calls, at midnight in Rome


@pytest.fixture
async def gate(store_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[World]:
    clients = [world.client("tests", world.KEY, *OFFICER)]
    async with world.running(tmp_path / "one", clients=clients, **store_settings) as made:
        await load_list(made)
        yield made


async def load_list(made: World) -> None:
    world.publish_answers(made.app.config.data, dict.fromkeys(NUMBERS, False), NOW - DAY)
    await made.post("/v1/lists", {**world.LIST, "numbers": NUMBERS})
    await made.app.tick()


async def check(made: World, to: str) -> Any:
    return await made.post("/v1/check", {"to": to, "from": CALLER, "campaign": "acme-fibre"}, 200)


async def call(made: World, to: str, outcome: str) -> None:
    answer = await check(made, to)
    await made.post("/v1/outcomes", {"decision_id": answer["decision_id"], "outcome": outcome}, 200)


def codes(answer: Any) -> list[str]:
    return [reason["code"] for reason in answer.get("reasons", ())]


async def pause(made: World) -> None:
    """Abandon four calls. The limit is three calls for a campaign with few answered calls."""
    for number in NUMBERS[:4]:
        await call(made, number, "abandoned")
    await made.app.tick()


async def test_the_fourth_silent_call_pauses_the_campaign_within_one_round(gate: World) -> None:
    for number in NUMBERS[:4]:
        assert (await check(gate, NUMBERS[9]))["decision"] == "allow"
        await call(gate, number, "abandoned")
        await gate.app.tick()
    answer = await check(gate, NUMBERS[8])
    assert codes(answer) == ["pacing.abandoned"]
    assert answer["not_before"] == CLEARS
    assert answer["reason_class"] == "call"
    assert gate.sample("dialgate_campaign_paused", campaign="acme-fibre") == 1
    assert gate.sample("dialgate_campaign_abandoned_limit_used", campaign="acme-fibre") == pytest.approx(
        4 / 3
    )


async def test_answered_calls_keep_the_campaign_within_its_limit(gate: World) -> None:
    for number in NUMBERS[:3]:
        await call(gate, number, "abandoned")
    for number in NUMBERS[4:8]:
        await call(gate, number, "answered")
    await gate.app.tick()
    assert (await check(gate, NUMBERS[9]))["decision"] == "allow"
    assert gate.sample("dialgate_campaign_paused", campaign="acme-fibre") == 0
    assert gate.sample("dialgate_campaign_abandoned_limit_used", campaign="acme-fibre") == 1


async def test_a_call_allowed_before_is_not_repeated_once_the_campaign_is_paused(gate: World) -> None:
    question = {"to": NUMBERS[9], "from": CALLER, "campaign": "acme-fibre", "call_id": "a"}
    assert (await gate.post("/v1/check", question, 200))["decision"] == "allow"
    await pause(gate)
    assert codes(await gate.post("/v1/check", question, 200)) == ["pacing.abandoned"]


async def test_an_officer_lifts_the_pause_with_a_ground(gate: World) -> None:
    await pause(gate)
    (listed,) = [one for one in (await campaigns(gate)) if one["id"] == "acme-fibre"]
    assert listed["paused"]
    assert [(limit["country"], limit["abandoned"], limit["not_before"]) for limit in listed["limits"]] == [
        ("IT", 4, CLEARS)
    ]
    assert listed["paused_by"] == ["abandoned_calls"]
    path = "/v1/campaigns/acme-fibre/lift"
    receipt = await gate.post(path, {"ground": "dialer slowed down", "actor": "dpo", "proof": "ticket 7"})
    assert receipt["in_force"].startswith("now")
    lifted = receipt["campaign"]
    assert not lifted["paused"]
    assert (lifted["lifted_by"], lifted["ground"], lifted["proof"]) == (
        "dpo",
        "dialer slowed down",
        "ticket 7",
    )
    assert (await check(gate, NUMBERS[8]))["decision"] == "allow"  # without another round
    for number in NUMBERS[10:13]:
        await call(gate, number, "abandoned")
    await gate.app.tick()
    assert (await check(gate, NUMBERS[7]))["decision"] == "allow"
    await call(gate, NUMBERS[13], "abandoned")
    await gate.app.tick()
    assert codes(await check(gate, NUMBERS[6])) == ["pacing.abandoned"]  # calls since the lift count


async def test_a_pause_begins_with_the_hour_in_which_the_limit_was_exceeded(gate: World) -> None:
    gate.hand.at = NOW + 37 * MINUTE + 12_000
    await pause(gate)
    gate.hand.at += 2 * HOUR
    (listed,) = [one for one in (await campaigns(gate)) if one["paused"]]
    assert [limit["since"] for limit in listed["limits"]] == ["2026-11-24T09:00:00.000Z"]


async def test_a_campaign_that_the_configuration_pauses_is_shown_as_paused(tmp_path: Path) -> None:
    clients = [world.client("tests", world.KEY, *OFFICER)]
    async with world.running(tmp_path, prepare=pause_in_configuration, clients=clients) as made:
        await load_list(made)
        assert codes(await check(made, NUMBERS[0])) == ["campaign.inactive"]
        (listed,) = [one for one in (await campaigns(made)) if one["paused"]]
        assert (listed["id"], listed["paused_by"]) == ("acme-fibre", ["configuration"])
        board = made.app.registrar.campaigns.paused(
            made.app.config.settings.clients[0], made.app.gate.counted
        )
        assert [campaign.id for campaign in board] == ["acme-fibre"]
        async with made.client.post("/v1/campaigns/acme-fibre/lift", json={"ground": "g"}) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (409, "campaign.not_paused")
            assert "paused: true" in error["message"]


def pause_in_configuration(folder: Path) -> None:
    owner = yaml_files.read(folder / "controllers/acme.yaml")
    (fibre,) = owner["campaigns"]
    yaml_files.write(folder / "controllers/acme.yaml", owner | {"campaigns": [fibre | {"paused": True}]})


async def campaigns(made: World) -> list[Any]:
    async with made.client.get("/v1/campaigns") as answer:
        return list((await answer.json())["campaigns"])


async def test_only_a_paused_campaign_of_the_client_can_be_lifted(gate: World) -> None:
    for path, code in (("acme-fibre", "campaign.not_paused"), ("nobodys", "campaign.unknown")):
        async with gate.client.post(f"/v1/campaigns/{path}/lift", json={"ground": "g"}) as answer:
            assert answer.status in {404, 409}
            assert (await answer.json())["error"]["code"] == code
    async with gate.client.post("/v1/campaigns/acme-fibre/lift", json={"ground": ""}) as answer:
        assert answer.status == 400
    async with gate.client.get("/v1/campaigns") as answer:
        assert answer.status == 200


async def test_the_pause_ends_with_its_days(gate: World) -> None:
    await pause(gate)
    world.store_time(gate.app.config.data, NOW + 29 * DAY)
    gate.hand.at = NOW + 29 * DAY + 13 * HOUR  # 23:00 in Rome on the last day
    await renew_answers(gate)
    assert codes(await check(gate, NUMBERS[8])) == ["pacing.abandoned"]
    gate.hand.at += HOUR
    assert (await check(gate, NUMBERS[8]))["decision"] == "allow"


async def renew_answers(made: World) -> None:
    world.publish_answers(made.app.config.data, dict.fromkeys(NUMBERS, False), made.hand.at - DAY)
    await made.app.tick()


async def test_another_gate_on_the_store_pauses_the_campaign_too(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"store": {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}}
    clients = [world.client("tests", world.KEY, *OFFICER)]
    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(world.running(tmp_path / "one", clients=clients, **shared))
        await load_list(first)

        def prepare(folder: Path) -> None:
            world.share_keys(tmp_path / "one", folder)
            shutil.copytree(tmp_path / "one/data/lists", folder / "data/lists")

        other = await opened.enter_async_context(
            world.running(tmp_path / "two", prepare=prepare, clients=clients, **shared)
        )
        world.publish_answers(other.app.config.data, dict.fromkeys(NUMBERS, False), NOW - DAY)
        await other.app.tick()
        assert (await check(other, NUMBERS[9]))["decision"] == "allow"
        await pause(first)
        await other.app.tick()
        assert codes(await check(other, NUMBERS[8])) == ["pacing.abandoned"]
        await first.post("/v1/campaigns/acme-fibre/lift", {"ground": "dialer slowed down"})
        await other.app.tick()
        assert (await check(other, NUMBERS[8]))["decision"] == "allow"


async def test_the_pause_survives_a_restart_and_a_restored_database(tmp_path: Path) -> None:
    folder, saved = tmp_path / "one", tmp_path / "saved.db"
    async with world.running(folder) as made:
        await load_list(made)
        for number in NUMBERS[:2]:
            await call(made, number, "abandoned")
    shutil.copy(folder / "data/store.db", saved)
    for old in (None, saved):
        if old is not None:
            shutil.copy(old, folder / "data/store.db")
        async with reopened(folder) as app:
            if old is None:
                for number in NUMBERS[2:4]:
                    answer = await ask(app, to=number)
                    report = OutcomeRequest(decision_id=answer.decision_id, outcome="abandoned")
                    await app.registrar.outcomes.result(app.config.settings.clients[0], report)
                await app.tick()
            assert [reason.code for reason in (await ask(app, to=NUMBERS[8])).reasons] == ["pacing.abandoned"]


@asynccontextmanager
async def reopened(folder: Path) -> AsyncIterator[App]:
    config = loader.load(folder / "dialgate.yaml")
    app = await App.open(config, registry=CollectorRegistry(), clock=world.Hand())
    try:
        yield app
    finally:
        await app.close()


async def test_counts_that_change_no_decision_start_no_new_record_of_facts(tmp_path: Path) -> None:
    async with world.running(tmp_path / "one") as made:
        await load_list(made)
        for number in NUMBERS[:3]:
            await call(made, number, "answered")
            await made.app.tick()
        recorded = [await counts_recorded(made) for _ in range(2)]
        made.hand.at += 10 * MINUTE
        await made.app.tick()
        recorded.append(await counts_recorded(made))
        assert recorded == [[1], [1], [3]]


async def counts_recorded(made: World) -> list[int]:
    await check(made, NUMBERS[9])
    *_, record = made.records()
    return [count.answered for count in record.facts.campaign.counts]


async def test_the_decisions_replay_from_their_records(tmp_path: Path) -> None:
    async with world.running(tmp_path / "one") as made:
        await load_list(made)
        await pause(made)
        await check(made, NUMBERS[8])
        replayed = replay(made.records(), as_recorded(made.app.config.data / "kept"), exact)
        assert (replayed.records, replayed.different) == (5, 0)


async def test_a_reload_keeps_the_counts(tmp_path: Path) -> None:
    async with world.running(tmp_path / "one") as made:
        await load_list(made)
        await pause(made)
        path = made.folder / "dialgate.yaml"
        path.write_text(path.read_text() + "answer_seconds: 60\n")
        made.app.reload(loader.load(path))
        assert codes(await check(made, NUMBERS[8])) == ["pacing.abandoned"]


async def test_commands_show_and_lift_a_pause(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path / "one")
    data = loader.load(path).data
    data.mkdir()
    await SqliteStore.open(data / "store.db").close()
    with closing(sqlite3.connect(data / "store.db", isolation_level=None)) as db:
        campaign_counts.put_counts(db, [HourCount(wall_clock() // HOUR, "acme-fibre", 50, 4)])

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--config", str(path)])

    async def standing() -> tuple[bool, float, str]:
        campaigns = json.loads((await run("campaign", "list", "--json")).stdout)
        (one,) = [one for one in campaigns if one["id"] == "acme-fibre"]
        return one["paused"], one["limits"][0]["used"], one["lifted_by"]

    async with world.serving(path):
        assert await standing() == (True, 1.333, "")
        lift = (
            "campaign",
            "lift",
            "acme-fibre",
            "--ground",
            "dialer slowed down",
            "--actor",
            "dpo",
            "--json",
        )
        assert (await run(*lift)).exit_code == 0
        assert await standing() == (False, 0.0, "dpo")
        again = await run(*lift)
        assert (again.exit_code, json.loads(again.stdout)["error"]["code"]) == (1, "campaign.not_paused")
        assert "slowed" in (await run("campaign", "list")).stdout


async def test_counts_apply_at_once_where_the_day_is_not_over(tmp_path: Path) -> None:
    """At 00:30 in Rome it is still the previous day in the United States.

    The period of the US limit then includes a day that the period of the Italian limit no longer includes.
    """
    path = world.write_folder(tmp_path, accept_drafts=["US"])
    shutil.copy(world.CONFIG / "countries/us.yaml", tmp_path / "countries")
    counted = CountedCampaigns(loader.load(path))
    now = instant_in("Europe/Rome", datetime(2026, 11, 25, 0, 30))  # noqa: DTZ001 - a local time
    first = instant_in("Europe/Rome", datetime(2026, 10, 26, 12))  # noqa: DTZ001 - a local time
    for at, abandoned, total in ((first, 3, 3), (now, 1, 4)):
        await SqliteStore.open(tmp_path / "store.db").close()
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
            campaign_counts.put_counts(db, [HourCount(at // HOUR, "acme-fibre", 0, abandoned)])
        store = SqliteStore.open(tmp_path / "store.db")
        await counted.stored.read(store)
        await store.close()
        counted.update(now)
        assert sum(count.abandoned for count in counted.lines["acme-fibre"].campaign.counts) == total
