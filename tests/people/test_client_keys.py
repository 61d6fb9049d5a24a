"""The keys of programs: made, used, expired and disabled, over HTTP, by commands and on open connections."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY, HOUR
from dialgate.interfaces.http.access import admit_key
from dialgate.interfaces.http.errors import Fault
from dialgate.people.client_keys import ClientInfo
from dialgate.store import ClientKey, ClientKeys
from tests.support import world, yaml_files
from tests.support.world import CALL, NOW, World

FILE_KEYS = ("first key of the file", "second key of the file")
BARE = {"name": "dialer", "controllers": ["acme"], "scopes": ["check", "stream"]}
ROOT = world.client("root", world.KEY, "admin", "watch", "revoke", "lists")
KEYS = "/v1/clients/dialer/keys"


def dialer(key: str) -> dict[str, Any]:
    return world.client("dialer", key, *BARE["scopes"]) if key else BARE


def fault_of_key(app: App, key: str) -> str:
    """Return the code with which a key is refused, or ""."""
    try:
        client = admit_key(f"Bearer {key}", app.client_keys.index, "check")
    except Fault as fault:
        return fault.problem.code
    return "" if client.name == "dialer" else "another client"


def id_of(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:12]


def states(info: ClientInfo) -> dict[str, str]:
    return {key.id: key.state for key in info.keys}


@pytest.fixture
async def gate(store_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[World]:
    async with world.running(tmp_path, clients=[ROOT, dialer(FILE_KEYS[0])], **store_settings) as made:
        await world.load_list(made)
        yield made


async def delete(gate: World, path: str, status: int = 200) -> Any:
    async with gate.client.delete(path) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def listed(gate: World, name: str = "dialer") -> Any:
    (one,) = [one for one in (await gate.get("/v1/clients"))["clients"] if one["name"] == name]
    return one


async def check(gate: World, key: str, status: int = 200) -> Any:
    return await gate.post("/v1/check", CALL, status, Authorization=f"Bearer {key}")


# ---- one key -----------------------------------------------------------------------------------------------------------


async def test_a_key_is_made_used_and_expires(gate: World) -> None:
    made = await gate.post(KEYS, {"last_day": "2026-11-25"})
    assert (made["client"], made["id"], made["last_day"]) == ("dialer", id_of(made["key"]), "2026-11-25")
    await check(gate, made["key"])
    await gate.app.tick()
    text = json.dumps(one := await listed(gate))
    assert made["key"] not in text
    assert [(key["id"], key["origin"], key["state"], key["used_on"]) for key in one["keys"]] == [
        (id_of(FILE_KEYS[0]), "file", "valid", None),
        (made["id"], "made", "valid", "2026-11-24"),
    ]
    assert (one["keys"][1]["made_by"], one["keys"][1]["made_at"][:10]) == ("root", "2026-11-24")
    gate.hand.at = NOW // DAY * DAY + 2 * DAY - 1
    await gate.app.tick()
    await check(gate, made["key"])
    gate.hand.at += 1
    await gate.app.tick()
    error = (await check(gate, made["key"], 401))["error"]
    assert error["code"] == "auth.key_expired"
    assert (
        "dialer expired at 2026-11-26T00:00:00.000Z. Make another: `dialgate key make dialer`"
        in error["message"]
    )
    assert states(gate.app.client_keys.info("dialer"))[made["id"]] == "expired"


async def test_a_key_of_either_origin_is_disabled_for_good(gate: World) -> None:
    made = await gate.post(KEYS, {})
    assert (await gate.post(KEYS, {}, 409))["error"]["code"] == "api_key.two_valid"
    for key in (FILE_KEYS[0], made["key"]):
        await check(gate, key)
        await delete(gate, f"{KEYS}/{id_of(key)}")
        error = (await check(gate, key, 401))["error"]
        assert error["code"] == "auth.key_disabled"
        assert "dialer was disabled at 2026-11-24T09:00:00.000Z" in error["message"]
    gate.hand.at += HOUR
    again = await delete(gate, f"{KEYS}/{made['id']}")  # stays as it was
    assert {(key["state"], key["disabled_at"], key["disabled_by"]) for key in again["keys"]} == {
        ("disabled", "2026-11-24T09:00:00.000Z", "root")
    }
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
    await check(gate, FILE_KEYS[0], 401)
    await check(gate, (await gate.post(KEYS, {}))["key"])


async def test_what_cannot_be_made_or_disabled(gate: World) -> None:
    for path, body, status, code, field in (
        ("/v1/clients/nobody/keys", {}, 404, "api_key.client_unknown", "name"),
        (KEYS, {"last_day": "2026-11-23"}, 400, "request.invalid", "last_day"),
        (KEYS, {"last_day": "soon"}, 400, "request.invalid", "last_day"),
        (KEYS, {"scopes": ["admin"]}, 400, "request.invalid", "scopes"),
    ):
        error = (await gate.post(path, body, status))["error"]
        assert (error["code"], error["field"]) == (code, field)
    assert (await delete(gate, "/v1/clients/nobody/keys/x", 404))["error"]["code"] == "api_key.client_unknown"
    assert (await delete(gate, f"{KEYS}/abc", 404))["error"]["code"] == "api_key.unknown"


async def test_a_key_of_the_file_is_valid_beside_two_that_were_made(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=[ROOT, BARE]) as gate:
        made = [(await gate.post(KEYS, {}))["key"] for _ in range(2)]
        path = gate.folder / "dialgate.yaml"
        yaml_files.write(path, yaml_files.read(path) | {"clients": [ROOT, dialer(FILE_KEYS[0])]})
        gate.app.reload(loader.load(path))
        assert [fault_of_key(gate.app, key) for key in (*made, FILE_KEYS[0])] == ["", "", ""]
        for key in (made[0], ""):
            assert (await gate.post(KEYS, {}, 409))["error"]["code"] == "api_key.two_valid"
            if key:
                await delete(gate, f"{KEYS}/{id_of(key)}")
        await delete(gate, f"{KEYS}/{id_of(made[1])}")
        await gate.post(KEYS, {})


async def test_a_client_needs_no_key_in_the_file(tmp_path: Path) -> None:
    async with world.running(tmp_path, clients=[ROOT, BARE]) as gate:
        assert (await listed(gate))["keys"] == []
        assert "No key in dialgate.yaml: dialer. Make one" in await gate.output("config", "check")
        key = (await gate.post(KEYS, {}))["key"]
        await check(gate, key)


async def test_keys_of_a_client_that_left_the_file_are_refused_and_can_be_disabled(gate: World) -> None:
    made = await gate.post(KEYS, {})
    path = gate.folder / "dialgate.yaml"
    written = yaml_files.read(path)
    yaml_files.write(path, written | {"clients": [ROOT, dialer(FILE_KEYS[0]) | {"name": "renamed"}]})
    gate.app.reload(loader.load(path))
    assert fault_of_key(gate.app, made["key"]) == "auth.unknown"
    assert (await listed(gate))["scopes"] == []
    assert (await gate.post(KEYS, {}, 404))["error"]["code"] == "api_key.client_unknown"
    await delete(gate, f"{KEYS}/{made['id']}")
    await delete(gate, f"/v1/clients/renamed/keys/{id_of(FILE_KEYS[0])}")
    yaml_files.write(path, written)
    gate.app.reload(loader.load(path))
    for key in (made["key"], FILE_KEYS[0]):  # the hash of the file is refused under either name
        assert fault_of_key(gate.app, key) == "auth.key_disabled"
    assert set(states(gate.app.client_keys.info("dialer")).values()) == {"disabled"}


# ---- open connections ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_connection(gate: World, key: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Open a connection, and yield a function that sends a check on it and returns the status of the response."""
    body = json.dumps(CALL).encode()
    head = f"POST /v1/check HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)

    async def ask() -> int:
        writer.write(head.encode() + body)
        first = (await reader.readuntil(b"\r\n\r\n")).decode()
        await reader.readexactly(int(first.lower().partition("content-length: ")[2].split("\r\n")[0]))
        return int(first.split()[1])

    yield ask
    writer.close()
    await writer.wait_closed()


async def test_a_disabled_key_is_refused_on_an_open_connection(gate: World) -> None:
    key = (await gate.post(KEYS, {}))["key"]
    async with open_connection(gate, key) as ask:
        assert [await ask() for _ in range(3)] == [200] * 3
        await delete(gate, f"{KEYS}/{id_of(key)}")
        assert await ask() == 401


async def test_the_day_of_last_use_is_noted_beside_the_checks(gate: World) -> None:
    """It is in the store after the next round, and not written again on that day."""
    path = ("used_on", "2026-11-24"), ("used_on", "2026-11-25")
    async with open_connection(gate, FILE_KEYS[0]) as ask:
        for day in path:
            assert await ask() == 200
            assert day not in (await listed(gate))["keys"][0].items()
            await gate.app.tick()
            assert day in (await listed(gate))["keys"][0].items()
            assert await ask() == 200
            await gate.app.tick()
            gate.hand.at += DAY
            await gate.app.tick()
    store = gate.app.registrar.access.store
    assert [key.used_day for key in (await store.client_keys())["dialer"].keys] == [NOW // DAY + 1]


async def test_streams_end_when_their_key_is_disabled(gate: World) -> None:
    key = (await gate.post(KEYS, {}))["key"]
    headers, more = (
        {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"},
        asyncio.Event(),
    )

    async def calls() -> AsyncIterator[bytes]:
        yield json.dumps(CALL).encode() + b"\n"
        await more.wait()
        yield json.dumps(CALL).encode() + b"\n"

    async with (
        gate.client.post("/v1/checks", data=calls(), headers=headers) as checks,
        gate.client.get("/v1/revocations/stream", headers=headers) as stream,
    ):
        assert "decision_id" in json.loads(await checks.content.readline())
        assert "seq" in json.loads(await stream.content.readline())
        await delete(gate, f"{KEYS}/{id_of(key)}")
        more.set()
        for response in (checks, stream):
            last = (await response.content.read()).splitlines()[-1]
            assert json.loads(last)["error"]["code"] == "auth.key_disabled"


# ---- commands, roles and tasks ---------------------------------------------------------------------------------------------


async def test_commands_make_list_and_disable_keys(gate: World) -> None:
    printed = await gate.output("key", "make", "dialer", "--last-day", "2026-12-01")
    key = printed.partition("key (shown once): ")[2].split()[0]
    await check(gate, key)
    table = await gate.output("key", "list")
    assert all(part in table for part in (id_of(key), "by cli:", "2026-12-01", "dialgate.yaml"))
    assert key not in table
    tasks = (await gate.get("/v1/tasks"))["tasks"]
    ends = {"kind": "key_ends", "name": "dialer", "days_left": 7.0, "page": "/console/keys"}
    assert ends in tasks
    assert "give the program another key" in await gate.output("tasks")
    assert "disabled" in await gate.output("key", "disable", "dialer", id_of(key))
    await check(gate, key, 401)
    assert ends not in (await gate.get("/v1/tasks"))["tasks"]
    assert "api_key.unknown" in await gate.output("key", "disable", "dialer", "abc", code=2)
    assert "api_key.client_unknown" in await gate.output("key", "make", "nobody", code=2)
    assert "last_day" in await gate.output("key", "make", "dialer", "--last-day", "soon", code=2)
    assert "key_sha256: " in await gate.output("key", "dialer")
    assert "key_sha256_file: " in await gate.output("key", "--out", tmp := gate.folder / "x.key", "dialer")
    assert tmp.stat().st_mode & 0o777 == 0o600


# ---- merging ---------------------------------------------------------------------------------------------------------------


def test_versions_of_keys_merge_in_any_order() -> None:
    made = ClientKey(sha256="a" * 64, made_at=5, made_by="root", expires_at=9)
    used = ClientKey(sha256="b" * 64, used_day=3)
    versions = [
        ClientKeys(client="dialer", keys=keys)
        for keys in (
            (used, made),
            (structs.replace(made, disabled_at=8, disabled_by="anna"), structs.replace(used, used_day=4)),
            (structs.replace(made, disabled_at=7, disabled_by="ben"), structs.replace(used, disabled_at=6)),
            (ClientKey(sha256="a" * 64, used_day=2),),
        )
    ]
    wanted = (
        structs.replace(used, used_day=4, disabled_at=6),
        structs.replace(made, disabled_at=7, disabled_by="ben", used_day=2),
    )
    for seed in range(24):
        chance, merged = random.Random(seed), ClientKeys(client="dialer")
        for version in chance.sample(versions, 4):
            merged = merged.merged(version).merged(version)
        assert merged.keys == wanted
