"""Tests of gates on one store: requests between peers, and replication of call lists."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from dialgate.audit.legal_holds import Holds
from dialgate.cluster import peer_questions
from dialgate.cluster.list_replication import read_part
from dialgate.cluster.peer_questions import FindPersonalData, ReadListFile
from dialgate.cluster.peers import PeerRequest
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.config.content_store import owners
from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.lists import call_list
from dialgate.store import StoreUnavailable
from dialgate.tools.conformance.gates import listening
from tests.subjects.test_subjects import CLIENTS, CONSENT, PERSON, ask, report
from tests.support import redis_servers, world, yaml_files
from tests.support.damage import flip
from tests.support.ports import free_port
from tests.support.world import CALL, CLEAR, KEY, NOW, World


@pytest.fixture
async def gates(tmp_path: Path) -> AsyncIterator[list[World]]:
    async with two_gates(tmp_path) as worlds:
        yield worlds


@asynccontextmanager
async def two_gates(tmp_path: Path, **changes: Any) -> AsyncIterator[list[World]]:
    """Run two gates on one store. `rome` has a call list. `milan` shares the keys of `rome` but has no call list."""
    ports = {"rome": free_port(), "milan": free_port()}
    peers = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    async with AsyncExitStack() as running:
        worlds: list[World] = []
        for name, port in ports.items():
            folder = tmp_path / name
            folder.mkdir()
            if worlds:
                world.share_keys(worlds[0].folder, folder)
            listen = {"host": "127.0.0.1", "port": port}
            settings: dict[str, Any] = {
                "listen": listen,
                "node": name,
                "store": store,
                "peers": peers,
                "clients": CLIENTS,
                **changes,
            }
            worlds.append(await running.enter_async_context(world.running(folder, **settings)))
        await world.load_list(worlds[0])
        yield worlds


async def replicate(gate: World) -> None:
    """Run one round of list replication and wait until it is complete."""
    gate.hand.at += 11_000
    await gate.app.tick()
    assert gate.app._list_replication._task is not None
    await gate.app._list_replication._task
    await gate.app.tick()


async def call(gate: World, **changes: Any) -> str:
    answer = await gate.post("/v1/check", {**CALL, **changes}, 200)
    return str(answer["decision_id"])


def keys_of(gate: World) -> Keys:
    return Keys.open(gate.folder / "data/keys.json")


def remove_peer(gate: World, name: str) -> None:
    config = gate.app.config
    peers = {node: url for node, url in config.settings.peers.items() if node != name}
    gate.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))


def set_peer(gate: World, name: str, url: str) -> None:
    config = gate.app.config
    peers = {**config.settings.peers, name: url}
    gate.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))


# ---- rights of data subjects -----------------------------------------------------------------------------------------


async def test_access_report_covers_every_gate(gates: list[World]) -> None:
    rome, milan = gates
    await replicate(milan)
    expected = {await call(rome, call_id="one"), await call(milan, call_id="two")}
    await ask(rome, "access")
    await report(rome)
    response = await report(milan)
    assert {decision["id"] for decision in response["decisions"]} == expected
    assert [case["kind"] for case in response["requests"]] == ["access"]
    assert len(response["lookups"]) == 2
    assert [call_list["list"] for call_list in response["lists"]] == ["rome"]
    assert [registry["registry"] for registry in response["registries"]] == ["rpo"]
    assert response["missing"] == {}
    page = f"/v1/subjects/{PERSON}?purpose=letter+of+24+November&language=it"
    set_peer(milan, "rome", f"http://127.0.0.1:{free_port()}")
    async with milan.client.get(page) as answer:
        assert "non hanno risposto: rome." in await answer.text()


async def test_look_ups_of_every_gate_are_one_list(gates: list[World]) -> None:
    rome, milan = gates
    for place, gate in enumerate((rome, milan, rome)):
        for running in gates:
            running.hand.at += MINUTE
        await gate.get(f"/v1/subjects/{CLEAR}?purpose=letter+{place}")
    page = await milan.get("/v1/lookups?limit=2")
    found = [(lookup["node"], lookup["purpose"]) for lookup in page["lookups"]]
    assert (found, page["more"], page["missing"]) == ([("rome", "letter 2"), ("milan", "letter 1")], True, {})
    rest = await rome.get(f"/v1/lookups?before={page['lookups'][-1]['id']}")
    assert [lookup["purpose"] for lookup in rest["lookups"]] == ["letter 0"]
    remove_peer(milan, "rome")
    assert list((await milan.get("/v1/lookups"))["missing"]) == ["rome"]


async def erase(gate: World) -> Any:
    request = await ask(gate, "erasure")
    return await gate.post(f"/v1/subjects/{PERSON}/erasure", {"request": request["id"]}, 200)


def about(response: Any, what: str) -> dict[str, Any]:
    (found,) = [item for item in response["items"] if item["what"] == what]
    return dict(found)


async def test_consent_used_by_another_gate_is_restricted(gates: list[World]) -> None:
    rome, milan = gates
    await rome.post("/v1/consents", CONSENT)
    await call(rome)
    response = await erase(milan)
    assert about(response, "consent")["done"] == "restricted"
    assert about(response, "decisions")["name"] == "1"


async def test_consent_used_by_no_gate_is_erased(gates: list[World]) -> None:
    rome, milan = gates
    await rome.post("/v1/consents", CONSENT)
    response = await erase(milan)
    assert (about(response, "consent")["done"], response["missing"]) == ("erased", {})


async def test_erasure_waits_for_a_missing_gate_but_suppresses_at_once(
    gates: list[World],
) -> None:
    rome, milan = gates
    await replicate(milan)
    await rome.post("/v1/consents", CONSENT)
    away = f"http://127.0.0.1:{free_port()}"
    set_peer(milan, "rome", away)
    path = f"/v1/subjects/{PERSON}/erasure"
    body = {"request": (await ask(milan, "erasure"))["id"]}
    response = await milan.post(path, body, 200)
    for what in ("consent", "call list"):
        assert (about(response, what)["done"], "rome" in about(response, what)["why"]) == ("kept", True)
    assert list(response["missing"]) == ["rome"]
    assert (await rome.post("/v1/check", CALL, 200))["reasons"][0]["code"] == "revocation.revoked"
    set_peer(milan, "rome", f"http://127.0.0.1:{rome.port}")
    await milan.output("subject", "erase", CLEAR, "--request", body["request"])
    assert [entry["kind"] for entry in (await report(rome))["ledger"]] == ["revoked"]
    assert (await milan.post(path, body, 200))["missing"] == {}  # it is still open, for the answer


async def test_request_stays_open_if_a_gate_cannot_clear_its_lists(gates: list[World]) -> None:
    """The lists cleared so far stay cleared. Permissions are erased when all gates are done."""
    rome, milan = gates
    await replicate(milan)
    await rome.post("/v1/consents", CONSENT)
    lost = rome.folder / "lost"
    lost.mkdir()
    (lost / "holds.json").write_text("{")
    erasing, keys = rome.app.subjects.erasing, keys_of(rome)
    whole, erasing.holds = erasing.holds, SharedHolds(Holds(lost, keys), keys, rome.app._store)
    request = {"request": (await ask(milan, "erasure"))["id"]}
    path = f"/v1/subjects/{PERSON}/erasure"
    response = await milan.post(path, request, 200)
    assert list(response["missing"]) == ["rome"]
    assert (about(response, "call list")["done"], about(response, "consent")["done"]) == ("erased", "kept")
    erasing.holds = whole
    response = await milan.post(path, request, 200)
    assert (response["missing"], about(response, "consent")["done"]) == ({}, "erased")


@pytest.mark.parametrize("has", ["both", "the other"])
async def test_erasure_removes_the_number_from_every_gates_lists(gates: list[World], has: str) -> None:
    milan = gates[1]
    if has == "both":
        await replicate(milan)
    response = await erase(milan)
    assert about(response, "call list")["name"] == "rome"
    for gate in gates:
        await gate.app.tick()
        await replicate(gate)
        folder = gate.folder / "data" / "lists"
        gate.app._list_replication.grace = float("-inf")
        await replicate(gate)
        (record,) = await gate.app._store.lists()
        assert [path.name for path in folder.iterdir()] == [record.file]
    assert (await report(milan))["lists"] == []


async def test_erasure_leaves_no_file_of_a_retired_list_with_the_number(gates: list[World]) -> None:
    """A gate gets the new file of an active list from the other, but a retired one is not copied."""
    rome, milan = gates
    await replicate(milan)
    await rome.post("/v1/lists/rome/retire", {}, 200)
    before = {path for gate in gates for path in (gate.folder / "data" / "lists").iterdir()}
    assert len(before) == 2
    assert (await erase(rome))["missing"] == {}
    for gate in gates:
        gate.app._list_replication.grace = float("-inf")
        await replicate(gate)
    assert [path for path in before if path.exists()] == []


async def test_leftover_files_are_deleted_after_the_grace_time(gates: list[World]) -> None:
    rome = gates[0]
    (kept,) = (rome.folder / "data" / "lists").iterdir()
    names = [
        "acme.rome.0123456789abcdef.numbers",
        "acme.other.0123456789abcdef.numbers",  # the store failed during the load
        "0123456789abcdef.new",
    ]
    for name in names:
        kept.with_name(name).write_bytes(b"")
    await replicate(rome)
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, *names}
    rome.app._list_replication.grace = float("-inf")
    await replicate(rome)
    assert [*kept.parent.iterdir()] == [kept]


async def test_two_lists_whose_ids_join_to_the_same_name_both_stay(tmp_path: Path) -> None:
    """`acme`/`rome.x` and `acme.rome`/`x` are different lists, also if an earlier version gave both the same stem."""
    async with world.running(tmp_path) as gate:
        folder = tmp_path / "data" / "lists"
        folder.mkdir(exist_ok=True)
        names = [
            call_list.file_name("acme", "rome.x", "0" * 64),
            call_list.file_name("acme.rome", "x", "0" * 64),
        ]
        assert len(set(names)) == 2
        names += ["acme.rome.x.0123456789abcdef.numbers", "acme.rome.x.fedcba9876543210.numbers"]
        for at, name in enumerate(names):
            record = world.write_list(folder, id=f"l{at}", file=name)
            await gate.app._store.add_list(record)
        gate.app._list_replication.grace = float("-inf")
        await replicate(gate)
        assert {path.name for path in folder.iterdir()} == set(names)


async def test_list_files_are_kept_if_the_store_has_no_lists(tmp_path: Path) -> None:
    async with world.running(tmp_path) as gate:
        folder = tmp_path / "data" / "lists"
        folder.mkdir(exist_ok=True)
        file = folder / "acme.other.0123456789abcdef.numbers"
        file.write_bytes(b"")
        gate.app._list_replication.grace = float("-inf")
        await replicate(gate)
        assert file.exists()


async def test_old_version_is_kept_until_the_new_one_is_here(gates: list[World]) -> None:
    """If the gate with the new version is lost, the old version is the only copy."""
    rome, milan = gates
    await replicate(milan)
    await erase(milan)
    set_peer(rome, "milan", f"http://127.0.0.1:{free_port()}")
    rome.app._list_replication.grace = float("-inf")
    before = set((rome.folder / "data" / "lists").iterdir())
    await replicate(rome)
    assert set((rome.folder / "data" / "lists").iterdir()) == before


async def test_hold_is_placed_and_lifted_at_every_gate(gates: list[World]) -> None:
    rome, milan = gates
    both = [Holds(gate.folder / "data", keys_of(gate)) for gate in gates]
    words = ["log", "hold", "add", CLEAR, "--reason", "Garante, case 4711", "--by", "dpo"]
    lift = ["log", "hold", "lift", CLEAR, "--reason", "closed", "--by", "dpo"]
    for _ in range(2):  # a number can be on hold again
        await milan.output(*words)
        await rome.app.subjects.holds.sync()
        assert [holds.find(CLEAR) is not None for holds in both] == [True, True]
        assert "already" in await rome.output(*words, code=1)
        for gate in gates:
            gate.hand.at += MINUTE
        await rome.output(*lift)
        await milan.app.subjects.holds.sync()
        assert [holds.find(CLEAR) for holds in both] == [None, None]
        assert "not under a legal hold" in await milan.output(*lift, code=1)
        for gate in gates:
            gate.hand.at += MINUTE
    (stored,) = (await rome.app._store.holds()).values()
    assert stored.number == b""


async def test_a_hold_outlasts_the_store(gates: list[World]) -> None:
    """A gate publishes its holds again if the store was emptied, or lacks one that was placed without it."""
    rome, milan = gates
    Holds(rome.folder / "data", keys_of(rome)).add(CLEAR, at=NOW, by="dpo", reason="case 4711")
    for _ in range(2):
        await rome.app.subjects.holds.sync()
        assert CLEAR in (await milan.app.subjects.holds.sync()).numbers
        commands = rome.app._store.commands  # type: ignore[attr-defined]
        await commands.run("DEL", commands.key("holds"))


async def test_data_held_by_another_gate_is_not_erased(gates: list[World]) -> None:
    rome, milan = gates
    await replicate(milan)
    await milan.post("/v1/consents", CONSENT)
    await rome.output("log", "hold", "add", CLEAR, "--reason", "case 4711", "--by", "dpo")
    before = {path.name for path in (rome.folder / "data" / "lists").iterdir()}
    response = await erase(milan)
    assert {about(response, what)["done"] for what in ("consent", "call list")} == {"restricted"}
    assert {path.name for path in (milan.folder / "data" / "lists").iterdir()} == before


async def test_holds_are_copied_before_keys_are_destroyed(gates: list[World]) -> None:
    rome, milan = gates
    await rome.output("log", "hold", "add", CLEAR, "--reason", "case 4711", "--by", "dpo")
    world.store_time(milan.folder / "data", NOW)
    await milan.output("log", "retire", "--yes")
    assert Holds(milan.folder / "data", keys_of(milan)).find(CLEAR) is not None


async def test_retention_waits_until_holds_can_be_read_and_retries_hourly(gates: list[World]) -> None:
    milan = gates[1]
    subjects = milan.app.subjects
    (milan.folder / "data" / "holds.json").write_text("{")
    with pytest.raises(StoreUnavailable, match=r"legal holds: .* Restore the file"):
        await subjects.retire(NOW, drop=True)
    assert "Restore the file" in await milan.output("log", "retire", "--yes", code=1)
    due = []
    for hours in (25, 25.5, 26):
        await subjects.observe(NOW + int(hours * HOUR))
        if subjects._removing is not None:
            await subjects._removing
        due.append((await subjects._file.last_run("retention") + DAY - NOW) / HOUR)
    assert due == [26, 26, 27]


# ---- outcomes --------------------------------------------------------------------------------------------------------


async def test_opt_out_may_be_reported_to_any_gate(gates: list[World]) -> None:
    rome, milan = gates
    name = await call(rome)
    done = await milan.post("/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)
    assert done["revocation"]["seq"] == 1
    answer = await rome.post("/v1/check", {**CALL, "call_id": "again"}, 200)
    assert answer["reasons"][0]["code"] == "revocation.revoked"


async def test_opt_out_binds_even_if_the_deciding_gate_is_missing(gates: list[World]) -> None:
    """If the deciding gate is unreachable, an opt-out still blocks later calls on every gate.

    The store then has only a keyed hash of the number. The stream of revocations cannot show the number, so it omits
    the revocation.
    """
    rome, milan = gates
    name = await call(rome)
    set_peer(milan, "rome", f"http://127.0.0.1:{free_port()}")
    done = await milan.post("/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)
    assert done["revocation"]["seq"] == 1
    for gate in gates:
        answer = await gate.post("/v1/check", {**CALL, "call_id": gate.app.config.settings.node}, 200)
        assert answer["reasons"][0]["code"] == "revocation.revoked"
    (entry,) = (await report(rome))["ledger"]
    assert (entry["kind"], entry["channel"], entry["proof"]) == ("revoked", "call", f"decision:{name}")
    assert (await rome.app.registrar.notices.after(0, ["acme"]))[0] == []


async def test_opt_out_is_refused_if_the_controller_is_ambiguous(gates: list[World]) -> None:
    """The keyed hash of a number also depends on the controller of the call."""
    rome, milan = gates
    name = await call(rome)
    set_peer(milan, "rome", f"http://127.0.0.1:{free_port()}")
    path = milan.folder / "controllers" / "acme.yaml"
    another = yaml_files.read(path) | {"id": "acme-2"}
    kept = milan.folder / "data" / "kept"
    yaml_files.write(kept / "0", another)
    assert owners(kept, "acme-fibre") == {"acme", "acme-2"}
    await milan.post("/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 503)
    (kept / "0").unlink()
    await milan.post("/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)


async def test_only_the_owner_learns_that_the_record_of_a_decision_is_missing(gates: list[World]) -> None:
    """If the campaign is no longer configured, only the id can show that the client owns the decision.

    An internal id shows the owner only if the gate has one controller.
    """
    rome, milan = gates
    name = await call(rome)
    set_peer(milan, "rome", f"http://127.0.0.1:{free_port()}")
    path = milan.folder / "controllers" / "acme.yaml"
    acme = yaml_files.read(path)
    campaign = acme["campaigns"][0]
    yaml_files.write(path, {**acme, "campaigns": [{**campaign, "id": "another"}]})
    reload_controllers(milan)
    assert await report_opt_out(milan, name, KEY) == 503
    beta = {**campaign, "id": "beta-fibre", "caller_ids": ["+390844123457"]}
    yaml_files.write(path.with_name("beta.yaml"), {**acme, "id": "beta", "campaigns": [beta]})
    reload_controllers(milan, {**world.client("beta", "key-of-beta", *world.SCOPES), "controllers": ["beta"]})
    outside = milan.app.registrar.access.ids.outside(name, "acme")
    reports = [(name, KEY), (name, "key-of-beta"), (outside, KEY), (outside, "key-of-beta")]
    assert [await report_opt_out(milan, *row) for row in reports] == [404, 404, 503, 404]


def reload_controllers(gate: World, *clients: dict[str, Any]) -> None:
    """Apply the changed files of controllers and more clients. The peers stay as they are."""
    path = gate.folder / "dialgate.yaml"
    settings = yaml_files.read(path)
    yaml_files.write(path, {**settings, "clients": [*CLIENTS, *clients]})
    config, peers = loader.load(path), gate.app.config.settings.peers
    gate.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))


async def report_opt_out(gate: World, decision: str, key: str) -> int:
    body, headers = {"decision_id": decision, "outcome": "opt_out"}, {"Authorization": f"Bearer {key}"}
    async with gate.client.post("/v1/outcomes", json=body, headers=headers) as answer:
        return answer.status


# ---- removed gates ---------------------------------------------------------------------------------------------------


async def test_removed_gate_can_be_forgotten(gates: list[World]) -> None:
    rome, milan = gates
    forget = ["nodes", "--forget", "rome"]
    await rome.app.tick()
    assert "Stop it first" in await milan.output(*forget, code=1)
    rome.hand.at = NOW - HOUR
    await rome.app.roster.tick(structs.replace(rome.app._presence, at=rome.hand.at), rome.app.config)
    remove_peer(milan, "rome")
    assert list((await report(milan))["missing"]) == ["rome"]
    assert "rome" not in await milan.output(*forget)
    assert (await report(milan))["missing"] == {}
    await milan.output(*forget, code=2)


# ---- call lists ------------------------------------------------------------------------------------------------------


async def test_list_is_replicated_to_every_gate(gates: list[World]) -> None:
    _, milan = gates
    assert (await milan.post("/v1/check", CALL, 200))["reasons"][0]["code"] == "list.unknown"
    milan.app._list_replication.part = 7  # bytes; so it is copied in parts
    await replicate(milan)
    assert (await milan.post("/v1/check", {**CALL, "call_id": "again"}, 200))["decision"] == "allow"
    paths = [next((gate.folder / "data" / "lists").iterdir()) for gate in gates]
    assert paths[0].read_bytes() == paths[1].read_bytes()


async def test_shutdown_does_not_wait_for_peers(gates: list[World]) -> None:
    """The cases include a peer that accepts the request and never answers."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()

    milan, begun = gates[1], asyncio.Event()
    copies, peers = milan.app._list_replication, milan.app.subjects.peers
    await replicate(milan)
    (path,) = (milan.folder / "data" / "lists").iterdir()
    path.unlink()
    async with listening(silent) as port:
        set_peer(milan, "rome", f"http://127.0.0.1:{port}")
        milan.app.gate._gatherer.use_lists({})
        milan.hand.at += 11_000
        await milan.app.tick()
        await begun.wait()
        asking = asyncio.create_task(peers.ask(QUESTION))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await peers.close()
            await copies.close()
        assert (await asking).missing == {"rome": "this gate is shutting down"}
        assert (await peers.ask(QUESTION)).missing == {"rome": "this gate is shutting down"}
    assert list((milan.folder / "data" / "lists").iterdir()) == []


async def test_damaged_copy_of_a_peer_is_not_used(gates: list[World]) -> None:
    rome, milan = gates
    (path,) = (rome.folder / "data" / "lists").iterdir()
    whole = path.read_bytes()
    flip(path)
    await replicate(milan)
    assert list((milan.folder / "data" / "lists").iterdir()) == []
    assert (await milan.post("/v1/check", CALL, 200))["reasons"][0]["code"] == "list.unknown"
    path.write_bytes(whole)
    await replicate(milan)
    assert (await milan.post("/v1/check", {**CALL, "call_id": "again"}, 200))["decision"] == "allow"


async def test_damaged_file_is_copied_again(gates: list[World]) -> None:
    milan = gates[1]
    await replicate(milan)
    (path,) = (milan.folder / "data" / "lists").iterdir()
    whole = path.read_bytes()
    flip(path)
    milan.app.gate._gatherer.use_lists({})
    await replicate(milan)
    assert path.read_bytes() == whole
    assert (await milan.post("/v1/check", CALL, 200))["decision"] == "allow"


async def test_list_is_copied_from_a_gate_that_has_it(gates: list[World]) -> None:
    """The gate copies the list from a second peer if the first peer is unreachable."""
    milan = gates[1]
    set_peer(milan, "genoa", f"http://127.0.0.1:{free_port()}")
    config = milan.app.config
    peers = dict(sorted(config.settings.peers.items()))
    milan.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))
    assert next(iter(peers)) == "genoa"
    await replicate(milan)
    assert (await milan.post("/v1/check", CALL, 200))["decision"] == "allow"


async def test_only_list_files_are_readable(gates: list[World]) -> None:
    data = gates[0].folder / "data"
    (name,) = (path.name for path in (data / "lists").iterdir())
    assert await read_part(data, ReadListFile(name, 0, 100)) != b""
    (data / "lists/keys.json").write_text("{}")
    for file in ("a\0.numbers", ".numbers", "../keys.json", "/etc/passwd", "nothing.numbers", f"../lists/{name}", "keys.json"):  # fmt: skip
        assert await read_part(data, ReadListFile(file, 0, 100)) == b"", file


# ---- encryption ------------------------------------------------------------------------------------------------------

QUESTION = FindPersonalData("acme", CLEAR)


def seal(gate: World, node: str, request: PeerRequest) -> bytes:
    about = f"question to {node}".encode()
    return keys_of(gate).peers.close(msgspec.msgpack.encode(request), next(nonces()), about)


@pytest.mark.parametrize(
    ("question", "wire"),
    [
        (peer_questions.FindCall("9f2c01ab-1"), {"type": "called", "decision": "9f2c01ab-1"}),
        (QUESTION, {"type": "person", "controller": "acme", "number": CLEAR}),
        (
            peer_questions.RemoveFromLists("acme", CLEAR),
            {"type": "erase", "controller": "acme", "number": CLEAR},
        ),
        (
            peer_questions.RemoveFromLists("acme", CLEAR, ("rome",)),
            {"type": "erase", "controller": "acme", "number": CLEAR, "lists": ["rome"]},
        ),
        (ReadListFile("x.numbers", 1, 2), {"type": "list", "file": "x.numbers", "offset": 1, "most": 2}),
    ],
)
def test_wire_format_of_questions_is_stable(
    question: peer_questions.AnyQuestion, wire: dict[str, Any]
) -> None:
    """The wire format of released versions: a gate that is not upgraded yet sends and expects exactly this."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(question)) == wire
    request = {"at": 1, "node": "rome", "question": wire}
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=PeerRequest)
    assert decoded == PeerRequest(1, "rome", question)


async def post(gate: World, body: bytes) -> tuple[int, bytes]:
    async with gate.client.post("/peer", data=body) as answer:
        return answer.status, await answer.read()


async def test_a_gate_without_peers_refuses_a_request_before_its_body_arrives(running: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"POST /peer HTTP/1.1\r\nHost: gate\r\nContent-Length: 1000000\r\n\r\n")
    assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 403 Forbidden\r\n"
    writer.close()


async def test_invalid_request_is_refused(gates: list[World]) -> None:
    rome, milan = gates
    right = seal(milan, "rome", PeerRequest(milan.hand.at, "milan", QUESTION))
    assert (await post(rome, right))[0] == 200
    wrong = {
        "empty": b"",
        "not encrypted": b'{"question":"who is it?"}',
        "changed": right[:-1] + bytes([right[-1] ^ 1]),
        "for another gate": seal(milan, "milan", PeerRequest(milan.hand.at, "milan", QUESTION)),
        "old": seal(milan, "rome", PeerRequest(milan.hand.at - 6 * MINUTE, "milan", QUESTION)),
        "unknown gate with the keys": seal(milan, "rome", PeerRequest(milan.hand.at, "turin", QUESTION)),
        "from the future": seal(milan, "rome", PeerRequest(milan.hand.at + 6 * MINUTE, "milan", QUESTION)),
    }
    for about_, body in wrong.items():
        status, output = await post(rome, body)
        assert (status, msgspec.json.decode(output)["error"]["code"]) == (403, "peer.refused"), about_


async def test_no_personal_data_is_sent_in_clear(gates: list[World]) -> None:
    rome, milan = gates
    await call(rome)
    question = seal(milan, "rome", PeerRequest(milan.hand.at, "milan", QUESTION))
    status, answer = await post(rome, question)
    assert status == 200
    assert len(answer) > 200
    for seen in (question, answer):
        assert CLEAR.encode()[1:] not in seen
        assert b"acme" not in seen


async def test_replayed_answer_is_refused(gates: list[World]) -> None:
    """An attacker on the network might replay an older answer."""
    rome, milan = gates
    older = seal(milan, "rome", PeerRequest(milan.hand.at, "milan", QUESTION))
    _, answer = await post(rome, older)

    async def replay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    async with listening(replay) as port:
        set_peer(milan, "rome", f"http://127.0.0.1:{port}")
        response = await report(milan)
    assert response["missing"] == {
        "rome": "its answer cannot be decrypted or decoded, because it has other keys or another version"
    }


async def test_gate_with_another_name_refuses_the_request(gates: list[World]) -> None:
    rome, milan = gates
    set_peer(milan, "turin", f"http://127.0.0.1:{rome.port}")
    response = await report(milan)
    assert "a gate with a different name, or with different keys" in response["missing"]["turin"]
    assert list(response["missing"]) == ["turin"]


async def test_silent_peer_is_given_up_after_the_timeout(gates: list[World]) -> None:
    gates[1].app.subjects.peers.patience = 0.3

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        set_peer(gates[1], "rome", f"http://127.0.0.1:{port}")
        response = await report(gates[1])
    assert "rome" in response["missing"]


@pytest.mark.parametrize(
    "peers", [{"rome": "rome.example"}, {"rome": "http://rome.example/gate"}, {"Rome": "http://rome.example"}]
)
def test_invalid_peer_url_is_refused(tmp_path: Path, peers: dict[str, str]) -> None:
    path = world.write_folder(tmp_path, peers=peers, store={"url": "redis://localhost:6379/0"})
    with pytest.raises(ConfigError, match="peers"):
        loader.load(path)


def test_peers_need_a_shared_store(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path, peers={"rome": "http://rome.example:8080"})
    with pytest.raises(ConfigError, match="only gates that share a `store`"):
        loader.load(path)
