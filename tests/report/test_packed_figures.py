"""Reports and searches give the same results for packed logs, unpacked logs, and logs read entry by entry."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dialgate.audit.search import DecisionQuery, Hit, search
from dialgate.core.decision_ids import log_of
from dialgate.core.local_time import rfc3339
from dialgate.core.model import (
    DAY,
    HOUR,
    MINUTE,
    RESULT_RANK,
    Decided,
    Deny,
    Grounds,
    Instant,
    OutcomeRecord,
    OwnGrounds,
    Pass,
    Result,
)
from dialgate.crypto.keys import Keys
from dialgate.crypto.nonces import nonces
from dialgate.decision_log import DecisionLog, chains, span
from dialgate.decision_log.archive import closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record, position
from dialgate.decision_log.span import LogSpan
from dialgate.report import figures, month, shadow
from dialgate.report.shadow import ShadowReportOrder
from tests.support.sample_log import NOW, SampleDecision, grounds, outcome

LOGS = (1, 2)
CONTROLLERS = ("acme", "rival")
CODES = ("registry.listed", "registry.unknown", "hours.closed")
BASES = ("directory:rome", "consent:web-1:a", "consent:web-2")
PERIOD = month("2026-11", "Europe/Rome")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two logs with packed and unpacked segments, in which outcomes are reported for decisions of both."""
    data = tmp_path_factory.mktemp("data")
    draw, ids = random.Random(44), list[tuple[Instant, str]]()
    keys = {number: Keys.open(data / "keys.json", number) for number in LOGS}
    for number in LOGS:
        write_log(chains.folder(data, number), keys[number], draw, ids)
    return data


def write_log(folder: Path, keys: Keys, draw: random.Random, ids: list[tuple[Instant, str]]) -> None:
    """Write a log of many segments. `ids` receives the decisions, and holds those of other logs."""
    at, nonce, shared = NOW - 20 * DAY, nonces(), list[Grounds]()
    with closing(DecisionLog.open(folder, log=keys.log, now=at, gate={}, segment_bytes=20_000)) as log:
        segment = 0
        for _ in range(700):
            at += draw.randrange(-MINUTE, HOUR)
            first = log.turn_over(at)
            if first != segment or draw.random() < 0.1:
                segment, shared = first, ([] if first != segment else shared)
                shared.append(random_grounds(log.next_seq, draw))
                log.write([msgspec.json.encode(shared[-1])])
            seq, basis = log.next_seq, draw.choice(shared)
            is_sealed = draw.random() < 0.1
            own = random_own(draw) if draw.random() < 0.3 else None
            allow = basis.decision.allow and not (own and own.outcomes)
            decided = Decided(
                seq=seq, id=f"{keys.log}-{seq}", at=at, number=keys.month(at).pseudonym("+390612341234"),
                sealed=keys.month(at).seal("+390612341234", next(nonce)), grounds=basis.seq, allow=allow,
                client=draw.choice(["dialer", "other"]), interface=draw.choice(["http", "fastagi"]),
                call_id=draw.choice(["", f"{seq}.7"]), caller_sealed=b"sealed" if is_sealed else b"",
                own=own, shadow=draw.random() < 0.5,
            )  # fmt: skip
            log.write([msgspec.json.encode(decided)])
            ids.append((at, decided.id))
            for _ in range(draw.choice([0, 0, 1, 2])):
                report = outcome(
                    log.next_seq, draw.choice([name for decided_at, name in ids if decided_at <= at]), at
                )
                result = draw.choice([*RESULT_RANK])
                log.write([msgspec.json.encode(replace(report, result=result))])
        log.turn_over(at + DAY)


def random_grounds(seq: int, draw: random.Random) -> Grounds:
    allow = draw.random() < 0.6
    shared = grounds(seq, SampleDecision("", allow=allow))
    facts = replace(
        shared.facts,
        controller=replace(shared.facts.controller, id=draw.choice(CONTROLLERS)),
        campaign=replace(shared.facts.campaign, id=draw.choice(["fibre", "energy"])),
        caller_id=replace(shared.facts.caller_id, number=draw.choice(["", "+390844", "+390844123456"])),
    )
    denied = draw.sample(CODES, draw.randrange(1, 3))
    outcomes = {"attempts": Pass(), **{code: Pass() if allow else Deny(code, "", "") for code in denied}}
    basis = draw.choice(BASES) if allow else draw.choice(["", *BASES])
    decision = replace(shared.decision, outcomes=outcomes, basis=basis)
    country, law = draw.choice([("IT", "a" * 64), ("IT", "b" * 64), ("FR", "c" * 64)])
    return replace(shared, facts=facts, decision=decision, country=country, law=law)


def random_own(draw: random.Random) -> OwnGrounds:
    """Return the stored state of a number, which may forbid the call."""
    denied = Deny("attempts.too_many", "", "")
    return OwnGrounds(outcomes={"attempts": denied} if draw.random() < 0.5 else {}, basis=draw.choice(BASES))


def pack_closed(data: Path) -> None:
    for number in LOGS:
        closed = closed_segments(chains.folder(data, number), 1 << 60)
        assert len(closed) > 10
        for segment in closed[: -len(closed) // 4]:  # the last quarter stays unpacked
            pack(segment)


QUERIES = [
    DecisionQuery(),
    DecisionQuery(code="registry"),
    DecisionQuery(code="hours.closed", controller="acme"),
    DecisionQuery(verdict="allow", campaign="energy", client="other"),
    DecisionQuery(verdict="deny"),
    DecisionQuery(controller="nobody"),
]
SPANS = [
    LogSpan(),
    LogSpan(since=NOW - 12 * DAY, until=NOW - 3 * DAY),
    LogSpan(first=100, last=1_000),
    LogSpan(since=NOW + 1_000 * DAY),
]


def results(data: Path) -> Iterator[object]:
    """Yield the results of all searches and of two reports."""
    for query in QUERIES:
        for within in SPANS:
            yield list(search(Chains(data), query, within))
    for controller in CONTROLLERS:
        tally = figures._read_log(Chains(data), controller, PERIOD)
        counters = (tally.reasons, tally.slots, tally.calls, tally.results, tally.bases, tally.caller_ids)
        # The order of equal counts is part of a report.
        yield [*(counter.most_common() for counter in counters), sorted(tally.laws), tally.ends]
    order = ShadowReportOrder(controllers=CONTROLLERS[:1], period=PERIOD, made_at=NOW)
    tried = shadow._read_log(Chains(data), order, ())
    assert tried.calls[False]
    assert tried.enforced
    yield [tried.calls, tried.enforced, tried.reasons, tried.alone, tried.campaigns, tried.hours, tried.lists]


def records(data: Path, within: LogSpan) -> Iterator[Record]:
    """Read decisions entry by entry, one log after the other."""
    for reader in Chains(data).readers.values():
        for _, entry in span.within(reader, within):
            if isinstance(entry, Record):
                yield entry


def results_by_id(data: Path) -> dict[str, Result]:
    """Return the reported result of each call: of the strictest ones, the one that is read last."""
    reported: dict[str, Result] = {}
    for _, entry in Chains(data).entries():
        if isinstance(entry, OutcomeRecord):
            former = reported.get(entry.decision, "pending")
            if RESULT_RANK[entry.result] >= RESULT_RANK[former]:
                reported[entry.decision] = entry.result
    return reported


def hits_of(data: Path, within: LogSpan) -> list[Hit]:
    reported = results_by_id(data)
    hits = [
        Hit(
            seq=record.seq,
            decision_id=record.id,
            at=rfc3339(record.at),
            decision="allow" if record.decision.allow else "deny",
            codes=[reason.code for reason in record.decision.reasons],
            controller=record.facts.controller.id,
            campaign=record.facts.campaign.id,
            caller_id=record.caller_id,
            basis=record.decision.basis,
            client=record.client,
            interface=record.interface,
            call_id=record.call_id,
            outcome=str(reported.get(record.id, "pending")).replace("pending", ""),
            shadow=record.shadow,
        )
        for record in records(data, within)
    ]
    logs = [list(log) for _, log in groupby(hits, lambda hit: log_of(hit.decision_id))]
    return list(merge(*logs, key=lambda hit: (hit.at, hit.seq)))


def report_of(data: Path, controller: str) -> object:
    reported, laws, ends = results_by_id(data), set[str](), list[tuple[int, str, int]]()
    reasons, slots, calls, results_, bases, caller_ids = counters = [Counter[Any]() for _ in range(6)]
    for record in records(data, LogSpan(since=PERIOD.since, until=PERIOD.until)):
        if record.facts.controller.id != controller:
            continue
        campaign, allow = record.facts.campaign.id, record.decision.allow
        calls[campaign, allow] += 1
        slots[PERIOD.slot(record.at), allow] += 1
        laws.add(f"{record.country} {record.law}")
        ends.append(position(record))
        if allow:
            bases[record.decision.basis.partition(":")[0]] += 1
        else:
            reasons[record.decision.reasons[0].code] += 1
        if allow or record.shadow:
            caller_ids[record.facts.caller_id.number] += 1
            results_[campaign, reported.get(record.id, "pending")] += 1
    return [*(counter.most_common() for counter in counters), sorted(laws), [min(ends), max(ends)]]


def test_packed_unpacked_and_entry_by_entry_agree(data: Path) -> None:
    unpacked = list(results(data))
    assert unpacked[: len(SPANS)] == [hits_of(data, within) for within in SPANS]
    assert unpacked[-3:-1] == [report_of(data, controller) for controller in CONTROLLERS]
    counts = [reader.decision_counts() for reader in Chains(data).readers.values()]
    pack_closed(data)
    assert list(results(data)) == unpacked
    assert [reader.decision_counts() for reader in Chains(data).readers.values()] == counts
    assert sum(counts, Counter[tuple[str, str, bool]]()).total() == 1_400
