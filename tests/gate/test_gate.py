"""Guarantees of the gate under load and faults, with a real store, a real log and real files."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace
from structlog.testing import capture_logs

from dialgate import __version__
from dialgate.app import App
from dialgate.config import content_store, loader
from dialgate.config.clients import Client
from dialgate.config.configuration import ConfigError
from dialgate.core.decision import decide
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Call, Decided, Grounds, OutcomeRecord
from dialgate.core.refusal import Refused
from dialgate.core.responses import Answer
from dialgate.decision_log import LogUnavailable, verify
from dialgate.decision_log.records import Reader, decode
from dialgate.ledger.schemas import OutcomeRequest, RevocationRequest
from tests.support import world, yaml_files
from tests.support.damage import fill, flip
from tests.support.world import CALLER, CLEAR, LISTED, NOW, Hand, World, codes


def client_of(running: World) -> Client:
    return running.app.config.settings.clients[0]


async def ask(running: World, to: str = CLEAR, call_id: str = "", campaign: str = "acme-fibre") -> Answer:
    client = client_of(running)
    call = Call(to=to, from_=CALLER, campaign=campaign, call_id=call_id)
    return await running.app.gate.check(call, client)


# ---- counting --------------------------------------------------------------------------------------------------------


async def test_a_deny_is_repeated_for_a_day(running: World) -> None:
    first = await ask(running, LISTED, call_id="a")
    running.hand.at += DAY
    assert await ask(running, LISTED, call_id="a") == first
    running.hand.at += 1
    assert (await ask(running, LISTED, call_id="a")).decision_id != first.decision_id


async def test_an_allow_is_repeated_while_it_holds_and_then_the_call_counts_again(running: World) -> None:
    first = await ask(running, call_id="a")
    running.hand.at += 15 * MINUTE - 1
    assert await ask(running, call_id="a") == first
    for _ in range(4):
        running.hand.at += 15 * MINUTE
        assert (await ask(running, call_id="a")).decision == "allow"
    running.hand.at += 15 * MINUTE
    assert codes(await ask(running, call_id="a")) == ["frequency.exceeded"]


async def test_an_allow_that_expired_before_it_was_sent_is_denied(running: World) -> None:
    """As after the process stood still, because of a signal, a suspended machine or a stalled disk."""
    for delay, reasons in ((15 * MINUTE - 1, []), (15 * MINUTE, ["gate.unavailable"])):
        async with running.app.gate._recorder.turn:
            call = asyncio.ensure_future(ask(running))
            for _ in range(100):  # it takes the time, then waits for its turn
                await asyncio.sleep(0)
            running.hand.at += delay
        assert codes(await call) == reasons


async def test_a_repeated_allow_ends_with_the_new_decision(running: World) -> None:
    """The hours were shortened after the first answer."""
    first = await ask(running, call_id="a")
    path = running.folder / "countries/it.yaml"
    shorter = path.read_text().replace('["00:00-24:00"]', '["00:00-10:02"]')
    path.write_text(shorter)
    running.app.reload(loader.load(running.folder / "dialgate.yaml"))
    running.hand.at += MINUTE
    again = await ask(running, call_id="a")
    assert again.decision_id == first.decision_id
    assert (first.valid_until, again.valid_until) == ("2026-11-24T09:15:00.000Z", "2026-11-24T09:02:00.000Z")


async def test_a_silent_call_is_not_repeated_under_its_old_allow(running: World) -> None:
    first = await ask(running, call_id="a")
    outcome = OutcomeRequest(decision_id=first.decision_id, outcome="abandoned")
    await running.app.registrar.outcomes.result(client_of(running), outcome)
    assert codes(await ask(running, call_id="a")) == ["frequency.rest"]


async def test_a_repeated_answer_is_sent_only_when_its_record_is_on_disk(running: World) -> None:
    with running.app._recorder.log._file:  # so that a sync has to wait
        first = asyncio.ensure_future(ask(running, call_id="a"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert running.records()
        again = asyncio.ensure_future(ask(running, call_id="a"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not first.done()
        assert not again.done()
    assert await first == await again


async def test_a_cancelled_call_during_a_failing_sync_does_not_affect_the_others(
    small_disk: Path, tmp_path: Path
) -> None:
    async with world.running(tmp_path, data=str(small_disk / "data")) as running:
        recorder = running.app._recorder
        gone, waiting = recorder.sync(), recorder.sync()
        gone.cancel()
        fill(small_disk / "rubbish")
        with pytest.raises(LogUnavailable):
            recorder.write([b"x" * 10_000], {})
        with pytest.raises(LogUnavailable):
            await asyncio.wait_for(waiting, 5)


async def test_all_calls_that_wait_for_a_stalled_disk_share_the_next_sync(running: World) -> None:
    recorder, syncs = running.app._recorder, running.sample("dialgate_log_sync_seconds_count")
    with recorder.log._file:  # so that a sync has to wait
        waiting = [recorder.sync() for _ in range(3_000)]
    await asyncio.gather(*waiting)
    assert syncs is not None
    assert running.sample("dialgate_log_sync_seconds_count") == syncs + 2
    assert running.app.gate.readiness() == {}


async def test_a_sync_without_a_write_is_not_timed_from_a_write_long_ago(running: World) -> None:
    """A batch of repeated answers syncs without a write. The time since the last write must not count as sync time."""
    await running.app._recorder.sync()
    took = running.sample("dialgate_log_sync_seconds_sum")
    assert took is not None
    assert took < 60


async def test_a_strangers_check_does_not_affect_the_answer_to_the_owner(running: World) -> None:
    stranger = msgspec.structs.replace(client_of(running), name="stranger", controllers=())
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre")
    await running.app.gate.check(call, stranger)
    assert (await ask(running)).decision == "allow"


async def test_a_call_list_that_was_changed_on_disk_is_not_used(running: World) -> None:
    (path,) = (running.app.config.data / "lists").glob("*.numbers")
    flip(path, -1)
    running.app.gate._gatherer.use_lists({})
    with capture_logs() as said:
        for _ in range(3):
            await running.app.tick()
    assert [line["event"] for line in said].count("call list skipped") == 1, "not once a second"
    assert "list.unknown" in codes(await ask(running))


async def test_a_call_list_is_not_used_for_a_campaign_that_moved_to_another_controller(
    running: World,
) -> None:
    assert (await ask(running)).decision == "allow"
    path = running.folder / "controllers" / "acme.yaml"
    written = path.read_text()
    path.write_text(written.replace("acme-fibre", "acme-autumn"))
    (path.parent / "beta.yaml").write_text(written.replace("id: acme\n", "id: beta\n"))
    world.publish_answers(running.app.config.data, {CLEAR: False}, NOW - DAY, controller="beta")
    running.app.reload(loader.load(running.folder / "dialgate.yaml"))
    await running.app.tick()
    client = msgspec.structs.replace(client_of(running), controllers=("beta",))
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre")
    answer = await running.app.gate.check(call, client)
    assert codes(answer) == ["list.unknown", "consent.missing"]


async def test_an_opt_out_is_accepted_after_the_campaign_was_removed(running: World) -> None:
    allowed = await ask(running)
    path = running.folder / "controllers" / "acme.yaml"
    path.write_text(path.read_text().replace("acme-fibre", "acme-autumn"))
    running.app.reload(loader.load(running.folder / "dialgate.yaml"))
    outcome = OutcomeRequest(decision_id=allowed.decision_id, outcome="opt_out")
    assert (await running.app.registrar.outcomes.result(client_of(running), outcome)).revocation is not None
    assert codes(await ask(running, campaign="acme-autumn"))[0] == "revocation.revoked"


@pytest.mark.parametrize("controllers", [("acme",), ("acme", "beta"), ("beta",)])
async def test_an_opt_out_applies_to_the_calling_controller_even_if_the_campaign_moved(
    running: World, controllers: tuple[str, ...]
) -> None:
    allowed = await ask(running)
    path = running.folder / "controllers" / "acme.yaml"
    written = path.read_text()
    path.write_text(written.replace("acme-fibre", "acme-autumn"))
    (path.parent / "beta.yaml").write_text(written.replace("id: acme\n", "id: beta\n"))
    running.app.reload(loader.load(running.folder / "dialgate.yaml"))
    outcome = OutcomeRequest(decision_id=allowed.decision_id, outcome="opt_out")
    client = msgspec.structs.replace(client_of(running), controllers=controllers)
    if "acme" not in controllers:
        with pytest.raises(Refused, match="decision"):
            await running.app.registrar.outcomes.result(client, outcome)
        return
    assert (await running.app.registrar.outcomes.result(client, outcome)).revocation is not None
    assert codes(await ask(running, campaign="acme-autumn"))[0] == "revocation.revoked"


async def test_a_binary_manifest_is_refused_and_the_previous_one_stays_in_use(running: World) -> None:
    manifest = running.app.config.data / "snapshots" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(b'{"version": "\xff"}')
    await running.app.tick()
    assert "snapshot" in running.app.gate.readiness()
    assert (await ask(running)).decision == "allow"
    manifest.write_bytes(whole)
    await running.app.tick()
    assert running.app.gate.readiness() == {}


async def test_the_stricter_of_two_reports_about_a_call_applies(running: World) -> None:
    allowed = await ask(running)
    report = running.app.registrar.outcomes.result
    await report(client_of(running), OutcomeRequest(decision_id=allowed.decision_id, outcome="abandoned"))
    for milder in ("not_dialled", "answered"):
        with pytest.raises(Refused, match="abandoned"):
            await report(
                client_of(running),
                msgspec.convert({"decision_id": allowed.decision_id, "outcome": milder}, OutcomeRequest),
            )
    assert codes(await ask(running)) == ["frequency.rest"]
    response = await report(
        client_of(running), OutcomeRequest(decision_id=allowed.decision_id, outcome="opt_out")
    )
    assert response.revocation is not None
    assert codes(await ask(running)) == ["revocation.revoked", "frequency.rest"]


async def test_a_call_that_was_not_dialled_gives_its_attempt_back(running: World) -> None:
    answers = [await ask(running) for _ in range(6)]
    assert [answer.decision for answer in answers] == ["allow"] * 5 + ["deny"]
    outcome = OutcomeRequest(decision_id=answers[0].decision_id, outcome="not_dialled")
    await running.app.registrar.outcomes.result(client_of(running), outcome)
    assert [(await ask(running)).decision for _ in range(2)] == ["allow", "deny"]


async def test_a_call_that_was_not_dialled_counts_when_it_is_checked_again(running: World) -> None:
    for number in range(6):
        first = await ask(running, call_id="a")
        assert (first.decision, number < 5) in {("allow", True), ("deny", False)}
        assert await ask(running, call_id="a") == first
        if number < 5:
            outcome = OutcomeRequest(decision_id=first.decision_id, outcome="not_dialled")
            await running.app.registrar.outcomes.result(client_of(running), outcome)
            assert (await ask(running, call_id=f"dialled-{number}")).decision == "allow"


async def test_a_refusal_is_recorded_and_revokes_nothing(running: World) -> None:
    allowed = await ask(running)
    outcomes, client = running.app.registrar.outcomes, client_of(running)
    refusal = OutcomeRequest(decision_id=allowed.decision_id, outcome="refused")
    receipt = await outcomes.result(client, refusal)
    assert receipt.revocation is None
    _, attempt = await running.app._store.attempt(allowed.decision_id) or pytest.fail("no attempt")
    assert attempt.result == "refused"
    assert (await ask(running)).decision == "allow"
    with pytest.raises(Refused, match="already reported as refused"):
        await outcomes.result(client, replace(refusal, outcome="answered"))
    stop = await outcomes.result(client, replace(refusal, outcome="opt_out"))
    assert stop.revocation is not None


async def test_an_opt_out_during_a_call_revokes_at_once_and_is_in_the_log(running: World) -> None:
    allowed = await ask(running)
    response = OutcomeRequest(decision_id=allowed.decision_id, outcome="opt_out")
    receipt = await running.app.registrar.outcomes.result(client_of(running), response)
    assert receipt.revocation is not None
    assert codes(await ask(running))[0] == "revocation.revoked"
    assert verify(running.app.config.data / "log").by_type == {"grounds": 2, "decision": 2, "outcome": 1}


# ---- revocation ------------------------------------------------------------------------------------------------------


# ---- the record ------------------------------------------------------------------------------------------------------


async def test_the_law_of_a_record_is_kept_after_the_file_has_changed(running: World) -> None:
    await ask(running)
    path = running.folder / "countries" / "it.yaml"
    path.write_text(path.read_text().replace("after: 5", "after: 1"))
    running.app.reload(loader.load(running.folder / "dialgate.yaml"))
    assert codes(await ask(running)) == ["frequency.exceeded"]
    folder = running.app.config.data / "kept"
    first, second = running.records()
    assert first.law != second.law
    assert decide(first.facts, content_store.law(folder, first.law)).allow
    assert decide(second.facts, content_store.law(folder, second.law)) == second.decision
    assert first.config in {path.name for path in folder.iterdir()}


async def test_no_file_contains_a_called_number_in_plain_text(running: World) -> None:
    await ask(running, call_id="a")
    await ask(running, to="06 12345678")
    await ask(running, to="+393331234567 x")
    await ask(running, call_id="lead-+390612345678", campaign="for-0612345678")
    await ask(running, call_id="0612 345 678")
    await running.app.registrar.revocations.revoke(client_of(running), RevocationRequest(number=CLEAR))
    await running.app.tick()
    found = [
        path.name
        for path in running.app.config.data.rglob("*")
        if path.is_file() and any(digits in path.read_bytes() for digits in (b"12345678", b"331234567"))
    ]
    assert found == []


async def test_a_simulation_records_nothing(running: World) -> None:
    client = client_of(running)
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre")
    for _ in range(10):
        assert (await running.app.gate.simulate(call, client)).decision == "allow"
    later = await running.app.gate.simulate(call, client, NOW + 30 * DAY)
    assert [reason.code for reason in later.reasons] == ["registry.expired"]
    assert running.records() == []


async def test_a_simulation_has_the_reasons_of_the_check(running: World) -> None:
    """The cases are a revoked number and a call without a number, for which the store has no data."""
    gate, client = running.app.gate, client_of(running)
    await running.app.registrar.revocations.revoke(client, RevocationRequest(number=CLEAR))
    for number in (CLEAR, "no number"):
        call = Call(to=number, from_=CALLER, campaign="acme-fibre")
        simulated, checked = await gate.simulate(call, client), await gate.check(call, client)
        assert simulated.reasons == checked.reasons != []


async def test_a_simulation_ends_when_the_check_would(running: World) -> None:
    """The decision ends after fifteen minutes, or at midnight if midnight comes first."""
    client = client_of(running)
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre")
    for at, ends in (
        (NOW, "2026-11-24T09:15:00.000Z"),
        (NOW + 14 * HOUR - 5 * MINUTE, "2026-11-24T23:00:00.000Z"),
    ):
        running.hand.at = at
        simulated = await running.app.gate.simulate(call, client)
        assert simulated.valid_until == (await running.app.gate.check(call, client)).valid_until == ends
        assert (await running.app.gate.simulate(call, client, at)).valid_until == ends


# ---- faults ----------------------------------------------------------------------------------------------------------


LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


async def run(*command: str) -> None:
    done = await asyncio.create_subprocess_exec(*command)
    assert await done.wait() == 0, command


async def denied_for(running: World, component: str) -> Answer:
    """Check calls until one is denied because `component` failed. The failure need not affect the first checks."""
    for number in range(10_000):
        answer = await ask(running, call_id=f"until-{number}")
        if not answer.decision_id:
            break
    assert (answer.decision, codes(answer)) == ("deny", ["gate.unavailable"])
    assert component in running.app.gate.readiness()
    faults = running.sample("dialgate_faults_total", component=component)
    assert faults is not None
    assert faults >= 1
    return answer


async def test_a_locked_store_is_a_deny_and_recovers(running: World) -> None:
    path = running.app.config.data / "store.db"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOCK, str(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    await ask(running, call_id="decided, recorded, and gathered for the store")
    await running.app.tick()
    await denied_for(running, "store")
    holder.kill()
    await holder.wait()
    await running.app.tick()
    assert running.app.gate.readiness() == {}
    assert (await ask(running)).decision_id


async def test_a_full_disk_is_a_deny_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    async with world.running(folder, data=str(small_disk / "data")) as running:
        await world.load_list(running)
        assert (await ask(running)).decision == "allow"
        fill(small_disk / "rubbish")
        await denied_for(running, "log")
        (small_disk / "rubbish").unlink()
        await running.app.tick()
        assert running.app.gate.readiness() == {}
        assert (await ask(running)).decision == "allow"
        report = verify(running.app.config.data / "log")
        assert report.ok, report.faults


async def test_a_call_whose_record_was_not_written_is_denied_even_if_the_log_recovers_at_once(
    small_disk: Path, tmp_path: Path
) -> None:
    """Upkeep recovers the log in a thread, so the log may recover before the batch of the failed write ends."""
    folder = tmp_path / "config"
    folder.mkdir()
    async with world.running(folder, data=str(small_disk / "data")) as running:
        await world.load_list(running)
        assert (await ask(running)).decision == "allow"
        recorder, failed = running.app._recorder, asyncio.Event()
        write = recorder.write

        def write_or_recover(bodies: Sequence[bytes], grounds: dict[bytes, int]) -> None:
            try:
                write(bodies, grounds)
            except LogUnavailable:
                failed.set()
                (small_disk / "rubbish").unlink()
                recorder.log.recover(running.hand.at)
                raise

        recorder.write = write_or_recover  # type: ignore[method-assign]
        fill(small_disk / "rubbish")
        for number in range(10_000):
            answer = await ask(running, call_id=str(number))
            if failed.is_set():
                break
        assert (answer.decision, codes(answer), answer.decision_id) == ("deny", ["gate.unavailable"], "")
        assert (await ask(running, LISTED)).decision_id == running.records()[-1].id


async def test_a_log_folder_that_cannot_be_written_is_a_deny_and_recovers(
    small_disk: Path, tmp_path: Path
) -> None:
    """The fault takes effect when the next segment starts, because the open file can still be written."""
    folder = tmp_path / "config"
    folder.mkdir()
    async with world.running(folder, data=str(small_disk / "data"), log_segment_mb=1) as running:
        await world.load_list(running)
        log = str(small_disk / "data" / "log")
        await run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", log)
        try:
            await denied_for(running, "log")
        finally:
            await run("umount", log)
        await running.app.tick()
        assert running.app.gate.readiness() == {}
        assert (await ask(running)).decision_id


async def test_a_damaged_snapshot_is_refused_and_the_previous_one_stays_in_use(running: World) -> None:
    folder = running.app.config.data / "snapshots"
    good = running.app.status().snapshot
    world.publish_answers(running.app.config.data, {LISTED: False}, NOW - HOUR)
    newest = max(folder.glob("*.numbers"), key=lambda path: path.stat().st_mtime_ns)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-1])
    await running.app.tick()
    assert "truncated" in running.app.gate.readiness()["snapshot"]
    assert running.sample("dialgate_snapshot_rejected_total") == 1
    assert running.app.status().snapshot == good
    assert (await ask(running)).decision == "allow"
    assert codes(await ask(running, to=LISTED))[0] == "registry.listed"
    newest.write_bytes(whole)
    await running.app.tick()
    assert running.app.gate.readiness() == {}
    assert (await ask(running, to=LISTED)).decision == "allow"


async def test_an_invalid_configuration_leaves_the_previous_one_in_force(running: World) -> None:
    path = running.folder / "dialgate.yaml"
    whole = path.read_text()
    path.write_text("listen: [")
    with pytest.raises(ConfigError) as refused:
        loader.load(path)
    with capture_logs() as said:
        running.app.gate.reject_config(refused.value)
    assert [line["problem"] for line in said] == list(refused.value.problems) != []
    assert running.sample("dialgate_config_rejected_total") == 1
    assert (await ask(running)).decision == "allow"
    yaml_files.write(path, yaml.safe_load(whole) | {"data": "elsewhere"})
    with pytest.raises(ConfigError, match="restart"):
        running.app.reload(loader.load(path))
    assert (await ask(running)).decision == "allow"


async def test_calls_are_denied_while_the_clock_is_behind(running: World) -> None:
    assert (await ask(running)).decision == "allow"
    running.hand.at -= SECOND
    assert (await ask(running)).decision == "allow", "a step of a second is flattened"
    running.hand.at -= 1
    await denied_for(running, "clock")
    running.hand.at += MINUTE
    await running.app.tick()
    assert running.app.gate.readiness() == {}
    assert (await ask(running)).decision == "allow"


async def test_calls_are_denied_while_a_stop_of_the_log_is_missing_from_the_ledger(running: World) -> None:
    stop = OutcomeRecord(seq=1, at=NOW, time="", decision="another-gates", result="opt_out")
    running.app._recovery._unentered.append(stop)
    await running.app.enter_stops()
    assert codes(await ask(running)) == ["gate.unavailable"]
    assert "another-gates" in running.app.gate.readiness()["ledger"]
    running.app._recovery._unentered.remove(stop)
    await running.app.enter_stops()
    assert (await ask(running)).decision == "allow"


async def test_an_unexpected_error_denies_every_call_of_the_batch_and_is_reported(running: World) -> None:
    del running.app.gate._verdicts  # so that no batch can be decided
    with capture_logs() as said:
        answers = await asyncio.gather(ask(running), ask(running, LISTED), ask(running))
    assert [(answer.decision, codes(answer)) for answer in answers] == [("deny", ["gate.unavailable"])] * 3
    assert "service log" in running.app.gate.readiness()["gate"]
    assert running.sample("dialgate_faults_total", component="gate") == 3
    assert ("a batch failed", "error") in {(line["event"], line["log_level"]) for line in said}
    assert running.records() == []


async def test_a_revocation_is_accepted_even_if_the_clock_is_wrong(running: World) -> None:
    assert (await ask(running)).decision == "allow"
    running.hand.at -= HOUR
    await running.app.registrar.revocations.revoke(client_of(running), RevocationRequest(number=CLEAR))
    running.hand.at += HOUR
    assert codes(await ask(running))[0] == "revocation.revoked"


async def test_a_clock_set_back_while_the_gate_was_down_is_noticed(tmp_path: Path) -> None:
    async with world.running(tmp_path) as running:
        await ask(running)
        config, registry = running.app.config, running.registry
    app = await App.open(config, registry=type(registry)(), clock=Hand(NOW - HOUR))
    assert "clock" in app.gate.readiness()
    await app.close()


async def test_an_expired_snapshot_makes_the_gate_unready_and_every_number_unknown(running: World) -> None:
    running.hand.at = NOW + 15 * DAY
    await running.app.tick()
    assert "expired" in running.app.gate.readiness()["snapshot"]
    assert codes(await ask(running))[0] == "registry.expired"


async def test_a_call_with_unencodable_text_is_still_decided(running: World) -> None:
    odd = await ask(running, to="\ud800" * 100, call_id="x")
    assert codes(odd) == ["number.invalid"]


async def test_upkeep_can_be_stopped_at_any_moment_of_a_write(running: World) -> None:
    for passes in range(6):  # turns of the event loop between the write and the end
        upkeep = asyncio.create_task(running.app.run())
        changed = running.app.registrar.changed
        while not changed._waiters:  # noqa: ASYNC110 - they are the loop's
            await asyncio.sleep(0)
        changed.set()
        for _ in range(passes):
            await asyncio.sleep(0)
        upkeep.cancel()
        done, _ = await asyncio.wait([upkeep], timeout=10)
        assert done, passes


async def test_a_cancelled_call_is_not_decided(running: World) -> None:
    """The cases include a call that is the only call in its batch."""
    app, client = running.app, running.app.config.settings.clients[0]
    before = app.status().records
    gone = Call(
        to=CLEAR,
        from_=CALLER,
        campaign="acme-fibre",
        call_id="",
        call_type=None,
    )
    app.gate.check(gone, client).cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    app.gate.check(gone, client).cancel()
    await ask(running, to=LISTED)
    assert app.status().records == before + 2, "grounds and decision of the one that was waited for"


async def test_grounds_are_written_once_per_segment(tmp_path: Path) -> None:
    async with world.running(tmp_path, log_segment_mb=1) as running:
        await world.load_list(running)
        client = client_of(running)
        asked = 0
        while len(list((tmp_path / "data/log").glob("*.ndjson"))) < 3:
            calls = [
                Call(to=CLEAR, from_=CALLER, campaign="no-such", call_id=str(asked + n)) for n in range(500)
            ]
            await asyncio.gather(*(running.app.gate.check(call, client) for call in calls))
            asked += len(calls)
        for path in sorted((tmp_path / "data/log").glob("*.ndjson")):
            bodies = [decode(line[83:-2]) for line in path.read_bytes().splitlines(keepends=True)[1:]]
            written = [entry.seq for entry in bodies if isinstance(entry, Grounds)]
            named = {entry.grounds for entry in bodies if isinstance(entry, Decided)}
            assert len(written) == len(named) == 1
            assert set(written) == named
        records = [record for _, record in Reader(tmp_path / "data/log").entries()]
        assert len(records) == asked


async def test_a_gate_that_closes_answers_its_calls_without_an_error(running: World) -> None:
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    call = Call(to=CLEAR, from_=CALLER, campaign="acme-fibre")
    answer = running.app.gate.check(call, client_of(running))
    await running.app.gate.close()
    assert answer.result().decision == "allow"
    gc.collect()  # an error of a task is reported when the task is freed
    assert errors == []


# ---- what a gate shows -----------------------------------------------------------------------------------------------


async def test_the_console_shows_the_last_four_calls_of_the_last_32_batches(running: World) -> None:
    gate = running.app.gate
    for _ in range(32):
        await ask(running, "112")
    numbers = (CLEAR, LISTED, "112", "+390612345670", CLEAR, LISTED)
    answers = await asyncio.gather(*(ask(running, number) for number in numbers))
    assert len(gate.recent) == 32
    at, requests, shown, reasons = gate.recent[-1]
    assert (at, tuple(request.call.to for request in requests)) == (NOW, numbers[-4:])
    assert (shown, reasons) == (answers[-4:], [(codes(answer) or [""])[0] for answer in answers[-4:]])


async def test_a_batch_is_decided_again_if_its_numbers_changed_since_they_were_read(running: World) -> None:
    gate = running.app.gate
    async with gate._recorder.turn:
        call = asyncio.ensure_future(ask(running))
        for _ in range(100):  # it reads the store, then waits for its turn
            await asyncio.sleep(0)
        await running.app.registrar.revocations.revoke(client_of(running), RevocationRequest(number=CLEAR))
    assert codes(await call) == ["revocation.revoked"]
    assert running.sample("dialgate_stale_batches_total") == 1


async def test_a_reload_shows_the_new_configuration_in_the_metrics(running: World) -> None:
    path = running.folder / "dialgate.yaml"
    yaml_files.write(path, yaml_files.read(path) | {"answer_seconds": 60})
    config, before = loader.load(path), running.app.config.hash
    running.app.reload(config)
    labels = {"version": __version__}
    assert running.sample("dialgate_info", **labels, config=config.hash) == 1
    assert running.sample("dialgate_info", **labels, config=before) is None
