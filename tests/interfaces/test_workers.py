"""A gate with several processes: they share ports and counts, and are replaced without refusing a call."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from typer.testing import CliRunner

from dialgate.core.model import DAY
from dialgate.interfaces.cli.main import app
from dialgate.runtime.clock import wall_clock
from tests.support import redis_servers, world, yaml_files
from tests.support.ports import consecutive_ports
from tests.support.running_gate import RunningGate, serving
from tests.support.world import CALL, CLEAR, KEY, LISTED

NUMBERS = [f"+3906{number}" for number in range(12_345_000, 12_345_050)]


def write(folder: Path, **changes: Any) -> Path:
    store = {"url": redis_servers.alone(), "name": folder.name, "patience": 5}
    operations = {"port": consecutive_ports(2)}
    file = world.write_folder(folder, **{"store": store, "workers": 2, "operations": operations, **changes})
    answers = dict.fromkeys(NUMBERS, False) | {CLEAR: False, LISTED: True}
    world.publish_answers(folder / "data", answers, wall_clock() - DAY)
    return file


CONSOLE = world.client("tests", KEY, *world.SCOPES, "watch")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningGate]:
    async with serving(write(tmp_path, clients=[CONSOLE])) as gate:
        await gate.post("/v1/lists", {**world.LIST, "numbers": [*NUMBERS, CLEAR, LISTED]})
        await until(lambda: in_use(gate))
        yield gate


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that another process brings about."""
    async with asyncio.timeout(30):
        while True:
            if await what():
                return


async def in_use(gate: RunningGate) -> bool:
    """Return whether both workers use the call list. A worker opens a new list in its next round of upkeep."""
    said = await asyncio.gather(*(ask_anew(gate, CALL, "/v1/simulate") for _ in range(24)))
    return all(line["decision"] == "allow" for line in said)


async def scrape(gate: RunningGate, name: str) -> list[float]:
    """Return the sum of a metric for each worker."""
    first = gate.port("operations")
    return [await summed(gate, f"http://127.0.0.1:{port}/metrics", name) for port in (first, first + 1)]


async def summed(gate: RunningGate, url: str, name: str) -> float:
    async with gate.client.get(url) as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


async def ask_anew(gate: RunningGate, body: dict[str, str], path: str = "/v1/check") -> dict[str, Any]:
    """Send a check on a new connection, which the kernel gives to either worker."""
    async with (
        ClientSession(gate.client._base_url, connector=TCPConnector(force_close=True)) as client,
        client.post(path, json=body, headers={"Authorization": f"Bearer {KEY}"}) as answer,
    ):
        response: dict[str, Any] = await answer.json()
        return response


def children(gate: RunningGate) -> list[int]:
    pid = gate.process.pid
    return [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def tasks(pid: int) -> list[Path]:
    return [*Path(f"/proc/{pid}/task").iterdir()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def names(gate: RunningGate, many: int) -> set[str]:
    """Check `many` calls, and return the names of the logs that record the decisions."""
    answers = await asyncio.gather(*(ask_anew(gate, {**CALL, "to": LISTED}) for _ in range(many)))
    return {answer["decision_id"].partition("-")[0] for answer in answers}


def test_several_workers_on_the_embedded_store_are_refused_with_the_setting(tmp_path: Path) -> None:
    file = world.write_folder(tmp_path)
    refused = CliRunner().invoke(app, ["serve", "--config", str(file), "--workers", "2"])
    assert refused.exit_code == 2
    assert "set `store` to a Redis" in refused.output


async def test_the_port_of_another_gate_is_not_shared(node: RunningGate, tmp_path: Path) -> None:
    """Otherwise each gate would receive about half of the other's calls."""
    (tmp_path / "other").mkdir()
    address = node.client._base_url
    assert address is not None
    file = write(tmp_path / "other", listen={"port": address.port})
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dialgate", "serve", "--config", str(file), stderr=asyncio.subprocess.PIPE
    )
    _, said = await second.communicate()
    assert second.returncode == 1
    assert b"Stop the program that listens there, or choose another port" in said


async def test_workers_share_the_port_and_count_together(node: RunningGate) -> None:
    answers = await asyncio.gather(*(ask_anew(node, CALL) for _ in range(60)))
    assert sum(answer["decision"] == "allow" for answer in answers) == 5, answers[0]
    assert len({answer["decision_id"].partition("-")[0] for answer in answers}) == 2
    assert len({answer["decision_id"] for answer in answers}) == 60


async def test_each_worker_shows_its_own_metrics_on_its_own_port(node: RunningGate) -> None:
    await asyncio.gather(*(ask_anew(node, CALL) for _ in range(40)))
    counted = await scrape(node, "dialgate_decisions_total")
    assert min(counted) > 0
    assert sum(counted) == 40


async def on_each(node: RunningGate, many: int = 24, **headers: str) -> AsyncIterator[ClientSession]:
    """Yield `many` HTTP sessions, each on a new connection.

    With 24 sessions, each worker almost certainly serves at least one session.
    """
    for _ in range(many):
        async with ClientSession(node.client._base_url, headers=headers) as browser:
            yield browser


async def test_a_console_session_is_valid_in_every_worker_and_ends_in_all(node: RunningGate) -> None:
    site = {"Sec-Fetch-Site": "same-origin"}
    async with node.client.post(
        "/console/login", data={"key": KEY}, headers=site, allow_redirects=False
    ) as answer:
        cookie = f"dialgate-console={answer.cookies['dialgate-console'].value}"
    workers = set()
    async for browser in on_each(node, Cookie=cookie):
        async with browser.get("/console/try", allow_redirects=False) as page:
            assert page.status == 200
            token = (await page.text()).partition('name="token" value="')[2].partition('"')[0]
            call = {**CALL, "to": LISTED, "token": token}
        async with browser.post("/console/try", data=call, headers=site) as tried:
            assert tried.status == 200
        async with browser.post(
            "/v1/check", json=CALL, headers={"Authorization": f"Bearer {KEY}"}
        ) as response:
            workers.add((await response.json())["decision_id"].partition("-")[0])
    assert len(workers) == 2
    async with node.client.post(
        "/console/logout", data={"token": token}, headers={**site, "Cookie": cookie}, allow_redirects=False
    ) as out:
        assert out.status == 303
    async for browser in on_each(node, Cookie=cookie):
        async with browser.get("/console/try", allow_redirects=False) as page:
            assert page.status == 303


async def test_wrong_keys_are_counted_by_all_workers_together(node: RunningGate) -> None:
    site = {"Sec-Fetch-Site": "same-origin"}
    statuses = []
    async for browser in on_each(node, 14):
        async with browser.post("/console/login", data={"key": "wrong"}, headers=site) as answer:
            statuses.append(answer.status)
    assert statuses == [401] * 10 + [429] * 4


async def test_every_board_shows_what_every_worker_decided(node: RunningGate) -> None:
    await asyncio.gather(*(ask_anew(node, {**CALL, "to": LISTED}) for _ in range(40)))
    assert len(await names(node, 20)) == 2
    site = {"Sec-Fetch-Site": "same-origin"}
    async for browser in on_each(node, 6):
        async with browser.post("/console/login", data={"key": KEY}, headers=site, allow_redirects=False):
            pass
        async with asyncio.timeout(10), browser.get("/console/events") as stream:
            seen: set[str] = set()
            async for line in stream.content:
                response = (
                    json.loads(line.removeprefix(b"data: ") or b"{}") if line.startswith(b"data") else {}
                )
                seen |= {row["id"].partition("-")[0] for row in response.get("rows", ())}
                if response.get("reasons") == [["registry.listed", 60]] and len(seen) == 2:
                    assert response["ready"]
                    break


async def test_decisions_of_any_worker_are_found_by_every_reader(node: RunningGate, tmp_path: Path) -> None:
    answers = [await ask_anew(node, CALL) for _ in range(12)]
    allowed = [answer["decision_id"] for answer in answers if answer["decision"] == "allow"]
    for decision in allowed:  # reported to either worker
        await node.post("/v1/outcomes", {"decision_id": decision, "outcome": "busy"})
    ids = {answer["decision_id"] for answer in answers}
    query = {"number": CLEAR, "purpose": "complaint"}
    async with node.client.get("/v1/decisions", params=query) as answer:
        response = (await answer.json())["decisions"]
    assert {entry["decision_id"] for entry in response} == ids
    config = ["--config", str(tmp_path / "dialgate.yaml"), "--json"]
    found = CliRunner().invoke(app, ["log", "search", *config]).output.splitlines()
    hits = {hit["decision_id"]: hit["outcome"] for hit in map(json.loads, found)}
    assert hits == {name: "busy" if name in allowed else "" for name in ids}
    replayed = json.loads(CliRunner().invoke(app, ["log", "replay", *config]).output)
    assert (replayed["records"], replayed["different"]) == (12, 0)
    verified = CliRunner().invoke(app, ["log", "verify", *config])
    proved = json.loads(verified.output)
    assert verified.exit_code == 0
    assert sum(element["by_type"]["decision"] for element in proved["workers"].values()) == 12


async def test_a_crashed_worker_is_replaced_and_the_port_stays_open(node: RunningGate) -> None:
    before = await names(node, 40)
    assert len(before) == 2
    workers = children(node)
    os.kill(workers[0], signal.SIGKILL)
    assert await names(node, 40) <= before, "none was refused; its follower writes the same log"

    async def is_replaced() -> bool:
        await asyncio.sleep(0)
        return len({*children(node)} - {workers[0]}) == 2 and await names(node, 40) == before

    await until(is_replaced)
    assert len(await scrape(node, "dialgate_decisions_total")) == 2


async def test_a_rolling_restart_refuses_no_call(node: RunningGate) -> None:
    heard: Counter[str] = Counter()
    calls = iter(range(1 << 30))

    def ask() -> dict[str, str]:
        return {**CALL, "to": NUMBERS[next(calls) % len(NUMBERS)]}

    def hear(_: dict[str, Any], answer: dict[str, Any]) -> None:
        heard[answer["decision_id"].partition("-")[0]] += 1

    before = await names(node, 40)
    callers = [asyncio.create_task(keep_asking(node, ask, hear)) for _ in range(8)]
    for _ in range(2):
        rolled = asyncio.create_task(said(node, "rolled"))
        node.process.send_signal(signal.SIGUSR2)
        await rolled
    for caller in callers:
        caller.cancel()
    for refused in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(refused, asyncio.CancelledError), refused
    assert len(heard) == 3, "each log was written by a worker that was relieved, or by its follower"
    assert before < set(heard)
    assert "" not in heard, "every answer is a decision that was recorded"


async def test_idle_workers_are_replaced_too(node: RunningGate) -> None:
    await node.client.close()
    node.process.send_signal(signal.SIGUSR2)
    await said(node, "rolled")


async def test_the_end_of_the_parent_cancels_a_rolling_restart(node: RunningGate) -> None:
    async def is_starting() -> bool:
        await asyncio.sleep(0)
        return len(children(node)) == 3

    node.process.send_signal(signal.SIGUSR2)
    await until(is_starting)
    node.process.send_signal(signal.SIGTERM)
    _, output = await node.process.communicate()
    assert node.process.returncode == 0, output.decode()
    assert b"rolling restart stopped" not in output
    assert b"rolled" not in output


async def test_a_worker_does_not_start_with_another_store(node: RunningGate, tmp_path: Path) -> None:
    """Otherwise a revocation that one worker records would not bind the other workers."""
    before = children(node)
    file = tmp_path / "dialgate.yaml"
    response = yaml_files.read(file)
    yaml_files.write(file, {**response, "store": {**response["store"], "name": "another"}})
    node.process.send_signal(signal.SIGUSR2)
    await said(node, "rolling restart stopped; the remaining old workers keep running")
    assert children(node) == before


async def keep_asking(
    gate: RunningGate,
    ask: Callable[[], dict[str, str]],
    hear: Callable[[dict[str, Any], dict[str, Any]], None],
) -> None:
    """Send checks on a persistent connection, as dialers do. Raise `AssertionError` if a response status is not 200."""
    async with ClientSession(
        gate.client._base_url, timeout=ClientTimeout(total=10), headers={"Authorization": f"Bearer {KEY}"}
    ) as client:
        while True:
            body = ask()
            async with client.post("/v1/check", json=body) as answer:
                assert answer.status == 200
                hear(body, await answer.json())


async def said(gate: RunningGate, event: str) -> None:
    """Wait until the gate logs the event.

    Raise `AssertionError` with the output so far if the process ends first, or after 150 seconds. The timeout is long
    enough for a busy machine.
    """
    assert gate.process.stderr is not None
    heard: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(150):
            async for line in gate.process.stderr:
                heard.append(line.decode())
                if line.startswith(b"{") and json.loads(line)["event"] == event:
                    return
    raise AssertionError(f"the gate did not say {event!r}; it said:\n{''.join(heard)}")


async def test_workers_do_not_preempt_each_other_and_end_with_their_parent(node: RunningGate) -> None:
    workers = children(node)
    assert len(workers) == 2
    policies = {os.sched_getscheduler(int(task.name)) for pid in workers for task in tasks(pid)}
    assert policies == {os.SCHED_BATCH}
    os.kill(node.process.pid, signal.SIGKILL)

    async def have_ended() -> bool:
        await asyncio.sleep(0)
        return not any(alive(worker) for worker in workers)

    await until(have_ended)
