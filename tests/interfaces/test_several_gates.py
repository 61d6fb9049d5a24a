"""Several gates on one machine: they share a port and a store, and are restarted one after the other."""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from dialgate.core.model import DAY
from dialgate.runtime.clock import wall_clock
from tests.support import redis_servers, world
from tests.support.commands import run_command
from tests.support.ports import free_port
from tests.support.running_gate import HUNG_UP, kill, program, ready, spawn
from tests.support.world import CALL, CLEAR, KEY, LISTED

in_module_loop = pytest.mark.asyncio(loop_scope="module")
NUMBERS = [f"+3906{number}" for number in range(12_345_000, 12_345_050)]


class Machine:
    """Two gates with one port, a data folder each, and the registry's answers of the first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._operations = {name: free_port() for name in ("one", "two")}
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    def write(self, name: str, **changes: Any) -> None:
        (self.folder / name).mkdir()
        world.write_folder(
            self.folder / name,
            node=name,
            store={"url": redis_servers.alone(), "name": self.folder.name, "patience": 5},
            listen={"port": self.port, "reuse_port": True},
            operations={"port": self._operations[name]},
            peers={node: f"http://127.0.0.1:{port}" for node, port in self._operations.items()},
            shipping={"to": str(self.folder / "share")},
            checkpoint_seconds=0.5,
            **changes,
        )

    def config(self, name: str) -> Path:
        return self.folder / name / "dialgate.yaml"

    async def start(self, name: str) -> None:
        self.processes[name] = await spawn(self.config(name))
        await ready(self.processes[name])

    async def stop(self, name: str, what: signal.Signals = signal.SIGTERM) -> None:
        self.processes[name].send_signal(what)
        await self.processes[name].communicate()

    def client(self, *, alone: bool = False) -> ClientSession:
        """Return a client of the shared port. If `alone`, each request opens a connection, which either gate may get."""
        return ClientSession(
            f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=ClientTimeout(total=10),
            connector=TCPConnector(force_close=alone),
        )

    async def ask(self, body: Mapping[str, Any], path: str = "/v1/check") -> dict[str, Any]:
        """Send a request until a gate answers, as a dialer does."""
        while True:
            try:
                async with self.client(alone=True) as client, client.post(path, json=body) as response:
                    answer: dict[str, Any] = await response.json()
                    return answer
            except HUNG_UP:
                continue

    async def logs(self, many: int) -> set[str]:
        """Check `many` calls, and return the names of the logs that hold the decisions."""
        answers = await asyncio.gather(*(self.ask({**CALL, "to": LISTED}) for _ in range(many)))
        return {answer["decision_id"].partition("-")[0] for answer in answers}

    async def command(self, gate: str, *words: str) -> Any:
        return await asyncio.to_thread(run_command, "dialgate", *words, "--config", self.config(gate))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    """Serve all tests. Each leaves both gates running."""
    folder = tmp_path_factory.mktemp("machine")
    made = Machine(folder)
    (folder / "share").mkdir()
    answers = dict.fromkeys(NUMBERS, False) | {CLEAR: False, LISTED: True}
    made.write("one")
    world.publish_answers(folder / "one/data", answers, wall_clock() - DAY)
    try:
        await made.start("one")
        made.write("two")
        world.share_keys(folder / "one", folder / "two")
        (folder / "two/data/snapshots").symlink_to(folder / "one/data/snapshots")
        await made.ask({**world.LIST, "numbers": [*NUMBERS, CLEAR, LISTED]}, "/v1/lists")
        await made.start("two")
        await until(lambda: allows_everywhere(made))
        yield made
    finally:
        for process in made.processes.values():
            await kill(process)


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that another process brings about."""
    async with asyncio.timeout(60):
        while not await what():
            pass


async def allows_everywhere(machine: Machine) -> bool:
    """Return whether both gates use the call list. The second copies it from the first, over its operations port."""
    answers = await asyncio.gather(*(machine.ask(CALL, "/v1/simulate") for _ in range(24)))
    return all(answer["decision"] == "allow" for answer in answers)


@in_module_loop
async def test_gates_on_one_port_count_together_and_answer_for_each_other(machine: Machine) -> None:
    answers = await asyncio.gather(*(machine.ask(CALL) for _ in range(60)))
    assert sum(answer["decision"] == "allow" for answer in answers) == 5, answers[0]
    assert len({answer["decision_id"].partition("-")[0] for answer in answers}) == 2
    for gate in ("one", "two"):
        await until(lambda gate=gate: finds(machine, gate, {answer["decision_id"] for answer in answers}))  # type: ignore[misc]


async def finds(machine: Machine, gate: str, decisions: set[str]) -> bool:
    """Ship both logs, and return whether `why` on a gate finds the decisions."""
    for name in ("one", "two"):
        assert (await machine.command(name, "ship", "--once")).code == 0
    found = await machine.command(gate, "why", CLEAR, "--purpose", "complaint", "--json")
    if found.code:  # a gate publishes the keys of its months a few seconds after its start
        return False
    return set(re.findall(r'"decision_id": ?"([^"]+)"', found.out)) >= decisions


@in_module_loop
async def test_a_stop_that_one_gate_acknowledges_binds_the_other(machine: Machine) -> None:
    for place, gate in enumerate(("one", "two") * 2):
        stopped = await machine.command(gate, "revoke", NUMBERS[place])
        assert stopped.code == 0, stopped
        answers = await asyncio.gather(*(machine.ask({**CALL, "to": NUMBERS[place]}) for _ in range(8)))
        assert {answer["reasons"][0]["code"] for answer in answers} == {"revocation.revoked"}


@in_module_loop
async def test_a_killed_gate_leaves_the_other_answering(machine: Machine) -> None:
    before = await machine.logs(40)
    assert len(before) == 2
    await machine.stop("one", signal.SIGKILL)
    left = await machine.logs(40)
    assert len(left) == 1
    await machine.start("one")
    await until(lambda: both_answer(machine, before))


async def both_answer(machine: Machine, logs: set[str]) -> bool:
    return await machine.logs(40) == logs


@in_module_loop
async def test_a_restart_of_one_gate_after_the_other_loses_no_call_that_is_retried(machine: Machine) -> None:
    answered = Counter[str]()
    callers = [asyncio.create_task(keep_asking(machine, caller, answered)) for caller in range(8)]
    for gate in ("one", "two"):
        before = answered.total()
        await machine.stop(gate)
        await machine.start(gate)
        assert answered.total() > before, "no call was answered during the restart"
    for caller in callers:
        caller.cancel()
    for ended in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(ended, asyncio.CancelledError), ended
    assert "" not in answered, "every answer is a decision that was recorded"
    assert set(answered.values()) == {1}, "each call got a decision of its own"


async def keep_asking(machine: Machine, caller: int, answered: Counter[str]) -> None:
    """Send checks on a kept connection, as dialers do, and repeat a check whose connection ended without a response."""
    async with machine.client() as client:
        place = 0
        while True:
            body = {**CALL, "to": NUMBERS[place % len(NUMBERS)], "call_id": f"{caller}-{place}"}
            try:
                async with client.post("/v1/check", json=body) as response:
                    answer = await response.json()
                    assert response.status == 200, answer
            except HUNG_UP:
                continue
            answered[answer["decision_id"]] += 1
            place += 1


@in_module_loop
async def test_a_gate_without_the_setting_does_not_share_the_port(machine: Machine, tmp_path: Path) -> None:
    """Otherwise each gate would receive about half of the other's calls."""
    (tmp_path / "three").mkdir()
    file = world.write_folder(tmp_path / "three", listen={"port": machine.port})
    refused = await asyncio.create_subprocess_exec(
        *program("serve", "--config", str(file)), stderr=asyncio.subprocess.PIPE
    )
    _, output = await refused.communicate()
    assert refused.returncode == 1
    assert b"Stop the program that listens there, or choose another port" in output


def test_the_setting_of_earlier_versions_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = world.write_folder(tmp_path, workers=4)
    refused = run_command("dialgate", "config", "check", "--config", file)
    assert refused.code == 1
    output = re.sub(r"\s+", " ", refused.out + refused.err)
    assert "`workers` was removed; delete it" in output
    assert "each with its own `data`, `node` and `operations.port`, on one `store`" in output
    assert os.fspath(Path("docs/how-to/several-gates-on-one-machine.md")) in output
