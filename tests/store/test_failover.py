"""Repeated kills of the master under load.

Two invariants must hold:

- After a revocation for a number is acknowledged, no call to the number is permitted.
- At most five calls to a number are permitted.

Requests and responses are recorded with their times and checked against these two invariants. No other invariants are
needed. Decisions share only limits and revocations, and only a wrongly permitted call can violate a limit or a
revocation.

A violation ends the run with `Violation`. If a master exists but the gates do not permit calls or acknowledge
revocations in time, the run ends with `NotServed`. A round in which the test's Redis servers fail is repeated. If more
than one round in twenty fails this way, the run ends with `Spoiled`. One such round is always tolerated.

`DIALGATE_FAILOVERS`: number of rounds. `DIALGATE_CALLERS`: number of concurrent callers.
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

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY, Call
from dialgate.decision_log import verify
from dialgate.decision_log.records import Reader, Record
from dialgate.ledger.schemas import RevocationRequest
from dialgate.store import StoreUnavailable
from tests.store.test_shared_store import always_assume, share
from tests.support import redis_servers, world
from tests.support.redis_servers import Node
from tests.support.world import CALLER, NOW, Hand, load_numbers

ROUNDS = int(os.environ.get("DIALGATE_FAILOVERS", "1"))
LIMIT = 5
AT_ONCE = 12  # numbers per round
CALLERS = int(os.environ.get("DIALGATE_CALLERS", "6"))
MAY_BE_SPOILED = max(1, ROUNDS // 20)
HEIR_SECONDS, SETTLED_SECONDS, SERVED_SECONDS = 40, 60, 60

Servers = redis_servers.Cluster | redis_servers.Sentinels


class Violation(Exception):
    """A call that should not have been allowed."""


class NotServed(Exception):
    """A master exists, but the gates did not permit calls or acknowledge revocations in time."""


class Spoiled(Exception):
    """The Redis servers of the test did not reach the state that the test needs."""


class Check(Struct, frozen=True):
    """A check with its times in seconds on a monotonic clock. `decision` is empty if the gate could not decide."""

    number: str
    begun: float
    ended: float
    verdict: str
    decision: str


class Stop(Struct, frozen=True):
    number: str
    acknowledged: float


def unlawful(asked: Sequence[Check], stopped: Sequence[Stop]) -> list[str]:
    """Return a description of each violation.

    A violation is a check that permitted a call although the number's revocation was acknowledged before the check
    began. More than `LIMIT` permitted calls to a number are a violation too.
    """
    allowed = {check.decision: check for check in asked if check.verdict == "allow"}.values()
    stops = {stop.number: stop.acknowledged for stop in reversed(stopped)}
    late = [
        f"{check.decision} after a stop"
        for check in allowed
        if check.begun > stops.get(check.number, float("inf"))
    ]
    counts = Counter(check.number for check in allowed)
    return late + [f"{count} calls to one number" for count in counts.values() if count > LIMIT]


def an_allow(decision: str, begun: float, number: str = "a") -> Check:
    return Check(number, begun, begun + 1, "allow", decision)


@pytest.mark.parametrize(
    ("asked", "faults"),
    [
        ([an_allow(f"log-{n}", n) for n in range(5)], 0),
        ([an_allow(f"log-{n}", n) for n in range(6)], 1),
        ([an_allow("log-1", 1)] * 6, 0),  # a repeated answer is one call
        ([an_allow(f"log-{n}", n, "b") for n in range(3)], 0),
        ([an_allow("log-1", 10.5)], 1),
        ([an_allow("log-1", 9.5)], 0),  # asked before the stop was acknowledged: either order is possible
    ],
)
def test_the_checker_finds_exactly_the_violations(asked: list[Check], faults: int) -> None:
    assert len(unlawful(asked, [Stop("a", 10.0), Stop("a", 20.0)])) == faults


class Site(Struct):
    """Two gates on one store, with the completed checks and the acknowledged revocations.

    The first gate always assumes that numbers are unknown.
    """

    gates: list[App]
    asked: list[Check] = []
    stopped: list[Stop] = []

    async def ask(self, number: str, app: App | None = None) -> Check:
        app = app or random.choice(self.gates)
        client = app.config.settings.clients[0]
        call = Call(to=number, from_=CALLER, campaign="acme-fibre", call_id="")
        begun = time.monotonic()
        answer = await app.gate.check(call, client)
        check = Check(number, begun, time.monotonic(), answer.decision, answer.decision_id)
        self.asked.append(check)
        return check

    async def stop(self, number: str) -> None:
        """Repeat the revocation request for a number until a gate acknowledges the request."""
        request = RevocationRequest(number=number, scope="controller")
        acknowledged = False
        while not acknowledged:
            app = random.choice(self.gates)
            with suppress(StoreUnavailable):
                await app.registrar.revocations.revoke(app.config.settings.clients[0], request)
                acknowledged = True
            await asyncio.sleep(0)
        self.stopped.append(Stop(number, time.monotonic()))

    async def keep_asking(self, numbers: list[str]) -> None:
        while True:
            await self.ask(random.choice(numbers))

    def violations(self) -> list[str]:
        return unlawful(self.asked, self.stopped)


@contextmanager
def invariants_checked(place: Site) -> Iterator[None]:
    """Raise `Violation` at the end of the block if an invariant is broken, even if the block failed."""
    try:
        yield
    finally:
        if violations := place.violations():
            raise Violation("; ".join(violations))


@pytest.mark.parametrize(("allows", "expected"), [(5, Spoiled), (6, Violation)])
def test_a_violation_is_reported_before_other_failures(allows: int, expected: type[Exception]) -> None:
    place = Site([], [an_allow(f"log-{n}", n) for n in range(allows)])
    with pytest.raises(expected), invariants_checked(place):
        raise Spoiled


@asynccontextmanager
async def site(folder: Path, url: str, replicas: int, numbers: list[str]) -> AsyncIterator[Site]:
    store = {"url": url, "name": folder.name, "patience": 0.5, "replicas": replicas}
    async with AsyncExitStack() as opened:
        gates: list[App] = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            file = world.write_folder(folder / name, store=store, node=name)
            world.publish_answers(folder / name / "data", dict.fromkeys(numbers, False), NOW - DAY)
            if gates:
                share(folder / "one", folder / name)
            app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())
            opened.push_async_callback(app.close)
            if not gates:
                await load_numbers(app, numbers)
            await app.tick()
            gates.append(app)
        always_assume(gates[0])
        yield Site(gates)


@asynccontextmanager
async def service_deadline() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SERVED_SECONDS):
            yield
    except TimeoutError:
        raise NotServed(f"within {SERVED_SECONDS} s of the promotion of a master") from None


@asynccontextmanager
async def load(place: Site, numbers: list[str]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Send checks without a pause, and request revocations for half of the numbers.

    All requests are cancelled at the end, because closing a gate waits until all open checks are answered.
    """
    callers = [asyncio.create_task(place.keep_asking(numbers)) for _ in range(CALLERS)]
    sample = random.sample(numbers, len(numbers) // 2)
    stops = [asyncio.create_task(place.stop(number)) for number in sample]
    try:
        yield stops
    finally:
        for task in (*callers, *stops):
            task.cancel()
        ends = await asyncio.gather(*callers, *stops, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise NotServed("a check raised") from end


async def round_of(place: Site, numbers: list[str], fail: Callable[[], Awaitable[None]]) -> float:
    """Kill and replace the master under load.

    Return the seconds from the start of the load until the gates permit a call to an unused number.
    """
    fresh, *others = numbers
    async with load(place, others) as stops:
        begun = time.monotonic()
        async with service_deadline():
            await asyncio.gather(*stops[: len(stops) // 2])
        await fail()
        async with service_deadline():
            verdict = ""
            while verdict != "allow":
                verdict = (await place.ask(fresh)).verdict
                await asyncio.sleep(0)
            took = time.monotonic() - begun
            await asyncio.gather(*stops)
        for number in others:
            for _ in range(LIMIT + 1):
                await place.ask(number)
    return took


def numbers_for(rounds: int) -> list[str]:
    return [f"+3906{12_000_000 + number}" for number in range(rounds * AT_ONCE)]


@asynccontextmanager
async def servers_must(what: str, seconds: float) -> AsyncIterator[None]:
    """Raise `Spoiled` if the block fails or takes more than `seconds`. `what`: what the servers should do."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (AssertionError, TimeoutError) as fault:
        raise Spoiled(str(fault) or f"{what}: not within {seconds} s") from fault


async def master_of(pair: list[Node]) -> Node:
    async with servers_must("one follows the other", SETTLED_SECONDS):
        while (master := await asyncio.to_thread(redis_servers.master_of, pair)) is None:
            pass
    return master


async def kill_master(servers: Servers, pair: list[Node]) -> None:
    """Kill the master, wait until its replica is promoted, and restart the killed node as a replica.

    Raises `Spoiled` on failure.
    """
    master = await master_of(pair)
    (heir,) = (node for node in pair if node is not master)
    await asyncio.to_thread(master.kill)
    async with servers_must("the replica becomes the master", HEIR_SECONDS):
        while not (await asyncio.to_thread(heir.say, "ROLE")).startswith("master"):
            pass
    async with servers_must("the master that was comes back", SETTLED_SECONDS):
        await asyncio.to_thread(servers.restart, master, heir)
    if await master_of(pair) is not heir:
        raise Spoiled("the former master is master again")


async def restore_servers(servers: Servers, pair: list[Node]) -> None:
    """Restart the servers that a spoiled round has left dead, in their former roles.

    Returns once all servers agree on the master and its replica, so that the next kill can lead to a failover.
    Raises `Spoiled` on failure.
    """
    async with servers_must("all know the master and its replica", SETTLED_SECONDS):
        for dead in (node for node in pair if node.process is None):
            await asyncio.to_thread(servers.restart, dead, None)
        await master_of(pair)
        while not await asyncio.to_thread(servers.agree):
            pass


async def run_rounds(place: Site, servers: Servers, batches: Iterator[list[str]]) -> tuple[list[float], int]:
    """Return the seconds of each valid round and the number of spoiled rounds.

    Raises `Spoiled` if too many rounds are spoiled.
    """
    pair = [node for node in servers.nodes if node.say("--scan")]
    took: list[float] = []
    spoiled = 0
    while len(took) < ROUNDS:
        try:
            with invariants_checked(place):
                await restore_servers(servers, pair)
                took.append(await round_of(place, next(batches), lambda: kill_master(servers, pair)))
        except Spoiled:
            spoiled += 1
            if spoiled > MAY_BE_SPOILED:
                raise
    return took, spoiled


@pytest.fixture(params=["cluster", "sentinel"])
def servers(request: pytest.FixtureRequest) -> Servers:
    if request.param == "cluster":
        return redis_servers.cluster(1, cluster_node_timeout="800")
    return redis_servers.sentinels(1, info_period=100)


async def test_no_failover_allows_a_sixth_call_or_one_after_an_acknowledged_stop(
    servers: Servers, tmp_path: Path
) -> None:
    numbers = numbers_for(ROUNDS + MAY_BE_SPOILED)
    batches = (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))
    async with site(tmp_path, servers.url(), 1, numbers) as place:
        took, spoiled = await run_rounds(place, servers, batches)
        allowed = {check.decision for check in place.asked if check.verdict == "allow"}
        recorded = {name for app in place.gates for name in allows(app.config.data / "log")}
        assert allowed <= recorded
        assert all(verify(app.config.data / "log").ok for app in place.gates)
    print(  # noqa: T201 - the figure of `make failover`
        f"\n{len(took)} failovers: served again after {median(took):.1f} s, at most {max(took):.1f} s;"
        f" {len(place.asked):,} checks, {len(place.stopped):,} stops; spoiled by the servers, and not counted: {spoiled}"
    )


def allows(folder: Path) -> list[str]:
    entries = Reader(folder).entries()
    return [entry.id for _, entry in entries if isinstance(entry, Record) and entry.decision.allow]
