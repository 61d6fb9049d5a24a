"""A retired call list permits no call after the next round of upkeep, whatever calls arrive in the meantime.

A change to a call list or a caller ID proof is in force before the gate acknowledges the change.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dialgate.config import loader
from dialgate.config.configuration import Config
from dialgate.core.model import DAY, HOUR, Call
from dialgate.interfaces.http.errors import fault_of
from dialgate.ledger.activation import Activation, NotInForce
from dialgate.ledger.call_lists import CallListWriter
from dialgate.ledger.host_gate import NoGate
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store import CallerIdProof, StoreUnavailable
from dialgate.subjects.list_removal import remove_from_lists
from tests.support import yaml_files
from tests.support.commands import run_command
from tests.support.running_gate import serving
from tests.support.world import (
    CALL,
    CALLER,
    CLEAR,
    LIST,
    LISTED,
    NOW,
    World,
    load_list,
    publish_answers,
    running,
    write_folder,
)

CAMPAIGNS = 3_000  # so that it takes a while to arrange their lists


@pytest.fixture
def often() -> Iterator[None]:
    """Switch between threads as often as possible."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def with_campaigns(folder: Path) -> None:
    path = folder / "controllers" / "acme.yaml"
    written = yaml_files.read(path)
    first = written["campaigns"][0]
    written["campaigns"] += [{**first, "id": f"other-{n}"} for n in range(CAMPAIGNS)]
    yaml_files.write(path, written)


@pytest.mark.usefixtures("often")
async def test_a_retired_list_permits_no_call_even_under_concurrent_checks(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as made:
        with_campaigns(tmp_path)
        made.app.reload(loader.load(tmp_path / "dialgate.yaml"))
        await load_list(made)
        gatherer = made.app.gate._gatherer
        call, client = (
            Call(to=CLEAR, from_=CALLER, campaign="acme-fibre"),
            made.app.config.settings.clients[0],
        )
        assert gatherer.read(call, client).files.listings
        async with made.client.post("/v1/lists/rome/retire", json={}) as answer:
            assert answer.status == 200
        looking = asyncio.create_task(made.app.tick())
        while not looking.done():
            gatherer.read(call, client)
            await asyncio.sleep(0)
        async with made.client.post("/v1/check", json=CALL) as answer:
            response = await answer.json()
        assert response["decision"] == "deny", response
        assert response["reasons"][0]["code"] == "list.unknown"


# ---- an acknowledgement means that it binds ----------------------------------------------------------------------------

PROVED = "+390612340000"  # geographic: it may be shown while a call back is proved
ALSO_PROVED = "+390612340001"
OTHER = LISTED  # the second number of the list; here the registry says clear of it


def with_caller_id(folder: Path, *caller_ids: str) -> Config:
    path = folder / "controllers" / "acme.yaml"
    written = yaml_files.read(path)
    written["campaigns"][0]["caller_ids"] += caller_ids or [PROVED]
    yaml_files.write(path, written)
    return loader.load(folder / "dialgate.yaml")


async def codes(made: World, path: str = "/v1/check", **changes: str) -> list[str]:
    """Return the reason codes of a denial, or an empty list if the call is permitted."""
    async with made.client.post(path, json=CALL | changes) as answer:
        response = await answer.json()
    return [] if response["decision"] == "allow" else [reason["code"] for reason in response["reasons"]]


async def send(made: World, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with made.client.post(path, json=body) as answer:
        assert answer.ok, await answer.text()
        response: dict[str, Any] = await answer.json() if answer.status != 204 else dict(answer.headers)
        return response


async def test_a_list_and_its_retirement_bind_before_they_are_acknowledged(tmp_path: Path) -> None:
    """No upkeep round runs in this test."""
    async with running(tmp_path) as made:
        assert "list.unknown" in await codes(made, "/v1/simulate")
        assert (await send(made, "/v1/lists", LIST))["in_force"] == "now"
        assert await codes(made, "/v1/simulate") == []
        assert (await send(made, "/v1/lists/rome/retire", {}))["in_force"] == "now"
        assert "list.unknown" in await codes(made)


async def test_a_caller_id_proof_binds_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        made.app.reload(with_caller_id(tmp_path))
        await send(made, "/v1/lists", LIST)
        assert await codes(made, "/v1/simulate", **{"from": PROVED}) != []
        proof = {"caller_id": PROVED, "kind": "probe", "evidence": "probe-1"}
        assert (await send(made, "/v1/caller-ids/proofs", proof))["Dialgate-In-Force"] == "now"
        assert await codes(made, "/v1/simulate", **{"from": PROVED}) == []
        made.hand.at += 1
        await send(made, "/v1/caller-ids/proofs", proof | {"answered": False})
        assert await codes(made, **{"from": PROVED}) == ["caller_id.not_recallable"]
        made.hand.at += 1
        await send(made, "/v1/caller-ids/proofs", proof)
        assert await codes(made, **{"from": PROVED}) == []


async def test_an_unanswered_call_back_ends_an_earlier_proof(tmp_path: Path) -> None:
    """An older proof that is stored later does not replace the newer one. Proofs for other caller IDs remain valid."""
    async with running(tmp_path) as made:
        made.app.reload(with_caller_id(tmp_path, PROVED, ALSO_PROVED))
        await send(made, "/v1/lists", LIST)
        store = made.app._store
        answered = CallerIdProof(controller="acme", caller_id=PROVED, at=NOW - DAY, kind="probe")
        unanswered = structs.replace(answered, at=NOW - HOUR, answered=False)
        for proof in (unanswered, answered, structs.replace(answered, caller_id=ALSO_PROVED)):
            await store.put_proof(proof)
        await made.app.tick()
        assert await codes(made, **{"from": PROVED}) == ["caller_id.not_recallable"]
        assert await codes(made, **{"from": ALSO_PROVED}) == []
        proofs = [(proof.caller_id, proof.at) for proof in await store.proofs()]
        assert sorted(proofs) == sorted([(PROVED, NOW - HOUR), (ALSO_PROVED, NOW - DAY)])


async def test_a_running_gate_uses_a_replaced_list(tmp_path: Path) -> None:
    """A number was removed from the list. Nothing else is recorded about the person, hence `list.unknown`."""
    async with running(tmp_path) as made:
        await load_list(made)
        publish_answers(made.app.config.data, {CLEAR: False, OTHER: False}, NOW - HOUR)
        await made.app.tick()
        assert await codes(made, "/v1/simulate") == await codes(made, "/v1/simulate", to=OTHER) == []
        folder = made.app.config.data / "lists"
        before = {file.name for file in folder.iterdir()}
        assert await remove_from_lists(made.app._store, folder, "acme", CLEAR) == ["rome"]
        assert len({file.name for file in folder.iterdir()} - before) == 1
        await made.app.refresh()
        assert await codes(made) == ["list.unknown", "consent.missing"]
        assert await codes(made, to=OTHER) == []


@pytest.mark.parametrize("steps", range(6))
async def test_a_reload_during_a_refresh_of_the_lists_keeps_no_retired_list(
    tmp_path: Path, steps: int
) -> None:
    async with running(tmp_path) as made:
        await load_list(made)
        await made.app._store.retire_list("acme", "rome", made.hand())
        reading = asyncio.create_task(made.app.refresh())
        for _ in range(steps):
            await asyncio.sleep(0)
        made.app.reload(with_caller_id(tmp_path))
        await reading
        assert "list.unknown" in await codes(made)


class _Unreadable(NoGate):
    async def refresh(self) -> None:
        raise StoreUnavailable("the disk is gone")


async def test_a_write_that_the_gate_cannot_read_back_is_not_acknowledged(tmp_path: Path) -> None:
    """The write is recorded, and the response says that it is not in force yet."""
    async with running(tmp_path) as made:
        await load_list(made)
        access, threads = made.app.registrar.access, ThreadPool("lists", 1)
        lists = CallListWriter(access, Activation(access, _Unreadable()), threads)
        with pytest.raises(NotInForce) as raised:
            await lists.retire_list(made.app.config.settings.clients[0], "rome")
        threads.close()
        fault = fault_of(raised.value)
        assert (fault.status, fault.problem.code) == (503, "gate.unavailable")
        assert "is recorded" in fault.problem.message
        assert [record.retired_at for record in await access.store.lists()] == [NOW]


async def test_a_retire_command_waits_until_the_running_gate_stops_using_the_list(
    tmp_path: Path,
) -> None:
    file = write_folder(tmp_path)
    publish_answers(tmp_path / "data", {CLEAR: False}, wall_clock() - DAY)
    async with serving(file) as gate:
        await gate.post("/v1/lists", LIST)
        for name in ("one", "two", "three"):
            await gate.post("/v1/lists", LIST | {"id": name})
        for name in ("rome", "one", "two", "three"):
            words = ("list", "retire", name, "--config", file, "--json")
            done = await asyncio.to_thread(run_command, "dialgate", *words)
            assert (done.code, done.json["in_force"]) == (0, "now")
            response = await gate.post("/v1/simulate", CALL)
            listed = "list.unknown" not in {reason["code"] for reason in response.get("reasons", ())}
            assert listed == (name != "three")
