"""A soak: hours of load on two gates with one Redis, and everything that happens to gates meanwhile.

Two gates share a Redis with one replica and three Sentinels. Half of the checks are of new numbers and half of numbers called
before. Meanwhile configurations are reloaded, registry answers replaced, stops and outcomes entered, log files packed and expired
data removed, and the primary of Redis is killed. The benchmark fails if

- a gate allows a call to a number after it acknowledged a stop, or allows more calls than the limit;
- an acknowledged stop is gone at the end;
- a gate's log lacks an allow that a client received, does not verify, or replays with a difference.

Its figures are the waits, the outage at each failover, and how fast each gate's memory, descriptors and threads grow. A slope comes
with its standard error: a slope below two errors is not distinguishable from none. Linux only.
"""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

import msgspec
import uvloop
from aiohttp import ClientSession

from dialgate.audit import replay
from dialgate.core.responses import Answer
from dialgate.decision_log import verify
from dialgate.decision_log.records import Reader, Record
from tests.bench import COUNTRIES, BenchError, Figure, http_load, world
from tests.bench.growth import Gate, slopes
from tests.bench.oracle import Oracle
from tests.store.test_failover import kill_master
from tests.support import redis_servers, yaml_files
from tests.support.ports import free_port
from tests.support.world import share_keys, with_url_file

_CONNECTIONS: Final = 32  # to each gate
_STOPPED_AGAIN: Final = 0.05  # share of the checks that are of stopped numbers
_OUTCOMES: Final = 0.1  # share of the allowed calls with an outcome
_STOP, _REMOVAL, _SAMPLE = 1, 60, 1  # seconds between two of them
_FAULTS_SHOWN: Final = 10
_Action: TypeAlias = tuple[Callable[[], Awaitable[None]], float]


class _Connection(asyncio.Protocol):
    """A connection for one check at a time. `answered` is called with each response, its time of request and this object."""

    def __init__(self, answered: Callable[["_Connection", Answer], None]) -> None:
        self._answered, self._received = answered, b""
        self.position, self.call, self.begun = 0, 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def ask(self, request: bytes, position: int, call: int) -> None:
        self.position, self.call, self.begun = position, call, time.monotonic()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]):
            self._received = b""
            self._answered(self, msgspec.json.decode(body, type=Answer))


class _Soak:
    """The load, and what happens to the gates."""

    def __init__(self, folder: Path, made: world.World, gates: list[Gate]) -> None:
        self.folder, self.made, self.gates = folder, made, gates
        self.oracle = Oracle(len(made.numbers))
        # The time of each kill of a primary, and the seconds until both servers were in their new roles and in sync.
        self.kills: list[float] = []
        self.restored: list[float] = []
        self.calls = self.reloads = self.swaps = self.removals = self.outcomes = 0
        self._asked, self._idle = 0, deque[_Connection]()
        self._reports, self._allowed = deque[str](maxlen=1000), deque[int](maxlen=1000)
        self._random = random.Random(1)

    async def open(self, opened: AsyncExitStack) -> None:
        loop, headers = asyncio.get_running_loop(), {"Authorization": f"Bearer {self.made.key}"}
        self.clients = []
        for gate in self.gates:
            url = f"http://127.0.0.1:{gate.port}"
            self.clients.append(await opened.enter_async_context(ClientSession(url, headers=headers)))
        for _ in range(_CONNECTIONS):
            for gate in self.gates:
                transport, connection = await loop.create_connection(
                    lambda: _Connection(self._answered), "127.0.0.1", gate.port
                )
                opened.callback(transport.close)
                self._idle.append(connection)

    async def load(self, seconds: float, rate: int) -> float:
        """Send checks at a steady rate, without making up for those that found no idle connection. Return the rate reached."""
        began = now = time.monotonic()
        due = 0.0
        while now < began + seconds:
            await asyncio.sleep(0.001)
            before, now = now, time.monotonic()
            due = min(due + (now - before) * rate, 2 * _CONNECTIONS)
            while due >= 1 and self._idle:
                self._ask(self._idle.popleft())
                due -= 1
        return self.calls / (now - began)

    def _ask(self, connection: _Connection) -> None:
        draw = self._random.random()
        if draw < _STOPPED_AGAIN and self.oracle.stops:
            position = self._random.choice(self.oracle.stopped)
        elif draw < 0.5 and self._asked:
            position = self._random.randrange(self._asked)
        else:
            position, self._asked = self._asked, self._asked + 1
        body = world.body(self.made.numbers[position], self.calls)
        connection.ask(http_load.request(body, self.made.key), position, self.calls)
        self.calls += 1

    def _answered(self, connection: _Connection, answer: Answer) -> None:
        self.oracle.answered(connection.position, connection.call, connection.begun, answer)
        if answer.decision == "allow" and self._random.random() < _OUTCOMES:
            self._reports.append(answer.decision_id)
            self._allowed.append(connection.position)
        self._idle.append(connection)

    async def stop(self) -> None:
        """Enter a stop of a number that was called at one of the gates, again until it is acknowledged."""
        if not self._allowed:
            return
        position = self._random.choice(self._allowed)
        body = {"number": f"+{self.made.numbers[position]}"}
        while not await self._post("/v1/revocations", body):
            pass
        self.oracle.stop(position)

    async def report(self) -> None:
        while self._reports:
            outcome = self._random.choice(("answered", "no_answer", "busy"))
            body = {"decision_id": self._reports.popleft(), "outcome": outcome}
            self.outcomes += await self._post("/v1/outcomes", body)

    async def remove(self) -> None:
        self.removals += await self._post("/v1/retention", {})

    async def _post(self, path: str, body: dict[str, Any]) -> bool:
        """Return whether one of the gates accepts a request."""
        async with self._random.choice(self.clients).post(path, json=body) as response:
            await response.read()
            if 400 <= response.status < 500:
                raise BenchError(f"{path}: {response.status} {await response.text()}")
            return response.status < 300

    async def reload(self) -> None:
        self.reloads += 1
        world.write_controller(self.folder, name=f"A controller, {self.reloads}")
        for gate in self.gates:
            gate.process.send_signal(signal.SIGHUP)

    async def swap(self) -> None:
        numbers = self._random.sample(self.made.callable, 100)
        await asyncio.to_thread(world.answer, self.folder, numbers, [], f"swap-{self.swaps}")
        self.swaps += 1

    async def sample(self) -> None:
        for gate in self.gates:
            if gate.process.poll() is not None:
                raise BenchError(f"{gate.name} ended with status {gate.process.returncode}")
            gate.sample()

    async def final_checks(self) -> None:
        """Ask each gate once more about every stopped number."""
        await asyncio.gather(
            *(self._check_stop(client, position) for client in self.clients for position in self.oracle.stops)
        )

    async def _check_stop(self, client: ClientSession, position: int) -> None:
        answer = None
        while answer is None or answer.reason_class == "gate":  # a failover may not be over yet
            self.calls += 1
            body = world.body(self.made.numbers[position], self.calls)
            async with client.post("/v1/check", data=body) as response:
                answer = msgspec.json.decode(await response.read(), type=Answer)
        codes = [reason.code for reason in answer.reasons]
        if "revocation.revoked" not in codes:
            after = min(abs(self.oracle.stops[position] - kill) for kill in [*self.kills, 0])
            self.oracle.faults.append(
                f"a lost stop, {after:.1f} s from a failover: {answer.decision_id} has {codes}"
            )


def run(
    minutes: float = 5.0,
    rate: int = 2000,
    failover_minutes: float = 10.0,
    reload_seconds: float = 20.0,
    swap_seconds: float = 30.0,
    countries: Path = COUNTRIES,
) -> Iterator[Figure]:
    """Run the soak for `minutes` with `rate` checks a second, and a failover every `failover_minutes`.

    A configuration is reloaded every `reload_seconds`, and registry answers are replaced every `swap_seconds`. The folder is deleted unless there are faults.
    """
    size = int(minutes * 60 * rate * 0.55) + 1000
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    servers = redis_servers.sentinels(1, info_period=100)
    made = world.build(folder, countries, size, **_settings(folder, servers.url()))
    soak = _Soak(folder, made, _start(folder))
    actions = (
        (_fail(soak, servers), failover_minutes * 60), (soak.stop, _STOP), (soak.report, 0.1), (soak.reload, reload_seconds),
        (soak.swap, swap_seconds), (soak.remove, _REMOVAL), (soak.sample, _SAMPLE),
    )  # fmt: skip
    reached = uvloop.run(_run(soak, actions, minutes * 60, rate))
    for gate in soak.gates:
        gate.process.terminate()
        gate.process.wait()
    records = sum(_read_back(gate, soak.oracle) for gate in soak.gates)
    faults = [*soak.oracle.faults, *soak.oracle.unlogged()]
    if faults:
        raise BenchError(f"{len(faults)} faults, see {folder}: {'; '.join(faults[:_FAULTS_SHOWN])}")
    shutil.rmtree(folder)
    yield Figure("soak.rate", round(reached), "1/s", rate, round(reached / rate, 3))
    counts = ("reloads", "swaps", "removals", "outcomes")
    yield from (Figure(f"soak.{name}", getattr(soak, name), "1") for name in counts)
    yield Figure("soak.stops", len(soak.oracle.stops), "1")
    yield Figure("soak.replayed", records, "decisions")
    yield from soak.oracle.figures(soak.kills)
    if soak.restored:
        yield Figure("soak.restored", round(max(soak.restored), 2), "s")
        yield Figure("soak.restored_median", round(median(soak.restored), 2), "s")
    for gate in soak.gates:
        yield from slopes(gate)


def _settings(folder: Path, url: str) -> dict[str, Any]:
    store = {"url": url, "name": "soak", "replicas": 1}
    listen, first, second = free_port(), free_port(), free_port()
    return {
        "node": "one",
        "store": with_url_file(folder / "store.url", store),
        "listen": {"port": listen},
        "operations": {"port": first},
        "peers": {"one": f"http://127.0.0.1:{first}", "two": f"http://127.0.0.1:{second}"},
        # Small and soon packed, so that minutes contain what otherwise takes days.
        "log_segment_mb": 8,
        "log_archive_hours": 0,
        "checkpoint_seconds": 10,
    }


def _start(folder: Path) -> list[Gate]:
    """Start both gates. The second has the keys and registry answers of the first, and fetches its call list."""
    first = yaml_files.read(folder / "dialgate.yaml")
    second = {
        **first,
        "node": "two",
        "data": "two/data",
        "listen": {"port": free_port()},
        "operations": {"port": int(first["peers"]["two"].rpartition(":")[2])},
    }
    yaml_files.write(folder / "two.yaml", second)
    (folder / "two").mkdir()
    share_keys(folder, folder / "two")
    (folder / "two/data/snapshots").symlink_to(folder / "data/snapshots")
    gates = []
    for name, settings in (("dialgate", first), ("two", second)):
        (folder / "output" / name).mkdir(parents=True)
        words = [sys.executable, "-m", "dialgate", "serve", "--config", str(folder / f"{name}.yaml")]
        started = redis_servers.start_and_wait('"event":"ready"', folder / "output" / name, words)
        redis_servers.kill_at_exit(started)
        gates.append(Gate(settings["node"], folder / settings["data"], settings["listen"]["port"], started))
    return gates


async def _run(soak: _Soak, actions: Iterable[_Action], seconds: float, rate: int) -> float:
    async with AsyncExitStack() as opened:
        await soak.open(opened)
        async with _repeated(*actions):
            reached = await soak.load(seconds, rate)
        await asyncio.sleep(1)  # until the last checks are answered
        await soak.final_checks()
    return reached


def _fail(soak: _Soak, servers: redis_servers.Sentinels) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        soak.kills.append(time.monotonic())
        await kill_master(servers, servers.nodes)
        soak.restored.append(time.monotonic() - soak.kills[-1])

    return fail


@asynccontextmanager
async def _repeated(*actions: _Action) -> Any:
    """Repeat each action with its interval in seconds during the block. An action that fails ends the block."""

    async def repeat(action: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await action()

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(repeat(*action)) for action in actions]
        yield
        for task in running:
            task.cancel()


def _read_back(gate: Gate, oracle: Oracle) -> int:
    """Verify and replay a gate's log, and note its allows. Return the number of its decisions."""
    report = verify(gate.data / "log")
    oracle.faults += [f"{gate.name}: {fault}" for fault in report.faults[:_FAULTS_SHOWN]]

    def decisions() -> Iterator[Record]:
        for _, entry in Reader(gate.data / "log").entries():
            if isinstance(entry, Record):
                if entry.decision.allow:
                    oracle.logged(int(entry.call_id))
                yield entry

    replayed = replay.replay(decisions(), replay.as_recorded(gate.data / "kept"), replay.exact)
    oracle.faults += [f"replayed with a difference: {example}" for example in replayed.examples]
    return replayed.records
