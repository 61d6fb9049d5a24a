"""A supervisor's pause: it denies the campaign's next call on every node, and outlasts restarts, reloads and older stores."""

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.audit.replay import as_recorded, exact, replay
from dialgate.config import loader
from dialgate.core.ledger_events import CampaignPaused, CampaignResumed
from dialgate.core.model import DAY, MINUTE
from dialgate.core.refusal import Refused
from dialgate.ledger.campaigns import CampaignPauseRequest, CampaignResumeRequest
from dialgate.store import CampaignPause, StoreUnavailable
from tests.support import redis_servers, world, yaml_files
from tests.support.world import CALL, CLEAR, LISTED, NOW, SCOPES, Hand, World, ask, codes

CLIENTS = [world.client("tests", world.KEY, *SCOPES, "watch", "admin")]
PAUSE = {"reason": "wrong price in the script", "actor": "anna"}
PATH = "/v1/campaigns/acme-fibre"
STEPS = 60
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in (1, 2))]  # of histories


@pytest.fixture
async def gate(store_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path / "one", clients=CLIENTS, **store_settings) as made:
        await world.load_list(made)
        yield made


async def check(made: World, **changes: str) -> list[str]:
    """Return the codes of the denial of a call, or [] if it is allowed."""
    answer = await made.post("/v1/check", CALL | changes, 200)
    return [reason["code"] for reason in answer["reasons"]] if answer["decision"] == "deny" else []


async def listed(made: World) -> Any:
    (one,) = (await made.get("/v1/campaigns"))["campaigns"]
    return one


async def events(made: World) -> list[Any]:
    kinds = CampaignPaused | CampaignResumed
    entries = await made.app.registrar.access.store.since(0, 100)
    return [(entry.actor, entry.channel, entry.event) for entry in entries if isinstance(entry.event, kinds)]


async def test_a_pause_denies_the_next_check_until_the_campaign_is_resumed(gate: World) -> None:
    assert await check(gate, call_id="first") == []
    gate.hand.at += MINUTE
    receipt = await gate.post(f"{PATH}/pause", PAUSE)
    assert receipt["in_force"].startswith("now")
    since = {"pause_at": "2026-11-24T09:01:00.000Z", "pause_actor": "anna", "pause_reason": PAUSE["reason"]}
    assert receipt["campaign"].items() >= {"paused": True, "paused_by": ["supervisor"], **since}.items()
    assert await check(gate) == ["campaign.inactive"]
    assert await check(gate, call_id="first") == ["campaign.inactive"]  # an allow is not repeated
    assert gate.sample("dialgate_campaign_paused", campaign="acme-fibre") == 1
    assert gate.sample("dialgate_campaign_open", campaign="acme-fibre") == 0
    assert (await gate.post("/v1/simulate", CALL, 200))["reasons"][0]["code"] == "campaign.inactive"
    gate.hand.at += MINUTE
    again = await gate.post(f"{PATH}/pause", {"reason": "another reason"})
    assert again["campaign"].items() >= since.items()  # the first pause stays as it is
    resumed = await gate.post(f"{PATH}/resume", {"reason": "script corrected", "actor": "ben"})
    assert (resumed["campaign"]["paused"], resumed["campaign"]["pause_at"]) == (False, "")
    assert await check(gate, to=CLEAR) == []
    assert gate.sample("dialgate_campaign_paused", campaign="acme-fibre") == 0
    at = NOW + MINUTE
    assert await events(gate) == [
        ("anna", "api", CampaignPaused(campaign="acme-fibre", at=at, reason=PAUSE["reason"])),
        ("ben", "api", CampaignResumed(campaign="acme-fibre", at=at + MINUTE, reason="script corrected")),
    ]
    replayed = replay(gate.records(), as_recorded(gate.app.config.data / "kept"), exact)
    assert (replayed.records, replayed.different) == (4, 0)


async def test_commands_pause_and_resume_a_campaign(gate: World) -> None:
    done = await gate.output("campaign", "pause", "acme-fibre", "--reason", "wrong price", "--actor", "anna")
    assert "denies all calls" in done
    assert await check(gate) == ["campaign.inactive"]
    assert "by anna: wrong price" in await gate.output("campaign", "list")
    assert "has ended. Change in force: now" in await gate.output("campaign", "resume", "acme-fibre")
    assert await check(gate) == []
    refused = await gate.output("campaign", "resume", "acme-fibre", code=1)
    assert "not paused by a supervisor" in refused
    assert "--reason" in await gate.output("campaign", "pause", "acme-fibre", code=2)


async def test_what_cannot_be_paused_or_resumed(gate: World) -> None:
    error = (await gate.post(f"{PATH}/resume", {}, 409))["error"]
    assert (error["code"], error["field"]) == ("campaign.not_paused", "campaign")
    for path, body, status, code in (
        (f"{PATH}/pause", {}, 400, "request.invalid"),
        (f"{PATH}/pause", {"reason": ""}, 400, "request.invalid"),
        ("/v1/campaigns/nobodys/pause", PAUSE, 404, "campaign.unknown"),
        ("/v1/campaigns/nobodys/resume", {}, 404, "campaign.unknown"),
    ):
        assert (await gate.post(path, body, status))["error"]["code"] == code
    await gate.post(f"{PATH}/pause", PAUSE)
    refused = (await gate.post(f"{PATH}/pause", PAUSE, 401, Authorization="Bearer wrong"))["error"]
    assert refused["code"] == "auth.unknown"
    assert await check(gate) == ["campaign.inactive"]


async def test_a_key_without_the_scope_and_one_of_another_controller_cannot_pause(tmp_path: Path) -> None:
    clients = [
        *CLIENTS,
        world.client("dialer", "key-of-the-dialer", "check", "watch"),
        world.client("other", "key-of-another", "check", "lists", "watch") | {"controllers": ["other"]},
    ]

    def prepare(folder: Path) -> None:
        acme = yaml_files.read(folder / "controllers/acme.yaml")
        (fibre,) = acme["campaigns"]
        other = acme | {"id": "other", "campaigns": [fibre | {"id": "other-fibre"}]}
        yaml_files.write(folder / "controllers/other.yaml", other)

    async with world.running(tmp_path, prepare=prepare, clients=clients) as made:
        await world.load_list(made)
        dialer, other = (
            {"Authorization": f"Bearer {key}"} for key in ("key-of-the-dialer", "key-of-another")
        )
        assert (await made.post(f"{PATH}/pause", PAUSE, 403, **dialer))["error"]["code"] == "auth.scope"
        assert (await made.post(f"{PATH}/pause", PAUSE, 404, **other))["error"]["code"] == "campaign.unknown"
        assert await check(made) == []
        await made.post(f"{PATH}/pause", PAUSE)
        assert (await made.post(f"{PATH}/resume", {}, 404, **other))["error"]["code"] == "campaign.unknown"
        (theirs,) = (await made.get("/v1/campaigns", 200, **other))["campaigns"]
        assert (theirs["id"], theirs["paused"]) == ("other-fibre", False)
        assert await check(made) == ["campaign.inactive"]


async def test_shadow_mode_does_not_let_calls_of_a_paused_campaign_through(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    async with world.running(
        tmp_path, clients=CLIENTS, shadow_until=date(2026, 11, 30), **store_settings
    ) as made:
        await world.load_list(made)
        assert await check(made, to=LISTED, call_id="a") == []
        await made.post(f"{PATH}/pause", PAUSE)
        assert "campaign.inactive" in await check(made, to=CLEAR)
        assert await check(made, to=LISTED, call_id="a") != []
        await made.post(f"{PATH}/resume", {})
        assert await check(made, to=LISTED) == []


async def test_a_pause_outlasts_a_reload_and_a_restart(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    path = tmp_path / "dialgate.yaml"
    async with world.running(tmp_path, clients=CLIENTS, **store_settings) as gate:
        await world.load_list(gate)
        await gate.post(f"{PATH}/pause", PAUSE)
        path.write_text(path.read_text() + "answer_seconds: 60\n")
        gate.app.reload(loader.load(path))
        assert await check(gate) == ["campaign.inactive"]
        owner = yaml_files.read(tmp_path / "controllers/acme.yaml")
        owner["campaigns"][0]["paused"] = True
        yaml_files.write(tmp_path / "controllers/acme.yaml", owner)
        gate.app.reload(loader.load(path))
        assert (await listed(gate))["paused_by"] == ["configuration", "supervisor"]
    yaml_files.write(
        tmp_path / "controllers/acme.yaml", owner | {"campaigns": [owner["campaigns"][0] | {"paused": False}]}
    )
    async with world.serving(path, Hand()) as app:
        assert codes(await ask(app)) == ["campaign.inactive"]
        (info,) = await app.registrar.campaigns.infos(app.config.settings.clients[0])
        assert (info.paused_by, info.pause_reason) == (("supervisor",), PAUSE["reason"])


async def test_a_repeated_request_enters_a_pause_that_a_crash_left_without_its_entry(gate: World) -> None:
    store = gate.app.registrar.access.store
    stored = CampaignPause(
        controller="acme", campaign="acme-fibre", at=NOW, reason=PAUSE["reason"], actor="anna"
    )
    await store.put_pause(stored)
    await gate.app.tick()
    assert await check(gate) == ["campaign.inactive"]
    assert await events(gate) == []
    for _ in range(2):
        await gate.post(f"{PATH}/pause", PAUSE | {"actor": "ben"})
    assert await events(gate) == [
        ("anna", "api", CampaignPaused(campaign="acme-fibre", at=NOW, reason=PAUSE["reason"]))
    ]


# ---- two gates on one Redis --------------------------------------------------------------------------------------------


async def two_gates(folder: Path, opened: AsyncExitStack) -> list[World]:
    shared: dict[str, Any] = {"store": {"url": redis_servers.alone(), "name": folder.name, "patience": 5}}
    hand = Hand()

    def prepare(other: Path) -> None:
        world.share_keys(folder / "one", other)
        shutil.copytree(folder / "one/data/lists", other / "data/lists")

    first = await opened.enter_async_context(
        world.running(folder / "one", hand, clients=CLIENTS, node="one", **shared)
    )
    await world.load_list(first)
    second = await opened.enter_async_context(
        world.running(folder / "two", hand, prepare, clients=CLIENTS, node="two", **shared)
    )
    return [first, second]


async def test_a_pause_at_one_gate_denies_the_next_round_of_another(tmp_path: Path) -> None:
    async with AsyncExitStack() as opened:
        first, second = await two_gates(tmp_path, opened)
        assert await check(second) == []
        receipt = await first.post(f"{PATH}/pause", PAUSE)
        assert receipt["in_force"] == "now on this gate, on other gates within 1 second"
        assert await check(first) == ["campaign.inactive"]
        await second.app.tick()
        assert await check(second) == ["campaign.inactive"]
        assert (await listed(second))["pause_actor"] == "anna"
        await second.post(f"{PATH}/resume", {})
        await first.app.tick()
        assert [await check(one) for one in (first, second)] == [[], []]


async def test_a_gate_stores_again_the_pause_that_an_older_copy_lacks(tmp_path: Path) -> None:
    async with AsyncExitStack() as opened:
        first, second = await two_gates(tmp_path, opened)
        await first.post(f"{PATH}/pause", PAUSE)
        await second.app.tick()
        client = await opened.enter_async_context(redis.asyncio.from_url(redis_servers.alone()))
        (key,) = [name async for name in client.scan_iter(f"*{tmp_path.name}*:pauses")]
        await client.delete(key)
        await second.app.tick()
        assert len(await client.hgetall(key)) == 1
        for made in (first, second):
            await made.app.tick()
            assert await check(made) == ["campaign.inactive"]
        assert (await listed(first))["pause_reason"] == PAUSE["reason"]


async def test_a_restarted_gate_enters_the_pause_of_its_log_that_an_older_store_lacks(
    tmp_path: Path,
) -> None:
    """The same with a `ledger.durable` is refused: the ledger is shorter than it was."""
    folder = tmp_path / "one"
    async with world.running(folder, clients=CLIENTS) as made:
        await world.load_list(made)
    shutil.copy(folder / "data/store.db", tmp_path / "older.db")
    path = folder / "dialgate.yaml"
    app = await App.open(loader.load(path), registry=CollectorRegistry(), clock=Hand())
    client = app.config.settings.clients[0]
    await app.registrar.campaigns.pause(client, "acme-fibre", CampaignPauseRequest(reason="wrong price"))
    assert codes(await ask(app)) == ["campaign.inactive"]
    await app.tick()
    await app.close()
    for name in ("store.db-wal", "store.db-shm"):
        (folder / "data" / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "older.db", folder / "data/store.db")
    with pytest.raises(StoreUnavailable):
        await App.open(loader.load(path), registry=CollectorRegistry(), clock=Hand())
    (folder / "data/ledger.durable").unlink()
    app = await App.open(loader.load(path), registry=CollectorRegistry(), clock=Hand())
    assert codes(await ask(app)) == ["campaign.inactive"]
    ((pause),) = (await app.registrar.access.store.campaign_pauses()).values()
    assert (pause.at, pause.actor) == (NOW, "recovery")
    await app.close()


async def test_an_emptied_redis_gets_the_pause_from_the_log_of_a_gate(tmp_path: Path) -> None:
    """The other gate's memory is gone, too: both are restarted."""
    async with AsyncExitStack() as opened:
        first, second = await two_gates(tmp_path, opened)
        await first.post(f"{PATH}/pause", PAUSE)
        await second.app.tick()
        assert await check(second) == ["campaign.inactive"]
        config = second.folder / "dialgate.yaml"
    async with redis.asyncio.from_url(redis_servers.alone()) as client:
        async for key in client.scan_iter(f"*{tmp_path.name}*"):
            await client.delete(key)
    (config.parent / "data/ledger.durable").unlink(missing_ok=True)
    async with world.serving(config, Hand()) as app:
        assert codes(await ask(app))[0] == "campaign.inactive"
        ((pause),) = (await app.registrar.access.store.campaign_pauses()).values()
        assert (pause.at, pause.actor) == (NOW, "recovery")


# ---- random histories --------------------------------------------------------------------------------------------------


class Nodes:
    """One gate, or two on a Redis, to which things happen. `is_paused` is what the supervisor last did."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.hand, self.is_paused = Hand(), False
        self.paths = [
            world.write_folder(folder / node, clients=CLIENTS, node=node, **settings)
            for node in (("one", "two") if settings else ("one",))
        ]
        self.apps: list[App] = []
        self.name = settings["store"]["name"] if settings else ""
        self.copy: dict[Any, Any] = {}

    async def start(self) -> None:
        for path in self.paths:
            world.publish_answers(path.parent / "data", world.ANSWERS, NOW - DAY)
            if self.apps:
                world.share_keys(self.paths[0].parent, path.parent)
                lists = self.paths[0].parent / "data/lists"
                shutil.copytree(lists, path.parent / "data/lists")
            self.apps.append(await self.opened(path))
            if len(self.apps) == 1:
                await world.load_numbers(self.apps[0])
                await self.apps[0].tick()

    async def opened(self, path: Path) -> App:
        return await App.open(loader.load(path), registry=CollectorRegistry(), clock=self.hand)

    async def take(self, step: str, node: int) -> None:
        campaigns, client = self.apps[node].registrar.campaigns, self.apps[node].config.settings.clients[0]
        if step == "pause":
            await campaigns.pause(client, "acme-fibre", CampaignPauseRequest(reason="price"))
            self.is_paused = True
        elif step == "resume":
            with nullcontext() if self.is_paused else pytest.raises(Refused):
                await campaigns.resume(client, "acme-fibre", CampaignResumeRequest())
            self.is_paused = False
        elif step == "reload":
            self.apps[node].reload(loader.load(self.paths[node]))
        elif step == "restart":
            await self.apps[node].close()
            self.apps[node] = await self.opened(self.paths[node])
        elif step == "clock":
            self.hand.at += MINUTE
        elif self.name:
            await self.lose(step)
        assert (codes(await ask(self.apps[node])) == ["campaign.inactive"]) == self.is_paused

    async def lose(self, step: str) -> None:
        """Copy the pauses of the store after all gates have read them, or put the older copy in their place."""
        for app in self.apps:
            await app.tick()
        key = f"{{{self.name}}}:pauses"
        async with redis.asyncio.from_url(redis_servers.alone()) as client:
            if step == "copy":
                self.copy = await client.hgetall(key)
            else:
                await client.delete(key)
                if self.copy:
                    await client.hset(key, mapping=self.copy)
        for app in self.apps:
            await app.tick()


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_supervisors_last_word_binds_whatever_happens(
    tmp_path: Path, store_settings: dict[str, Any], seed: int
) -> None:
    chance, nodes = random.Random(seed), Nodes(tmp_path, store_settings)
    await nodes.start()
    steps = ("pause", "pause", "resume", "resume", "reload", "restart", "clock", "copy", "older")
    history: list[tuple[str, int]] = []
    for _ in range(STEPS):
        history.append((chance.choice(steps), chance.randrange(len(nodes.apps))))
        await nodes.take(*history[-1])
        for app in nodes.apps:
            await app.tick()
            assert (codes(await ask(app)) == ["campaign.inactive"]) == nodes.is_paused, history
    for app in nodes.apps:
        await app.close()
