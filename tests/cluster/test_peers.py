"""Gates on one store ask each other: whoever is asked about a person answers for all of them, and a call list is everywhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec import structs
from typer.testing import CliRunner

from dialgate.audit.legal_holds import Holds
from dialgate.audit.number_history import Inquiry, Sees
from dialgate.cluster import decision_search, peer_questions
from dialgate.cluster.list_replication import read_part
from dialgate.cluster.peer_questions import (
    FindDecision,
    FindDecisions,
    FindPersonalData,
    LiftHold,
    PlaceHold,
    ReadListFile,
)
from dialgate.cluster.peers import PeerRequest
from dialgate.cluster.shared_holds import SharedHolds
from dialgate.config import loader
from dialgate.config.configuration import ConfigError
from dialgate.config.content_store import owners
from dialgate.core.model import HOUR, MINUTE, SECOND
from dialgate.crypto.keys import Keys, nonces
from dialgate.interfaces.cli.main import app
from dialgate.runtime.clock import wall_clock
from dialgate.store import StoreUnavailable
from dialgate.tools.conformance.gates import listening
from tests.interfaces.console import test_console
from tests.subjects.test_subjects import CLIENTS, CONSENT, PERSON, ask, get, report, send
from tests.support import redis_servers, world
from tests.support.damage import flip
from tests.support.ports import free_port
from tests.support.running_gate import program
from tests.support.world import CALL, CLEAR, KEY, NOW, World

PURPOSE = "purpose=letter+of+24+November"


@pytest.fixture
async def gates(tmp_path: Path) -> AsyncIterator[list[World]]:
    """`rome`, which has a call list, and `milan`, which has its keys and nothing else. What either misses, a test ends."""
    ports = {"rome": free_port(), "milan": free_port()}
    peers = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    async with AsyncExitStack() as running:
        made: list[World] = []
        for name, port in ports.items():
            folder = tmp_path / name
            folder.mkdir()
            if made:
                world.share_keys(made[0].folder, folder)
            listen = {"host": "127.0.0.1", "port": port}
            settled: dict[str, Any] = {
                "listen": listen,
                "node": name,
                "store": store,
                "peers": peers,
                "clients": CLIENTS,
            }
            made.append(await running.enter_async_context(world.running(folder, **settled)))
        await world.load_list(made[0])
        yield made


async def copied(gate: World) -> None:
    """Until what it lacked is there, or was not got."""
    gate.hand.at += 11_000
    await gate.app.tick()
    assert gate.app._list_replication._task is not None
    await gate.app._list_replication._task
    await gate.app.tick()


async def called(gate: World, **changes: Any) -> str:
    answer = await send(gate, "/v1/check", {**CALL, **changes}, 200)
    return str(answer["decision_id"])


async def decisions(gate: World, *more: str) -> Any:
    return await get(gate, f"/v1/decisions?{'&'.join((f'number={PERSON}', PURPOSE, *more))}")


def keys_of(gate: World) -> Keys:
    return Keys.open(gate.folder / "data/keys.json")


def ids(told: Any) -> list[str]:
    return [each["decision_id"] for each in told["decisions"]]


async def command(gates: list[World], gate: World, *words: str) -> tuple[int, str, str]:
    """By the real clock, as the gates must go for it."""
    for each in gates:
        each.hand.at = wall_clock()
    process = await asyncio.create_subprocess_exec(
        *program(*words, "--config", str(gate.folder / "dialgate.yaml")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    return process.returncode or 0, said.decode(), complained.decode()


def without(gate: World, name: str) -> None:
    """It does not know any more where that gate is."""
    config = gate.app.config
    peers = {node: url for node, url in config.settings.peers.items() if node != name}
    gate.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))


def elsewhere(gate: World, name: str, url: str) -> None:
    config = gate.app.config
    peers = {**config.settings.peers, name: url}
    gate.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))


# ---- why was I called? -----------------------------------------------------------------------------------------------


async def test_whoever_is_asked_tells_what_every_gate_decided(gates: list[World]) -> None:
    rome, milan = gates
    await copied(milan)
    made = []
    for at in range(6):
        gate = gates[at % 2]
        gate.hand.at = NOW + 20_000 + at * MINUTE
        made.append(await called(gate, call_id=f"call-{at}"))
    for gate in gates:
        told = await decisions(gate)
        assert (ids(told), told["missing"], told["notices"]) == (made[::-1], {}, [])
    code, said, _ = await command(gates, milan, "why", CLEAR, "--purpose", "letter of 24 November", "--json")
    assert (code, ids(msgspec.json.decode(said))) == (0, made[::-1])
    assert rome.sample("dialgate_peer_questions_total", kind="decisions") == 2


async def test_pages_go_on_across_gates(gates: list[World]) -> None:
    """Also where two decisions are of one millisecond."""
    await copied(gates[1])
    for gate in gates:
        gate.hand.at = NOW + HOUR
    made = {await called(gates[at % 2], call_id=f"call-{at}") for at in range(5)}
    seen: list[str] = []
    more = True
    while more:
        told = await decisions(gates[0], "limit=2", *([f"before={seen[-1]}"] if seen else []))
        seen += ids(told)
        more = told["more"]
    assert (len(seen), set(seen)) == (5, made)
    assert ids(await decisions(gates[0], "before=00000000-1")) == []


async def test_a_page_that_cannot_be_found_is_no_last_page(gates: list[World]) -> None:
    rome, milan = gates
    name = await called(rome)
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    told = await get(milan, f"/v1/decisions?number={PERSON}&{PURPOSE}&before={name}", 503)
    assert told["error"]["code"] == "peer.unheard"


async def test_one_decision_is_found_wherever_it_was_made(gates: list[World]) -> None:
    rome, milan = gates
    name = await called(rome)
    assert (await get(milan, f"/v1/decisions/{name}"))["decision_id"] == name
    unknown = await get(milan, "/v1/decisions/00000000-1", 404)
    assert unknown["error"]["code"] == "decision.unknown"
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    unheard = await get(milan, f"/v1/decisions/{name}", 503)
    assert (unheard["error"]["code"], "rome" in unheard["error"]["message"]) == ("peer.unheard", True)


async def test_another_client_is_told_nothing_by_a_detour(gates: list[World]) -> None:
    rome, milan = gates
    name = await called(rome)
    stranger = structs.replace(milan.app.config.settings.clients[0], name="stranger", controllers=())
    sees = Sees.of(stranger.name, stranger.controllers)
    told = await milan.app.subjects.peers.ask(FindDecision(name, sees))
    assert told.answers == {"rome": []}


@pytest.mark.parametrize(
    ("language", "words"), [("en", "rome could not be asked"), ("it", "rome non ha risposto")]
)
async def test_that_a_gate_could_not_be_asked_is_told(gates: list[World], language: str, words: str) -> None:
    rome, milan = gates
    await called(rome)
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    told = await decisions(milan, f"language={language}")
    assert (ids(told), list(told["missing"]), words in told["notices"][-1]) == ([], ["rome"], True)
    assert "not reached" in told["missing"]["rome"]


async def test_a_gate_that_ended_as_it_should_is_missing_too(gates: list[World]) -> None:
    """Its log is its own, and it may come again."""
    rome, milan = gates
    without(milan, "rome")
    rome.app.roster._due = 0
    await rome.app.tick()
    await rome.app.roster.leave()
    assert list((await decisions(milan))["missing"]) == ["rome"]


async def test_a_gate_that_nobody_knows_the_way_to_is_missing_all_the_same(gates: list[World]) -> None:
    rome, milan = gates
    without(milan, "rome")
    await rome.app.tick()  # it says that it is there
    missing = (await decisions(milan))["missing"]
    assert list(missing) == ["rome"]
    assert missing["rome"].startswith("it has a log on this store, but `peers` does not say where it is")


async def test_the_console_shows_what_another_gate_decided_and_where_its_evidence_is(
    gates: list[World],
) -> None:
    rome, milan = gates
    name = await called(rome)
    page = f"/console/decisions/{name}"
    async with test_console.browser(rome, KEY) as session:
        assert f"{page}/evidence" in await test_console.get(session, page)
    async with test_console.browser(milan, KEY) as session:
        asked = {"number": CLEAR, "purpose": "letter of 24 November", "controller": "acme"}
        assert name in await test_console.send(session, "/console/lookup", 200, **asked)
        assert f"{page}/evidence" not in await test_console.get(session, page)
        said = await test_console.send(session, f"{page}/evidence", 409, purpose="case 4711")
        assert "Another gate made this decision" in said


# ---- rights ----------------------------------------------------------------------------------------------------------


async def test_the_report_is_of_every_gate(gates: list[World]) -> None:
    rome, milan = gates
    await copied(milan)
    made = {await called(rome, call_id="one"), await called(milan, call_id="two")}
    await ask(rome, "access")
    await report(rome)
    told = await report(milan)
    assert {each["id"] for each in told["decisions"]} == made
    assert [each["kind"] for each in told["requests"]] == ["access"]
    assert len(told["lookups"]) == 2
    assert [each["list"] for each in told["lists"]] == ["rome"]
    assert [each["registry"] for each in told["registries"]] == ["rpo"]
    assert told["missing"] == {}
    page = f"/v1/subjects/{PERSON}?{PURPOSE}&language=it"
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    async with milan.client.get(page) as answer:
        assert "non hanno risposto: rome." in await answer.text()


async def erased(gate: World) -> Any:
    request = await ask(gate, "erasure")
    return await send(gate, f"/v1/subjects/{PERSON}/erasure", {"request": request["id"]}, 200)


def about(told: Any, what: str) -> dict[str, Any]:
    (found,) = [each for each in told["items"] if each["what"] == what]
    return dict(found)


async def test_what_a_call_of_another_gate_rests_on_is_not_destroyed(gates: list[World]) -> None:
    rome, milan = gates
    await send(rome, "/v1/consents", CONSENT)
    await called(rome)
    told = await erased(milan)
    assert about(told, "consent")["done"] == "restricted"
    assert about(told, "decisions")["name"] == "1"


async def test_what_nobody_called_on_is_destroyed(gates: list[World]) -> None:
    rome, milan = gates
    await send(rome, "/v1/consents", CONSENT)
    told = await erased(milan)
    assert (about(told, "consent")["done"], told["missing"]) == ("erased", {})


async def test_where_a_gate_cannot_be_asked_the_number_is_stopped_and_nothing_destroyed_until_it_is_heard(
    gates: list[World],
) -> None:
    rome, milan = gates
    await copied(milan)
    await send(rome, "/v1/consents", CONSENT)
    away = f"http://127.0.0.1:{free_port()}"
    elsewhere(milan, "rome", away)
    path = f"/v1/subjects/{PERSON}/erasure"
    asked = {"request": (await ask(milan, "erasure"))["id"]}
    told = await send(milan, path, asked, 200)
    for what in ("consent", "call list"):
        assert (about(told, what)["done"], "rome" in about(told, what)["why"]) == ("kept", True)
    assert list(told["missing"]) == ["rome"]
    assert (await send(rome, "/v1/check", CALL, 200))["reasons"][0]["code"] == "revocation.revoked"
    code, _, complained = await command(
        gates, milan, "subject", "erase", CLEAR, "--request", asked["request"]
    )
    assert (code, complained) == (0, "")  # that process knows where rome is
    assert [each["kind"] for each in (await report(rome))["ledger"]] == ["revoked"]
    await send(milan, path, asked, 409)  # it is closed now


async def test_where_a_gate_cannot_clear_its_lists_the_request_stays_open(gates: list[World]) -> None:
    """What went, went; what permits calls goes when all have done it."""
    rome, milan = gates
    await copied(milan)
    await send(rome, "/v1/consents", CONSENT)
    lost = rome.folder / "lost"
    lost.mkdir()
    (lost / "holds.json").write_text("{")
    erasing, keys = rome.app.subjects.erasing, keys_of(rome)
    whole, erasing.holds = erasing.holds, SharedHolds(Holds(lost, keys), keys, erasing.peers)
    request = {"request": (await ask(milan, "erasure"))["id"]}
    path = f"/v1/subjects/{PERSON}/erasure"
    told = await send(milan, path, request, 200)
    assert list(told["missing"]) == ["rome"]
    assert (about(told, "call list")["done"], about(told, "consent")["done"]) == ("erased", "kept")
    erasing.holds = whole
    told = await send(milan, path, request, 200)
    assert (told["missing"], about(told, "consent")["done"]) == ({}, "erased")


@pytest.mark.parametrize("has", ["both", "the other"])
async def test_an_erasure_takes_the_number_off_every_gates_lists(gates: list[World], has: str) -> None:
    milan = gates[1]
    if has == "both":
        await copied(milan)
    told = await erased(milan)
    assert about(told, "call list")["name"] == "rome"
    for gate in gates:
        await gate.app.tick()
        await copied(gate)
        folder = gate.folder / "data" / "lists"
        gate.app._list_replication.grace = 0
        await copied(gate)
        (record,) = await gate.app._store.lists()
        assert [path.name for path in folder.iterdir()] == [record.file]
    assert (await report(milan))["lists"] == []


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        ("acme.rome.0123456789abcdef.numbers", True),
        ("acme.other.0123456789abcdef.numbers", False),  # of a list that is being loaded
        ("0123456789abcdef.new", True),
    ],
)
async def test_what_is_left_of_a_list_goes_when_it_has_lain_there(
    gates: list[World], name: str, *, goes: bool
) -> None:
    rome = gates[0]
    (kept,) = (rome.folder / "data" / "lists").iterdir()
    path = kept.with_name(name)
    path.write_bytes(b"")
    rome.hand.at += 365 * 24 * HOUR  # it may just have been made: the time may have been set
    await copied(rome)
    assert path.exists()
    rome.app._list_replication.grace = 0
    await copied(rome)
    assert path.exists() is not goes
    assert kept.exists()


async def test_an_old_version_stays_until_the_new_one_is_here(gates: list[World]) -> None:
    """It is all there is, if whoever made the new one is gone."""
    rome, milan = gates
    await copied(milan)
    await erased(milan)
    elsewhere(rome, "milan", f"http://127.0.0.1:{free_port()}")
    rome.app._list_replication.grace = 0
    before = set((rome.folder / "data" / "lists").iterdir())
    await copied(rome)
    assert set((rome.folder / "data" / "lists").iterdir()) == before


async def test_a_hold_is_everywhere_or_it_is_told_where_not(gates: list[World]) -> None:
    rome, milan = gates
    both = [Holds(gate.folder / "data", keys_of(gate)) for gate in gates]
    words = ["log", "hold", "add", CLEAR, "--reason", "Garante, case 4711", "--by", "dpo"]
    code, _, complained = await command(gates, milan, *words)
    assert (code, complained) == (0, "")
    assert [held.find(CLEAR) is not None for held in both] == [True, True]
    assert (await command(gates, milan, *words))[0] == 1  # it is held already
    both[0].lift(CLEAR, at=NOW, by="dpo", reason="by mistake, at one gate alone")
    code, said, _ = await command(gates, milan, *words)
    assert (code, "in force" in said, both[0].find(CLEAR) is not None) == (0, True, True)
    lift = ["log", "hold", "lift", CLEAR, "--reason", "closed", "--by", "dpo"]
    assert (await command(gates, rome, *lift))[0] == 0
    assert [held.find(CLEAR) for held in both] == [None, None]
    assert (await command(gates, rome, *lift))[0] == 1  # none is held


async def test_what_somebody_took_down_undoes_nothing_that_was_done_since(gates: list[World]) -> None:
    rome, milan = gates
    held = Holds(rome.folder / "data", keys_of(rome))
    asked = {"by": "dpo", "reason": "Garante, case 4711", "number": CLEAR}
    placed, early, late = (
        PlaceHold(at=NOW + 1_000, **asked),
        LiftHold(at=NOW + 500, **asked),
        LiftHold(at=NOW + 2_000, **asked),
    )
    steps: list[tuple[PlaceHold | LiftHold, bool | None]] = [
        (placed, True),
        (placed, False),
        (early, None),
        (late, True),
        (late, False),
        (placed, None),
    ]
    for step, changed in steps:
        heard = await milan.app.subjects.peers.ask(step)
        assert (heard.answers.get("rome"), "rome" in heard.missing) == (changed, changed is None), step
    assert held.find(CLEAR) is None


async def test_what_another_gate_holds_is_not_destroyed(gates: list[World]) -> None:
    rome, milan = gates
    await copied(milan)
    await send(milan, "/v1/consents", CONSENT)
    Holds(rome.folder / "data", keys_of(rome)).add(CLEAR, at=NOW, by="dpo", reason="case 4711")
    before = {path.name for path in (rome.folder / "data" / "lists").iterdir()}
    told = await erased(milan)
    assert {about(told, what)["done"] for what in ("consent", "call list")} == {"restricted"}
    assert {path.name for path in (milan.folder / "data" / "lists").iterdir()} == before
    assert CLEAR in (await milan.app.subjects.holds.under_everywhere()).numbers


async def test_before_a_months_keys_go_what_others_hold_is_held(gates: list[World]) -> None:
    rome, milan = gates
    Holds(rome.folder / "data", keys_of(rome)).add(CLEAR, at=NOW, by="dpo", reason="case 4711")
    world.confirm_clock(milan.folder / "data", wall_clock())
    assert (await command(gates, milan, "log", "retire", "--yes"))[0] == 0
    assert Holds(milan.folder / "data", keys_of(milan)).find(CLEAR) is not None


async def test_what_is_past_its_time_stays_while_a_gate_cannot_be_asked_and_an_hour_later_it_is_tried_again(
    gates: list[World],
) -> None:
    milan = gates[1]
    subjects = milan.app.subjects
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match=r"nothing is destroyed .rome: not reached"):
        await subjects.retire(NOW, drop=True)
    for hours, begins in ((25, True), (25.5, False), (26, True)):
        await subjects.observe(NOW + int(hours * HOUR))
        assert (subjects._removing is not None) is begins
        if subjects._removing is not None:
            await subjects._removing


def test_months_are_not_retired_while_a_gate_cannot_be_asked(tmp_path: Path) -> None:
    peers = {"rome": f"http://127.0.0.1:{free_port()}"}
    store = {"url": redis_servers.alone(), "name": tmp_path.name}
    path = world.write_folder(tmp_path, peers=peers, store=store, node="milan")
    (tmp_path / "data").mkdir()
    done = CliRunner().invoke(app, ["log", "retire", "--yes", "--config", str(path)])
    assert (done.exit_code, "nothing is destroyed" in done.output) == (1, True)


# ---- what became of a call -------------------------------------------------------------------------------------------


async def test_what_became_of_a_call_may_be_reported_to_any_gate(gates: list[World]) -> None:
    rome, milan = gates
    name = await called(rome)
    await send(milan, "/v1/outcomes", {"decision_id": name, "outcome": "answered"}, 200)
    for gate in gates:
        for found in ((await decisions(gate))["decisions"][0], await get(gate, f"/v1/decisions/{name}")):
            assert [each["result"] for each in found["outcomes"]] == ["answered"]


async def test_a_stop_during_a_call_binds_whichever_gate_is_told(gates: list[World]) -> None:
    rome, milan = gates
    name = await called(rome)
    done = await send(milan, "/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)
    assert done["revocation"]["seq"] == 1
    answer = await send(rome, "/v1/check", {**CALL, "call_id": "again"}, 200)
    assert answer["reasons"][0]["code"] == "revocation.revoked"


async def test_a_stop_binds_also_when_the_gate_that_allowed_the_call_is_gone(gates: list[World]) -> None:
    """The store knows the person by a keyed hash only; who follows the stream cannot be told whom to drop."""
    rome, milan = gates
    name = await called(rome)
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    done = await send(milan, "/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)
    assert done["revocation"]["seq"] == 1
    for gate in gates:
        answer = await send(gate, "/v1/check", {**CALL, "call_id": gate.app.config.settings.node}, 200)
        assert answer["reasons"][0]["code"] == "revocation.revoked"
    (entry,) = (await report(rome))["ledger"]
    assert (entry["kind"], entry["channel"], entry["proof"]) == ("revoked", "call", f"decision:{name}")
    assert (await rome.app.registrar.notices.after(0, ["acme"]))[0] == []


async def test_a_stop_is_not_bound_to_who_did_not_have_the_campaign_then(gates: list[World]) -> None:
    """The hash is of the person and of the controller for whom the call was allowed."""
    rome, milan = gates
    name = await called(rome)
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    path = milan.folder / "controllers" / "acme.yaml"
    another = yaml.safe_load(path.read_text()) | {"id": "acme-2"}
    kept = milan.folder / "data" / "kept"
    (kept / "0").write_text(yaml.safe_dump(another))
    assert owners(kept, "acme-fibre") == {"acme", "acme-2"}
    await send(milan, "/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 503)
    (kept / "0").unlink()
    await send(milan, "/v1/outcomes", {"decision_id": name, "outcome": "opt_out"}, 200)


async def test_what_nobody_has_is_looked_for_less_and_less_often(gates: list[World]) -> None:
    milan = gates[1]
    copies = milan.app._list_replication
    elsewhere(milan, "rome", f"http://127.0.0.1:{free_port()}")
    waits = []
    for _ in range(9):
        await copied(milan)
        waits.append((copies._due - milan.hand.at) // SECOND)
        milan.hand.at = copies._due
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


async def test_a_report_is_not_forgotten_because_who_took_it_is_away_when_the_rest_is_asked(
    gates: list[World],
) -> None:
    rome = gates[0]
    name = await called(rome)
    await send(rome, "/v1/outcomes", {"decision_id": name, "outcome": "answered"}, 200)
    asked = FindDecisions(number=CLEAR, sees=Sees())
    (found,) = decision_search.about(Inquiry(rome.folder / "data", keys_of(rome)), asked).found
    for reports in ((), found.outcomes):
        assert [each.result for each in decision_search.join_outcomes(found, reports).outcomes] == [
            "answered"
        ]


# ---- who is gone -----------------------------------------------------------------------------------------------------


async def test_a_gate_that_is_gone_for_good_can_be_forgotten(gates: list[World]) -> None:
    rome, milan = gates
    forget = ["nodes", "--forget", "rome"]
    rome.hand.at = wall_clock()
    await rome.app.tick()
    code, _, complained = await command(gates, milan, *forget)
    assert (code, "stop it first" in complained) == (1, True)
    rome.hand.at = wall_clock() - HOUR
    rome.app.roster._due = 0
    await rome.app.roster.tick(structs.replace(rome.app._presence, at=rome.hand.at), rome.app.config)
    without(milan, "rome")
    assert list((await decisions(milan))["missing"]) == ["rome"]
    code, said, _ = await command([milan], milan, *forget)
    assert "rome" not in said
    assert (await decisions(milan))["missing"] == {}
    assert (await command([milan], milan, *forget))[0] == 2


# ---- call lists ------------------------------------------------------------------------------------------------------


async def test_a_list_that_one_gate_took_is_on_every_gate(gates: list[World]) -> None:
    _, milan = gates
    assert (await send(milan, "/v1/check", CALL, 200))["reasons"][0]["code"] == "list.unknown"
    await copied(milan)
    assert (await send(milan, "/v1/check", {**CALL, "call_id": "again"}, 200))["decision"] == "allow"
    paths = [next((gate.folder / "data" / "lists").iterdir()) for gate in gates]
    assert paths[0].read_bytes() == paths[1].read_bytes()


async def test_a_gate_that_ends_waits_for_nobody_it_asked(gates: list[World]) -> None:
    """Also one that takes the question and never answers."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()

    milan, begun = gates[1], asyncio.Event()
    copies, peers = milan.app._list_replication, milan.app.subjects.peers
    await copied(milan)
    (path,) = (milan.folder / "data" / "lists").iterdir()
    path.unlink()
    async with listening(silent) as port:
        elsewhere(milan, "rome", f"http://127.0.0.1:{port}")
        milan.app.gate._gatherer.use_lists({})
        milan.hand.at += 11_000
        await milan.app.tick()
        await begun.wait()
        asking = asyncio.create_task(peers.ask(QUESTION))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await peers.close()
            await copies.close()
        assert (await asking).missing == {"rome": "this gate is ending"}
        assert (await peers.ask(QUESTION)).missing == {"rome": "this gate is ending"}
    assert list((milan.folder / "data" / "lists").iterdir()) == []


async def test_a_list_comes_in_parts(gates: list[World]) -> None:
    gates[1].app._list_replication.part = 7
    await copied(gates[1])
    rome, milan = (next((gate.folder / "data" / "lists").iterdir()) for gate in gates)
    assert milan.read_bytes() == rome.read_bytes()


async def test_a_list_that_is_damaged_there_is_not_taken(gates: list[World]) -> None:
    rome, milan = gates
    (path,) = (rome.folder / "data" / "lists").iterdir()
    whole = path.read_bytes()
    flip(path)
    await copied(milan)
    assert list((milan.folder / "data" / "lists").iterdir()) == []
    assert (await send(milan, "/v1/check", CALL, 200))["reasons"][0]["code"] == "list.unknown"
    path.write_bytes(whole)
    await copied(milan)
    assert (await send(milan, "/v1/check", {**CALL, "call_id": "again"}, 200))["decision"] == "allow"


async def test_a_damaged_file_is_got_anew(gates: list[World]) -> None:
    milan = gates[1]
    await copied(milan)
    (path,) = (milan.folder / "data" / "lists").iterdir()
    whole = path.read_bytes()
    flip(path)
    milan.app.gate._gatherer.use_lists({})
    await copied(milan)
    assert path.read_bytes() == whole
    assert (await send(milan, "/v1/check", CALL, 200))["decision"] == "allow"


async def test_a_list_comes_from_the_gate_that_has_it_whole(gates: list[World]) -> None:
    """And not from one before it that is away."""
    milan = gates[1]
    elsewhere(milan, "genoa", f"http://127.0.0.1:{free_port()}")
    config = milan.app.config
    peers = dict(sorted(config.settings.peers.items()))
    milan.app.reload(structs.replace(config, settings=structs.replace(config.settings, peers=peers)))
    assert next(iter(peers)) == "genoa"
    await copied(milan)
    assert (await send(milan, "/v1/check", CALL, 200))["decision"] == "allow"


@pytest.mark.parametrize(
    "file",
    [
        "a\0.numbers",
        ".numbers",
        "../keys.json",
        "/etc/passwd",
        "nothing.numbers",
        "../lists/x.numbers",
        "keys.json",
    ],
)
async def test_no_other_file_is_given_away(gates: list[World], file: str) -> None:
    assert await read_part(gates[0].folder / "data", ReadListFile(file, 0, 100)) == b""


# ---- the seal --------------------------------------------------------------------------------------------------------

QUESTION = FindPersonalData("acme", CLEAR)


def sealed(gate: World, node: str, asked: PeerRequest) -> bytes:
    about = f"question to {node}".encode()
    return keys_of(gate).peers.close(msgspec.msgpack.encode(asked), next(nonces()), about)


SEES = Sees(controllers=("acme",), client="dialer", since=1, until=2)
SEES_WIRE = {"controllers": ["acme"], "client": "dialer", "since": 1, "until": 2}
HOLD: dict[str, Any] = {"number": CLEAR, "at": 5, "by": "dpo", "reason": "case 4711"}


@pytest.mark.parametrize(
    ("question", "wire"),
    [
        (
            peer_questions.FindDecisions(number=CLEAR, sees=SEES, before=(1, "9f2c01ab", 2), most=3),
            {
                "type": "decisions",
                "number": CLEAR,
                "sees": SEES_WIRE,
                "before": [1, "9f2c01ab", 2],
                "most": 3,
            },
        ),
        (FindDecision("9f2c01ab-1", SEES), {"type": "decision", "id": "9f2c01ab-1", "sees": SEES_WIRE}),
        (peer_questions.FindOutcomes(["9f2c01ab-1"]), {"type": "outcomes", "decisions": ["9f2c01ab-1"]}),
        (peer_questions.FindCall("9f2c01ab-1"), {"type": "called", "decision": "9f2c01ab-1"}),
        (QUESTION, {"type": "person", "controller": "acme", "number": CLEAR}),
        (
            peer_questions.RemoveFromLists("acme", CLEAR),
            {"type": "erase", "controller": "acme", "number": CLEAR},
        ),
        (PlaceHold(**HOLD), {"type": "hold", **HOLD}),
        (LiftHold(**HOLD), {"type": "lift", **HOLD}),
        (peer_questions.ListHolds(), {"type": "holds"}),
        (ReadListFile("x.numbers", 1, 2), {"type": "list", "file": "x.numbers", "offset": 1, "most": 2}),
    ],
)
def test_gates_of_another_version_read_the_same_questions(
    question: peer_questions.AnyQuestion, wire: dict[str, Any]
) -> None:
    """The wire format of released versions: a gate that is not upgraded yet sends and expects exactly this."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(question)) == wire
    request = {"at": 1, "node": "rome", "question": wire}
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=PeerRequest)
    assert decoded == PeerRequest(1, "rome", question)


async def posted(gate: World, body: bytes) -> tuple[int, bytes]:
    async with gate.client.post("/peer", data=body) as answer:
        return answer.status, await answer.read()


async def test_what_is_no_gates_question_is_refused(gates: list[World]) -> None:
    rome, milan = gates
    right = sealed(milan, "rome", PeerRequest(milan.hand.at, "milan", QUESTION))
    assert (await posted(rome, right))[0] == 200
    wrong = {
        "of nobody": b"",
        "no seal": b'{"question":"who is it?"}',
        "changed": right[:-1] + bytes([right[-1] ^ 1]),
        "for another": sealed(milan, "milan", PeerRequest(milan.hand.at, "milan", QUESTION)),
        "old": sealed(milan, "rome", PeerRequest(milan.hand.at - 6 * MINUTE, "milan", QUESTION)),
        "of a stranger with the keys": sealed(milan, "rome", PeerRequest(milan.hand.at, "turin", QUESTION)),
        "of the future": sealed(milan, "rome", PeerRequest(milan.hand.at + 6 * MINUTE, "milan", QUESTION)),
    }
    for about_, body in wrong.items():
        status, said = await posted(rome, body)
        assert (status, msgspec.json.decode(said)["error"]["code"]) == (403, "peer.refused"), about_


async def test_nothing_of_a_person_goes_over_the_wire_in_clear(gates: list[World]) -> None:
    rome, milan = gates
    await called(rome)
    question = sealed(milan, "rome", PeerRequest(milan.hand.at, "milan", QUESTION))
    status, answer = await posted(rome, question)
    assert status == 200
    assert len(answer) > 200
    for seen in (question, answer):
        assert CLEAR.encode()[1:] not in seen
        assert b"acme" not in seen


async def test_an_answer_is_of_its_own_question_alone(gates: list[World]) -> None:
    """Somebody on the way who gives an older answer, or makes one up, gives none."""
    rome, milan = gates
    older = sealed(milan, "rome", PeerRequest(milan.hand.at, "milan", QUESTION))
    _, answer = await posted(rome, older)

    async def replay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    async with listening(replay) as port:
        elsewhere(milan, "rome", f"http://127.0.0.1:{port}")
        told = await decisions(milan)
    assert told["missing"] == {"rome": "its answer cannot be read: other keys, or another version"}


async def test_a_gate_with_other_keys_or_another_name_says_so(gates: list[World]) -> None:
    rome, milan = gates
    elsewhere(milan, "turin", f"http://127.0.0.1:{rome.port}")
    told = await decisions(milan)
    assert "a gate of another name or with other keys" in told["missing"]["turin"]
    assert list(told["missing"]) == ["turin"]


async def test_what_answers_nothing_is_not_waited_for_without_end(gates: list[World]) -> None:
    gates[1].app.subjects.peers.patience = 0.3

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        elsewhere(gates[1], "rome", f"http://127.0.0.1:{port}")
        told = await decisions(gates[1])
    assert "rome" in told["missing"]


@pytest.mark.parametrize(
    "peers", [{"rome": "rome.example"}, {"rome": "http://rome.example/gate"}, {"Rome": "http://rome.example"}]
)
def test_an_address_that_leads_nowhere_is_refused(tmp_path: Path, peers: dict[str, str]) -> None:
    path = world.write_folder(tmp_path, peers=peers, store={"url": "redis://localhost:6379/0"})
    with pytest.raises(ConfigError, match="peers"):
        loader.load(path)


def test_a_gate_alone_has_nobody_to_ask(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path, peers={"rome": "http://rome.example:8080"})
    with pytest.raises(ConfigError, match="only gates that share a `store`"):
        loader.load(path)
