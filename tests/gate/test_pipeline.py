"""Property tests of the pipeline: no fault may allow too many calls, or separate an attempt from its record.

Hypothesis generates histories of calls, revocations, results and faults. The faults are stale reads, broken commits,
failed writes and syncs of the log, and kills. Each history is played on real gates. Then all faults are repaired, and
the test compares responses, records and attempts. Either two gates share a Redis server, or one gate has its SQLite file.

Each history uses its own numbers and call ids, so the same gates can serve all histories. DIALGATE_HISTORIES sets the
number of random histories. Without this variable, the histories are the same in each run.
"""

import asyncio
import os
import re
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis.asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from dialgate.core.model import DAY
from dialgate.gate.admission_queue import MIN_OVERLAP
from tests.support import redis_servers, world
from tests.support.gate_processes import FULL, LOSING, CheckResponse, Died, Entry, Failed, Node
from tests.support.proxy import Proxy, proxied
from tests.support.world import NOW, Hand

HISTORIES: Final = int(os.environ.get("DIALGATE_HISTORIES", "0"))
LIMIT: Final = 5  # attempts to one number, as the example configuration has it
HELD_FOR: Final = 60  # seconds for which an allow holds
COMMIT: Final = b":positions"  # of all requests of a check, only the commit contains this
CAMPAIGN, STRANGE = "acme-fibre", "no-such"
TRIES: Final = 20
ENDS: Final = 60  # seconds within which the longest history ends on a busy machine
NUMBERS: Final = [f"+3906{number}" for number in range(12340000, 12346000)]

Call: TypeAlias = tuple[int, str, bool]  # index of the number in the history, call id, an existing campaign
Calls: TypeAlias = tuple[Call, ...]


# ---- steps -------------------------------------------------------------------------------------------------


class Ask(Struct, frozen=True):
    """Check `calls` at one gate and, at the same time, `other` at the next gate."""

    gate: int
    calls: Calls
    other: Calls = ()


class Stop(Struct, frozen=True):
    """Revoke a number while `calls` are checked."""

    gate: int
    number: int
    calls: Calls = ()


class Report(Struct, frozen=True):
    """Report the result of the newest permitted call."""

    gate: int
    outcome: Literal["no_answer", "answered", "opt_out"]


class TimePasses(Struct, frozen=True):
    """Advance the clock by `HELD_FOR`, so that every permitted call expires."""


class Stale(Struct, frozen=True):
    """Hold the commit of `calls` until the other gate has processed `first`.

    While the commit is held, the gate also reads the facts for `following`.
    """

    gate: int
    calls: Calls
    following: Calls
    first: Ask | Stop | Report | None


class Interruption(Struct, frozen=True):
    """Lose the commit request for `calls` (`dropped`) or the reply to that request (`broken`).

    The gate reads the facts for `following` before the connection is closed.
    """

    gate: int
    fault: Literal["dropped", "broken"]
    calls: Calls
    following: Calls


class LogFails(Struct, frozen=True):
    """Make the log fail and check `calls` twice. Then repair the log, or kill and restart the gate.

    `how`: the device that refuses (`FULL`) or discards (`LOSING`) all writes, or the number of bytes that still fit.
    """

    gate: int
    how: str | int
    calls: Calls
    killed: bool


class Kill(Struct, frozen=True):
    """Kill the gate while it decides `calls`, then restart the gate.

    - `held`: whether the held commit reaches the store `before` or `after` the restart. If it is empty, the commit is
      not held.
    - `power`: the maximum number of bytes to cut from the unsynced end of the log, as a power failure can
    """

    gate: int
    calls: Calls
    held: Literal["", "before", "after"]
    power: int


Step: TypeAlias = Ask | Stop | Report | TimePasses | Stale | Interruption | LogFails | Kill

gates = st.integers(0, 1)
number = st.sampled_from([0, 0, 0, 1])
call = st.tuples(number, st.sampled_from(["", "", "a", "b", "c"]), st.sampled_from([True] * 7 + [False]))
calls = st.lists(call, min_size=1, max_size=6).map(tuple)
some_calls = st.lists(call, max_size=6).map(tuple)
overlapping = st.lists(call, min_size=MIN_OVERLAP, max_size=MIN_OVERLAP + 4).map(tuple)

asks = st.builds(Ask, gates, calls, st.one_of(st.just(()), some_calls))
stops = st.builds(Stop, gates, number, some_calls)
reports = st.builds(Report, gates, st.sampled_from(["no_answer", "answered", "no_answer", "opt_out"]))
log_fails = st.builds(
    LogFails, gates, st.sampled_from([FULL, LOSING, 0, 40, 700]), calls, st.sampled_from([False, False, True])
)
kills = st.builds(
    Kill, gates, some_calls, st.sampled_from(["", "before", "after"]), st.sampled_from([0, 1, 300, 1 << 20])
)
stales = st.builds(
    Stale,
    gates,
    calls,
    st.one_of(st.just(()), overlapping, overlapping),
    st.one_of(st.none(), asks, asks, stops, reports),
)
interruptions = st.builds(
    Interruption,
    gates,
    st.sampled_from(["dropped", "broken"]),
    calls,
    st.one_of(st.just(()), overlapping, overlapping),
)
often = [asks] * 6 + [reports] * 3 + [st.builds(TimePasses)]
# A new start costs as much as fifty batches.
seldom = [log_fails, kills]

on_redis = st.lists(
    st.one_of(*often, stops, *[stales] * 5, *[interruptions] * 4, *seldom), min_size=3, max_size=16
)
on_sqlite = st.lists(st.one_of(*often * 2, *[stops] * 4, *seldom), min_size=3, max_size=16)


# ---- playing them ------------------------------------------------------------------------------------------------


class Question(Struct):
    """The state of a question, which is a call id with its number and campaign.

    - `most`: the maximum number of decisions about the question, at first 1. Each revocation, result and expiry adds 1.
      A request to a gate also adds 1 if another gate is deciding the question or is one of the `unproved` gates.
    - `asking`: the number of requests in flight at each gate
    - `unproved`: the gates that may have decided the question, but have not confirmed that the record is on disk
    """

    number: str
    most: int = 1
    answers: set[str] = msgspec.field(default_factory=set)
    asking: Counter[str] = msgspec.field(default_factory=Counter)
    unproved: set[str] = msgspec.field(default_factory=set)

    def begin(self, gate: str) -> None:
        self.most += bool((self.unproved | set(+self.asking)) - {gate})
        self.asking[gate] += 1

    def end(self, gate: str, *, proved: bool) -> None:
        self.asking[gate] -= 1
        if proved:
            self.unproved.clear()  # this is the remembered answer
        else:
            self.unproved.add(gate)


class Request(Struct, frozen=True):
    number: str
    question: Question | None
    stopped: bool
    log: str  # of the gate that answered
    answer: CheckResponse


class Cluster:
    """The gates under test, with their shared store, if any."""

    def __init__(self, nodes: Sequence[Node], hand: Hand, store: str = "") -> None:
        self.nodes, self.hand = nodes, hand
        self.numbers, self.names = iter(NUMBERS), count()
        self._store = store  # its name

    async def recorded(self, node: Node) -> int:
        """Return the last entry of a killed node's log that its store knows to be on disk."""
        if not self._store:
            with closing(sqlite3.connect(node.data / "store.db")) as db:
                query = "SELECT max(durable) FROM position WHERE log = ?"
                return int(db.execute(query, (node.log,)).fetchone()[0] or 0)
        async with redis.asyncio.from_url(redis_servers.alone()) as client:
            return int(await client.hget(f"{{{self._store}}}:recorded", node.log) or 0)

    def gate(self, place: int) -> Node:
        return self.nodes[place % len(self.nodes)]


class History:
    """A history in progress, with the requests of its clients and the responses to them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = next(cluster.names)
        self.numbers = [next(cluster.numbers), next(cluster.numbers)]
        self.questions: dict[tuple[int, str, bool], Question] = {}
        self.requests: list[Request] = []
        self.stopped: set[str] = set()  # a revocation was acknowledged
        self.perhaps: set[str] = set()  # a revocation was requested
        self.over: set[str] = set()  # decisions whose call has a result, or that have expired
        self.disturbed = False
        self.begins = {node.file: node.newest_entry() for node in cluster.nodes}

    # ---- steps -------------------------------------------------------------------------------------------------------

    async def play(self, step: Step) -> None:
        match step:
            case Ask():
                await asyncio.gather(self.ask(step.gate, step.calls), self.ask(step.gate + 1, step.other))
            case Stop():
                await asyncio.gather(self.stop(step.gate, step.number), self.ask(step.gate, step.calls))
            case Report():
                await self.report(step)
            case TimePasses():
                self.let_expire()
            case Stale():
                await self.stale(step)
            case Interruption():
                await self.interrupt(step)
            case LogFails():
                await self.log_fails(step)
            case Kill():
                await self.kill(step)

    def let_expire(self) -> None:
        self.cluster.hand.at += HELD_FOR * 1000
        self.over |= {request.answer.id for request in self.requests}
        for question in self.questions.values():
            question.most += 1

    async def ask(self, gate: int, calls: Calls) -> list[CheckResponse]:
        """Check the calls and return the answers. If the gate was killed, return an empty list."""
        made, answers = [], list[CheckResponse]()
        if not calls:
            return answers
        for place, call_id, known in calls:
            number, name, question = self.numbers[place], "", None
            if call_id:
                name = f"{self.name}-{call_id}"
                question = self.questions.setdefault((place, name, known), Question(number))
            made.append(((number, name, CAMPAIGN if known else STRANGE), number in self.stopped, question))
        over, node = set(self.over), self.cluster.gate(gate)
        questions = {id(question): question for _, _, question in made if question is not None}.values()
        for question in questions:
            question.begin(node.log)
        proved = False
        with suppress(Died):
            answers = await node.check(*(words for words, _, _ in made))
            proved = all(answer.id for answer in answers) and await node.order("note_durable")
            for ((number, _, _), stopped, question), answer in zip(made, answers, strict=True):
                self.requests.append(Request(number, question, stopped, node.log, answer))
                assert answer.decision == "deny" or answer.id not in over, (
                    "an allow was repeated after its end"
                )
                if question is not None and answer.id:
                    question.answers.add(answer.id)
        for question in questions:
            question.end(node.log, proved=proved)
        return answers

    async def stop(self, gate: int, place: int) -> None:
        number = self.numbers[place]
        self.perhaps.add(number)
        with suppress(Died, Failed):
            await self.cluster.gate(gate).order("revoke", number)
            self.stopped.add(number)
        self._end(number)  # also for questions that were asked first during the revocation

    def _end(self, number: str) -> None:
        """Permit one more decision for each question about the number."""
        for question in self.questions.values():
            question.most += question.number == number

    async def report(self, step: Report) -> None:
        allowed = next(
            (request for request in reversed(self.requests) if request.answer.decision == "allow"), None
        )
        if allowed is None:
            return
        self._end(allowed.number)
        if step.outcome == "opt_out":
            self.perhaps.add(allowed.number)
        with suppress(Died, Failed):
            await self.cluster.gate(step.gate).order("report", allowed.answer.id, step.outcome)
            self.over.add(allowed.answer.id)
            if step.outcome == "opt_out":
                self.stopped.add(allowed.number)

    async def stale(self, step: Stale) -> None:
        node = self.cluster.gate(step.gate)
        async with self._commit_meets(node, "held", step) as proxy:
            match step.first:
                case Ask(_, calls):
                    await self.ask(step.gate + 1, calls)
                case Stop(_, place):
                    await self.stop(step.gate + 1, place)
                case Report(outcome=outcome):
                    await self.report(Report(step.gate + 1, outcome))
            proxy.heal()

    async def interrupt(self, step: Interruption) -> None:
        node = self.cluster.gate(step.gate)
        self.disturbed = True
        async with self._commit_meets(node, step.fault, step) as proxy:
            proxy.heal()

    @asynccontextmanager
    async def _commit_meets(self, node: Node, fault: str, step: Stale | Interruption) -> AsyncIterator[Proxy]:
        """Check `step.calls` and apply the fault to the commit. Then check `step.following`, and yield the proxy.

        When the `async with` block ends, wait for all answers. The block must heal the proxy first.
        """
        assert node.proxy is not None
        node.proxy.fail(fault, COMMIT)
        asking = asyncio.create_task(self.ask(step.gate, step.calls))
        caught = asyncio.create_task(node.proxy.caught.wait())
        await asyncio.wait([asking, caught], return_when=asyncio.FIRST_COMPLETED)
        caught.cancel()
        following = asyncio.create_task(self.ask(step.gate, step.following))
        for _ in range(3):  # by now the gate has most likely read for them
            await node.order("ping")
        yield node.proxy
        await asyncio.gather(asking, following)

    async def log_fails(self, step: LogFails) -> None:
        node = self.cluster.gate(step.gate)
        self.disturbed = True
        if isinstance(step.how, int):
            await node.order("limit_log", step.how)
        else:
            await node.order("redirect_log", step.how)
        await self.ask(step.gate, step.calls)
        await self.ask(step.gate, step.calls)
        if step.killed:
            await node.kill()
            await node.start()
        else:
            await node.order("lift_limit")
            await node.order("tick")

    async def kill(self, step: Kill) -> None:
        node, proxy = self.cluster.gate(step.gate), self.cluster.gate(step.gate).proxy
        self.disturbed = True
        if proxy is not None and step.held:
            proxy.fail("held", COMMIT)
        asking = asyncio.create_task(self.ask(step.gate, step.calls))
        if proxy is not None and step.held:
            caught = asyncio.create_task(proxy.caught.wait())
            await asyncio.wait([asking, caught], return_when=asyncio.FIRST_COMPLETED)
            caught.cancel()
            proxy.fault = ""  # the held commit stays held
        else:
            await asyncio.sleep(0)
        await node.kill()
        await asking
        if proxy is not None and step.held == "before":
            proxy.heal()
        node.cut_power(max(self._newest_known_entry(node), await self.cluster.recorded(node)), step.power)
        await node.start()
        if proxy is not None:
            proxy.heal()

    def _newest_known_entry(self, node: Node) -> int:
        """Return the newest entry of the node's log that a client knows of."""
        ids = (request.answer.id.rpartition("-") for request in self.requests if request.log == node.log)
        return max([self.begins[node.file], *(int(seq) for name, _, seq in ids if name == node.log)])

    # ---- its end -----------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Repair everything, call each number until it is denied, and compare answers, records and attempts."""
        for place, node in enumerate(self.cluster.nodes):
            if node.proxy is not None:
                node.proxy.heal()
            await node.order("tick")
            await self.call_until_decided(place, self.numbers[0])
        for number in self.numbers:
            for turn in range(LIMIT + 1):
                await self.call_until_decided(turn, number)
        self.compare()

    async def call_until_decided(self, gate: int, number: str) -> None:
        """Call the number until there is a decision."""
        for _ in range(TRIES):
            await self.ask(gate, ((self.numbers.index(number), "", True),))
            if self.requests[-1].answer.id:
                return
            await self.cluster.gate(gate).order("tick")
        raise AssertionError(f"no decision after everything was repaired: {self.requests[-1]}")

    def compare(self) -> None:
        logged = [entry for node in self.cluster.nodes for entry in node.entries(self.begins[node.file])]
        recorded = {entry.id: entry for entry in logged}
        self._each_answer_has_its_record(recorded)
        for number in self.numbers:
            self._attempts_are_records(number, [entry for entry in logged if entry.number == number])
        decided = Counter(entry.call_id for entry in logged if entry.call_id)
        most: defaultdict[str, int] = defaultdict(int)
        for (_, call_id, _), question in self.questions.items():
            most[call_id] += question.most
            answers = question.answers & recorded.keys()
            assert len(answers) <= question.most, "one question got different answers"
        assert all(times <= most[call_id] for call_id, times in decided.items()), (
            "a question was decided again"
        )

    def _each_answer_has_its_record(self, logged: dict[str, Entry]) -> None:
        for request in self.requests:
            if not request.answer.id:
                assert request.answer.codes == ("gate.unavailable",)
                continue
            allowed = request.answer.decision == "allow"
            assert not (request.stopped and allowed), "allowed after an acknowledged stop"
            record = logged[request.answer.id]
            assert (record.number, record.allow) == (request.number, allowed)

    def _attempts_are_records(self, number: str, logged: Sequence[Entry]) -> None:
        allows = [entry.id for entry in logged if entry.allow]
        assert len(allows) <= LIMIT
        last = next(request for request in reversed(self.requests) if request.number == number)
        (seen,) = (entry.attempts for entry in logged if entry.id == last.answer.id)
        assert sorted(seen) == sorted(allows), "the attempts are not the recorded allows"
        if number in self.stopped:
            assert "revocation.revoked" in last.answer.codes
        elif number not in self.perhaps:
            assert len(allows) == LIMIT, "an attempt was counted without a call"
            assert last.answer.codes == ("frequency.exceeded",)
        if not self.disturbed:
            assert all(request.answer.id for request in self.requests), "refused without a fault"


# ---- the clusters ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two_gates_on_redis(folder: Path) -> AsyncIterator[Cluster]:
    (target,) = re.findall(r"@(.*)", redis_servers.alone())
    hand, nodes = Hand(), list[Node]()
    async with AsyncExitStack() as opened:
        for name in ("one", "two"):
            proxy = await opened.enter_async_context(proxied(Path(target)))
            url = f"redis://{redis_servers.USER}:{redis_servers.PASSWORD}@127.0.0.1:{proxy.port}/0"
            store = {"url": url, "name": folder.name, "patience": 2}
            node = prepare_node(folder / name, hand, proxy, store=store)
            if nodes:  # the second has the keys and call lists of the first
                world.share_keys(folder / "one", folder / "two")
                shutil.copytree(folder / "one/data/lists", folder / "two/data/lists")
            await node.start()
            opened.push_async_callback(node.close)
            if not nodes:
                await node.order("load", NUMBERS)
            nodes.append(node)
        yield Cluster(nodes, hand, folder.name)
    assert [node.faults() for node in nodes] == [[], []]


@asynccontextmanager
async def a_gate_on_sqlite(folder: Path) -> AsyncIterator[Cluster]:
    hand = Hand()
    node = prepare_node(folder / "one", hand)
    await node.start()
    await node.order("load", NUMBERS)
    yield Cluster([node], hand)
    await node.close()
    assert node.faults() == []


def prepare_node(folder: Path, hand: Hand, proxy: Proxy | None = None, **changes: Any) -> Node:
    folder.mkdir()
    file = world.write_folder(folder, node=folder.name, answer_seconds=HELD_FOR, **changes)
    world.publish_answers(folder / "data", dict.fromkeys(NUMBERS, False), NOW - DAY)
    return Node(file, hand, proxy)


def play_histories(
    open_cluster: Any, folder: Path, histories: st.SearchStrategy[list[Step]], many: int
) -> None:
    @settings(
        max_examples=HISTORIES or many,
        derandomize=not HISTORIES,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(histories)
    def run(steps: list[Step]) -> None:
        async def play() -> None:
            history = History(opened)
            async with asyncio.timeout(ENDS):
                for step in steps:
                    await history.play(step)
                await history.end()

        runner.run(play())

    with asyncio.Runner() as runner:
        entered = AsyncExitStack()
        opened = runner.run(entered.enter_async_context(open_cluster(folder)))
        try:
            run()
        finally:
            runner.run(entered.aclose())


def test_two_gates_on_one_redis_keep_every_promise_through_any_history(tmp_path: Path) -> None:
    play_histories(two_gates_on_redis, tmp_path, on_redis, 16)


def test_a_gate_on_sqlite_keeps_every_promise_through_any_history(tmp_path: Path) -> None:
    play_histories(a_gate_on_sqlite, tmp_path, on_sqlite, 12)


async def test_an_answer_that_could_not_be_recorded_is_not_repeated_by_another_gate(tmp_path: Path) -> None:
    """The commit reaches the store, but its reply is lost. The store then holds an answer that no log contains.

    The answer stays in the store until the first gate undoes the commit. Meanwhile, the second gate receives the same check.
    """
    async with two_gates_on_redis(tmp_path) as cluster:
        one, two = cluster.nodes
        assert one.proxy is not None
        call = (NUMBERS[0], "a", CAMPAIGN)
        await one.check((NUMBERS[1], "", CAMPAIGN))  # the server knows the commit's script from here on
        one.proxy.fail("broken", COMMIT)
        asking = asyncio.create_task(one.check(call))
        await one.proxy.caught.wait()
        one.proxy.heal()
        assert [item.id for item in await asking] == [""]
        (repeated,) = await two.check(call)
        assert repeated.id in [entry.id for node in cluster.nodes for entry in node.entries()]


# ---- readings that overlap a commit ----------------------------------------------------------------------


class Overlap(Struct, frozen=True):
    """A case of two checks. The gate reads the facts for the second check while the first commit is held or fails.

    - `first`, `following`: the checks, each written as in `check_calls`. The number `full` has one attempt left, and `fresh`
      has four.
    - `again`: whether the gate must read the facts for `following` again
    - `decisions`: the expected decisions on `first` and `following`
    - `fault`: the fault that affects the commit, as in `Proxy`
    - `meanwhile`: an event during the commit
    """

    first: str
    following: str
    again: bool
    decisions: tuple[str, str]
    fault: Literal["held", "dropped", "broken"] = "held"
    meanwhile: Literal["", "the other gate calls full", "the other gate stops fresh", "the log fails"] = ""


ALLOWED, DENIED, REFUSED = "allow", "deny", ""
OVERLAPS: Final = {
    "another number": Overlap("full", "fresh", False, (ALLOWED, ALLOWED)),
    "the same number": Overlap("full", "full", True, (ALLOWED, DENIED)),
    "the same question": Overlap("fresh a", "fresh a", True, (ALLOWED, "the same")),
    "the same question about an unknown campaign": Overlap("strange a", "strange a", True, (DENIED, "the same")),
    "another question about an unknown campaign": Overlap("strange a", "strange b", False, (DENIED, DENIED)),
    "the commit was stale": Overlap(
        "full", "fresh", False, (DENIED, ALLOWED), meanwhile="the other gate calls full"
    ),
    "the next is stale": Overlap("full", "fresh", True, (ALLOWED, DENIED), meanwhile="the other gate stops fresh"),
    "the commit is lost": Overlap("full", "fresh", True, (REFUSED, ALLOWED), fault="dropped"),
    "the reply of the commit is lost": Overlap("full", "fresh", True, (REFUSED, ALLOWED), fault="broken"),
    "the reply is lost, and the question is the same": Overlap("fresh a", "fresh a", True, (REFUSED, ALLOWED), fault="broken"),
    "the reply is lost, and the number is the same": Overlap("full", "full", True, (REFUSED, ALLOWED), fault="broken"),
    "the log could not be written": Overlap("full", "fresh", True, (REFUSED, REFUSED), meanwhile="the log fails"),
}  # fmt: skip


async def test_a_reading_that_overlaps_a_commit_is_used_only_if_the_missed_writes_are_irrelevant(
    tmp_path: Path,
) -> None:
    wrong = {}
    async with two_gates_on_redis(tmp_path) as cluster:
        for situation, overlap in OVERLAPS.items():
            history = History(cluster)
            async with asyncio.timeout(ENDS):
                seen = await run_overlap(history, overlap)
            if seen != (overlap.again, overlap.decisions):
                wrong[situation] = seen
            await history.end()
    assert wrong == {}


async def run_overlap(history: History, overlap: Overlap) -> tuple[bool, tuple[str, str]]:
    """Run the case. Return the observed values of `again` and `decisions`."""
    node, other = history.cluster.nodes
    assert node.proxy is not None
    # A number without attempts may be assumed to be unknown rather than read.
    await check_calls(history, node, ["full"] * (LIMIT - 1) + ["fresh"])
    history.disturbed = overlap.fault != "held" or overlap.meanwhile == "the log fails"
    read = node.proxy.reads
    node.proxy.fail(overlap.fault, COMMIT)
    first = asyncio.create_task(check_calls(history, node, [overlap.first]))
    await node.proxy.caught.wait()
    following = asyncio.create_task(
        check_calls(history, node, [overlap.following, *["strange"] * (MIN_OVERLAP - 1)])
    )
    await node.proxy.reads_reach(read + 2)
    match overlap.meanwhile:
        case "the other gate calls full":
            await check_calls(history, other, ["full"])
        case "the other gate stops fresh":
            await history.stop(1, 1)
        case "the log fails":
            await node.order("redirect_log", FULL)
    node.proxy.heal()
    (one,), (two, *_) = await first, await following
    more = node.proxy.reads - read - 2
    again = more > (overlap.meanwhile == "the other gate calls full")  # which makes the first stale
    return again, (one.decision if one.id else REFUSED, _after(one, two))


def _after(one: CheckResponse, two: CheckResponse) -> str:
    if not two.id:
        return REFUSED
    return "the same" if two.id == one.id else two.decision


async def check_calls(history: History, node: Node, calls: Sequence[str]) -> list[CheckResponse]:
    """Check calls, each written as the name of a number and an optional call id, for example `fresh a`."""
    places = {"full": (0, True), "fresh": (1, True), "strange": (1, False)}
    words = [(*places[name], call_id) for name, _, call_id in (call.partition(" ") for call in calls)]
    return await history.ask(
        history.cluster.nodes.index(node), tuple((place, call_id, known) for place, known, call_id in words)
    )


async def test_calls_whose_facts_are_read_again_are_decided_at_the_later_instant(tmp_path: Path) -> None:
    """The registry answer for the second batch expires while the commit of the first batch is held."""
    async with two_gates_on_redis(tmp_path) as cluster:
        node = cluster.nodes[0]
        assert node.proxy is not None
        number, name = (NUMBERS[0], "", CAMPAIGN), (NUMBERS[1], "", STRANGE)
        await node.check(number)
        read = node.proxy.reads
        node.proxy.fail("held", COMMIT)
        first = asyncio.create_task(node.check(number))
        await node.proxy.caught.wait()
        following = asyncio.create_task(node.check(number, *[name] * (MIN_OVERLAP - 1)))
        await node.proxy.reads_reach(read + 2)
        cluster.hand.at = NOW + 16 * DAY
        await node.order("ping")
        node.proxy.heal()
        assert (await first)[0].codes == ("gate.unavailable",), "its permission has expired"
        assert (await following)[0].codes == ("registry.expired",)
