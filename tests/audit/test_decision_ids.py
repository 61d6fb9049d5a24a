"""Where several controllers share a gate, the id of a decision counts nothing and opens for its owner alone."""

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
def test_an_id_opens_for_its_owner_and_no_other(decisions: list[tuple[str, str]]) -> None:
    for (name, owner), given_out in zip(decisions, IDS.outside(decisions), strict=True):
        assert re.fullmatch("[k-z]{32}", given_out)
        assert IDS.inside(given_out) == IDS.inside(given_out, [owner, "gamma"]) == name
        assert IDS.inside(given_out, ["gamma"]) == ""


def test_ids_of_neighbours_have_nothing_in_common_and_a_name_is_taken_as_it_is() -> None:
    first, second = IDS.outside([("9f2c01ab-1", "acme"), ("9f2c01ab-2", "acme")])
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 12
    assert IDS.inside("9f2c01ab-1", ["acme"]) == "9f2c01ab-1"
    assert IDS.inside("k" * 32, ["acme"]) == ""
    assert DecisionIds(bytes(31) + b"\1").inside(first, ["acme"]) == "", "under another key"


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[World]:
    """A gate of two controllers, each with a client."""
    folder = write_controllers(tmp_path / "owners")
    clients = [
        {**world.client(owner, f"key-of-{owner}", *SCOPES), "controllers": [owner]} for owner in OWNERS
    ]
    async with world.running(tmp_path / "gate", clients=clients, controllers=str(folder)) as made:
        data = made.app.config.data
        world.publish_answers(data, {CLEAR: False, LISTED: True}, NOW - HOUR, controller="beta")
        for owner in OWNERS:
            told = LIST | {"campaigns": [CAMPAIGNS[owner]]}
            assert (await send(made, owner, "/v1/lists", told))[0] == 201
        await made.app.tick()
        yield made


async def send(made: World, owner: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer key-of-{owner}"}
    async with made.client.request("POST" if body else "GET", path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def check(made: World, owner: str, to: str = CLEAR, **more: str) -> dict[str, Any]:
    call = {"to": to, "from": SHOWN[owner], "campaign": CAMPAIGNS[owner], **more}
    told: dict[str, Any] = (await send(made, owner, "/v1/check", call))[1]
    return told


async def report(made: World, owner: str, decision: str, outcome: str = "opt_out") -> int:
    return (await send(made, owner, "/v1/outcomes", {"decision_id": decision, "outcome": outcome}))[0]


async def test_its_owner_reads_it_reports_on_it_and_repeats_it(shared: World) -> None:
    told = await check(shared, "beta", call_id="a")
    assert re.fullmatch("[k-z]{32}", told["decision_id"])
    assert await check(shared, "beta", call_id="a") == told
    status, account = await send(shared, "beta", f"/v1/decisions/{told['decision_id']}")
    assert (status, account["decision_id"], account["seq"]) == (200, told["decision_id"], 0)
    status, receipt = await send(
        shared, "beta", "/v1/outcomes", {"decision_id": told["decision_id"], "outcome": "opt_out"}
    )
    assert (status, receipt["decision_id"]) == (200, told["decision_id"])
    status, page = await send(shared, "beta", f"/v1/revocations?number=%2B{CLEAR[1:]}&purpose=abc")
    assert f"decision:{told['decision_id']}" in str(page)
    query = f"number=%2B{CLEAR[1:]}&purpose=abc&before={told['decision_id']}"
    assert (await send(shared, "beta", f"/v1/decisions?{query}"))[1]["decisions"] == []


async def test_the_name_of_before_is_accepted_and_the_officer_proves_either(shared: World) -> None:
    told = await check(shared, "beta")
    (name,) = (e.id for _, e in Reader(shared.app.config.data / "log").entries() if isinstance(e, Record))
    assert (await send(shared, "beta", f"/v1/decisions/{name}"))[1]["decision_id"] == told["decision_id"]
    assert await report(shared, "beta", name, "answered") == 200
    shared.hand.at += 60_001
    await shared.app.tick()
    async with sources(shared) as opened:
        made = [await evidence.of_decision(opened, each, NOW) for each in (name, told["decision_id"])]
    assert made[0] == made[1]


async def test_of_an_unknown_campaign_the_client_who_asked_is_the_owner(shared: World) -> None:
    told = await check(shared, "beta", campaign="nobodys")
    assert (await send(shared, "beta", f"/v1/decisions/{told['decision_id']}"))[0] == 200
    assert (await send(shared, "acme", f"/v1/decisions/{told['decision_id']}"))[0] == 404


class Counted:
    """Counts what is called on a real object."""

    def __init__(self, real: Any, counts: Counter[str]) -> None:
        self._real, self._counts = real, counts

    def __getattr__(self, name: str) -> Any:
        self._counts[name] += 1
        return getattr(self._real, name)


async def reads(made: World, decision: str) -> Counter[str]:
    """What a report of a stranger on a decision reads; it is refused as unknown."""
    registrar, counts = made.app.registrar, Counter[str]()
    store, recorder, elsewhere = (
        registrar.access.store,
        registrar.outcomes._recorder,
        registrar.outcomes.elsewhere,
    )
    registrar.access.store, registrar.outcomes._recorder = Counted(store, counts), Counted(recorder, counts)

    async def counted(name: str) -> tuple[str, str] | None:
        counts["elsewhere"] += 1
        return await elsewhere(name)

    registrar.outcomes.elsewhere = counted
    try:
        assert await report(made, "acme", decision) == 404
    finally:
        registrar.access.store, registrar.outcomes._recorder, registrar.outcomes.elsewhere = (
            store,
            recorder,
            elsewhere,
        )
    return counts


async def test_a_404_reads_the_same_for_anothers_allow_its_deny_and_nothing(shared: World) -> None:
    allowed, denied = await check(shared, "beta"), await check(shared, "beta", LISTED)
    assert (allowed["decision"], denied["decision"]) == ("allow", "deny")
    ids = allowed["decision_id"], denied["decision_id"], "k" * 32
    assert [await reads(shared, each) for each in ids] == [Counter()] * 3
    keys = Keys.open(shared.app.config.data / "keys.json")
    names = [keys.ids.inside(each) for each in ids[:2]]
    found = [await reads(shared, each) for each in (*names, f"{keys.log}-4711", "00000000-1")]
    assert found == [Counter({"attempt": 1, "about": 1, "elsewhere": 1})] * 4


async def test_a_gate_of_one_controller_keeps_its_names(running: World) -> None:
    async with running.client.post("/v1/check", json=world.CALL) as answer:
        assert re.fullmatch("[0-9a-f]{8}-[0-9]+", (await answer.json())["decision_id"])
    assert owner_of("", "tests") == "client tests"
