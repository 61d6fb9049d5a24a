"""Matching of calls with the decisions that allowed them, to find every call that bypassed the gate.

A decision matches a call if the decision allowed the call's number and caller ID before the call left, had not expired
when the call left, and matches no other call. If several decisions fit, the one that expires first is used, because the
others can still match later calls. The log contains only a keyed hash of each number, so the calls' numbers are hashed
with the month's keys.
`skew` is the allowed difference between the clocks of the trunk and the gate.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from dialgate.audit.reconciliation.cdr import UNREADABLE, CallRecords
from dialgate.audit.reconciliation.departures import Departure, find_departures
from dialgate.config import content_store
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Instant
from dialgate.crypto.keys import KeyRetired, Keys
from dialgate.decision_log import chains, span
from dialgate.decision_log.records import Reader, Record, month_of
from dialgate.decision_log.span import LogSpan

Kind: TypeAlias = Literal[
    "undecided", "denied", "expired", "twice", "other_caller_id", "other_number", "unreadable", "originated"
]
KINDS: Final[dict[Kind, str]] = {
    "undecided": "There was no check for this number.",
    "denied": "The call was denied.",
    "expired": "The call left after its allow had expired.",
    "twice": "Another call had already used the only allow.",
    "other_caller_id": "The call was allowed with another caller ID.",
    "other_number": "The call was allowed to another number.",
    "unreadable": "The number or the time cannot be read, so the call cannot be matched.",
    "originated": "The call was originated through the trunk without Dial, so its record has no called number.",
}

_OFFSET: Final = 14 * HOUR  # the largest shift that a wrong time zone can cause
_ZONE_STEP: Final = 30 * MINUTE  # almost all time zones differ by a multiple of this
_SOON: Final = 5 * MINUTE  # calls leave soon after being allowed: a longer gap is not a clock shift
_SAMPLE: Final = 10_000
_BEFORE: Final = DAY  # a decision this long before a call may still explain why the call is a finding
_FOREVER: Final = 1 << 62


class Node(Struct, frozen=True):
    """One decision log of a gate, with its keys."""

    data: Path  # the gate's data folder
    keys: Keys
    log: Path  # the log's folder

    @classmethod
    def all(cls, data: Path) -> "list[Node]":
        """Return a node for each log in the folder `data`. Raises `KeysUnusable`."""
        folders = chains.folders(data).items()
        return [cls(data, Keys.open(data / "keys.json", number), folder) for number, folder in folders]


class BypassedCall(Struct, frozen=True, kw_only=True):
    """A call that no decision allowed."""

    kind: Kind
    file: str
    line: int
    at: Instant  # in ms, 0 if unreadable
    number: str  # as written in the file, unmasked: show it only for a stated purpose
    caller_id: str
    call_id: str
    decision: str  # id of the nearest decision, or ""


class ReconciliationReport(Struct, frozen=True, kw_only=True):
    calls: int  # number of calls that left
    legs: int  # rows that continue a call on another trunk, not in `calls`
    own: int  # calls to the controllers' own numbers, for example by probes, not in `calls`
    matched: int  # calls that a decision allowed
    shadow: int  # calls that the gate would have refused, but let through in shadow mode; not in `matched`
    decisions: int
    findings: list[BypassedCall]
    # time shift under which most findings would match, usually due to a wrong time zone, or 0
    offset: Instant
    since: Instant  # of the first call, or 0
    until: Instant  # of the last call

    @property
    def counts(self) -> dict[Kind, int]:
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in KINDS}


class _Candidate(Struct, gc=False):
    """A decision about a called number, or one that a call names by its id or call id."""

    id: str
    at: Instant
    until: Instant  # when the allow expires
    allow: bool  # whether the call was permitted, also by shadow mode alone
    caller: str
    is_lifted: bool  # the call would have been refused, but was let through in shadow mode
    is_used: bool = False


class _Fault(Struct, frozen=True, gc=False):
    kind: Kind
    decision: _Candidate | None = None


def reconcile(
    files: Iterable[CallRecords], nodes: Sequence[Node], *, home: str, own: frozenset[str], skew: Instant
) -> ReconciliationReport:
    """Match the calls in the files with the nodes' decisions.

    `home` is the country for numbers without a country code. `own` are the controllers' numbers, in E.164.
    Raises `LogDamaged`, `KeysUnusable`, `NotKept`.
    """
    departures = find_departures(files, home, own)
    times = [departure.call.at for departure in departures.calls if departure.call.at != UNREADABLE]
    since, until = (min(times), max(times)) if times else (0, 0)
    decisions = _Decisions(
        departures.calls, LogSpan(since=max(since - _BEFORE - skew, 1), until=until + _OFFSET + 1)
    )
    for node in nodes:
        decisions.read(node, until + skew)
    faults = _match_all(departures.calls, decisions, skew)
    return ReconciliationReport(
        calls=len(departures.calls),
        legs=departures.legs,
        own=departures.own,
        matched=len(departures.calls) - len(faults) - decisions.lifted_calls,
        shadow=decisions.lifted_calls,
        decisions=decisions.count,
        findings=[_finding(departures.calls[place], fault) for place, fault in sorted(faults.items())],
        offset=_offset(
            [
                departures.calls[place]
                for place, fault in faults.items()
                if fault.kind in {"undecided", "expired"}
            ],
            decisions,
            skew,
        ),
        since=since,
        until=until,
    )


def _finding(departure: Departure, fault: _Fault) -> BypassedCall:
    call = departure.call
    return BypassedCall(
        kind=fault.kind,
        file=call.file,
        line=call.line,
        at=max(call.at, 0),
        number=call.called,
        caller_id=call.caller,
        call_id=call.call_id,
        decision=fault.decision.id if fault.decision else "",
    )


class _Decisions:
    """The decisions of a period that can concern these calls, by number, id and call id. `count` counts all decisions."""

    def __init__(self, departures: Sequence[Departure], period: LogSpan) -> None:
        self._period = period
        self._numbers = {number for one in departures for number in (one.number, one.caller) if number}
        self._ids = {departure.call.decision for departure in departures if departure.call.decision}
        self._call_ids = {departure.call.call_id for departure in departures if departure.call.call_id}
        self._by_number: dict[str, list[_Candidate]] = defaultdict(list)
        self._by_id: dict[str, _Candidate] = {}
        self._by_call_id: dict[str, _Candidate] = {}
        self.count = 0

    def read(self, node: Node, until: Instant) -> None:
        """Read the decisions of one log. Count those up to `until`."""
        numbers, retired = self._hashed(node)
        names = {node.keys.ids.inside(name): name for name in self._ids}
        answer_seconds = lru_cache(64)(content_store.answer_seconds)
        for _, record in span.within(Reader(node.log), self._period):
            if not isinstance(record, Record):
                continue
            self.count += record.at <= until
            if any(month.since <= record.at < month.until for month in retired):
                raise KeyRetired(
                    f"the keys for {month_of(record.at)} are retired, so calls from that month cannot be reconciled."
                )
            number, name = numbers.get(record.number), names.get(record.id)
            if number or name or record.call_id in self._call_ids:
                seconds = answer_seconds(node.data / "kept", record.config)
                caller = numbers.get(record.caller) or record.facts.caller_id.number
                candidate = _candidate(record, int(seconds * SECOND), caller)
                if number:
                    self._by_number[number].append(candidate)
                if name:
                    self._by_id[name] = candidate
                self._by_call_id[record.call_id] = candidate

    def _hashed(self, node: Node) -> tuple[dict[bytes, str], list[LogSpan]]:
        """Return the numbers by their pseudonyms in the months of the period, and the months whose keys are destroyed."""
        live, numbers, retired = node.keys.live(), dict[bytes, str](), list[LogSpan]()
        for name in span.months(self._period.since):
            if name > month_of(self._period.until):
                break
            if name in live:
                numbers |= {live[name].pseudonym(number): number for number in self._numbers}
            else:
                retired.append(span.month(name))
        return numbers, retired

    @property
    def lifted_calls(self) -> int:
        """The number of matched calls that only shadow mode let through."""
        return sum(one.is_used and one.is_lifted for found in self._by_number.values() for one in found)

    def of_number(self, number: str) -> list[_Candidate]:
        """Return the decisions about a number, oldest first."""
        return sorted(self._by_number.get(number, ()), key=lambda decision: decision.at)

    def named_by(self, departure: Departure) -> _Candidate | None:
        call = departure.call
        return self._by_id.get(call.decision) or (
            self._by_call_id.get(call.call_id) if call.call_id else None
        )


def _candidate(record: Record, answer: Instant, caller: str) -> _Candidate:
    return _Candidate(
        id=record.id,
        at=record.at,
        until=min(record.decision.valid_until or _FOREVER, record.at + answer),
        allow=record.decision.allow or record.shadow,
        caller=caller,
        is_lifted=record.shadow and not record.decision.allow,
    )


def _match_all(departures: Sequence[Departure], decisions: _Decisions, skew: Instant) -> dict[int, _Fault]:
    """Return the fault of each call that no decision allowed, by its place in `departures`."""
    faults: dict[int, _Fault] = {}
    by_number: dict[str, list[int]] = defaultdict(list)
    for place, departure in enumerate(departures):
        if departure.number and departure.call.at != UNREADABLE:
            by_number[departure.number].append(place)
        else:
            faults[place] = _Fault("originated" if departure.call.is_originated else "unreadable")
    for number, places in by_number.items():
        candidates = decisions.of_number(number)
        places.sort(key=lambda place: departures[place].call.at)
        unmatched = [place for place in places if not _match(departures[place], candidates, skew)]
        faults |= {place: _fault(departures[place], candidates, decisions, skew) for place in unmatched}
    return faults


def _match(departure: Departure, candidates: Sequence[_Candidate], skew: Instant) -> bool:
    """Mark the decision that allowed the call as used. Return False if no decision allowed it."""
    fits = [
        decision
        for decision in _begun(candidates, departure.call.at + skew)
        if decision.allow
        and not decision.is_used
        and decision.until + skew >= departure.call.at
        # Shadow mode also lets calls without a caller ID through.
        and (departure.caller or decision.is_lifted)
        and decision.caller == departure.caller
    ]
    if fits:
        min(fits, key=lambda decision: decision.until).is_used = True
    return bool(fits)


def _fault(
    departure: Departure, candidates: Sequence[_Candidate], decisions: _Decisions, skew: Instant
) -> _Fault:
    at = departure.call.at
    before = [decision for decision in _begun(candidates, at + skew) if decision.at >= at - _BEFORE - skew]
    in_time = [decision for decision in before if decision.allow and at <= decision.until + skew]
    for decision in in_time:
        if departure.caller and decision.caller == departure.caller:
            return _Fault("twice", decision)
    if in_time:
        return _Fault("other_caller_id", in_time[-1])
    if before:
        return _Fault("expired" if before[-1].allow else "denied", before[-1])
    named = decisions.named_by(departure)
    return _Fault("other_number", named) if named else _Fault("undecided")


def _begun(candidates: Sequence[_Candidate], at: Instant) -> Sequence[_Candidate]:
    return candidates[: bisect_right(candidates, at, key=lambda decision: decision.at)]


def _offset(lost: Sequence[Departure], decisions: _Decisions, skew: Instant) -> Instant:
    """Return the clock shift that would match more than half of the unmatched calls, or 0 if there is none.

    The shift must match at least two calls.
    """
    sample = lost[:_SAMPLE]
    votes: Counter[int] = Counter()
    for departure in sample:
        votes.update(set(_shifts(departure.call.at, decisions.of_number(departure.number), skew)))
    step, votes_for_it = max(votes.items(), key=lambda vote: vote[1], default=(0, 0))
    return step * _ZONE_STEP if votes_for_it > max(1, len(sample) // 2) else 0


def _shifts(at: Instant, decisions: Iterable[_Candidate], skew: Instant) -> Iterator[int]:
    """Yield the shifts, in steps of `_ZONE_STEP`, under which the call left soon after an allow."""
    for decision in decisions:
        step, rest = divmod(at - decision.at + skew, _ZONE_STEP)
        if decision.allow and step and rest <= _SOON + skew and abs(at - decision.at) <= _OFFSET:
            yield step
