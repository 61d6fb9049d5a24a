"""Several gates on one Redis: what one gate acknowledges binds the others, and attempts are counted together."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from typer.testing import CliRunner

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import DAY, HOUR, MINUTE, Call, Result
from dialgate.crypto.keys import KeysUnusable
from dialgate.decision_log import verify
from dialgate.interfaces.cli import main
from dialgate.ledger.schemas import (
    ConsentRequest,
    OutcomeRequest,
    RevocationRequest,
    WithdrawalRequest,
)
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.file_lock import hold_lock
from dialgate.store import AttemptPosition, Reservation, StoreUnavailable
from dialgate.store.redis import RedisStore
from tests.store.test_store import ANNA, NOTHING, attempt, read_unknown, revoked
from tests.support import redis_servers, world
from tests.support.commands import run_command
from tests.support.ledger import ledger_of
from tests.support.ports import free_port
from tests.support.world import CALLER, CLEAR, NOW, Hand, ask, load_numbers

UNLISTED = "+390612999999"  # on no call list and not checked against the registry


def share(first: Path, folder: Path) -> None:
    """Copy the keys and the call lists of another node."""
    world.share_keys(first, folder)
    shutil.copytree(first / "data/lists", folder / "data/lists")


async def gate_on(folder: Path, name: str, first: Path | None = None, **changes: Any) -> App:
    """Write the folder of a gate, and open the gate. `first`: the folder of a gate with the keys and lists to share."""
    store = {"url": redis_servers.alone(), "name": name, "patience": 5}
    file = world.write_folder(folder, store=store, node=folder.name, **changes)
    world.publish_answers(folder / "data", {CLEAR: False}, NOW - DAY)
    if first is not None:
        share(first, folder)
    app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())
    if first is None:
        await load_numbers(app)
    await app.tick()
    return app


@pytest.fixture
async def gates(tmp_path: Path) -> AsyncIterator[list[App]]:
    async with AsyncExitStack() as opened:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        first = await gate_on(tmp_path / "one", tmp_path.name)
        opened.push_async_callback(first.close)
        second = await gate_on(tmp_path / "two", tmp_path.name, tmp_path / "one")
        opened.push_async_callback(second.close)
        yield [first, second]


def always_assume(app: App) -> None:
    """Make the gate skip every read, as if all called numbers were unknown to the store."""
    assert isinstance(app._store, RedisStore)
    app._store.attempts.reads_before_assuming = 0


@pytest.mark.parametrize("assuming", [0, 1, 2])
async def test_a_limit_of_five_holds_over_two_gates(gates: list[App], assuming: int) -> None:
    for app in gates[:assuming]:
        always_assume(app)
    answers = await asyncio.gather(*(ask(gates[place % 2]) for place in range(100)))
    allowed = [answer for answer in answers if answer.decision == "allow"]
    assert len(allowed) == 5
    assert {answer.decision_id != "" for answer in answers} == {True}
    assert all(verify(app.config.data / "log").ok for app in gates)


async def test_other_gates_soon_know_that_an_answer_is_on_disk(gates: list[App], tmp_path: Path) -> None:
    """The other gates need not wait for the next upkeep round: no round runs in this test."""
    answer, gatherer = await ask(gates[0], "a"), gates[0].gate._gatherer
    client = gatherer.config.settings.clients[0]
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre", call_id="a")
    store, key = RedisStore(redis_servers.alone(), name=tmp_path.name), gatherer.read(call, client).key
    async with asyncio.timeout(10):
        while (found := (await store.read([], [key])).answers[0]) is None:
            pass
    assert found.decision == answer.decision_id
    await store.close()


async def test_a_call_asked_at_two_gates_at_once_is_decided_and_counted_once(gates: list[App]) -> None:
    for call_id in ("a", "b", "c"):
        answers = await asyncio.gather(*(ask(app, call_id) for app in gates))
        assert len({answer.decision_id for answer in answers}) == 1
        assert answers[0].decision == "allow"
    more = [await ask(gates[place % 2]) for place in range(3)]
    assert [answer.decision for answer in more] == ["allow", "allow", "deny"]


@pytest.mark.parametrize("assuming", [False, True])
async def test_a_stop_at_one_gate_binds_the_other(gates: list[App], *, assuming: bool) -> None:
    one, other = gates
    if assuming:
        always_assume(other)
    assert (await ask(other)).decision == "allow"
    await one.registrar.revocations.revoke(
        one.config.settings.clients[0], RevocationRequest(number=CLEAR, scope="controller")
    )
    assert (await ask(other)).reasons[0].code == "revocation.revoked"


async def test_the_record_of_a_denial_contains_a_stop_of_another_gate(gates: list[App]) -> None:
    """The commit must detect a revocation from another gate, even though a denied call reserves no attempt."""
    one, other = gates
    always_assume(other)
    stop = RevocationRequest(number=UNLISTED, scope="controller")
    before, after = await ask(other, to=UNLISTED), "revocation.revoked"
    assert after not in [reason.code for reason in before.reasons]
    await one.registrar.revocations.revoke(one.config.settings.clients[0], stop)
    assert after in [reason.code for reason in (await ask(other, to=UNLISTED)).reasons]


@pytest.mark.parametrize("assuming", [False, True])
async def test_a_retry_at_another_gate_gets_the_same_decision(gates: list[App], *, assuming: bool) -> None:
    first = await ask(gates[0], "a")
    if assuming:
        always_assume(gates[1])
    await gates[0].tick()  # by then the other gates know that the answer is on disk
    assert await ask(gates[1], "a") == first


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:6379/0", "one of the following schemes"),
        ("redis://127.0.0.1:6379/O", "`O` is not a database number"),
        ("rediss://127.0.0.1:6379/0?ssl_ca_certs=nowhere.pem", "TLS options are invalid"),
    ],
)
def test_config_check_validates_the_url_of_the_store(tmp_path: Path, url: str, expected: str) -> None:
    file = world.write_folder(tmp_path, store={"url": url})
    checked = CliRunner().invoke(main.app, ["config", "check", "--config", str(file)])
    assert checked.exit_code == 1
    assert expected in checked.output


async def test_a_gate_with_other_keys_is_refused_and_creates_no_log(tmp_path: Path) -> None:
    """Such a gate would find no revocations."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = await gate_on(tmp_path / "one", tmp_path.name)
    with pytest.raises(KeysUnusable, match="written with other keys"):
        await gate_on(tmp_path / "two", tmp_path.name)
    share(tmp_path / "one", tmp_path / "two")
    config = loader.load(tmp_path / "two/dialgate.yaml")
    await (await App.open(config, registry=CollectorRegistry(), clock=Hand())).close()
    await first.close()


@pytest.mark.parametrize("shared", [True, False])
async def test_an_unclaimed_ledger_sealed_by_other_keys_is_refused(tmp_path: Path, *, shared: bool) -> None:
    """The ledger may be a copy or come from a version without claims, or the gate's `keys.json` was lost."""
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5} if shared else None
    file = world.write_folder(tmp_path, store=store)
    world.publish_answers(tmp_path / "data", {CLEAR: False}, NOW - DAY)
    async with ledger_of(loader.load(file), Hand()) as writer:
        await writer.revocations.revoke(
            writer.config.settings.clients[0], RevocationRequest(number=CLEAR, scope="controller")
        )
    (tmp_path / "data/keys.json").unlink()
    if shared:
        redis = RedisStore(redis_servers.alone(), name=tmp_path.name)
        await redis.commands.run("DEL", redis.commands.of_keys)
        await redis.close()
    with pytest.raises(KeysUnusable, match="written with other keys"):
        await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())


async def open_second_gate(running: App, file: Path) -> None:
    """Open and close a gate with the configuration `file`, while the gate `running` runs.

    Raises the same errors as `App.open`.
    """
    at_work = asyncio.create_task(running.run())
    try:
        await (await App.open(loader.load(file), registry=CollectorRegistry())).close()
    finally:
        at_work.cancel()


async def test_a_gate_whose_clock_differs_from_the_servers_denies_until_it_is_corrected(
    tmp_path: Path,
) -> None:
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    file = world.write_folder(tmp_path, store=store)
    world.publish_answers(tmp_path / "data", {CLEAR: False}, wall_clock() - HOUR)
    app = await App.open(loader.load(file), registry=CollectorRegistry())
    assert app.status().ready
    app._clock.read = lambda: wall_clock() + 5 * MINUTE
    await app.tick()
    assert (await ask(app)).reasons[0].code == "gate.unavailable"
    assert "this node's clock is 300 s ahead of the store's" in app.status().problems["clock"]
    app._clock.read = wall_clock
    await app.tick(patience=None)
    assert app.status().ready
    assert (await ask(app)).reasons[0].code == "list.unknown"
    await app.close()


async def test_a_user_that_may_not_read_the_servers_clock_is_refused(server: Path) -> None:
    ask_server(server, "ACL", "SETUSER", redis_servers.USER, "-time")
    file = world.write_folder(server, store={"url": at(server)})
    with pytest.raises(StoreUnavailable, match=r"no permissions to run the 'time' command; .*several-nodes"):
        await App.open(loader.load(file), registry=CollectorRegistry())


async def test_two_gates_with_the_same_name_or_log_do_not_run_at_once(tmp_path: Path) -> None:
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    for name in ("one", "two", "copied"):
        (tmp_path / name).mkdir()
    file = world.write_folder(tmp_path / "one", store=store)
    first = await App.open(loader.load(file), registry=CollectorRegistry())
    await load_numbers(first)
    namesake = world.write_folder(tmp_path / "two", store=store)
    share(tmp_path / "one", tmp_path / "two")
    with pytest.raises(StoreUnavailable, match="already has the name `gate`"):
        await open_second_gate(first, namesake)
    copied = world.write_folder(tmp_path / "copied", store=store, node="copied")
    shutil.copytree(tmp_path / "one/data", tmp_path / "copied/data", dirs_exist_ok=True)
    with pytest.raises(StoreUnavailable, match="one data folder is a copy of the other"):
        await open_second_gate(first, copied)
    # Its presence ends, as if it had been killed. The copy replaces it, like a restored backup.
    await (await App.open(loader.load(copied), registry=CollectorRegistry())).close()
    await first.close()


async def test_one_of_two_gates_that_open_logs_of_one_name_at_once_gives_up(tmp_path: Path) -> None:
    """Both gates open before either has announced its presence in the store.

    If both gates kept running, they would undo each other's attempts.
    """
    store = {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    files = [world.write_folder(tmp_path / name, store=store, node=name) for name in ("one", "two")]
    world.publish_answers(tmp_path / "one/data", {CLEAR: False}, NOW - DAY)
    first = await App.open(loader.load(files[0]), registry=CollectorRegistry(), clock=Hand())
    await load_numbers(first)
    await first.close()
    shutil.copytree(tmp_path / "one/data", tmp_path / "two/data", dirs_exist_ok=True)
    opening = [App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand()) for file in files]
    opened = await asyncio.gather(*opening, return_exceptions=True)
    twins = [app for app in opened if isinstance(app, App)]
    checks = [(app, await ask(app, f"{n} of {app.config.settings.node}")) for n in range(12) for app in twins]
    by_gate = [[answer.decision for app, answer in checks if app is twin] for twin in twins]
    assert sorted(decisions.count("allow") for decisions in by_gate) == [0, 5][-len(twins) :]
    for app in twins:
        await app.tick()
    problems = sorted(
        app.gate.readiness().get("store", "") if isinstance(app, App) else str(app) for app in opened
    )
    assert problems[0] == ""
    assert "another gate is writing a log with the same name" in problems[1]
    for app in twins:
        await app.close()


async def test_a_fence_raised_on_an_older_copy_is_not_taken_for_another_gates(server: Path) -> None:
    store = RedisStore(at(server))
    for _ in range(3):
        await store.settle("log", 0, (), ())
    ask_server(server, "SWAPDB", "0", "1")
    await store.settle("log", 0, (), ())
    ask_server(server, "SWAPDB", "0", "1")
    for _ in range(2):
        await store.settle("log", 0, (), ())
        await store.ping()
    other = RedisStore(at(server))
    await other.settle("log", 0, (), ())
    with pytest.raises(StoreUnavailable, match="another gate is writing a log with the same name, log"):
        await asyncio.gather(*(handle.settle("log", 0, (), ()) for handle in (store, other)))
    await store.close()
    await other.close()


@pytest.fixture
async def own_store(server: Path) -> AsyncIterator[RedisStore]:
    """Open a store on a server that no other test uses."""
    store = RedisStore(at(server))
    yield store
    await store.close()


@pytest.mark.parametrize("step", ["commit", "commit of an assumption", "undo"])
async def test_nothing_is_written_to_an_emptied_server(
    own_store: RedisStore, server: Path, step: str
) -> None:
    """The ledger may have been empty before, so its length does not show that the server was emptied."""
    position, reservations = AttemptPosition("log", 1), [Reservation(ANNA, attempt("log-1"), (ANNA,))]
    assert await own_store.claim("ours")
    await own_store.settle("log", 0, (), ())
    await read_unknown(own_store)
    reading = own_store.assume([ANNA]) if step == "commit of an assumption" else await own_store.read([ANNA])
    assert reading is not None
    if step == "undo":
        own_store.undo.mark_unknown(position)
    ask_server(server, "SWAPDB", "0", "1")
    if step == "undo":
        with pytest.raises(StoreUnavailable, match="emptied"):
            await own_store.read([ANNA])
    elif reading.assumed:
        assert not await own_store.commit(reading, reservations, [], position)
    else:
        with pytest.raises(StoreUnavailable, match="a commit arrived too late"):
            await own_store.commit(reading, reservations, [], position)
    assert ask_server(server, "DBSIZE") == "0"
    ask_server(server, "SWAPDB", "0", "1")
    assert await own_store.commit(await own_store.read([ANNA]), reservations, [], position)


async def gate_on_own_server(folder: Path, steady: Callable[[], float] = time.monotonic) -> App:
    """Open a gate on the server at `folder`, with a call list."""
    config = loader.load(world.write_folder(folder, store={"url": at(folder)}))
    world.publish_answers(folder / "data", {CLEAR: False}, NOW - DAY)
    app = await App.open(config, registry=CollectorRegistry(), clock=Hand(), steady=steady)
    await load_numbers(app)
    await app.tick()
    return app


@pytest.mark.parametrize(
    ("copied", "problem", "assuming"),
    [
        ((), "emptied", False),
        ((), "emptied", True),
        (("keys", "positions", "lists"), "ends at 0, but had reached 1", False),
    ],
    ids=["emptied", "emptied, and numbers assumed to be unknown", "a copy without the ledger"],
)
async def test_a_store_that_lost_its_ledger_allows_nothing_and_accepts_no_stop_until_restored(
    server: Path, copied: tuple[str, ...], problem: str, *, assuming: bool
) -> None:
    """New entries would soon hide that the ledger lacks earlier ones."""
    app = await gate_on_own_server(server)
    for key in copied:
        ask_server(server, "COPY", f"{{dialgate}}:{key}", f"{{dialgate}}:{key}", "DB", "1")
    kept = ask_server(server, "-n", "1", "DBSIZE")
    client, stop = app.config.settings.clients[0], RevocationRequest(number=CLEAR, scope="controller")
    await app.registrar.revocations.revoke(client, stop)
    if assuming:
        await app._store.read([ANNA])
        always_assume(app)
    ask_server(server, "SWAPDB", "0", "1")
    assert (await ask(app)).reasons[0].code == "gate.unavailable"
    with pytest.raises(StoreUnavailable, match=problem):
        await app.registrar.revocations.revoke(client, stop)
    assert ask_server(server, "DBSIZE") == kept, "a gate that starts there finds no more data"
    await app.tick()
    assert problem in app.gate.readiness()["store"]
    ask_server(server, "SWAPDB", "0", "1")
    await app.tick()
    assert (await ask(app)).reasons[0].code == "revocation.revoked"
    await app.close()


async def back_up(folder: Path, *databases: int) -> None:
    """Copy the server's data to other databases. SWAPDB can then restore the copy while gates run."""
    async with Redis(unix_socket_path=str(folder / "socket")) as server:
        for database in databases or (1,):
            for key in await server.keys():
                await server.execute_command("COPY", key, key, "DB", database, "REPLACE")  # type: ignore[no-untyped-call]


async def codes(app: App, count: int) -> list[str]:
    answers = [await ask(app) for _ in range(count)]
    return [answer.reasons[0].code if answer.reasons else "allow" for answer in answers]


async def report(app: App, decision: str, result: Literal["abandoned", "opt_out"]) -> None:
    request = OutcomeRequest(decision_id=decision, outcome=result)
    await app.registrar.outcomes.result(app.config.settings.clients[0], request)


@pytest.mark.parametrize("lost", ["before a commit", "before the reply to a commit"])
@pytest.mark.parametrize("restarted", [True, False])
async def test_attempts_missing_from_an_older_copy_are_added_from_the_log(
    server: Path, lost: str, *, restarted: bool
) -> None:
    """The copy has the same ledger, so it differs from the newest store only in its attempts."""
    seconds = Hand(0)
    app = await gate_on_own_server(server, seconds)
    assert await codes(app, 1) == ["allow"]
    await back_up(server)
    assert await codes(app, 2) == ["allow"] * 2
    lost_call = (await ask(app)).decision_id
    ask_server(server, "SWAPDB", "0", "1")
    with pytest.raises(StoreUnavailable, match="older copy"):
        await report(app, lost_call, "opt_out")
    if lost == "before the reply to a commit":
        app._store.undo.mark_unknown(AttemptPosition(app.gate._gatherer.keys.log, app.status().records + 1))  # type: ignore[attr-defined]
    assert await codes(app, 3) == ["gate.unavailable"] * 3
    if restarted:
        await app.close()
        app = await App.open(app.config, registry=CollectorRegistry(), clock=Hand())
    else:
        for _ in range(2):
            await app.tick()
    assert "store" not in app.gate.readiness()
    assert await codes(app, 3) == ["allow", "frequency.exceeded", "frequency.exceeded"]
    await report(app, lost_call, "opt_out")
    assert await codes(app, 1) == ["revocation.revoked"]
    await app.close()


async def test_attempts_are_added_again_if_that_was_interrupted(server: Path) -> None:
    store = RedisStore(at(server))
    lost = [(ANNA, attempt(decision=f"log-{seq}")) for seq in range(1, 4)]
    ask_server(
        server, "HSET", "{dialgate}:a:log:0", "not", "a string"
    )  # the script cannot index the attempts
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await store.settle("log", 3, lost, [])
    assert await store.positions() == {}
    ask_server(server, "DEL", "{dialgate}:a:log:0")
    await store.settle("log", 3, lost, [])
    await store.acknowledge("log", store.generation.number)
    assert await store.positions() == {"log": 3}
    assert len((await store.read([ANNA])).known[0].attempts) == 3
    await store.close()


@pytest.mark.parametrize("shared", [True, False])
async def test_a_store_that_lost_revocations_is_refused(server: Path, *, shared: bool) -> None:
    store = {"url": at(server)} if shared else None
    config = loader.load(world.write_folder(server, store=store))
    app = await App.open(config, registry=CollectorRegistry(), clock=(hand := Hand()))
    stop = RevocationRequest(number=CLEAR, scope="controller")
    await app.registrar.revocations.revoke(config.settings.clients[0], stop)
    await app.tick()
    await app.close()
    if shared:
        ask_server(server, "FLUSHALL")
    else:
        (config.data / "store.db").unlink()
    lost = r"ends at 0, but had reached 1: .*delete `ledger\.durable`"
    with pytest.raises(StoreUnavailable, match=lost):
        await App.open(config, registry=CollectorRegistry(), clock=hand)
    (config.data / "ledger.durable").unlink()
    await (await App.open(config, registry=CollectorRegistry(), clock=hand)).close()


async def test_an_empty_watermark_file_after_a_power_failure_is_accepted(tmp_path: Path) -> None:
    config = loader.load(world.write_folder(tmp_path))
    config.data.mkdir(exist_ok=True)
    (config.data / "ledger.durable").touch()
    await (await App.open(config, registry=CollectorRegistry(), clock=Hand())).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_lock_files_created_by_root_belong_to_the_folders_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_345)
    with hold_lock(tmp_path / "ledger.durable"):
        assert (tmp_path / "ledger.durable").stat().st_uid == 12_345


async def test_calls_are_denied_while_the_server_is_down_and_served_at_once_after_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "redis"
    process = redis_servers.start(folder, unixsocket=str(folder / "socket"))
    file = world.write_folder(tmp_path, store={"url": at(folder), "patience": 5})
    world.publish_answers(tmp_path / "data", {CLEAR: False}, NOW - DAY)
    app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())
    await load_numbers(app)
    await app.tick()
    assert (await ask(app)).decision == "allow"
    redis_servers.kill(process)
    denied = await ask(app)
    assert (denied.decision_id, denied.reasons[0].code) == ("", "gate.unavailable")
    process = redis_servers.start(folder, unixsocket=str(folder / "socket"))
    assert (await ask(app)).decision == "allow"
    await app.close()
    redis_servers.kill(process)


def at(folder: Path) -> str:
    return f"unix://{redis_servers.USER}:{redis_servers.PASSWORD}@{folder}/socket"


async def test_a_gate_on_an_old_configuration_is_flagged_until_it_follows(gates: list[App]) -> None:
    one, other = gates
    await beat(*gates)
    assert one.status().nodes == {}
    assert one.metrics.nodes._value.get() == 2
    controller = next(one.config.folder.glob("controllers/*.yaml"))
    controller.write_text(controller.read_text("utf-8") + "# changed\nsistan: true\n", "utf-8")
    one.reload(loader.load(one.config.folder / "dialgate.yaml"))
    await beat(*gates)
    assert one.status().nodes == {"two": "on an old config"}
    assert other.status().nodes == {"two": "on an old config"}
    assert other.metrics.nodes_outdated._value.get() == 1
    assert not other.gate.readiness(), "it continues to serve"
    shutil.copy(controller, other.config.folder / "controllers" / controller.name)
    other.reload(loader.load(other.config.folder / "dialgate.yaml"))
    await beat(*gates)
    assert one.status().nodes == {}


async def beat(*gates: App) -> None:
    """Make each gate report its presence and read the presence of the other gates."""
    for _ in range(2):
        for app in gates:
            app._clock.read.at += 2_000  # type: ignore[attr-defined]  # it is a Hand
            await app.tick()


async def test_one_gate_leads_a_task_and_another_takes_over(gates: list[App]) -> None:
    one, other = gates
    await beat(*gates)
    assert await one.roster.leads("webhook:crm")
    assert not await other.roster.leads("webhook:crm")
    assert await one.roster.leads("webhook:crm")
    assert await other.roster.leads("webhook:erp")


async def test_the_command_shows_the_gates_and_which_are_silent(gates: list[App]) -> None:
    await beat(*gates)
    for _ in range(8):
        await beat(gates[0])
    file = gates[0].config.folder / "dialgate.yaml"
    async with world.listening(gates[0]):
        done = await asyncio.to_thread(run_command, "dialgate", "nodes", "--config", file, "--json")
    rows = {row["node"]: row["problem"] for row in done.json["nodes"]}
    assert rows == {"one": "", "two": "silent"}
    assert done.code == 1


def ask_server(folder: Path, *words: str) -> str:
    """Send a command as a user with all rights."""
    command = ["redis-cli", "-s", str(folder / "socket"), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


ANOTHER = "another version of dialgate wrote this store"


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (("CONFIG", "SET", "appendonly", "no"), "`appendonly` is 'no'; set it to `yes`"),
        (("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), "is 'allkeys-lru'; set it to `noeviction`"),
        (("CONFIG", "SET", "appendfsync", "no"), "is 'no'; set it to `everysec` or `always`"),
        # Data subjects would appear unknown, or attempts could not be removed.
        (("XADD", "{dialgate}:ledger", "1-0", "s", "{dialgate}:s:0123456789abcdef"), ANOTHER),
        (("HSET", "{dialgate}:positions", "a-log", "7", "a-log top", "7"), ANOTHER),
        (("SET", "{dialgate}:layout", "4"), ANOTHER),
    ],
)
async def test_an_unsafe_server_or_a_store_of_another_version_is_refused(
    own_store: RedisStore, server: Path, command: tuple[str, ...], refusal: str
) -> None:
    ask_server(server, *command)
    for _ in range(2):  # the check must not mark the store as valid
        with pytest.raises(StoreUnavailable, match=refusal):
            await own_store.refuse_unless_safe()


async def test_the_names_of_neighbouring_decisions_are_stored_together(own_store: RedisStore) -> None:
    """The sequence numbers span several chunks. A removal must not remove the hashes of neighbouring decisions."""
    seqs = [1, 2, 126, 127, 128, 130, 255, 256, 257]
    subjects = {f"log-{seq}": b"%016d" % seq for seq in seqs}
    reservations = [
        Reservation(subject, attempt(decision), (subject,)) for decision, subject in subjects.items()
    ]
    reading = await own_store.read(list(subjects.values()))
    assert await own_store.commit(reading, reservations, [], AttemptPosition("log", 257))

    async def read_attempts() -> dict[str, bytes]:
        attempts = {f"log-{seq}": await own_store.attempt(f"log-{seq}") for seq in range(300)}
        return {decision: counted[0] for decision, counted in attempts.items() if counted is not None}

    assert await read_attempts() == subjects
    await own_store.undo.remove("log", [127, 130, 256, 299])
    assert await read_attempts() == {
        decision: subject
        for decision, subject in subjects.items()
        if decision not in {"log-127", "log-130", "log-256"}
    }
    short = [Reservation(b"short", attempt("log-300"), (b"short",))]
    with pytest.raises(ValueError, match="must be 16 bytes long"):
        await own_store.commit(await own_store.read([b"short"]), short, [], AttemptPosition("log", 300))


async def test_a_store_is_recognised_by_its_layout(server: Path) -> None:
    for _ in range(2):
        store = RedisStore(at(server))
        await store.refuse_unless_safe()
        assert await store.commit(NOTHING, [], [], AttemptPosition("log", 7))
        await store.close()


async def test_a_stop_acknowledged_during_a_read_is_not_reported_as_lost(tmp_path: Path) -> None:
    """A read might lack a revocation that was acknowledged after the read began."""
    store = RedisStore(redis_servers.alone(), name=tmp_path.name, patience=5)

    async def read_on() -> None:
        while not stopping.done():
            await store.read([ANNA])

    async def stop_on() -> None:
        for _ in range(200):
            await store.append([revoked(ANNA)])

    stopping = asyncio.create_task(stop_on())
    await asyncio.gather(stopping, *(read_on() for _ in range(4)))
    assert len((await store.read([ANNA])).known[0].revocations) == 200
    await store.close()


async def test_nothing_is_read_from_a_replica(tmp_path: Path) -> None:
    """Connections made while the replica was the master are not used either."""
    port = free_port()
    master = redis_servers.start(tmp_path / "m", port=str(port))
    other = redis_servers.start(tmp_path / "o", unixsocket=str(tmp_path / "o" / "socket"))
    store = RedisStore(at(tmp_path / "o"))
    assert (await store.read([ANNA])).known
    ask_server(tmp_path / "o", "REPLICAOF", "127.0.0.1", str(port))
    for asking in (store.read([ANNA]), store.history(ANNA), store.positions(), store.attempt("log-1")):
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await asking
    await store.close()
    redis_servers.kill(master)
    redis_servers.kill(other)


async def test_an_existing_entry_is_acknowledged_again_only_once_durable(tmp_path: Path) -> None:
    """A withdrawal that no replica has is refused, even if repeated, because a failover would lose it."""
    master = redis_servers.node()
    replica = redis_servers.node(replicaof=f"127.0.0.1 {master.port}")
    redis_servers.linked(replica)
    url = f"redis://{redis_servers.USER}:{redis_servers.PASSWORD}@127.0.0.1:{master.port}/0"
    file = world.write_folder(tmp_path, store={"url": url, "patience": 2, "replicas": 1})
    world.publish_answers(tmp_path / "data", {CLEAR: False}, NOW - DAY)
    app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())
    client = app.config.settings.clients[0]
    consent = ConsentRequest(
        number=CLEAR,
        id="web-1",
        collected_at=datetime(2026, 10, 1, tzinfo=UTC),
        purposes=("sale",),
        call_types=("agent",),
    )
    await app.registrar.consents.record(client, consent)
    replica.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="replicas: 0 of 1"):
            await app.registrar.consents.record(client, WithdrawalRequest(number=CLEAR, id="web-1"))
    await app.close()
    master.kill()


async def test_removed_and_added_replicas_are_noticed_at_run_time(tmp_path: Path) -> None:
    """A missing replica makes the gate unready before a call is refused. Writes wait for an additional replica too."""
    watched = redis_servers.sentinels(1, info_period=100)
    file = world.write_folder(tmp_path, store={"url": watched.url(), "patience": 0.5, "replicas": 1})
    world.publish_answers(tmp_path / "data", {CLEAR: False}, NOW - DAY)
    app = await App.open(loader.load(file), registry=CollectorRegistry(), clock=Hand())
    await app.tick()
    assert not app.gate.readiness()
    master, replica = watched.nodes
    replica.kill()
    await app.tick(patience=None)
    assert "0 of 1 replicas" in app.gate.readiness()["store"]
    replica.restart()
    redis_servers.linked(replica)
    await app.tick(patience=None)
    assert not app.gate.readiness()

    another = redis_servers.node(replicaof=f"127.0.0.1 {master.port}")
    redis_servers.linked(another)
    async with asyncio.timeout(20):
        while app.metrics.replicas_unasked._value.get() != 1:
            await beat(app)
    assert not app.gate.readiness()
    another.kill()
    with pytest.raises(StoreUnavailable, match="replicas: 1 of 2"):
        await app.registrar.revocations.revoke(
            app.config.settings.clients[0], RevocationRequest(number=CLEAR, scope="controller")
        )
    with pytest.raises(StoreUnavailable, match="set `replicas` to 2"):
        await app._store.refuse_unless_safe()  # type: ignore[attr-defined]  # it is a RedisStore
    await app.close()


async def test_a_known_replica_is_waited_for_even_if_no_sentinel_answers(
    tmp_path: Path,
) -> None:
    """The Sentinels may still reach each other and promote the replica."""
    watched = redis_servers.sentinels(1)
    store = RedisStore(watched.url(), name=tmp_path.name, patience=0.5)
    assert await store.surplus_replicas() == 1
    await store.append([])
    for port in watched.ports:
        ask_port(port, "SHUTDOWN")
    with pytest.raises(StoreUnavailable, match="no Sentinel lists the replicas of `gates`"):
        await store.surplus_replicas()
    watched.nodes[1].kill()
    with pytest.raises(StoreUnavailable, match="replicas: 0 of 1"):
        await store.append([revoked(ANNA)])
    await store.close()


async def test_a_replica_unknown_at_the_start_of_a_cluster_is_waited_for_soon(
    tmp_path: Path,
) -> None:
    """A Cluster lists a replica only after its first synchronisation."""
    cluster = redis_servers.cluster(1)
    store = RedisStore(cluster.url(), name=tmp_path.name)
    async with asyncio.timeout(20):
        while await store.surplus_replicas() != 1:
            await store.ping()
    await store.ping()  # which both have then
    holding = [node for node in cluster.nodes if tmp_path.name in node.say("--scan")]
    (replica,) = (node for node in holding if node.say("ROLE").startswith("slave"))
    replica.kill()
    with pytest.raises(StoreUnavailable, match="replicas: 0 of 1"):
        await store.append([revoked(ANNA)])
    await store.close()


async def test_sentinels_with_their_own_users(tmp_path: Path) -> None:
    """The rights in docs/how-to/several-nodes.md are sufficient for a Sentinel user.

    Without these rights, the error message is clear and does not contain redis-py's connection arguments.
    """
    watched = redis_servers.sentinels(0)
    for port in watched.ports:
        for words in (("gate", "on", ">pw", "+sentinel|masters", "+sentinel|slaves"), ("default", "off")):
            ask_port(port, "ACL", "SETUSER", *words)
    stranger = RedisStore(watched.url(), name=tmp_path.name)
    with pytest.raises(
        StoreUnavailable, match=r"^Redis: no Sentinel reports a master for `gates`: \S+; check that"
    ):
        await stranger.ping()
    await stranger.close()
    url = f"{watched.url()}?sentinel_username=gate&sentinel_password=pw"
    store = RedisStore(url, name=tmp_path.name)
    await store.refuse_unless_safe()
    await store.close()


def ask_port(port: int, *words: str) -> None:
    subprocess.run(["redis-cli", "-p", str(port), *words], check=True, capture_output=True)


async def test_a_server_that_syncs_every_second_is_waited_for(tmp_path: Path) -> None:
    """The store accepts every revocation, although the server's sync can take longer than `patience`."""
    process = redis_servers.start(tmp_path, unixsocket=str(tmp_path / "socket"), appendfsync="everysec")
    store = RedisStore(at(tmp_path), patience=0.2)
    await store.refuse_unless_safe()
    assert [await store.append([revoked(ANNA)]) for _ in range(3)] == [[1], [2], [3]]
    await store.close()
    redis_servers.kill(process)


async def test_a_subject_with_an_unanswered_silent_call_never_expires(
    own_store: RedisStore, tmp_path: Path
) -> None:
    """PTTL returns the remaining lifetime of a key in ms, or -1 if the key never expires.

    The subject `ANNA` is ASCII, so its key can be passed to `ask_server` as text.
    """
    results: list[Result] = ["answered", "abandoned", "answered", "no_answer"]
    lives = []
    for seq, result in enumerate(results, 1):
        counted = msgspec.structs.replace(attempt(f"log-{seq}"), at=seq)
        reading = await own_store.read([ANNA])
        assert await own_store.commit(
            reading, [Reservation(ANNA, counted, (ANNA,))], [], AttemptPosition("log", seq)
        )
        assert await own_store.result(counted.decision, result, seq)
        lives.append(int(ask_server(tmp_path, "PTTL", own_store.commands.key("s:", ANNA).decode())))
    assert [life > 0 for life in lives] == [True, False, False, True]
    assert lives[1:3] == [-1, -1]


async def test_redis_expires_attempts_when_their_time_is_over(own_store: RedisStore, tmp_path: Path) -> None:
    own_store.keep_attempts(kept := 502 * DAY)
    reading = await own_store.read([ANNA])
    assert await own_store.commit(
        reading, [Reservation(ANNA, attempt("log-1"), (ANNA,))], [], AttemptPosition("log", 1)
    )
    left = int(ask_server(tmp_path, "PTTL", own_store.commands.key("s:", ANNA).decode()))
    assert 0 <= kept - left < HOUR
