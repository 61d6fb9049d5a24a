"""Matching of calls with the decisions that allowed them, to find every call that bypassed the gate.

A decision matches a call if the decision allowed the call's number and caller ID before the call left, had not expired
when the call left, and matches no other call. If several decisions fit, the one that expires first is used, because the
others can still match later calls. The log contains only a keyed hash of each number, so the calls' numbers are hashed
with the month's keys.
`skew` is the allowed difference between the clocks of the trunk and the gate.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.audit.reconciliation.cdr import UNREADABLE, CallRecords
from dialgate.audit.reconciliation.departures import Departures
from dialgate.config import content_store
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Instant
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys
from dialgate.decision_log import chains, span
from dialgate.decision_log.archive import columnar_decisions
from dialgate.decision_log.archive.columnar_decisions import Longs, Part, Prefixes
from dialgate.decision_log.records import Reader, month_of

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
_FOREVER: Final = np.iinfo(np.int64).max
_NO_CALLER: Final = -1


class Node(Struct, frozen=True):
    """The decision log of one worker of a gate, with the worker's keys."""

    data: Path  # the gate's data folder
    keys: Keys
    log: Path  # the log's folder

    @classmethod
    def all(cls, data: Path) -> "list[Node]":
        """Return a node for each worker that has a log in the folder `data`. Raises `KeysUnusable`."""
        folders = chains.folders(data).items()
        return [cls(data, Keys.open(data / "keys.json", worker), folder) for worker, folder in folders]


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
    decisions: int
    findings: list[BypassedCall]
    # time shift under which most findings would match, usually due to a wrong time zone, or 0
    offset: Instant

    @property
    def counts(self) -> dict[Kind, int]:
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in KINDS}


_Fault: TypeAlias = tuple[int, Kind, int]  # row, kind of finding, index of a decision or -1


class _Shown(Struct):
    number: str = ""


class _Facts(Struct):
    caller_id: _Shown


class _Verdict(Struct):
    valid_until: Instant = 0


class _Basis(Struct):
    """The fields of a grounds record that are needed to match calls."""

    facts: _Facts
    decision: _Verdict
    config: str


_basis = msgspec.json.Decoder(_Basis).decode


class _Decisions(Struct):
    """The decisions from all nodes, as columns."""

    log: NDArray[np.int64]
    seq: Longs
    at: Longs
    until: Longs  # when the allow expires
    number: Prefixes
    allow: NDArray[np.bool_]
    caller: Longs  # index into `callers`


def reconcile(
    files: Iterable[CallRecords], nodes: Sequence[Node], *, home: str, own: frozenset[str], skew: Instant
) -> ReconciliationReport:
    """Match the calls in the files with the nodes' decisions.

    `home` is the country for numbers without a country code. `own` are the controllers' numbers, in E.164.
    Raises `LogDamaged`, `KeysUnusable`, `NotKept`.
    """
    return _Reconciliation(nodes, home, own, skew).report(list(files))


class _Reconciliation:
    def __init__(self, nodes: Sequence[Node], home: str, own: frozenset[str], skew: Instant) -> None:
        self._nodes, self._home, self._own, self._skew = nodes, home, own, skew
        self._callers: dict[str, int] = {}
        self._seconds: dict[tuple[Path, str], int] = {}

    def report(self, files: list[CallRecords]) -> ReconciliationReport:
        rows = Departures(files, self._home, self._own, self._callers)
        times = rows.at[rows.at != UNREADABLE]
        since, until = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        decisions = self._decisions(since - _BEFORE - self._skew, until + _OFFSET)
        of_call, of_decision = self._numbered(rows, decisions, since - _BEFORE, until + _OFFSET)
        matcher = _Matcher(rows, decisions, self._skew)
        matched, findings = matcher.match_all(of_call, of_decision)
        findings = self._linked_by_id(rows, decisions, findings, since - _BEFORE - self._skew)
        return ReconciliationReport(
            calls=len(rows.at) - rows.legs - rows.own,
            legs=rows.legs,
            own=rows.own,
            matched=matched,
            decisions=int((decisions.at <= until + self._skew).sum()),
            findings=[self._finding(rows, decisions, *finding) for finding in findings],
            offset=matcher.offset(of_call, of_decision, findings),
        )

    def _linked_by_id(
        self, rows: Departures, decisions: _Decisions, findings: list[_Fault], since: Instant
    ) -> list[_Fault]:
        """Change each `undecided` finding to `other_number` if the call's decision id or call id names a decision."""
        lost = [
            (row, rows.call_id(row), rows.decision(row)) for row, kind, _ in findings if kind == "undecided"
        ]
        call_ids = {call_id for _, call_id, _ in lost if call_id}
        places: dict[int, int] = {}
        for place, node in enumerate(self._nodes if lost else ()):
            first = span.begin(Reader(node.log), span.LogSpan(since=max(since, 1)))
            seqs = columnar_decisions.newest_by_call_id(node.log, first, call_ids) if call_ids else {}
            for row, call_id, decision in lost:
                name = node.keys.ids.inside(decision)
                own = name.startswith(f"{node.keys.log}-")
                seq = span.sequence(name) if own else seqs.get(call_id)
                if seq is None:
                    continue
                indexes = np.flatnonzero((decisions.log == place) & (decisions.seq == seq))
                if len(indexes):
                    places[row] = int(indexes[0])
        return [
            (row, "other_number", places[row]) if row in places else (row, kind, at)
            for row, kind, at in findings
        ]

    def _finding(
        self, rows: Departures, decisions: _Decisions, row: int, kind: Kind, decision: int
    ) -> BypassedCall:
        file, at = rows.file(row)
        name = ""
        if decision >= 0:
            node = self._nodes[int(decisions.log[decision])]
            name = f"{node.keys.log}-{int(decisions.seq[decision])}"
        return BypassedCall(
            kind=kind, file=file.file, line=int(file.line[at]), at=max(int(rows.at[row]), 0),
            number=file.numbers[file.called[at]], caller_id=file.callers[file.caller[at]],
            call_id=rows.call_id(row), decision=name,
        )  # fmt: skip

    # ---- decisions in the period ---------------------------------------------------------------------------------------

    def _decisions(self, since: Instant, until: Instant) -> _Decisions:
        columns = [
            part_columns
            for place, node in enumerate(self._nodes)
            for part in _parts(node, since)
            if (part_columns := self._columns(place, node, part, since, until)) is not None
        ]
        empty = np.empty(0, np.int64)
        nothing = (*[empty] * 4, np.empty(0, np.uint64), np.empty(0, np.bool_), empty)
        return _Decisions(*(np.concatenate(column) for column in zip(nothing, *columns, strict=True)))

    def _columns(
        self, place: int, node: Node, part: Part, since: Instant, until: Instant
    ) -> tuple[NDArray[np.generic], ...] | None:
        chosen = np.flatnonzero((part.at >= since) & (part.at <= until))
        if not len(chosen):
            return None
        grounds, which = np.unique(part.grounds[chosen], return_inverse=True)
        bases = [self._read(node, part, int(seq)) for seq in grounds]
        callers = np.array([caller for caller, _, _ in bases], np.int64)[which]
        ends = np.array([end for _, end, _ in bases], np.int64)[which]
        most = part.at[chosen] + np.array([span_ for _, _, span_ in bases], np.int64)[which]
        return (
            np.full(len(chosen), place, np.int64), part.seq[chosen], part.at[chosen], np.minimum(ends, most),
            part.number[chosen], part.allow[chosen], callers,
        )  # fmt: skip

    def _read(self, node: Node, part: Part, seq: int) -> tuple[int, Instant, Instant]:
        """Return a grounds record's caller ID index, its `valid_until`, and the configured `answer_seconds` in ms."""
        body = part.bodies.get(seq) or columnar_decisions.body_of(node.log, seq)
        basis = _basis(body)
        key = (node.data, basis.config)
        if key not in self._seconds:
            seconds = content_store.answer_seconds(node.data / "kept", basis.config)
            self._seconds[key] = int(seconds * SECOND)
        shown = basis.facts.caller_id.number
        caller = self._callers.setdefault(shown, len(self._callers)) if shown else _NO_CALLER
        return caller, basis.decision.valid_until or _FOREVER, self._seconds[key]

    # ---- numbers of the decisions --------------------------------------------------------------------------------------

    def _numbered(
        self, rows: Departures, decisions: _Decisions, since: Instant, until: Instant
    ) -> tuple[Longs, Longs]:
        """Return the index into `rows.numbers` of each call's number and of each decision's number, or -1."""
        of_decision = np.full(len(decisions.seq), -1, np.int64)
        for place, node in enumerate(self._nodes):
            of_node = np.flatnonzero(decisions.log == place)
            for month in _months(node, decisions.at[of_node], since, until):
                hashes, at = _hashed(rows.numbers, month)
                if not len(hashes):
                    continue
                nearest = np.minimum(np.searchsorted(hashes, decisions.number[of_node]), len(hashes) - 1)
                hit = hashes[nearest] == decisions.number[of_node]
                of_decision[of_node[hit]] = at[nearest[hit]]
        return rows.number, of_decision


class _Matcher:
    def __init__(self, rows: Departures, decisions: _Decisions, skew: Instant) -> None:
        self._rows, self._skew, self._decisions = rows, skew, decisions
        self._at, self._until = decisions.at.tolist(), decisions.until.tolist()
        self._allow, self._caller = decisions.allow.tolist(), decisions.caller.tolist()
        self._used = bytearray(len(self._at))
        self._times, self._shown = rows.at.tolist(), rows.caller.tolist()

    def match_all(self, of_call: Longs, of_decision: Longs) -> tuple[int, list[_Fault]]:
        """Return the number of calls that were allowed by a decision, and the findings for all other calls."""
        rows = self._rows
        unreadable = ((of_call < 0) | (rows.at == UNREADABLE)) & ~rows.skipped
        originated = rows.originated.tolist()
        findings: list[_Fault] = [
            (row, "originated" if originated[row] else "unreadable", -1)
            for row in np.flatnonzero(unreadable).tolist()
        ]
        matchable = np.flatnonzero(~unreadable & ~rows.skipped)
        calls = matchable[np.lexsort((rows.at[matchable], of_call[matchable]))]
        about_calls = np.flatnonzero(of_decision >= 0)
        decisions = about_calls[np.lexsort((self._decisions.at[about_calls], of_decision[about_calls]))]
        numbers = of_decision[decisions]
        groups = list(_groups(of_call[calls], calls))
        keys = np.array([number for number, _ in groups], np.int64)
        spans = zip(
            np.searchsorted(numbers, keys).tolist(), np.searchsorted(numbers, keys + 1).tolist(), strict=True
        )
        indexes, matched = decisions.tolist(), 0
        for (_, group), (begin, end) in zip(groups, spans, strict=True):
            candidates = indexes[begin:end]
            unmatched = [row for row in group if not self._match(row, candidates)]
            matched += len(group) - len(unmatched)
            findings += [(row, *self._fault(row, candidates)) for row in unmatched]
        return matched, sorted(findings)

    def _match(self, row: int, candidates: list[int]) -> bool:
        """Find the decision that allowed a call and mark it as used. Return False if no decision allowed it."""
        at, caller, skew = self._times[row], self._shown[row], self._skew
        used, allow, until = self._used, self._allow, self._until
        best, ends = -1, _FOREVER
        for decision in candidates:
            if self._at[decision] - skew > at:
                break
            unusable = used[decision] or not allow[decision] or until[decision] + skew < at
            if unusable or self._caller[decision] != caller:
                continue
            if until[decision] < ends:
                best, ends = decision, until[decision]
        if best >= 0:
            used[best] = True
        return best >= 0

    def _fault(self, row: int, candidates: list[int]) -> tuple[Kind, int]:
        at, caller, skew = self._times[row], self._shown[row], self._skew
        before = [
            decision
            for decision in candidates
            if self._at[decision] - skew <= at and self._at[decision] >= at - _BEFORE - skew
        ]
        in_time = [
            decision for decision in before if self._allow[decision] and at <= self._until[decision] + skew
        ]
        for decision in in_time:
            if self._caller[decision] == caller:
                return "twice", decision
        if in_time:
            return "other_caller_id", in_time[-1]
        if before:
            return ("expired" if self._allow[before[-1]] else "denied"), before[-1]
        return "undecided", -1

    def offset(self, of_call: Longs, of_decision: Longs, findings: list[_Fault]) -> Instant:
        """Return the clock shift that would match more than half of the unmatched calls, or 0 if there is none.

        The shift must match at least two calls.
        """
        lost = [row for row, kind, _ in findings if kind in {"undecided", "expired"}][:_SAMPLE]
        allows = np.flatnonzero((of_decision >= 0) & self._decisions.allow)
        numbers, order = of_decision[allows], np.argsort(of_decision[allows], kind="stable")
        votes: Counter[int] = Counter()
        for row in lost:
            begin, end = np.searchsorted(numbers, (of_call[row], of_call[row] + 1), sorter=order)
            late = self._times[row] - self._decisions.at[allows[order[begin:end]]]
            steps, rest = np.divmod(late + self._skew, _ZONE_STEP)
            fits = (rest <= _SOON + self._skew) & (abs(late) <= _OFFSET) & (steps != 0)
            votes.update(set(steps[fits].tolist()))
        step, votes_for_it = max(votes.items(), key=lambda vote: vote[1], default=(0, 0))
        return step * _ZONE_STEP if votes_for_it > max(1, len(lost) // 2) else 0


def _groups(keys: Longs, rows: Longs) -> Iterator[tuple[int, list[int]]]:
    """Yield each key with its rows. Equal keys must be adjacent."""
    if not len(keys):
        return
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    values = rows.tolist()
    for begin, end in pairwise([*starts.tolist(), len(values)]):
        yield int(keys[begin]), values[begin:end]


def _parts(node: Node, since: Instant) -> Iterator[Part]:
    folder = node.log
    return columnar_decisions.parts(folder, span.begin(Reader(folder), span.LogSpan(since=max(since, 1))))


def _months(node: Node, times: Longs, since: Instant, until: Instant) -> Iterator[MonthKeys]:
    """Yield the keys for the months in this period. Raises `KeyRetired` if a month with decisions has no keys."""
    live = node.keys.live()
    for name in span.months(max(since, 0)):
        if name > month_of(max(until, 0)):
            return
        month = span.month(name)
        if name in live:
            yield live[name]
        elif np.any((times >= month.since) & (times < month.until)):
            raise KeyRetired(
                f"the keys for {name} are retired, so calls from that month cannot be reconciled."
            )


def _hashed(numbers: Sequence[str], month: MonthKeys) -> tuple[Prefixes, Longs]:
    """Return the sorted hashes of the numbers, and for each hash the index of its number."""
    raw = b"".join([month.pseudonym(number)[: columnar_decisions.PREFIX_BYTES] for number in numbers])
    hashes = np.frombuffer(raw, ">u8").astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order.astype(np.int64)
