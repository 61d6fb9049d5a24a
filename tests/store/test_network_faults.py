"""Tests of network faults between a gate and Redis.

A fault must not cause an unlawful call, a hang or an unrecorded attempt.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY
from dialgate.core.responses import Answer
from dialgate.decision_log import verify
from dialgate.decision_log.records import Reader, Record
from dialgate.ledger.schemas import RevocationRequest
from dialgate.store import StoreUnavailable
from dialgate.store.redis import RedisStore
from tests.store.test_shared_store import UNLISTED, always_assume
from tests.support import redis_servers, world
from tests.support.proxy import Proxy, proxied
from tests.support.world import CLEAR, NOW, Hand, ask, load_numbers

PATIENCE = 0.3
# Seconds until a gate counts as not recovering. A busy machine exceeds PATIENCE without a fault.
RECOVERY = 30
COMMIT = b":positions"  # only in this request of a check


class Line(Struct):
    """A gate with a proxy between it and Redis."""

    app: App
    proxy: Proxy
    name: str

    async def attempts(self) -> list[str]:
        """Return the attempts in the store, read without the proxy."""
        store = RedisStore(redis_servers.alone(), name=self.name, patience=5)
        subject = self.app.gate._gatherer.keys.subject("acme", CLEAR)
        (known,) = (await store.read([subject])).known
        await store.close()
        return [attempt.decision for attempt in known.attempts]

    async def read(self) -> None:
        """Read until the store answers. A successful read undoes all commits with an unknown outcome."""
        async with asyncio.timeout(RECOVERY):
            while True:
                try:
                    await self.app._store.read([])
                except StoreUnavailable:
                    await asyncio.sleep(0)
                else:
                    return

    def read_allowed_ids(self) -> list[str]:
        entries = Reader(self.app.config.data / "log").entries()
        return [entry.id for _, entry in entries if isinstance(entry, Record) and entry.decision.allow]

    async def check_until_recorded(self, call_id: str = "", to: str = CLEAR) -> Answer:
        """Repeat the check until a decision is recorded. Return the answer."""
        async with asyncio.timeout(RECOVERY):
            while True:
                answer = await ask(self.app, call_id, to)
                if answer.decision_id:
                    return answer


@pytest.fixture(params=["read", "assumed"])
async def line(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Line]:
    (socket,) = re.findall(r"@(.*)", redis_servers.alone())
    async with proxied(Path(socket)) as proxy:
        url = f"redis://{redis_servers.USER}:{redis_servers.PASSWORD}@127.0.0.1:{proxy.port}/0"
        store = {"url": url, "name": tmp_path.name, "patience": PATIENCE}
        file = world.write_folder(tmp_path, store=store)
        world.publish_answers(tmp_path / "data", {CLEAR: False}, NOW - DAY)
        app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())
        await load_numbers(app)
        await app.tick()
        if request.param == "assumed":
            always_assume(app)
        yield Line(app, proxy, tmp_path.name)
        proxy.heal()
        await app.close()


@pytest.mark.parametrize("only", [b"", COMMIT], ids=["everything", "the commit"])
@pytest.mark.parametrize("fault", ["delay", "half_open", "reset", "lost", "away"])
async def test_checks_fail_fast_during_a_fault_and_the_count_is_right_after_it(
    line: Line, fault: str, only: bytes
) -> None:
    assert (await line.check_until_recorded()).decision == "allow"
    line.proxy.fail(fault, only)
    for _ in range(5):
        begun = time.monotonic()
        answer = await ask(line.app)
        assert (answer.decision, answer.decision_id) == ("deny", "")
        assert answer.reasons[0].code == "gate.unavailable"
        assert time.monotonic() - begun < 2 * PATIENCE + 0.5, "a read and a commit on a slow machine"
    line.proxy.heal()
    answers = [await line.check_until_recorded() for _ in range(10)]
    assert [answer.decision for answer in answers].count("allow") == 4, "five in total"
    assert sorted(await line.attempts()) == sorted(line.read_allowed_ids())
    assert verify(line.app.config.data / "log").ok


async def test_a_hanging_server_delays_only_one_batch(line: Line) -> None:
    line.proxy.fail("half_open")
    await ask(line.app)
    begun = time.monotonic()
    for _ in range(20):
        assert (await ask(line.app)).decision_id == ""
    assert time.monotonic() - begun < PATIENCE


async def test_a_doubtful_commit_is_settled_before_the_next_commit(line: Line) -> None:
    """Undoing the doubtful commit later would also remove the answers of the next commit."""
    line.proxy.fail("lost", COMMIT)
    assert (await ask(line.app, "a", UNLISTED)).decision_id == ""
    line.proxy.heal()
    other = await line.check_until_recorded("b", UNLISTED)
    assert await ask(line.app, "b", UNLISTED) == other
    assert (await ask(line.app, "a", UNLISTED)).decision_id not in {"", other.decision_id}


async def test_attempts_after_a_doubtful_commit_survive_a_power_failure(line: Line) -> None:
    """Crash recovery starts at the log's position in the store.

    The undo sets this position to the sequence number before the first entry of the batch.

    The batch begins with a denial, which has no attempt in the store.
    """
    assert (await line.check_until_recorded()).decision == "allow"
    line.proxy.fail("lost", COMMIT)
    answers = await asyncio.gather(ask(line.app, to=UNLISTED), ask(line.app), ask(line.app, "a", UNLISTED))
    assert {answer.decision_id for answer in answers} == {""}
    line.proxy.heal()
    await line.read()
    assert await line.app._store.positions() == {line.app.gate._gatherer.keys.log: line.app.status().records}


async def test_a_read_during_a_failing_commit_is_not_used(line: Line) -> None:
    """The second batch is read while the first is committed. So this read finds answers that are never recorded."""
    line.proxy.fail("lost", COMMIT)
    answers = await asyncio.gather(*(ask(line.app, f"q{number % 12}") for number in range(24)))
    assert {(answer.decision, answer.decision_id) for answer in answers} == {("deny", "")}
    line.proxy.heal()
    answers = [await line.check_until_recorded(f"q{number}") for number in range(12)]
    assert [answer.decision for answer in answers].count("allow") == 5
    assert sorted(await line.attempts()) == sorted(line.read_allowed_ids())


async def test_an_assumption_from_before_a_failed_commit_is_not_used(line: Line) -> None:
    """The next batch reuses the log sequence numbers of the failed commit, so the commit must be undone first."""
    await line.check_until_recorded(to=UNLISTED)  # the server has the script from here on
    line.proxy.fail("broken", COMMIT)
    first = asyncio.create_task(ask(line.app, "a", UNLISTED))
    await line.proxy.caught.wait()
    following = [asyncio.create_task(ask(line.app)) for _ in range(8)]
    await line.app._store.read([])  # meanwhile the gate assumes that their number is unknown
    line.proxy.heal()
    assert (await first).decision_id == ""
    answers = [await answer for answer in following] + [await line.check_until_recorded() for _ in range(8)]
    assert [answer.decision for answer in answers].count("allow") == 5
    assert sorted(await line.attempts()) == sorted(line.read_allowed_ids())


@pytest.mark.parametrize("before", [0, 5])
async def test_a_read_that_overtakes_a_commit_sees_its_writes(line: Line, before: int) -> None:
    """The read must return all answers and attempts from the commit."""
    for _ in range(before):
        assert (await line.check_until_recorded()).decision == "allow"
    line.proxy.seconds = PATIENCE / 3
    line.proxy.fail("delay", COMMIT)
    answers = await asyncio.gather(*(ask(line.app, f"q{number % 12}") for number in range(24)))
    assert answers[:12] == answers[12:]
    assert len({answer.decision_id for answer in answers}) == 12
    assert [answer.decision for answer in answers[:12]].count("allow") == 5 - before
    assert sorted(await line.attempts()) == sorted(line.read_allowed_ids())
    assert verify(line.app.config.data / "log").by_type["decision"] == before + 12


async def test_a_late_commit_counts_nothing(line: Line) -> None:
    """The gate gave up on the commit and may have reused the decision IDs.

    All values that the commit compares are unchanged, so only the raised fence can reject the commit.
    """
    line.proxy.fail("held", COMMIT)
    assert (await ask(line.app, "a")).decision_id == ""
    line.proxy.fault = ""
    await line.read()
    line.proxy.heal()
    await asyncio.wait_for(line.proxy.arrived.wait(), RECOVERY)
    assert await line.attempts() == []
    answer = await line.check_until_recorded("a")
    assert await line.attempts() == line.read_allowed_ids() == [answer.decision_id]


async def test_a_stop_refused_because_of_a_lost_reply_never_leads_to_an_allow(line: Line) -> None:
    client = line.app.config.settings.clients[0]
    stops = [RevocationRequest(number=number, scope="controller") for number in (UNLISTED, CLEAR)]
    await line.app.registrar.revocations.revoke(
        client, stops[0]
    )  # a new server does not have the script and would do nothing
    line.proxy.fail("lost", b":o:")
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await line.app.registrar.revocations.revoke(client, stops[1])
    line.proxy.heal()
    assert (await line.check_until_recorded()).reasons[0].code == "revocation.revoked"
