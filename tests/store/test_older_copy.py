"""Tests of gates that find an older copy of their shared store.

Every gate denies calls until all gates have added the lost attempts again.
"""

import asyncio
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY, OutcomeRecord
from dialgate.interfaces.cli import main
from dialgate.store import AttemptPosition, CallerIdProof, Generation, Reservation, StoreUnavailable
from dialgate.store.redis import RedisStore
from tests.store.test_shared_store import ask_server, at, back_up, codes, report, share
from tests.store.test_store import ANNA, BRUNO, attempt
from tests.support import redis_servers, world
from tests.support.world import CALLER, CLEAR, NOW, Hand, ask, load_numbers

OTHER = "+390612345677"


async def open_app(server: Path, node: str, seconds: Hand, clock: Hand | None = None) -> App:
    config = loader.load(server / node / "dialgate.yaml")
    return await App.open(config, registry=CollectorRegistry(), clock=clock or Hand(), steady=seconds)


async def gate(server: Path, node: str, seconds: Hand, first: str = "", clock: Hand | None = None) -> App:
    """Open a new gate. `first`: an existing gate with the keys and lists to share."""
    folder = server / node
    folder.mkdir()
    world.write_folder(folder, store={"url": at(server), "patience": 5}, node=node)
    world.publish_answers(folder / "data", {CLEAR: False, OTHER: False}, NOW - DAY)
    if first:
        share(server / first, folder)
    app = await open_app(server, node, seconds, clock)
    if not first:
        await load_numbers(app, [CLEAR, OTHER])
    await app.tick()
    return app


def restore(server: Path, database: int = 1) -> None:
    ask_server(server, "SWAPDB", "0", str(database))


async def recover(*apps: App) -> None:
    """Run upkeep rounds until all gates have recovered."""
    for _ in range(3):
        for app in apps:
            await app.tick()
    assert ["store" in app.gate.readiness() for app in apps] == [False] * len(apps)


async def test_a_copy_that_lacks_only_a_result_is_found(server: Path) -> None:
    app = await gate(server, "one", Hand(0))
    allowed = await ask(app)
    await back_up(server)
    await report(app, allowed.decision_id, "abandoned")
    assert await codes(app, 1) == ["frequency.rest"]
    restore(server)
    await recover(app)
    assert await codes(app, 1) == ["frequency.rest"]
    await app.close()


async def test_results_are_added_again_if_that_was_interrupted(server: Path) -> None:
    app = await gate(server, "one", Hand(0))
    await back_up(server)
    for number in (CLEAR, OTHER):
        await report(app, (await ask(app, to=number)).decision_id, "abandoned")
    restore(server)
    ask_server(server, "ACL", "SETUSER", redis_servers.USER, "-waitaof")  # the first result is not confirmed
    await app.tick()
    assert "NOPERM" in app.gate.readiness()["store"]
    ask_server(server, "ACL", "SETUSER", redis_servers.USER, "+waitaof")
    await recover(app)
    for number in (CLEAR, OTHER):
        assert [reason.code for reason in (await ask(app, to=number)).reasons] == ["frequency.rest"]
    await app.close()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_result_waits_for_the_gate_that_adds_its_attempt(server: Path, *, restarted: bool) -> None:
    one = await gate(server, "one", seconds := Hand(0))
    two = await gate(server, "two", seconds, "one")
    await back_up(server)
    await report(two, (await ask(one)).decision_id, "abandoned")
    restore(server)
    if restarted:
        await two.close()
        two = await open_app(server, "two", seconds)
    await two.tick()
    await recover(one, two)
    assert await codes(one, 1) == ["frequency.rest"]
    await one.close()
    await two.close()


@pytest.mark.parametrize("then", ["it adds its attempts", "it starts again", "it is removed"])
async def test_a_gate_waits_for_every_other_one_to_add_its_attempts(server: Path, then: str) -> None:
    one = await gate(server, "one", seconds := Hand(0))
    two = await gate(server, "two", seconds, "one")
    await two.tick()
    await back_up(server)
    assert await codes(one, 5) == ["allow"] * 5
    await two.tick()
    restore(server)
    for _ in range(5):
        await two.tick()
        seconds.at += 600
    assert await codes(two, 1) == ["gate.unavailable"]
    log = one.gate._gatherer.keys.log
    assert f"These logs have not been added yet: {log}." in two.gate.readiness()["store"]
    if then == "it adds its attempts":
        await one.tick()
    elif then == "it starts again":
        await one.close()
        one = await open_app(server, "one", seconds)
    else:
        store = RedisStore(at(server), patience=5)
        assert (await store.members()).unsettled == {log}
        await store.forget("one")
        await store.close()
    await two.tick()
    expected = "allow" if then == "it is removed" else "frequency.exceeded"
    assert await codes(two, 1) == [expected]
    await one.close()
    await two.close()


async def test_a_removed_gate_may_be_named_by_its_log(server: Path) -> None:
    """A copy from before a gate joined does not know the gate's name."""
    one = await gate(server, "one", seconds := Hand(0))
    await back_up(server)
    two = await gate(server, "two", seconds, "one")
    assert await codes(two, 1) == ["allow"]
    await one.tick()
    await two.close()
    restore(server)
    await one.tick()
    command = [
        "nodes",
        "--forget",
        two.gate._gatherer.keys.log,
        "--config",
        str(server / "one/dialgate.yaml"),
    ]
    async with world.listening(one):
        forgotten = await asyncio.to_thread(CliRunner().invoke, main.app, command)
    assert forgotten.exit_code == 0, forgotten.output
    for _ in range(2):
        await one.tick()
    assert await codes(one, 1) == ["allow"]
    await one.close()


async def test_a_gate_that_starts_on_an_older_copy_waits_for_the_others(server: Path) -> None:
    one = await gate(server, "one", seconds := Hand(0))
    two = await gate(server, "two", seconds, "one")
    await back_up(server)
    assert [*await codes(one, 4), *await codes(two, 1)] == ["allow"] * 5
    restore(server)
    await two.close()
    two = await open_app(server, "two", seconds)
    assert await codes(two, 1) == ["gate.unavailable"]
    await recover(one, two)
    assert await codes(two, 1) == ["frequency.exceeded"]
    await one.close()
    await two.close()


async def test_a_reading_from_an_older_copy_is_not_committed_after_recovery(server: Path) -> None:
    """The older copy may lack attempts that another gate has not added again yet."""
    store = RedisStore(at(server), patience=5)
    await store.settle("log", 0, [], [])
    await back_up(server)
    lost = attempt("log-1")
    reading = await store.read([BRUNO])
    assert await store.commit(reading, [Reservation(BRUNO, lost, (BRUNO,))], [], AttemptPosition("log", 1))
    restore(server)
    reading = await store.read([ANNA])
    with pytest.raises(StoreUnavailable, match="not been added yet: log"):
        await store.ping()
    assert store.generation == Generation(1, frozenset({"log"}))
    await store.settle("log", 1, [(BRUNO, lost)], [])
    reservations = [Reservation(ANNA, attempt("log-2"), (ANNA,))]
    for _ in range(2):
        assert not await store.commit(reading, reservations, [], AttemptPosition("log", 2))
        with pytest.raises(StoreUnavailable, match="older copy"):
            await store.read([ANNA])
        await store.acknowledge("log", 2)  # which has not begun
    await store.acknowledge("log", 1)
    assert not await store.commit(reading, reservations, [], AttemptPosition("log", 2))
    assert await store.commit(await store.read([ANNA]), reservations, [], AttemptPosition("log", 2))
    await store.close()


async def test_an_older_copy_appears_again_while_the_gates_wait(server: Path) -> None:
    """A gate that has acknowledged the generation must add its attempts to the second copy too."""
    one = await gate(server, "one", seconds := Hand(0))
    two = await gate(server, "two", seconds, "one")
    await one.tick()
    await back_up(server, 1, 2)
    assert await codes(one, 5) == ["allow"] * 5
    restore(server)
    await one.tick()
    restore(server, 2)
    await one.tick()
    assert await codes(one, 1) == ["gate.unavailable"]
    await recover(one, two)
    assert await codes(two, 1) == ["frequency.exceeded"]
    await one.close()
    await two.close()


async def test_a_second_generation_still_waits_for_the_logs_of_the_first(server: Path) -> None:
    """The gate of such a log may have died with the machine, and the counters were raised by the first generation."""
    store = RedisStore(at(server), patience=5)
    await store.settle("log", 0, [], [])
    assert await store.commit(
        await store.read([ANNA]),
        [Reservation(ANNA, attempt("log-1"), (ANNA,))],
        [],
        AttemptPosition("log", 1),
    )
    ask_server(server, "SET", "{dialgate}:generation", "3 gone")
    ask_server(server, "HDEL", "{dialgate}:positions", "log top")
    with pytest.raises(StoreUnavailable, match="not been added yet: gone, log"):
        await store.ping()
    assert store.generation == Generation(4, frozenset({"log", "gone"}))
    await store.close()


async def test_an_older_copy_appears_during_recovery(server: Path) -> None:
    """Recovery must fail if the store is replaced by another older copy, which lacks the attempts just added.

    If that copy contained the new position, a later recovery would skip the lost attempts.
    """
    store = RedisStore(at(server), patience=5)
    await store.settle("log", 0, [], [])
    await back_up(server, 1, 2)
    restore(server)
    lost = [(ANNA, attempt("log-1"))]

    async def complete() -> None:
        restore(server, 2)

    with pytest.raises(StoreUnavailable, match="too late"):
        await store.settle("log", 1, lost, [], complete)
    assert await store.positions() == {"log": 0}
    with pytest.raises(StoreUnavailable, match="not been added yet: log"):
        await store.ping()
    await store.settle("log", 1, lost, [])
    await store.acknowledge("log", 2)
    assert len((await store.read([ANNA])).known[0].attempts) == 1
    await store.close()


async def test_recovery_notes_only_records_that_are_on_disk(server: Path) -> None:
    """Otherwise another gate would repeat an answer whose record could still be lost."""
    app = await gate(server, "one", Hand(0))
    await back_up(server)
    await ask(app)
    restore(server)
    record = OutcomeRecord(seq=3, at=NOW, time="", decision="other-1", result="answered", client="")
    assert app.status().records == record.seq - 1
    app._recorder.write([msgspec.json.encode(record)], {})
    assert app._log.durable < record.seq
    await app.tick()
    log = app.gate._gatherer.keys.log
    assert int(ask_server(server, "HGET", "{dialgate}:recorded", log)) == app._log.durable == record.seq
    await app.close()


async def commit_without_reply(store: RedisStore, position: AttemptPosition, seq: int) -> Reservation:
    """Count an attempt with the sequence `seq` of the log, as if the reply to the commit had been lost."""
    reservation = Reservation(ANNA, attempt(f"{position.log}-{seq}"), (ANNA,))
    seen = store._generations._seen.copy()
    assert await store.commit(await store.read([ANNA]), [reservation], [], position)
    store._generations._seen = seen
    store.undo.mark_unknown(position)
    return reservation


async def test_the_newer_copy_returns_with_a_commit_that_was_never_recorded(server: Path) -> None:
    """Meanwhile, the log has used the commit's id for another call."""
    app = await gate(server, "one", Hand(0))
    store = app._store
    assert isinstance(store, RedisStore)
    await back_up(server)
    assert await codes(app, 1) == ["allow"]
    log, last = app.gate._gatherer.keys.log, app.status().records
    reservation = await commit_without_reply(store, AttemptPosition(log, last + 2, last + 1), last + 1)
    restore(server)
    await recover(app)
    assert (await ask(app, to=OTHER)).decision_id == reservation.attempt.decision
    restore(server)
    await recover(app)
    assert [(await ask(app, to=OTHER)).decision for _ in range(5)] == ["allow"] * 4 + ["deny"]
    assert (await store.read([ANNA])).known[0].attempts == ()
    await app.close()


async def test_a_copy_holds_a_commit_that_was_never_recorded(server: Path) -> None:
    """The copy was made before the gate undid the commit. Then the log used the commit's id for another call."""
    app = await gate(server, "one", Hand(0))
    store = app._store
    assert isinstance(store, RedisStore)
    assert await codes(app, 1) == ["allow"]
    log, last = app.gate._gatherer.keys.log, app.status().records
    reservation = await commit_without_reply(store, AttemptPosition(log, last + 1, last + 1), last + 1)
    await back_up(server)
    assert (await ask(app)).decision_id == reservation.attempt.decision
    restore(server)
    await recover(app)
    assert await codes(app, 4) == ["allow"] * 3 + ["frequency.exceeded"]
    await app.close()


async def test_a_copy_that_lacks_a_retirement_or_a_failed_call_back_is_not_used(server: Path) -> None:
    """No log contains retirements or failed call-backs, so they must be entered again."""
    app = await gate(server, "rome", Hand(0))
    client = app.config.settings.clients[0]
    (loaded,) = await app._store.lists()
    proof = CallerIdProof(controller="acme", caller_id=CALLER, at=NOW - DAY, kind="test_call")
    await app._store.put_proof(proof)
    await app.tick()
    assert await codes(app, 1) == ["allow"]
    await back_up(server)
    await app.registrar.call_lists.retire_list(client, loaded.id)
    await app._store.put_proof(structs.replace(proof, at=NOW, answered=False))
    await app.tick()
    restore(server)
    await app.tick()
    problem = app.gate.readiness()["store"]
    assert f"the call list {loaded.id} of acme is no longer retired; retire it again" in problem
    assert f"the last call back to {CALLER} is missing; record it again for acme" in problem
    assert await codes(app, 1) != ["allow"]
    await app._store.put_proof(structs.replace(proof, at=NOW, answered=False))
    await app.registrar.call_lists.retire_list(client, loaded.id)
    await app.tick()
    assert "store" not in app.gate.readiness()
    await app.close()
