"""Call limits and revocations hold under concurrent requests to a real `dialgate serve` over real sockets."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from msgspec import Struct, field

from dialgate.core import local_time
from dialgate.core.model import DAY
from dialgate.decision_log import verify
from dialgate.decision_log.records import Reader, Record
from dialgate.runtime.clock import wall_clock
from tests.support import world
from tests.support.paths import ROOT
from tests.support.running_gate import RunningGate, program, serving
from tests.support.world import CALL

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = [f"+3906123456{at:02}" for at in range(4)]  # one for each test

FRESH = (
    0.05  # share of new questions; the others are repeated, because every attempt is part of the next facts
)
ALLOWED_BEFORE = 20
DENIED_AFTER = 100

Body: TypeAlias = dict[str, Any]


class Gate(Struct):
    """A gate that several tests use one after the other, each with another number."""

    folder: Path
    running: RunningGate
    numbers: Iterator[str] = field(default_factory=lambda: iter(NUMBERS))
    _recorded: int = 0

    def new_records(self) -> list[Record]:
        """Return the decisions since the last call."""
        log = self.folder / "data" / "log"
        assert verify(log).ok
        records = [record for _, record in Reader(log).entries() if isinstance(record, Record)]
        new, self._recorded = records[self._recorded :], len(records)
        return new


@asynccontextmanager
async def gate_on(folder: Path, limit: int) -> AsyncIterator[Gate]:
    config = world.write_folder(folder)
    law = folder / "countries" / "it.yaml"
    law.write_text(law.read_text().replace("after: 5", f"after: {limit}"))
    world.publish_answers(folder / "data", dict.fromkeys(NUMBERS, False), wall_clock() - DAY)
    async with serving(config) as gate:
        await gate.post("/v1/lists", {**world.LIST, "numbers": NUMBERS})
        while (await gate.post("/v1/simulate", {**CALL, "to": NUMBERS[0]}))["decision"] != "allow":
            pass  # the gate looks for lists after it has answered
        yield Gate(folder, gate)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    async with gate_on(tmp_path_factory.mktemp("strict"), limit=5) as gate:
        yield gate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lenient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    async with gate_on(tmp_path_factory.mktemp("lenient"), limit=100_000) as gate:
        yield gate


@pytest.mark.parametrize(
    ("ids", "allowed", "decisions"),
    [
        pytest.param([""] * 100, 5, 100, id="questions without an id are all different"),
        pytest.param([f"c{place}" for place in range(100)], 5, 100, id="so are those of different ids"),
        pytest.param([f"c{place % 20}" for place in range(100)], 5, 20, id="a retry is the same question"),
        pytest.param(["c"] * 100, 1, 1, id="and counts once however often it is asked at once"),
    ],
)
async def test_exactly_five_of_a_hundred_simultaneous_checks_are_allowed(
    strict: Gate, ids: list[str], allowed: int, decisions: int
) -> None:
    call = {**CALL, "to": next(strict.numbers)}
    answers = await asyncio.gather(
        *(strict.running.post("/v1/check", {**call, "call_id": name}) for name in ids)
    )
    response = {answer["decision_id"]: answer for answer in answers}
    assert Counter(answer["decision"] for answer in response.values()) == Counter(
        allow=allowed, deny=decisions - allowed
    )
    assert all(answer == response[answer["decision_id"]] for answer in answers)
    reasons = {reason["code"] for answer in answers for reason in answer.get("reasons", [])}
    assert reasons <= {"frequency.exceeded"}
    logged = {record.id: "allow" if record.decision.allow else "deny" for record in strict.new_records()}
    assert logged == {name: answer["decision"] for name, answer in response.items()}


async def revoked_over_http(gate: Gate, number: str, _allowed: str) -> Body:
    return await gate.running.post("/v1/revocations", {"number": number})


async def revoked_by_another_process(gate: Gate, number: str, _allowed: str) -> Body:
    config = str(gate.folder / "dialgate.yaml")
    process = await asyncio.create_subprocess_exec(
        *program("revoke", number, "--controller", "acme", "--actor", "dpo", "--json", "--config", config),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    receipt: Body = json.loads(said)
    return receipt


async def opted_out(gate: Gate, _number: str, allowed: str) -> Body:
    response = await gate.running.post("/v1/outcomes", {"decision_id": allowed, "outcome": "opt_out"})
    receipt: Body = response["revocation"]
    return receipt


class Callers:
    """The requests about one number from 32 connections, with the answers. Most requests repeat an earlier request."""

    def __init__(self, number: str) -> None:
        self._number = number
        self.allowed: list[str] = []
        self.late: list[Body] = []  # answers to requests after the acknowledgement of the revocation
        self.acknowledged = False
        self.enough_before, self.enough_after = asyncio.Event(), asyncio.Event()
        self._ids, self._asked = count(), list[str]()
        self._late: dict[int, Body] = {}  # by identity: the same question is sent before and after

    def ask(self) -> Body:
        if not self._asked or random.random() < FRESH:
            self._asked.append(f"c{next(self._ids)}")
        body = {**CALL, "to": self._number, "call_id": random.choice(self._asked)}
        if self.acknowledged:
            self._late[id(body)] = body
        return body

    def record_answer(self, body: Body, answer: Body) -> None:
        if id(body) in self._late:
            self.late.append(answer)
        elif answer["decision"] == "allow":
            self.allowed.append(answer["decision_id"])
        if len(set(self.allowed)) >= ALLOWED_BEFORE:
            self.enough_before.set()
        if len(self.late) >= DENIED_AFTER:
            self.enough_after.set()


Revoke: TypeAlias = Callable[[Gate, str, str], Awaitable[Body]]


@pytest.mark.parametrize("revoke", [revoked_over_http, revoked_by_another_process, opted_out])
async def test_no_call_is_allowed_after_an_acknowledged_revocation(lenient: Gate, revoke: Revoke) -> None:
    number = next(lenient.numbers)
    callers = Callers(number)
    load = lenient.running.start_load(callers.ask, callers.record_answer)
    await callers.enough_before.wait()
    receipt = await revoke(lenient, number, callers.allowed[0])
    callers.acknowledged = True
    await callers.enough_after.wait()
    await load.stop()
    assert {answer["decision"] for answer in callers.late} == {"deny"}
    late = [record for record in lenient.new_records() if local_time.rfc3339(record.at) > receipt["at"]]
    assert late
    assert not any(record.decision.allow for record in late)
    assert min(record.facts.known.seq for record in late) >= receipt["seq"]
