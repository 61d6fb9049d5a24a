"""Crash tests: every response of a gate survives repeated `kill -9`.

A real `dialgate serve` is killed at random moments under load, while its log rotates and is packed, and sometimes during recovery
from the previous kill. Half of the time the unsynced end of the log is lost too, as in a power cut. Only the moment of the next kill
depends on the clock. pytest-randomly prints the seed; DIALGATE_KILLS sets the number of kills.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from dialgate.core.ledger_events import Revoked
from dialgate.core.model import DAY
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import public_keys
from dialgate.decision_log import VerificationReport, archive, last_checkpoint, segments, verify
from dialgate.decision_log.records import Reader, Record
from dialgate.runtime.clock import wall_clock
from dialgate.store.sqlite import SqliteStore
from tests.support import world
from tests.support.running_gate import HUNG_UP, RunningGate, kill, serving, spawn
from tests.support.world import CALLER

KILLS = int(os.environ.get("DIALGATE_KILLS", "3"))
LEAST_PACKED = 8  # kills after which the log must have been packed
LONGEST = 0.4  # seconds of load before a kill
START = 0.7  # seconds within which a start is killed
RETRIED = 150  # answered questions that are repeated after a kill
WRITERS = 6
LIMIT = 5  # calls to one number in 30 days, as the example configuration has it

CALLED = [f"+3906{number}" for number in range(12340000, 12342000)]
LISTED = set(CALLED[::20])
FIRST_STOPPED = 50_000_000  # of the numbers in Rome that revoke; the others follow it
MOST_ENTRIES = 1_000_000  # of the ledger, far more than a run writes
STRANGE = "+390612345678"  # a caller ID that is not the campaign's

Body = dict[str, Any]


def is_reported_on(body: Body) -> bool:
    """Return whether to report the outcome of a call: true for half of the calls.

    After an outcome, a request with the same call ID is a new call. So only requests without an outcome are repeated.
    """
    return body["call_id"].startswith("c") and int(body["call_id"][1:]) % 2 == 0


class Witness:
    """The requests of a client, with the responses that arrived."""

    def __init__(self) -> None:
        self.responses: dict[str, tuple[Body, Body]] = {}  # by call id: the question and its answer
        self.waiting: dict[str, Body] = {}
        self.results: dict[str, str] = {}
        self.stopped: list[str] = []
        self._ids, self._unstopped, self._allowed = count(), count(FIRST_STOPPED), list[str]()

    def question(self) -> Body:
        """Return a new question, or sometimes an answered one, because dialers retry."""
        if self.responses and random.random() < 0.05:
            again = random.choice(list(self.responses.values())[-50:])[0]
            if not is_reported_on(again):
                return again
        caller = STRANGE if random.random() < 0.05 else CALLER
        body = {"to": random.choice(CALLED), "from": caller, "campaign": "acme-fibre", "call_id": f"c{next(self._ids)}"}  # fmt: skip
        self.waiting[body["call_id"]] = body
        return body

    def record_answer(self, body: Body, answer: Body) -> None:
        new = self.waiting.pop(body["call_id"], None) is not None
        assert self.responses.setdefault(body["call_id"], (body, answer))[1] == answer
        if new and answer["decision"] == "allow" and is_reported_on(body):
            self._allowed.append(answer["decision_id"])

    async def writing(self, gate: RunningGate) -> None:
        """Report outcomes and revocations until the connection closes; remember the acknowledged ones."""
        while True:
            number = f"+3906{next(self._unstopped)}"
            await gate.post("/v1/revocations", {"number": number})
            self.stopped.append(number)
            if self._allowed:
                decision = self._allowed.pop()
                outcome = random.choice(["no_answer", "answered", "busy"])
                await gate.post("/v1/outcomes", {"decision_id": decision, "outcome": outcome})
                self.results[decision] = outcome


class Log(Struct):
    """The part of the decision log that was read: `allows` by called number, `by_call` by call id."""

    folder: Path
    keys: Keys
    seq: int = 0
    hash: str = ""
    by_call: dict[str, Record] = msgspec.field(default_factory=dict)
    allows: defaultdict[str, list[str]] = msgspec.field(default_factory=lambda: defaultdict(list))
    ids: Counter[str] = msgspec.field(default_factory=Counter)

    def read_called_number(self, record: Record) -> str:
        return self.keys.month(record.at).unseal(record.sealed)

    def read_caller_id(self, record: Record) -> str:
        sealed = record.caller_sealed
        return self.keys.month(record.at).unseal(sealed) if sealed else record.caller_id

    def read_on(self) -> None:
        if self.seq:
            kept = archive.Segments(self.folder).find(self.seq)
            assert kept is not None
            assert kept.hash == self.hash, "what was read before the kill has changed"
        for line, record in Reader(self.folder).entries(first=self.seq + 1):
            self.seq, self.hash = line.seq, line.hash
            if isinstance(record, Record):
                self.ids[record.id] += 1
                assert record.call_id not in self.by_call, "one question was decided twice"
                self.by_call[record.call_id] = record
                if record.decision.allow:
                    self.allows[self.read_called_number(record)].append(record.id)


async def test_every_response_survives_every_kill(tmp_path: Path) -> None:
    config = world.write_folder(tmp_path, log_segment_mb=1, checkpoint_seconds=0.5, log_archive_hours=0.0003)
    data = tmp_path / "data"
    world.publish_answers(data, {number: number in LISTED for number in CALLED}, wall_clock() - DAY)
    witness, log = Witness(), Log(data / "log", Keys.open(data / "keys.json"))
    async with serving(config) as gate:
        await gate.post("/v1/lists", {**world.LIST, "numbers": CALLED})
        await loaded_and_killed(gate, witness)
    fresh = 0
    for kills in count(1):
        if random.random() < 0.5:
            power_lost(witness, log, fresh)
        if random.random() < 0.2:
            await cut_short(config)
        async with serving(config) as gate:
            assert proved(data).faults == []
            log.read_on()
            check_responses_are_logged(witness, log, fresh)
            await check_attempts_are_logged(data, log, witness)
            await check_repeated_questions(gate, witness, log, fresh)
            log.read_on()
            fresh = len(witness.responses)
            if kills >= KILLS and (KILLS < LEAST_PACKED or count_packed(log) > 1):
                break  # a slow machine takes more kills until two segments are packed
            await loaded_and_killed(gate, witness)
    check_responses_are_logged(witness, log, 0)
    assert max(log.ids.values()) == 1
    assert max(map(len, log.allows.values())) <= LIMIT
    assert proved(data).segments == len(archive.segments(log.folder))


def count_packed(log: Log) -> int:
    return sum(path.suffix == ".parquet" for _, path in archive.segments(log.folder))


def proved(data: Path) -> VerificationReport:
    return verify(data / "log", keys=public_keys(data / "signing.json"))


async def cut_short(config: Path) -> None:
    process = await spawn(config)
    await asyncio.sleep(random.uniform(0, START))
    await kill(process)


async def loaded_and_killed(gate: RunningGate, witness: Witness) -> None:
    load = gate.start_load(witness.question, witness.record_answer)
    # Each of their outcomes makes the store write down its attempts, so that it may be ahead of the synced log.
    writers = [asyncio.create_task(witness.writing(gate)) for _ in range(WRITERS)]
    await asyncio.sleep(random.uniform(0, LONGEST))
    await kill(gate.process)
    for met in await asyncio.gather(load.wait(), *writers, return_exceptions=True):
        if met is not None and not isinstance(met, HUNG_UP):
            raise met


def power_lost(witness: Witness, log: Log, first: int) -> None:
    """Cut off a part of the unsynced end of the log, which `kill -9` leaves but a power cut may lose.

    No client got a response about that part, and no checkpoint covers it.
    """
    reply = {answer["decision_id"] for _, answer in list(witness.responses.values())[first:]}
    floor = log.seq
    for line, record in Reader(log.folder).entries(first=log.seq + 1):
        known = record.id in reply if isinstance(record, Record) else record.decision in witness.results
        floor = line.seq if known else floor
    covered = last_checkpoint(log.folder)
    floor = max(floor, covered.checkpoint.size if covered else 0)
    newest = segments(log.folder)[-1][1]
    lines = newest.read_bytes().splitlines(keepends=True)
    synced = sum(map(len, lines[: max(1, floor - int(newest.stem) + 2)]))
    os.truncate(newest, random.randint(synced, sum(map(len, lines))))


def check_responses_are_logged(witness: Witness, log: Log, first: int) -> None:
    for body, answer in list(witness.responses.values())[first:]:
        record = log.by_call[body["call_id"]]
        assert (record.id, "allow" if record.decision.allow else "deny") == (
            answer["decision_id"],
            answer["decision"],
        )
        assert [reason["code"] for reason in answer.get("reasons", [])] == [
            reason.code for reason in record.decision.reasons
        ]
        shown = (log.read_called_number(record), log.read_caller_id(record), record.facts.campaign.id)
        assert shown == (body["to"], body["from"], body["campaign"])
        assert (answer["to"], answer["from"]) == shown[:2]


async def check_attempts_are_logged(data: Path, log: Log, witness: Witness) -> None:
    """Check that the store has one attempt for each permitted call in the log, and no others.

    The store must also contain all acknowledged call outcomes and revocations.
    """
    store = SqliteStore.open(data / "store.db")
    try:
        known = (await store.read([log.keys.subject("acme", number) for number in CALLED])).known
        ledger = await store.since(0, MOST_ENTRIES)
    finally:
        await store.close()
    counted = {number: [attempt.decision for attempt in held.attempts] for number, held in zip(CALLED, known, strict=True)}  # fmt: skip
    assert {number: sorted(ids) for number, ids in counted.items() if ids} == {
        number: sorted(ids) for number, ids in log.allows.items()
    }
    results = {attempt.decision: attempt.result for held in known for attempt in held.attempts}
    assert {decision: results[decision] for decision in witness.results} == witness.results
    stopped = {entry.subject for entry in ledger if isinstance(entry.event, Revoked)}
    assert {log.keys.subject("acme", number) for number in witness.stopped} <= stopped


async def check_repeated_questions(gate: RunningGate, witness: Witness, log: Log, first: int) -> None:
    """Check that a retry gets the earlier response, or the decision whose response was lost."""
    answered = [
        (body, answer)
        for body, answer in list(witness.responses.values())[first:]
        if not is_reported_on(body)
    ]
    for body, answer in random.sample(answered, min(RETRIED, len(answered))):
        assert await gate.post("/v1/check", body) == answer
    for body in list(witness.waiting.values()):
        answer = await gate.post("/v1/check", body)
        if body["call_id"] in log.by_call:
            assert answer["decision_id"] == log.by_call[body["call_id"]].id
        witness.record_answer(body, answer)
    for index, number in enumerate(witness.stopped[-3:]):
        answer = await gate.post("/v1/check", {"to": number, "from": CALLER, "campaign": "acme-fibre", "call_id": f"stopped-{index}-{first}"})  # fmt: skip
        assert answer["reasons"][0]["code"] == "revocation.revoked"
