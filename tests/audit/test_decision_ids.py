"""Decision ids on a gate shared by several controllers.

An id must not reveal how many decisions the gate has made. Clients of other controllers must not be able to use the id.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dialgate.audit import evidence
from dialgate.core.decision_ids import DecisionIds, owner_of
from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys
from dialgate.decision_log.records import Reader, Record
from tests.audit.test_evidence import sources
from tests.gate.test_tenants import CAMPAIGNS, OWNERS, SCOPES, SHOWN, write_controllers
from tests.support import world
from tests.support.world import CLEAR, LIST, LISTED, NOW, World

IDS = DecisionIds(bytes(32))
NAMES = some.builds("{:08x}-{}".format, some.integers(0, 2**32 - 1), some.integers(1, 10**18))


@given(some.lists(some.tuples(NAMES, some.sampled_from(["acme", "beta"])), max_size=5))
def test_id_opens_for_its_owner_only(decisions: list[tuple[str, str]]) -> None:
    for (name, owner), outside in zip(decisions, IDS.outside(decisions), strict=True):
        assert re.fullmatch("[k-z]{32}", outside)
        assert IDS.inside(outside) == IDS.inside(outside, [owner, "gamma"]) == name
        assert IDS.inside(outside, ["gamma"]) == ""


def test_neighbouring_ids_differ_and_log_ids_are_accepted() -> None:
    first, second = IDS.outside([("9f2c01ab-1", "acme"), ("9f2c01ab-2", "acme")])
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 12
    assert IDS.inside("9f2c01ab-1", ["acme"]) == "9f2c01ab-1"
    assert IDS.inside("k" * 32, ["acme"]) == ""
    assert DecisionIds(bytes(31) + b"\1").inside(first, ["acme"]) == "", "under another key"


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate shared by two controllers, each with its own client."""
    folder = write_controllers(tmp_path / "owners")
    clients = [
        {**world.client(owner, f"key-of-{owner}", *SCOPES), "controllers": [owner]} for owner in OWNERS
    ]
    async with world.running(tmp_path / "gate", clients=clients, controllers=str(folder)) as gate:
        data = gate.app.config.data
        world.publish_answers(data, {CLEAR: False, LISTED: True}, NOW - HOUR, controller="beta")
        for owner in OWNERS:
            body = LIST | {"origin": "public_directory", "campaigns": [CAMPAIGNS[owner]]}
            assert (await send(gate, owner, "/v1/lists", body))[0] == 201
        await gate.app.tick()
        yield gate


async def send(gate: World, owner: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer key-of-{owner}"}
    async with gate.client.request("POST" if body else "GET", path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def check(gate: World, owner: str, to: str = CLEAR, **more: str) -> dict[str, Any]:
    call = {"to": to, "from": SHOWN[owner], "campaign": CAMPAIGNS[owner], **more}
    response: dict[str, Any] = (await send(gate, owner, "/v1/check", call))[1]
    return response


async def report(gate: World, owner: str, decision: str, outcome: str = "opt_out") -> int:
    return (await send(gate, owner, "/v1/outcomes", {"decision_id": decision, "outcome": outcome}))[0]


async def test_owner_can_read_report_and_repeat(shared: World) -> None:
    response = await check(shared, "beta", call_id="a")
    assert re.fullmatch("[k-z]{32}", response["decision_id"])
    assert await check(shared, "beta", call_id="a") == response
    status, account = await send(shared, "beta", f"/v1/decisions/{response['decision_id']}")
    assert (status, account["decision_id"], account["seq"]) == (200, response["decision_id"], 0)
    status, receipt = await send(
        shared, "beta", "/v1/outcomes", {"decision_id": response["decision_id"], "outcome": "opt_out"}
    )
    assert (status, receipt["decision_id"]) == (200, response["decision_id"])
    status, page = await send(shared, "beta", f"/v1/revocations?number=%2B{CLEAR[1:]}&purpose=abc")
    assert f"decision:{response['decision_id']}" in str(page)
    query = f"number=%2B{CLEAR[1:]}&purpose=abc&before={response['decision_id']}"
    assert (await send(shared, "beta", f"/v1/decisions?{query}"))[1]["decisions"] == []


async def test_log_id_is_accepted_and_gives_the_same_evidence(shared: World) -> None:
    response = await check(shared, "beta")
    (name,) = (e.id for _, e in Reader(shared.app.config.data / "log").entries() if isinstance(e, Record))
    assert (await send(shared, "beta", f"/v1/decisions/{name}"))[1]["decision_id"] == response["decision_id"]
    assert await report(shared, "beta", name, "answered") == 200
    shared.hand.at += 60_001
    await shared.app.tick()
    async with sources(shared) as opened:
        bundles = [
            await evidence.bundle_decision(opened, decision, NOW)
            for decision in (name, response["decision_id"])
        ]
    assert bundles[0] == bundles[1]


async def test_client_owns_decisions_about_unknown_campaigns(shared: World) -> None:
    response = await check(shared, "beta", campaign="nobodys")
    assert (await send(shared, "beta", f"/v1/decisions/{response['decision_id']}"))[0] == 200
    assert (await send(shared, "acme", f"/v1/decisions/{response['decision_id']}"))[0] == 404


class AccessCounter:
    """A proxy that counts the accesses to each attribute of a real object."""

    def __init__(self, real: Any, counts: Counter[str]) -> None:
        self._real, self._counts = real, counts

    def __getattr__(self, name: str) -> Any:
        self._counts[name] += 1
        return getattr(self._real, name)


async def test_the_id_of_another_controllers_decision_is_refused_without_a_read(shared: World) -> None:
    allowed, denied = await check(shared, "beta"), await check(shared, "beta", LISTED)
    assert (allowed["decision"], denied["decision"]) == ("allow", "deny")
    access, counts = shared.app.registrar.access, Counter[str]()
    store = access.store
    access.store = AccessCounter(store, counts)
    for name in (allowed["decision_id"], denied["decision_id"], "k" * 32):
        assert await report(shared, "acme", name) == 404
    access.store = store
    assert counts == Counter()


async def test_an_internal_id_of_another_controllers_decision_is_refused(shared: World) -> None:
    answers = [await check(shared, "beta"), await check(shared, "beta", LISTED)]
    keys = Keys.open(shared.app.config.data / "keys.json")
    names = [keys.ids.inside(answer["decision_id"]) for answer in answers]
    for name in (*names, f"{keys.log}-4711", "00000000-1"):
        assert await report(shared, "acme", name) == 404


async def test_gate_of_one_controller_shows_log_ids(running: World) -> None:
    async with running.client.post("/v1/check", json=world.CALL) as answer:
        assert re.fullmatch("[0-9a-f]{8}-[0-9]+", (await answer.json())["decision_id"])
    assert owner_of("", "tests") == "client tests"
