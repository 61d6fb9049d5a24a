"""Tests of the logs that gates on one store ship: found, proved and replayed by the other gates, also if their node is lost."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dialgate.audit.evidence_files import EvidenceOrder, make_evidence
from dialgate.audit.legal_holds import Holds
from dialgate.audit.number_history import Inquiry, Visibility
from dialgate.core.local_time import day_in
from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.crypto.keys import PeerKeys
from dialgate.crypto.log_signing import Signer, pem, public_keys
from dialgate.decision_log import make_checkpoint
from dialgate.decision_log.chains import Chains, homes
from dialgate.decision_log.inclusion_proofs import NoEvidence
from dialgate.runtime.clock import wall_clock
from dialgate.tools.verifier.verify_evidence import verify
from tests.cluster.test_peers import call, keys_of, replicate, two_gates
from tests.interfaces.console import test_console
from tests.shipping.test_shipping import a_bucket, a_folder
from tests.subjects.test_subjects import PERSON, report
from tests.support import redis_servers, world
from tests.support.commands import run_command
from tests.support.ports import free_port
from tests.support.running_gate import serving
from tests.support.world import CALL, CLEAR, KEY, LISTED, NOW, World

PURPOSE = "purpose=letter+of+24+November"


# In CI, what gates do with shipped logs is tested with a folder. A lost node, and a month that is retired, with objects too.
objects = pytest.param(a_bucket, id="objects")
in_torture = pytest.param(a_bucket, id="objects", marks=pytest.mark.torture)


@pytest.fixture(params=[pytest.param(a_folder, id="folder"), in_torture])
async def gates(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[World]]:
    """Run `rome` and `milan` on one store, as `two_gates`, with a common target of shipping."""
    async with two_gates(tmp_path, shipping=request.param(tmp_path).to) as worlds:
        await replicate(worlds[1])
        yield worlds


async def ship(*gates: World) -> None:
    """Let the gates sign a checkpoint and ship their logs. Then each copies what the others shipped."""
    for gate in gates:
        gate.hand.at += 61_000
        await gate.app.tick()
        await gate.output("ship", "--once")
    for gate in gates:
        gate.hand.at += 6_000
        await gate.app.tick()
        await gate.output("ship", "--once")


async def decisions(gate: World, *more: str, status: int = 200) -> Any:
    return await gate.get(f"/v1/decisions?{'&'.join((f'number={PERSON}', PURPOSE, *more))}", status)


def ids(response: Any) -> list[str]:
    return [decision["decision_id"] for decision in response["decisions"]]


def results(decision: Any) -> list[str]:
    return [outcome["result"] for outcome in decision["outcomes"]]


# ---- history of a number ---------------------------------------------------------------------------------------------


async def test_history_includes_the_shipped_decisions_of_every_gate(gates: list[World]) -> None:
    rome, milan = gates
    expected = []
    for at in range(6):
        gate = gates[at % 2]
        gate.hand.at = NOW + 20_000 + at * MINUTE
        expected.append(await call(gate, call_id=f"call-{at}"))
    await ship(rome, milan)
    for gate, other in ((rome, "milan"), (milan, "rome")):
        response = await decisions(gate)
        assert (ids(response), response["missing"], list(response["shipped"])) == (
            expected[::-1],
            {},
            [other],
        )
        assert response["notices"] == [
            f"Decisions by gate {other} are included up to {response['shipped'][other]}."
        ]
    output = await milan.output("why", CLEAR, "--purpose", "letter of 24 November", "--json")
    assert ids(msgspec.json.decode(output)) == expected[::-1]
    shown = await milan.output("log", "search")
    assert f"Decisions by gate rome are included up to {response['shipped']['rome']}." in shown
    assert all(name in shown for name in expected)
    words = ["log", "search", "--number", CLEAR, "--purpose", "letter of 24 November", "--json"]
    found = (await milan.command(*words)).out
    assert [json.loads(line)["decision_id"] for line in found.splitlines()] == expected[::-1]
    seen: list[str] = []
    more = True
    while more:
        page = await decisions(rome, "limit=4", *([f"before={seen[-1]}"] if seen else []))
        seen, more = seen + ids(page), page["more"]
    assert seen == expected[::-1]


async def test_a_decision_that_is_not_shipped_yet_is_not_reported_as_unknown(gates: list[World]) -> None:
    rome, milan = gates
    await call(rome)
    assert list((await decisions(milan))["missing"]) == ["rome"]
    await ship(rome, milan)
    name = await call(rome, call_id="later")
    for response in (
        await decisions(milan, f"before={name}", status=503),
        await milan.get(f"/v1/decisions/{name}", 503),
    ):
        assert response["error"]["code"] == "peer.unheard"
        assert "its gate has not shipped it yet" in response["error"]["message"]
    await ship(rome, milan)
    assert (await milan.get(f"/v1/decisions/{name}"))["decision_id"] == name
    unknown = await milan.get("/v1/decisions/00000000-1", 404)
    assert unknown["error"]["code"] == "decision.unknown"


async def test_other_client_sees_nothing_of_a_shipped_log(gates: list[World]) -> None:
    rome, milan = gates
    name = await call(rome)
    await ship(rome, milan)
    inquiry = Inquiry(milan.folder / "data", keys_of(milan), milan.app.config.shipped)
    for controllers, sees in (("acme",), True), ((), False):
        visibility = Visibility.for_client("stranger", controllers)
        assert (inquiry.one(name, visibility) is not None, len(inquiry.find(CLEAR, visibility))) == (
            sees,
            sees,
        )


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "the log of rome could not be read"),
        ("it", "non è stato possibile leggere le registrazioni di rome"),
    ],
)
async def test_a_gate_that_ships_nothing_is_reported_also_after_it_ended(
    tmp_path: Path, language: str, words: str
) -> None:
    for settings, why in (
        ({"shipping": a_folder(tmp_path).to}, "`dialgate ship`"),
        ({}, "`shipping.to` is not set"),
    ):
        folder = tmp_path / f"{tmp_path.name}-{len(settings)}"  # the name of the gates in the store
        folder.mkdir()
        async with two_gates(folder, **settings) as (rome, milan):
            await call(rome)
            rome.app.roster._beat_at = 0
            await rome.app.tick()  # records its membership
            for _ in range(2):
                response = await decisions(milan, f"language={language}")
                assert (ids(response), list(response["missing"])) == ([], ["rome"])
                assert words in response["notices"][-1]
                assert why in response["missing"]["rome"]
                await rome.app.roster.leave()


async def test_console_shows_and_proves_another_gates_decision(gates: list[World]) -> None:
    rome, milan = gates
    name = await call(rome)
    await ship(rome, milan)
    page = f"/console/decisions/{name}"
    async with test_console.browser(milan, KEY) as session:
        body = {"number": CLEAR, "purpose": "letter of 24 November", "controller": "acme"}
        assert name in await test_console.send(session, "/console/lookup", 200, **body)
        assert f"{page}/evidence" in await test_console.get(session, page)
        bundle = await test_console.send(session, f"{page}/evidence", 200, purpose="case 4711")
    assert name in verify(bundle.encode(), frozenset(), None)[0]


async def test_outcome_is_shown_whichever_gate_it_was_reported_to(gates: list[World]) -> None:
    rome, milan = gates
    name = await call(rome)
    await milan.post("/v1/outcomes", {"decision_id": name, "outcome": "answered"}, 200)
    await ship(rome, milan)
    for gate in gates:
        found = (await decisions(gate))["decisions"][0], await gate.get(f"/v1/decisions/{name}")
        assert [results(decision) for decision in found] == [["answered"], ["answered"]]
    for gate in gates:
        gate.hand.at += 120 * DAY
        world.store_time(gate.app.config.data, gate.hand.at)
    await rome.app.subjects.retire(rome.hand.at, drop=True)
    for gate in gates:
        assert [decision["result"] for decision in (await report(gate))["decisions"]] == ["answered"]


async def test_gates_of_another_store_with_the_same_target_are_not_read(tmp_path: Path) -> None:
    """They belong to another operator's installation, whose keys this one does not have."""
    to = a_folder(tmp_path).to
    for name in ("one", "two"):
        (tmp_path / f"{tmp_path.name}-{name}").mkdir()
    async with (
        two_gates(tmp_path / f"{tmp_path.name}-one", shipping=to) as (rome, milan),
        two_gates(tmp_path / f"{tmp_path.name}-two", shipping=to) as (stranger, _),
    ):
        own = await call(rome)
        await call(stranger)
        await ship(stranger, rome, milan)
        assert ids(await decisions(milan)) == [own]
        found = (await milan.command("log", "search", "--json")).out
        assert [json.loads(line)["decision_id"] for line in found.splitlines()] == [own]


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gates", [pytest.param(a_folder, id="folder"), objects], indirect=True)
async def test_a_retired_month_is_retired_in_shipped_logs_too(gates: list[World]) -> None:
    """Held decisions stay linked. The keys in the store and in all copies go, also if the node is gone."""
    rome, milan = gates
    names = [await call(rome, call_id=str(at)) for at in range(2)]
    await ship(rome, milan)
    log = names[0].partition("-")[0]
    later = NOW + 12 * 366 * DAY
    for gate in gates:
        gate.hand.at = later
        world.store_time(gate.folder / "data", later)
        gate.app.gate._clock()
    keys_of(milan).month(later)
    peers = milan.folder / "data" / "peers" / f"{log}.json"
    assert "2026-11" in PeerKeys.open(peers).live()
    Holds(milan.folder / "data", keys_of(milan)).add(CLEAR, at=NOW, by="dpo", reason="case 4711")
    months = json.loads(await milan.output("log", "retire", "--yes", "--json"))
    assert [month["month"] for month in months["months"]] == ["2026-11"]
    assert "2026-11" not in PeerKeys.open(peers).live()
    (hold,) = Holds(milan.folder / "data", keys_of(milan)).all()
    assert set(hold.records) == set(names)
    await milan.app.shipped_logs.tick(later + HOUR)
    sealed = await milan.app._store.sealed_months()
    assert not keys_of(rome).has_published(public_of(rome), sealed[log]), (
        "a running node publishes again until it retires the month"
    )
    await rome.app.shipped_logs.tick(later + HOUR)
    assert keys_of(rome).has_published(public_of(rome), (await milan.app._store.sealed_months())[log])


def public_of(gate: World) -> Mapping[str, bytes]:
    return public_keys(gate.folder / "data" / "signing.json")


async def test_a_log_that_another_key_signed_is_not_proved(tmp_path: Path) -> None:
    """Whoever can write to the copies can replace the checkpoints, and the public keys beside them."""
    to = a_folder(tmp_path).to
    async with two_gates(tmp_path, shipping=to) as (rome, milan):
        name = await call(rome)
        await ship(rome, milan)
        order = milan.app.config, EvidenceOrder(decision=name), milan.hand.at
        assert await asyncio.to_thread(make_evidence, *order)
        shipped = homes(milan.folder / "data", milan.app.config.shipped)[1]
        forger = Signer.open(tmp_path / "forger.json", NOW)
        (shipped.folder / f"keys/{forger.name}.pem").write_bytes(pem(forger.public[forger.name]))
        for part in (shipped.folder / "log").glob("*.checkpoints"):
            part.unlink()
        assert make_checkpoint(shipped.folder / "log", log=keys_of(rome).log, signer=forger, now=NOW)
        with pytest.raises(NoEvidence, match=f"unknown key {forger.name}"):
            await asyncio.to_thread(make_evidence, *order)


@pytest.mark.parametrize("does_not_answer", [False, True], ids=["modified", "without answer"])
async def test_a_shipped_log_neither_misleads_nor_delays_a_stop(
    tmp_path: Path, *, does_not_answer: bool
) -> None:
    """`milan` gets the opt-out for a call that `rome` allowed. The copy names another number, or the share hangs."""
    async with two_gates(tmp_path, shipping=a_folder(tmp_path).to) as (rome, milan):
        await replicate(milan)
        name = await call(rome)
        await call(rome, to=LISTED)
        await ship(rome, milan)
        (path,) = homes(milan.folder / "data", milan.app.config.shipped)[1].folder.glob("log/*.ndjson")
        lines = path.read_bytes()
        if does_not_answer:
            path.unlink()
            os.mkfifo(path)  # a reader waits until somebody writes
        else:
            first, second = re.findall(rb'"sealed":"[^"]+"', lines)
            path.write_bytes(lines.replace(first, b"?").replace(second, first).replace(b"?", second))
        stop = await milan.post("/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)
        assert stop["revocation"]["seq"]
        assert world.codes(await world.ask(milan.app)) == ["revocation.revoked"]
        assert "revocation.revoked" not in world.codes(await world.ask(milan.app, to=LISTED))
        if does_not_answer:
            pipe = path.rename(tmp_path / "pipe")
            path.write_bytes(lines)
            pipe.write_bytes(b"")  # ends the thread


async def test_a_second_folder_with_a_log_does_not_take_the_place_of_the_first(gates: list[World]) -> None:
    rome, milan = gates
    names = [await call(gate) for gate in gates]
    await ship(rome, milan)
    data, shipped = milan.folder / "data", milan.app.config.shipped
    assert shipped is not None
    (copy,) = homes(data, shipped)[1:]
    shutil.copytree(data / "log", shipped / "zurich" / copy.folder.name / "log")
    assert [home.node for home in homes(data, shipped)] == ["", "rome"]
    assert all(map(Chains(data, shipped).find, names))


async def test_keys_survive_an_emptied_store(gates: list[World]) -> None:
    rome, milan = gates
    await ship(rome, milan)
    assert await milan.app._store._documents("months")
    await milan.app._store.commands.run("DEL", milan.app._store.commands.key("months"))  # type: ignore[attr-defined]
    await milan.app.shipped_logs.tick(NOW + HOUR)
    assert set(await milan.app._store.sealed_months()) == {keys_of(gate).log for gate in gates}


async def test_unreadable_keys_do_not_stop_the_exchange_of_the_others(
    gates: list[World], capsys: pytest.CaptureFixture[str]
) -> None:
    rome, milan = gates
    logs, store = [keys_of(gate).log for gate in gates], milan.app._store
    await store.put_sealed_months("0", b"damaged")
    await store.put_sealed_months(logs[0], b"damaged")
    (milan.folder / "data/peers" / f"{logs[0]}.json").unlink(missing_ok=True)
    for gate in (rome, milan):
        await gate.app.shipped_logs.tick(NOW + HOUR)
    assert keys_of(rome).has_published(public_of(rome), (await store.sealed_months())[logs[0]])
    assert "2026-11" in PeerKeys.open(milan.folder / "data/peers" / f"{logs[0]}.json").live()
    assert "log 0: " in capsys.readouterr().out
    assert (await store.sealed_months())["0"] == b"damaged"


# ---- a lost node -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [pytest.param(a_folder, id="folder", marks=pytest.mark.torture), objects])
async def test_every_shipped_decision_of_a_lost_node_is_found_proved_and_replayed(
    tmp_path: Path, target: Any
) -> None:
    """`rome` is killed and its disk deleted. It had another configuration than `milan`, which has its law and keys."""
    to, ports = target(tmp_path).to, {"rome": free_port(), "milan": free_port()}
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    scopes = [*world.SCOPES, "subjects", "admin", "watch", "stream"]
    for name, port in ports.items():
        (tmp_path / name).mkdir()
        world.write_folder(
            tmp_path / name,
            node=name,
            store=store,
            listen={"port": port},
            shipping=to,
            checkpoint_seconds=0.5,
            clients=[world.client("tests", KEY, *scopes)],
            **({"answer_seconds": 61} if name == "rome" else {}),
        )
    async with AsyncExitStack() as running:
        rome_config, milan_config = (tmp_path / name / "dialgate.yaml" for name in ports)
        world.publish_answers(tmp_path / "rome/data", world.ANSWERS, wall_clock() - DAY)
        async with serving(rome_config) as rome:
            world.share_keys(tmp_path / "rome", tmp_path / "milan")
            shutil.copytree(tmp_path / "rome/data/snapshots", tmp_path / "milan/data/snapshots")
            milan = await running.enter_async_context(serving(milan_config))
            await rome.post("/v1/lists", world.LIST)
            answers = [await rome.post("/v1/check", {**CALL, "call_id": str(at)}) for at in range(8)]
            names = [answer["decision_id"] for answer in answers]
            await rome.post("/v1/outcomes", {"decision_id": names[0], "outcome": "answered"})
            async with asyncio.timeout(60):
                while await search(milan_config) != dict.fromkeys(names, "") | {names[0]: "answered"}:
                    for config in (rome_config, milan_config):
                        await command(config, "ship", "--once", code=None)
            rome.process.send_signal(signal.SIGKILL)
        shutil.rmtree(tmp_path / "rome")

        why = json.loads(await command(milan_config, "why", *WHY))
        assert sorted(ids(why)) == sorted(names)
        assert list(why["shipped"]) == ["rome"]
        assert [
            results(decision) for decision in why["decisions"] if decision["decision_id"] == names[0]
        ] == [["answered"]]
        assert (await search(milan_config)).keys() == set(names)
        replayed = json.loads(await command(milan_config, "log", "replay", "--json"))
        assert (replayed["records"], replayed["different"]) == (8, 0)
        assert json.loads(await command(milan_config, "log", "replay", names[3], "--json"))["records"] == 1
        async with milan.client.post(
            "/v1/evidence", json={"decision": names[0], "purpose": "case 4711"}
        ) as answer:
            assert answer.status == 200, await answer.text()
            text = "\n".join(verify(await answer.read(), frozenset(), None))
        assert all(part in text for part in (names[0], "allow", CLEAR, "answered"))
        day = day_in("Europe/Rome", wall_clock())
        async with milan.client.get(f"/v1/report?day={day}&format=json") as answer:
            made = await answer.json()
        assert (made["asked"], list(made["shipped"])) == (8, ["rome"])
        stop = await milan.post("/v1/outcomes", {"decision_id": names[0], "outcome": "opt_out"})
        assert stop["revocation"]["seq"]
        async with milan.client.get("/v1/revocations/stream?after=0") as answer:
            assert json.loads(await answer.content.readline())["number"] == CLEAR


async def search(config: Path) -> dict[str, str]:
    """Return the outcome of each decision that `log search` finds on a node."""
    lines = (await command(config, "log", "search", "--json", code=None)).splitlines()
    return {hit["decision_id"]: hit["outcome"] for hit in map(json.loads, lines)}


WHY = (CLEAR, "--purpose", "letter of 24 November", "--json")


async def command(config: Path, *words: str, code: int | None = 0) -> str:
    done = await asyncio.to_thread(run_command, "dialgate", *words, "--config", str(config))
    assert code is None or done.code == code, done
    return done.out
