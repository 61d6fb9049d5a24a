"""Tests of a node restored from its backup: it begins a new log, so that no decision id is given twice."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dialgate.app import App
from dialgate.audit import replay as replaying
from dialgate.audit.evidence_files import EvidenceOrder, make_evidence
from dialgate.config import loader
from dialgate.core.decision_ids import log_of
from dialgate.core.model import HOUR
from dialgate.core.refusal import Refused
from dialgate.crypto.log_signing import public_keys
from dialgate.decision_log import LogUnavailable, chains, verify
from dialgate.decision_log.checkpoints import parse
from dialgate.interfaces.cli import main
from dialgate.ledger.schemas import RevocationRequest
from dialgate.store.sqlite import SqliteStore
from dialgate.tools.backup import back_up
from dialgate.tools.verifier.verify_evidence import verify as verify_evidence
from tests.gate.test_restore import House, opt_out
from tests.support import world
from tests.support.world import ask, codes, load_numbers

LATER = world.NOW + HOUR
NUMBERS = [f"+39061234{number}" for number in range(6000, 6003)]


@pytest.fixture
async def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    async with made.open() as app:
        await load_numbers(app)
    return made


def copy(house: House) -> None:
    back_up(house.data, house.data.parent / "copy", lambda *_: None)


def start_over(house: House) -> None:
    """Replace the data folder by the copy."""
    shutil.rmtree(house.data)
    shutil.copytree(house.data.parent / "copy", house.data)


async def ids(app: App) -> list[str]:
    """Return the ids of some decisions, which deny a call to numbers that are on no list."""
    return [(await ask(app, to=number)).decision_id for number in NUMBERS]


def faults(house: House) -> Iterator[object]:
    keys = public_keys(house.data / "signing.json")
    for folder in chains.folders(house.data).values():
        report = verify(folder, keys=keys)
        assert report.covered == report.last
        yield from report.faults


async def test_no_id_is_given_twice_and_a_report_of_a_lost_decision_stops_nobody(house: House) -> None:
    async with house.open() as app:
        kept = await ids(app)
    copy(house)
    async with house.open() as app:
        lost = (await ask(app)).decision_id
        seen = {*kept, lost, *await ids(app)}
    for _ in range(2):  # twice from one backup
        start_over(house)
        async with house.open() as app:
            given = [(await ask(app)).decision_id, *await ids(app)]
            assert seen.isdisjoint(given)
            seen.update(given)
            with pytest.raises(Refused, match="Decision not found") as refused:
                await opt_out(app, lost)
            assert (refused.value.code, refused.value.status) == ("decision.unknown", 404)
        assert await house.ledger() == []
        async with house.open() as app:  # the next start continues the new log
            assert log_of((await ids(app))[0]) == log_of(given[0])
        assert len(chains.folders(house.data)) == 2
        assert list(faults(house)) == []


async def test_decisions_of_the_earlier_logs_are_found_reported_and_replayed(house: House) -> None:
    async with house.open() as app:
        first = (await ask(app)).decision_id
    copy(house)
    start_over(house)
    async with house.open() as app:
        second = (await ids(app))[0]
    shutil.rmtree(house.data.parent / "copy")
    copy(house)
    start_over(house)
    async with house.open() as app:
        await opt_out(app, first)
        assert codes(await ask(app)) == ["revocation.revoked"]
        third = (await ids(app))[0]
    logs = chains.Chains(house.data)
    found = [logs.find(decision) for decision in (first, second, third)]
    assert None not in found
    assert len({log_of(decision) for decision in (first, second, third)}) == 3
    assert [log_of(decision) for decision in (first, second, third)] == [*logs.readers]
    assert [outcome.decision for outcome in logs.reports({first})] == [first]
    entries = (entry for _, entry in logs.entries())
    report = replaying.replay(entries, replaying.as_recorded(house.data / "kept"), replaying.exact)
    assert (report.records, report.different) == (8, 0)
    assert list(faults(house)) == []


async def test_stops_in_the_log_from_before_the_restore_bind_on_an_older_store(house: House) -> None:
    house.save()
    async with house.open() as app:
        allowed = (await ask(app)).decision_id
        await opt_out(app, allowed)
        letter = RevocationRequest(number=world.LISTED, channel="letter")
        await app.registrar.revocations.revoke(app.config.settings.clients[0], letter)
        await ask(app, to=world.LISTED)
    copy(house)
    start_over(house)
    for _ in range(2):  # also if only the store is replaced later
        house.restore()
        async with house.open() as app:
            assert "revocation.revoked" in codes(await ask(app))
            assert "revocation.revoked" in codes(await ask(app, to=world.LISTED))
            attempt = await app._store.attempt(allowed)
            assert attempt is not None
            assert attempt[1].result == "opt_out"
    assert len(chains.folders(house.data)) == 2


async def test_checkpoint_and_evidence_of_a_restored_node(house: House) -> None:
    async with house.open() as app:
        first = (await ask(app)).decision_id
    copy(house)
    start_over(house)
    async with house.open() as app:
        await opt_out(app, first)
        second = (await ids(app))[0]
    checkpoint = house.data.parent / "checkpoint.json"
    await run("log", "checkpoint", "--out", checkpoint, house=house)
    stored = parse(0, checkpoint.read_bytes())
    assert stored is not None
    assert stored.checkpoint.log == log_of(second)
    for decision in (first, second):
        order = EvidenceOrder(decision=decision)
        (bundle,), _ = await asyncio.to_thread(make_evidence, loader.load(house.path), order, world.NOW)
        evidence = json.loads(bundle)["evidence"]
        assert (evidence["log"], evidence["decisions"][0]["id"]) == (log_of(decision), decision)
        (key,) = public_keys(house.data / "signing.json")
        assert verify_evidence(bundle, frozenset({key}))


async def test_a_gate_with_an_older_log_beside_a_newer_store_does_not_start(house: House) -> None:
    allowed = await calls_after_the_copy(house)
    start_over_but_keep_the_store(house)
    (house.data / "log" / "restored" / "README").unlink()
    (house.data / "log" / "restored").rmdir()
    for _ in range(2):
        with pytest.raises(
            LogUnavailable, match=r"ends at entry \d+, but had reached \d+: it is an older copy"
        ):
            async with house.open(LATER):
                pytest.fail("the gate started")
    assert await counted(house, allowed) == allowed


async def test_an_older_log_marked_as_restored_keeps_the_calls_that_it_lacks(house: House) -> None:
    allowed = await calls_after_the_copy(house)
    start_over_but_keep_the_store(house)
    async with house.open(LATER) as app:
        assert codes(await ask(app)) == ["frequency.exceeded"]
        assert log_of((await ids(app))[0]) != log_of(allowed[0])
    async with house.open(LATER) as app:  # and the next start removes none of them
        assert codes(await ask(app)) == ["frequency.exceeded"]
        await opt_out(app, allowed[-1])
        assert "revocation.revoked" in codes(await ask(app))
    assert await counted(house, allowed) == allowed
    assert len(await house.ledger()) == 1


async def calls_after_the_copy(house: House) -> list[str]:
    """Make a call before the copy and others after it, until the frequency limit. Return the allowed decisions."""
    allowed = []
    async with house.open() as app:
        allowed.append((await ask(app)).decision_id)
    copy(house)
    async with house.open(LATER) as app:
        while (answer := await ask(app)).decision == "allow":
            allowed.append(answer.decision_id)
    assert len(allowed) > 1
    return allowed


def start_over_but_keep_the_store(house: House) -> None:
    shutil.rmtree(house.data / "log")
    shutil.copytree(house.data.parent / "copy" / "log", house.data / "log")


async def counted(house: House, decisions: list[str]) -> list[str]:
    """Return those of the decisions that the store counts as attempts."""
    store = SqliteStore.open(house.data / "store.db")
    try:
        return [decision for decision in decisions if await store.attempt(decision)]
    finally:
        await store.close()


async def run(*words: object, house: House) -> None:
    arguments = [*map(str, words), "--config", str(house.path)]
    done = await asyncio.to_thread(CliRunner().invoke, main.app, arguments)
    assert done.exit_code == 0, done.output
