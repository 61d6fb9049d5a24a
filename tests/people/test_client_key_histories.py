"""Histories of clients' keys on one gate and on two: restarts, reloads, changes of dialgate.yaml, and older or emptied stores."""

import asyncio
import random
import shutil
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY
from dialgate.core.refusal import Refused
from dialgate.people.client_keys import KeyRequest
from dialgate.store import StoreUnavailable
from tests.people.test_client_keys import FILE_KEYS, ROOT, dialer, fault_of_key, id_of, states
from tests.support import redis_servers, world, yaml_files
from tests.support.people import OPERATOR
from tests.support.world import NOW, Hand

TODAY = date(2026, 11, 24)
STEPS = 60
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in (1, 2))]  # of histories


class Nodes:
    """One gate, or two on a Redis, and what must be true of each key: `made` has the instants at which keys expire."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.hand, self.folder = Hand(), folder
        self.made: dict[str, int] = {}
        self.disabled: set[str] = set()
        self.seen: set[str] = set()  # codes with which keys were refused
        self.file_key = FILE_KEYS[0]
        self.paths = [
            world.write_folder(folder / node, clients=[ROOT, dialer(self.file_key)], node=node, **settings)
            for node in (("one", "two") if settings else ("one",))
        ]
        self.apps: list[App] = []
        self.name = settings["store"]["name"] if settings else ""
        self.copy: dict[Any, Any] = {}

    async def start(self) -> None:
        for path in self.paths:
            if self.apps and not (path.parent / "data/keys.json").exists():
                world.share_keys(self.paths[0].parent, path.parent)
            self.apps.append(await self.opened(path))

    async def opened(self, path: Path) -> App:
        return await App.open(loader.load(path), registry=CollectorRegistry(), clock=self.hand)

    async def tick(self) -> None:
        for app in (*self.apps, *self.apps):  # what the last one stores, the first one reads
            await app.tick()

    async def close(self) -> None:
        for app in self.apps:
            await app.close()
        self.apps.clear()

    def expected(self, key: str) -> str:
        if key in self.disabled:
            return "auth.key_disabled"
        if key in self.made:
            return "auth.key_expired" if 0 < self.made[key] <= self.hand.at else ""
        return "" if key == self.file_key else "auth.unknown"

    def verify(self, app: App) -> None:
        for key in (*FILE_KEYS, *self.made):
            code = fault_of_key(app, key)
            assert code == self.expected(key), key
            self.seen.add(code)

    async def take(self, step: str, node: int, chance: random.Random) -> None:
        app = self.apps[node]
        if step == "make":
            await self.make(
                app, chance.choice([None, TODAY + timedelta((self.hand.at - NOW // DAY * DAY) // DAY)])
            )
        elif step == "disable":
            key = chance.choice([*self.made, self.file_key or FILE_KEYS[0]])
            if id_of(key) in states(app.client_keys.info("dialer")):
                await app.client_keys.disable(OPERATOR, "dialer", id_of(key))
                self.disabled.add(key)
        elif step == "file":
            self.file_key = chance.choice([*FILE_KEYS, ""])
            for path, each in zip(self.paths, self.apps, strict=True):
                yaml_files.write(path, yaml_files.read(path) | {"clients": [ROOT, dialer(self.file_key)]})
                each.reload(loader.load(path))
        elif step == "restart":
            await app.close()
            self.apps[node] = await self.opened(self.paths[node])
        elif step == "clock":
            self.hand.at += DAY // 2
            await self.tick()
        elif self.name:
            await self.lose(step)
        self.verify(self.apps[node])

    async def make(self, app: App, last_day: date | None) -> None:
        valid = [key for key in {*self.made, self.file_key} - {""} if not self.expected(key)]
        with nullcontext() if len(valid) < 2 else pytest.raises(Refused, match="2 valid keys"):
            new = await app.client_keys.make(OPERATOR, "dialer", KeyRequest(last_day=last_day))
        if len(valid) >= 2:
            return
        self.made[new.key] = ((last_day - TODAY).days + 1) * DAY + NOW // DAY * DAY if last_day else 0

    async def lose(self, step: str) -> None:
        """Copy the keys of the store after all gates have read them, or put the older copy in their place."""
        await self.tick()
        key = f"{{{self.name}}}:clients"
        async with redis.asyncio.from_url(redis_servers.alone()) as client:
            if step == "copy":
                self.copy = await client.hgetall(key)
            else:
                await client.delete(key)
                if self.copy and step == "older":
                    await client.hset(key, mapping=self.copy)
        await self.tick()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_key_is_valid_exactly_as_it_was_made_and_until_it_ends(
    tmp_path: Path, store_settings: dict[str, Any], seed: int
) -> None:
    chance, nodes = random.Random(seed), Nodes(tmp_path, store_settings)
    await nodes.start()
    steps = ("make", "make", "make", "disable", "file", "restart", "clock", "clock", "copy", "older", "empty")
    history: list[tuple[str, int]] = []
    for _ in range(STEPS):
        history.append((chance.choice(steps), chance.randrange(len(nodes.apps))))
        await nodes.take(*history[-1], chance)
        await nodes.tick()
        for app in nodes.apps:
            nodes.verify(app)
        infos = [app.client_keys.infos() for app in nodes.apps]
        assert infos.count(infos[0]) == len(infos), history
    assert nodes.seen == {"", "auth.unknown", "auth.key_disabled", "auth.key_expired"}
    await nodes.close()


async def test_two_operators_at_two_gates_make_at_most_two_keys(tmp_path: Path) -> None:
    settings = {"store": {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}}
    nodes = Nodes(tmp_path, settings)
    await nodes.start()
    both = [app.client_keys.make(OPERATOR, "dialer", KeyRequest()) for app in nodes.apps for _ in range(2)]
    done = await asyncio.gather(*both, return_exceptions=True)
    assert [refused.code for refused in done if isinstance(refused, Refused)] == ["api_key.two_valid"] * 3
    await nodes.tick()
    assert all(len(app.client_keys.info("dialer").keys) == 2 for app in nodes.apps)
    await nodes.close()


async def test_an_emptied_or_older_store_brings_no_disabled_key_back_to_restarted_gates(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    """All memory is gone: each data folder remembers. A key that only the store knew is lost, not valid."""
    nodes = Nodes(tmp_path, store_settings)
    await nodes.start()
    new = (await nodes.apps[0].client_keys.make(OPERATOR, "dialer", KeyRequest())).key
    await nodes.tick()
    await copy_store(nodes)
    app = nodes.apps[0]
    for key in (new, FILE_KEYS[0]):
        await app.client_keys.disable(OPERATOR, "dialer", id_of(key))
    kept = (await app.client_keys.make(OPERATOR, "dialer", KeyRequest())).key
    await nodes.tick()
    await nodes.close()
    await copy_store(nodes, back=True)
    await nodes.start()
    for app in nodes.apps:
        assert [fault_of_key(app, key) for key in (new, FILE_KEYS[0])] == ["auth.key_disabled"] * 2
        assert fault_of_key(app, kept) == "auth.unknown"
    stored = await nodes.apps[0].registrar.access.store.client_keys()
    assert sum(key.disabled_at > 0 for key in stored["dialer"].keys) == 2
    await nodes.close()


async def copy_store(nodes: Nodes, *, back: bool = False) -> None:
    """Copy the embedded store, or put the copy in its place. Of a Redis, all keys of clients are removed instead."""
    if nodes.name:
        if back:
            async with redis.asyncio.from_url(redis_servers.alone()) as client:
                await client.delete(f"{{{nodes.name}}}:clients")
        return
    data = nodes.paths[0].parent / "data"
    if not back:
        await nodes.close()
        shutil.copy(data / "store.db", nodes.folder / "older.db")
        await nodes.start()
        return
    for name in ("store.db-wal", "store.db-shm"):
        (data / name).unlink(missing_ok=True)
    shutil.copy(nodes.folder / "older.db", data / "store.db")


async def test_a_key_expires_also_while_the_store_is_unavailable(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {})
    await nodes.start()
    app = nodes.apps[0]
    key = (await app.client_keys.make(OPERATOR, "dialer", KeyRequest(last_day=TODAY))).key
    await app.registrar.access.store.close()
    await nodes.tick()
    assert fault_of_key(app, key) == ""
    nodes.hand.at += DAY
    await nodes.tick()
    assert fault_of_key(app, key) == "auth.key_expired"
    await nodes.close()


async def test_an_unreadable_file_of_disabled_keys_stops_the_start(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {})
    await nodes.start()
    await nodes.close()
    (tmp_path / "one/data/disabled-keys.json").write_text("[{")
    with pytest.raises(StoreUnavailable, match="disabled-keys"):
        await nodes.start()
