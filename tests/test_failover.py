"""The master is killed under load, again and again: no call after an acknowledged stop, and never a sixth.

What was asked and answered is written down with its instants, and held to two invariants. They are enough: a limit and a stop
are all that a decision shares with others, and both are broken only by an allow that should not be. A run ends as `Violation`;
as `NotServed` where a new master is there and the gates do not serve; as `Spoiled` where the servers of the test failed, which
says nothing of the gate. `DIALGATE_FAILOVERS`: rounds; `DIALGATE_CALLERS`: how many ask at a time.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from statistics import median

import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate import settings
from dialgate.decision_log import verify
from dialgate.model import DAY, Call, Instant
from dialgate.records import Reader, Record
from dialgate.requests import RevocationRequest
from dialgate.service import Gate
from dialgate.store import Position, Reading, Remembered, Reservation, StoreUnavailable
from dialgate.store.redis import RedisStore
from dialgate.store.redis_line import Gone, Refusal
from tests import redises, world
from tests.redises import Node
from tests.test_shared_store import load_numbers, share
from tests.world import CALLER, NOW, Hand

ROUNDS = int(os.environ.get("DIALGATE_FAILOVERS", "1"))
LIMIT = 5
AT_ONCE = 12  # numbers of a round
CALLERS = int(os.environ.get("DIALGATE_CALLERS", "6"))
HEIR_SECONDS, SERVED_SECONDS = 40, 60


class Violation(Exception):
    """A call that should not have been allowed."""


class NotServed(Exception):
    """A master is there, and the gates do not serve, or do not take a stop."""


class Spoiled(Exception):
    """The servers of the test did not do what they are there for."""


class Asked(Struct, frozen=True):
    """Instants are seconds on one monotonic clock. `decision` is empty where the gate could not decide."""

    number: str
    begun: float
    ended: float
    verdict: str
    decision: str


class Stopped(Struct, frozen=True):
    number: str
    acknowledged: float


def unlawful(asked: Sequence[Asked], stopped: Sequence[Stopped]) -> list[str]:
    """What should not have been: allows that began after a stop was acknowledged, and those beyond the limit."""
    allowed = {each.decision: each for each in asked if each.verdict == "allow"}.values()
    stops = {each.number: each.acknowledged for each in reversed(stopped)}
    late = [
        f"{each.decision} after a stop"
        for each in allowed
        if each.begun > stops.get(each.number, float("inf"))
    ]
    counts = Counter(each.number for each in allowed)
    return late + [f"{count} calls to one number" for count in counts.values() if count > LIMIT]


def an_allow(decision: str, begun: float, number: str = "a") -> Asked:
    return Asked(number, begun, begun + 1, "allow", decision)


@pytest.mark.parametrize(
    ("asked", "faults"),
    [
        ([an_allow(f"log-{n}", n) for n in range(5)], 0),
        ([an_allow(f"log-{n}", n) for n in range(6)], 1),
        ([an_allow("log-1", 1)] * 6, 0),  # one answer given again is one call
        ([an_allow(f"log-{n}", n, "b") for n in range(3)], 0),
        ([an_allow("log-1", 10.5)], 1),
        ([an_allow("log-1", 9.5)], 0),  # asked before the stop was acknowledged: either may be first
    ],
)
def test_the_checker_sees_what_is_wrong_and_nothing_else(asked: list[Asked], faults: int) -> None:
    assert len(unlawful(asked, [Stopped("a", 10.0), Stopped("a", 20.0)])) == faults


class Site(Struct):
    """Two gates on one store, and everything that was asked of them."""

    gates: list[Gate]
    asked: list[Asked] = []
    stopped: list[Stopped] = []

    async def ask(self, number: str, gate: Gate | None = None) -> Asked:
        gate = gate or random.choice(self.gates)
        client = gate.config.settings.clients[0]
        call = Call(to=number, from_=CALLER, campaign="acme-fibre", call_id="", client=client.name)
        begun = time.monotonic()
        answer = await gate.check(call, client)
        told = Asked(number, begun, time.monotonic(), answer.decision, answer.decision_id)
        self.asked.append(told)
        return told

    async def stop(self, number: str) -> None:
        """Until it is acknowledged."""
        wanted = RevocationRequest(number=number, scope="controller")
        acknowledged = False
        while not acknowledged:
            gate = random.choice(self.gates)
            with suppress(StoreUnavailable):
                await gate.registrar.revoke(gate.config.settings.clients[0], wanted)
                acknowledged = True
            await asyncio.sleep(0)
        self.stopped.append(Stopped(number, time.monotonic()))

    async def keep_asking(self, numbers: list[str]) -> None:
        while True:
            await self.ask(random.choice(numbers))

    def wrong(self) -> list[str]:
        return unlawful(self.asked, self.stopped)


@contextmanager
def held_to(place: Site) -> Iterator[None]:
    """Raises `Violation`, whatever else went wrong."""
    try:
        yield
    finally:
        if wrong := place.wrong():
            raise Violation("; ".join(wrong))


@pytest.mark.parametrize(("allows", "told"), [(5, Spoiled), (6, Violation)])
def test_a_violation_is_told_before_what_spoiled_the_test(allows: int, told: type[Exception]) -> None:
    place = Site([], [an_allow(f"log-{n}", n) for n in range(allows)])
    with pytest.raises(told), held_to(place):
        raise Spoiled


@asynccontextmanager
async def site(folder: Path, url: str, replicas: int, numbers: list[str]) -> AsyncIterator[Site]:
    store = {"url": url, "name": folder.name, "patience": 0.5, "replicas": replicas}
    async with AsyncExitStack() as opened:
        gates: list[Gate] = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            file = world.write_folder(folder / name, store=store, node=name)
            world.publish_answers(folder / name / "data", dict.fromkeys(numbers, False), NOW - DAY)
            if gates:
                share(folder / "one", folder / name)
            gate = await Gate.open(settings.load(file), registry=CollectorRegistry(), clock=Hand())
            opened.push_async_callback(gate.close)
            if not gates:
                await load_numbers(gate, numbers)
            await gate.tick()
            gates.append(gate)
        yield Site(gates)


async def round_of(place: Site, numbers: list[str], fail: Callable[[], Awaitable[None]]) -> float:
    """Callers ask without a pause, persons say stop, the master dies, and is replaced. Returns the seconds until the gates
    allow again a number that nobody has called."""
    fresh, *others = numbers
    callers = [asyncio.create_task(place.keep_asking(others)) for _ in range(CALLERS)]
    stops = [asyncio.create_task(place.stop(number)) for number in random.sample(others, len(others) // 2)]
    begun = time.monotonic()
    await asyncio.gather(*stops[: len(stops) // 2])
    await fail()
    try:
        async with asyncio.timeout(SERVED_SECONDS):
            verdict = ""
            while verdict != "allow":
                verdict = (await place.ask(fresh)).verdict
                await asyncio.sleep(0)
            took = time.monotonic() - begun
            await asyncio.gather(*stops)
    except TimeoutError:
        raise NotServed(f"{SERVED_SECONDS} s after a replica became the master") from None
    for number in others:
        for _ in range(LIMIT + 1):
            await place.ask(number)
    for caller in callers:
        caller.cancel()
    for ended in await asyncio.gather(*callers, return_exceptions=True):
        if not isinstance(ended, asyncio.CancelledError):
            raise NotServed("a check raised") from ended
    return took


def numbers_for(rounds: int) -> list[str]:
    return [f"+3906{12_000_000 + number}" for number in range(rounds * AT_ONCE)]


async def killed(node: Node, nodes: list[Node], replicaof: str | None) -> None:
    """The master, until another is one; then it comes back as its replica. Raises `Spoiled`."""
    try:
        await asyncio.to_thread(node.kill)
        heir: list[Node] = []
        async with asyncio.timeout(HEIR_SECONDS):
            while not heir:
                rest = [each for each in nodes if each is not node and each.process is not None]
                heir = [each for each in rest if await asyncio.to_thread(is_heir, each, node)]
        if replicaof is not None:
            node.options["replicaof"] = f"127.0.0.1 {heir[0].port}"
        await asyncio.to_thread(node.restart)
        await asyncio.to_thread(redises.linked, node)
    except (AssertionError, TimeoutError) as fault:
        raise Spoiled(str(fault) or f"no replica became the master within {HEIR_SECONDS} s") from fault


def is_heir(candidate: Node, of: Node) -> bool:
    """It was the other's replica before, and is a master now."""
    return candidate.port in of_replicas.get(of.port, ()) and candidate.say("ROLE").startswith("master")


of_replicas: dict[int, tuple[int, ...]] = {}


async def master_of(store: RedisStore, nodes: list[Node]) -> Node:
    try:
        port = (await store._server.where.master(asyncio.get_running_loop().time() + 5)).port
    except (Gone, Refusal, TimeoutError) as fault:
        raise Spoiled("no master to kill") from fault
    node = next(each for each in nodes if each.port == port)
    of_replicas[port] = replicas_of(node)
    return node


def replicas_of(node: Node) -> tuple[int, ...]:
    """By `ROLE`: master, offset, then each replica's address, port and offset."""
    words = node.say("ROLE").split()
    return tuple(int(word) for word in words[3::3]) if words[0] == "master" else ()


@pytest.fixture(params=["cluster", "sentinel"])
def redis(request: pytest.FixtureRequest) -> tuple[str, list[Node], str | None]:
    """URL, nodes, and whether one that comes back must be told whom to follow."""
    if request.param == "cluster":
        made = redises.cluster(1, cluster_node_timeout="800")
        return made.url(), made.nodes, None
    watched = redises.sentinels(1)
    return watched.url(), watched.nodes, ""


async def test_no_failover_makes_a_sixth_call_or_one_after_an_acknowledged_stop(
    redis: tuple[str, list[Node], str | None], tmp_path: Path
) -> None:
    url, nodes, replicaof = redis
    numbers = numbers_for(ROUNDS)
    store = RedisStore(url, name=tmp_path.name, patience=0.5)
    took = []
    async with site(tmp_path, url, 1, numbers) as place:
        for start in range(0, len(numbers), AT_ONCE):

            async def fail() -> None:
                await killed(await master_of(store, nodes), nodes, replicaof)

            with held_to(place):
                took.append(await round_of(place, numbers[start : start + AT_ONCE], fail))
        allowed = {each.decision for each in place.asked if each.verdict == "allow"}
        recorded = {name for gate in place.gates for name in allows(gate.config.data / "log")}
        assert allowed <= recorded
        assert all(verify(gate.config.data / "log").ok for gate in place.gates)
    await store.close()
    print(  # noqa: T201 - the figure of `make failover`
        f"\n{len(took)} failovers: served again after {median(took):.1f} s, at most {max(took):.1f} s;"
        f" {len(place.asked):,} checks, {len(place.stopped):,} stops"
    )


def allows(folder: Path) -> list[str]:
    entries = Reader(folder).entries()
    return [each.id for _, each in entries if isinstance(each, Record) and each.decision.allow]


class Careless(RedisStore):
    """A planted fault: it commits against what holds now, not against what was read. `met`: all have read."""

    met: asyncio.Barrier

    async def read(
        self, subjects: Sequence[bytes], keys: Sequence[bytes] = (), since: Instant = 0
    ) -> Reading:
        reading = await super().read(subjects, keys, since)
        await self.met.wait()
        return reading

    async def commit(
        self,
        reading: Reading,
        reservations: Sequence[Reservation],
        remembered: Sequence[Remembered],
        position: Position,
    ) -> list[int]:
        while True:
            now = await super().read(reading.subjects)
            if not await super().commit(now, reservations, remembered, position):
                return []


async def test_the_checker_catches_a_store_that_does_not_check_again(tmp_path: Path) -> None:
    (number, *_) = numbers = numbers_for(1)
    met = asyncio.Barrier(2)
    async with site(tmp_path, redises.alone(), 0, numbers) as place:
        for gate in place.gates:
            await gate._store.close()
            gate._store = gate._reserver._store = careless = Careless(
                redises.alone(), name=tmp_path.name, patience=5
            )
            careless.met = met
        for _ in range(LIMIT):
            await asyncio.gather(*(place.ask(number, gate) for gate in place.gates))
    assert place.wrong() == ["6 calls to one number"]
