"""The stack of `deploy/stack`, with real programs and load: no check is lost while its gates are restarted one by one.

`DIALGATE_STACK_RATE`: checks per second. `DIALGATE_STACK_ROUNDS`: number of rolling restarts and of failovers.
"""

import asyncio
import json
import os
import shutil
import signal
import ssl
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count, cycle
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct

from dialgate.core.model import DAY
from dialgate.decision_log.records import Reader, Record
from dialgate.runtime.clock import wall_clock
from tests.support import world
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.redis_servers import say
from tests.support.world import CALLER

STACK = ROOT / "deploy" / "stack"
RATE = int(os.environ.get("DIALGATE_STACK_RATE", "100"))
ROUNDS = int(os.environ.get("DIALGATE_STACK_ROUNDS", "1"))
GATES = ("gate-1", "gate-2")
NEEDED = ("redis-server", "haproxy", "prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
CALLED = [f"+3906{number}" for number in range(12_340_000, 12_344_000)]
FIRST_STOPPED = 50_000_000
BOUND_SECONDS = 1.0  # within which a stop must bind on every gate
CONNECTIONS = 64
TICK = 0.02  # seconds between two groups of checks
PORTS = (
    "haproxy", "haproxy-metrics", "gate-1", "gate-2", "operations-1", "operations-2", "redis-1", "redis-2", "sentinel-1",
    "sentinel-2", "sentinel-3", "prometheus", "alertmanager", "node-exporter",
)  # fmt: skip


class Site(Struct):
    """A running stack, with sessions of a dialer and a supervisor through HAProxy, and one straight to the gates."""

    folder: Path
    ports: dict[str, int]
    dialer: ClientSession
    supervisor: ClientSession
    straight: ClientSession

    def pid(self, service: str) -> int:
        return int((self.folder / f"log/{service}.pid").read_text())

    async def restart(self, service: str) -> None:
        """End a service as an operator does, and wait until its successor is ready."""
        former = self.pid(service)
        os.kill(former, signal.SIGTERM)
        port = self.ports[f"operations-{service.partition('-')[2]}"]
        while self.pid(service) == former or not await self._is_ready(port):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)

    async def _is_ready(self, port: int) -> bool:
        with suppress(ClientError, TimeoutError):
            async with self.straight.get(f"http://127.0.0.1:{port}/readyz") as response:
                return response.status == 200
        return False


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[Site]:
    """Run the stack with the numbers of `CALLED`. At the end, no process of it may be left."""
    ports = {name: free_port() for name in PORTS}
    world.publish_answers(folder / "gate-1", dict.fromkeys(CALLED, False), wall_clock() - DAY)
    words = [f"{name}={port}" for name, port in ports.items()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(STACK / "run.py"), str(folder), *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if b"Try it" in line:
                break
        else:
            raise AssertionError("the stack did not start")
        tls = ssl.create_default_context(cafile=str(folder / "haproxy/haproxy.pem"))
        keys = {
            name: (folder / f"gate-1/{name}.key").read_text().strip() for name in ("dialer", "supervisor")
        }
        async with (
            session(ports["haproxy"], keys["dialer"], tls) as dialer,
            session(ports["haproxy"], keys["supervisor"], tls) as supervisor,
            ClientSession(headers=bearer(keys["dialer"]), timeout=ClientTimeout(total=5)) as straight,
        ):
            yield Site(folder, ports, dialer, supervisor, straight)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def session(port: int, key: str, tls: ssl.SSLContext) -> ClientSession:
    connector = TCPConnector(limit=CONNECTIONS, ssl=tls)
    return ClientSession(
        f"https://localhost:{port}", headers=bearer(key), timeout=ClientTimeout(total=30), connector=connector
    )


class Load:
    """Checks at a constant rate, whether or not the earlier ones are answered. None is repeated.

    `unavailable` counts denials without a decision. `faults` are checks with another answer, or none.
    """

    def __init__(self, site: Site) -> None:
        self._site, self._ids, self._numbers = site, count(), cycle(CALLED)
        self._checks = set[asyncio.Task[None]]()
        self.decisions, self.faults = set[str](), list[str]()
        self.unavailable = 0
        self.slowest = 0.0
        self.served_since = 0.0  # the last denial without a decision

    async def run(self) -> None:
        begun, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begun) * RATE)
            for _ in range(due - sent):
                check = asyncio.create_task(self._check())
                self._checks.add(check)
                check.add_done_callback(self._checks.discard)
            sent = due
            await asyncio.sleep(TICK)

    async def finish(self) -> None:
        await asyncio.gather(*self._checks)

    async def _check(self) -> None:
        body = question(next(self._numbers), f"load-{next(self._ids)}")
        begun = time.monotonic()
        try:
            async with self._site.dialer.post("/v1/check", json=body) as response:
                answer = json.loads(await response.read())
        except (ClientError, TimeoutError, ValueError) as error:
            self.faults.append(repr(error))
            return
        self.slowest = max(self.slowest, time.monotonic() - begun)
        if response.status == 200 and answer["decision_id"]:
            self.decisions.add(answer["decision_id"])
        elif response.status == 503 and "gate.unavailable" in json.dumps(answer):
            self.unavailable += 1
            self.served_since = time.monotonic()
        else:
            self.faults.append(f"{response.status} {answer}")


def question(number: str, call_id: str) -> dict[str, str]:
    return {"to": number, "from": CALLER, "campaign": "acme-fibre", "call_id": call_id}


class Stops:
    """Stops through HAProxy, one after the other. Each gate is asked about the number as soon as it is acknowledged."""

    def __init__(self, site: Site) -> None:
        self._site, self._ids = site, count()
        self.acknowledged, self.refused = 0, 0
        self.seconds: dict[str, list[float]] = defaultdict(
            list
        )  # from the acknowledgement to the denial, by gate
        self.violations = list[str]()

    async def run(self) -> None:
        for number in (f"+3906{place}" for place in count(FIRST_STOPPED)):
            while not await self._stop(number):
                self.refused += 1
                await asyncio.sleep(0.05)
            self.acknowledged += 1
            await asyncio.gather(*(self._see(gate, number, time.monotonic()) for gate in GATES))
            await asyncio.sleep(0.1)

    async def _stop(self, number: str) -> bool:
        with suppress(ClientError, TimeoutError):
            async with self._site.supervisor.post("/v1/revocations", json={"number": number}) as response:
                return response.status == 201
        return False

    async def _see(self, gate: str, number: str, acknowledged: float) -> None:
        """Ask a gate until it decides. A gate that is down decides nothing: no call can pass it."""
        url = f"http://127.0.0.1:{self._site.ports[gate]}/v1/check"
        while time.monotonic() < acknowledged + BOUND_SECONDS:
            with suppress(ClientError, TimeoutError):
                body = question(number, f"stop-{next(self._ids)}")
                async with self._site.straight.post(url, json=body) as response:
                    answer = await response.json()
                if answer["decision"] == "allow":
                    self.violations.append(
                        f"{gate} allowed {time.monotonic() - acknowledged:.3f} s after a stop"
                    )
                elif any(reason["code"].startswith("revocation") for reason in answer["reasons"]):
                    self.seconds[gate].append(time.monotonic() - acknowledged)
                    return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def in_background(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if isinstance(end, Exception)] == []


async def fail_over(site: Site, load: Load) -> float:
    """Keep the Redis that is the primary down until the other one is. Return the seconds until calls are decided again."""
    port = await primary(site)
    (name,) = (name for name, value in site.ports.items() if value == port)
    killed = time.monotonic()
    while await primary(site) == port:
        with suppress(ProcessLookupError):
            os.kill(site.pid(name), signal.SIGKILL)
        await asyncio.sleep(0.05)
    promoted = time.monotonic()
    while load.served_since < promoted or time.monotonic() < load.served_since + 1:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(0.05)
    return load.served_since - killed


async def primary(site: Site) -> int:
    reply = await asyncio.to_thread(
        say, site.ports["sentinel-1"], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "gates"
    )
    return int(reply.split()[1])


def recorded(folder: Path) -> Iterator[str]:
    for gate in GATES:
        for _, entry in Reader(folder / gate / "log").entries():
            if isinstance(entry, Record):
                yield entry.id


@pytest.mark.torture
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
@pytest.mark.timeout(600)
async def test_a_rolling_restart_loses_no_check_and_every_stop_binds_at_once(tmp_path: Path) -> None:
    async with stack(tmp_path) as site:
        await load_numbers(site)
        load, stops = Load(site), Stops(site)
        async with in_background(load.run, stops.run):
            for _ in range(ROUNDS):
                for gate in GATES:
                    await site.restart(gate)
            rolled = len(load.decisions)
            assert (load.faults, load.unavailable, stops.refused) == ([], 0, 0)
            took = [await fail_over(site, load) for _ in range(ROUNDS)]
        await load.finish()
        async with asyncio.timeout(60):  # a gate that was down for a scrape is reached by the next one
            while await targets(site) != {"dialgate": 2, "haproxy": 1, "node": 1}:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.5)
        pids = [int(path.read_text()) for path in (tmp_path / "log").glob("*.pid")]
    slowest = max(max(seconds) for seconds in stops.seconds.values())
    print(  # noqa: T201 - the figures of a run by hand
        f"\n{rolled:,} checks decided during the rolling restart, 0 refused, failed or lost. Failover: decided again after"
        f" {max(took):.1f} s, {load.unavailable:,} denied without a decision, {len(load.decisions) - rolled:,} decided."
        f" {stops.acknowledged} stops, bound on every gate within {slowest:.2f} s. Slowest check {load.slowest:.2f} s"
    )
    assert (load.faults, stops.violations) == ([], [])
    assert load.decisions <= set(recorded(tmp_path))
    assert not [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def targets(site: Site) -> Counter[str]:
    """Return how many targets of each job Prometheus has reached."""
    url = f"http://127.0.0.1:{site.ports['prometheus']}/api/v1/query"
    async with site.straight.get(url, params={"query": "max_over_time(up[10m]) == 1"}) as response:
        found = (await response.json())["data"]["result"]
    return Counter(sample["metric"]["job"] for sample in found)


async def load_numbers(site: Site) -> None:
    """Load a list with the numbers, and wait until both gates allow calls to them."""
    async with site.supervisor.post("/v1/lists", json={**world.LIST, "numbers": CALLED}) as response:
        assert response.status == 201, await response.text()
    for gate in GATES:
        url, verdict = f"http://127.0.0.1:{site.ports[gate]}/v1/check", ""
        while verdict != "allow":
            async with site.straight.post(url, json=question(CALLED[-1], "")) as response:
                verdict = (await response.json())["decision"]
            await asyncio.sleep(0.1)
