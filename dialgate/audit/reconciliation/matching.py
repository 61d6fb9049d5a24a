"""Calls that left against calls that were allowed: every call that passed by the gate, and how.

A call was allowed if there is an allow for its number (known by the month's keyed hash: the log holds no number) and its
caller ID, given before it left and not expired then, that no other call used. Of several that fit, that which expires first
is used, so that as many calls as possible are allowed. Clocks of trunk and gate may differ by `skew`.
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

from dialgate.audit.reconciliation.cdr import UNREADABLE, Calls
from dialgate.audit.reconciliation.departures import Departures
from dialgate.config import content_store
from dialgate.core.model import DAY, HOUR, MINUTE, SECOND, Instant
from dialgate.crypto.keys import KeyRetired, Keys, MonthKeys
from dialgate.decision_log import chains, span
from dialgate.decision_log.archive import columnar_decisions
from dialgate.decision_log.archive.columnar_decisions import Longs, Part, Prefixes
from dialgate.decision_log.records import Reader, month_of

Kind: TypeAlias = Literal[
    "undecided",
    "denied",
    "expired",
    "twice",
    "other_caller_id",
    "other_number",
    "unreadable",
    "originated",
]
KINDS: Final[dict[Kind, str]] = {
    "undecided": "Nobody asked about this number.",
    "denied": "The answer was no.",
    "expired": "It left after its allow had ended.",
    "twice": "Another call had used the only allow there was.",
    "other_caller_id": "It was allowed with another caller ID.",
    "other_number": "Its call was allowed to another number.",
    "unreadable": "Its number or its time cannot be read, so nothing can be said for it.",
    "originated": "It was originated at the trunk without Dial, so its record holds no called number.",
}

_OFFSET: Final = 14 * HOUR  # the most by which a wrong time zone can shift the calls
_ZONE_STEP: Final = 30 * MINUTE  # almost all time zones differ by a multiple of this
_SOON: Final = 5 * MINUTE  # a call leaves soon after its allow, so a shift is known by more than chance
_SAMPLE: Final = 10_000
_BEFORE: Final = DAY  # how long before a call its decisions are looked at, to say what is wrong with it
_FOREVER: Final = np.iinfo(np.int64).max
_NO_CALLER: Final = -1


class Node(Struct, frozen=True):
    """A gate's data folder, the keys of one of its logs, and where that is."""

    data: Path
    keys: Keys
    log: Path

    @classmethod
    def all(cls, data: Path) -> "list[Node]":
        """One for each worker that ever wrote a log. Raises `KeysUnusable`."""
        folders = chains.folders(data).items()
        return [cls(data, Keys.open(data / "keys.json", worker), folder) for worker, folder in folders]


class Finding(Struct, frozen=True, kw_only=True):
    """`at`: ms, 0 where it cannot be read; `number`: as it stood in the file, not to be shown without a purpose; `decision`:
    the one that comes closest, by its id, if there is one."""

    kind: Kind
    file: str
    line: int
    at: Instant
    number: str
    caller_id: str
    call_id: str
    decision: str


class Report(Struct, frozen=True, kw_only=True):
    """`calls`: that left; `legs`: rows of a call that went on to another trunk; `own`: to the controllers' own numbers, as
    probes are; `matched`: that had their allow; `offset`: by which most findings would have to be earlier to have theirs, as
    where the time zone is wrong; 0 if there is none."""

    calls: int
    legs: int
    own: int
    matched: int
    decisions: int
    findings: list[Finding]
    offset: Instant

    @property
    def counts(self) -> dict[Kind, int]:
        found = Counter(each.kind for each in self.findings)
        return {kind: found[kind] for kind in KINDS}


_Fault: TypeAlias = tuple[int, Kind, int]  # a row, what is wrong with it, and the place of a decision or -1


class _Shown(Struct):
    number: str = ""


class _Facts(Struct):
    caller_id: _Shown


class _Verdict(Struct):
    valid_until: Instant = 0


class _Basis(Struct):
    """What of an entry of grounds says which call may be placed on it."""

    facts: _Facts
    decision: _Verdict
    config: str


_basis = msgspec.json.Decoder(_Basis).decode


class _Decisions(Struct):
    """Of all nodes, in their order. `caller`: the place in `callers`; `until`: after which an allow was none."""

    log: NDArray[np.int64]
    seq: Longs
    at: Longs
    until: Longs
    number: Prefixes
    allow: NDArray[np.bool_]
    caller: Longs


def reconcile(
    files: Iterable[Calls], nodes: Sequence[Node], *, home: str, own: frozenset[str], skew: Instant
) -> Report:
    """`home`: the country of numbers without a country code; `own`: the controllers' numbers, in E.164. Raises
    `LogDamaged`, `KeysUnusable`, `NotKept`."""
    return _Reconciling(nodes, home, own, skew).report(list(files))


class _Reconciling:
    def __init__(self, nodes: Sequence[Node], home: str, own: frozenset[str], skew: Instant) -> None:
        self._nodes, self._home, self._own, self._skew = nodes, home, own, skew
        self._callers: dict[str, int] = {}
        self._seconds: dict[tuple[Path, str], int] = {}

    def report(self, files: list[Calls]) -> Report:
        rows = Departures(files, self._home, self._own, self._callers)
        times = rows.at[rows.at != UNREADABLE]
        since, until = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        decisions = self._decisions(since - _BEFORE - self._skew, until + _OFFSET)
        of_call, of_decision = self._numbered(rows, decisions, since - _BEFORE, until + _OFFSET)
        judging = _Judging(rows, decisions, self._skew)
        matched, findings = judging.all(of_call, of_decision)
        findings = self._linked(rows, decisions, findings, since - _BEFORE - self._skew)
        return Report(
            calls=len(rows.at) - rows.legs - rows.own,
            legs=rows.legs,
            own=rows.own,
            matched=matched,
            decisions=int((decisions.at <= until + self._skew).sum()),
            findings=[self._finding(rows, decisions, *each) for each in findings],
            offset=judging.offset(of_call, of_decision, findings),
        )

    def _linked(
        self, rows: Departures, decisions: _Decisions, findings: list[_Fault], since: Instant
    ) -> list[_Fault]:
        """A call that nobody asked about may name a decision, by its id or the call's: then that was about another number."""
        lost = [
            (row, rows.call_id(row), rows.decision(row)) for row, kind, _ in findings if kind == "undecided"
        ]
        call_ids = {call_id for _, call_id, _ in lost if call_id}
        places: dict[int, int] = {}
        for place, node in enumerate(self._nodes if lost else ()):
            first = span.begin(Reader(node.log), span.Span(since=max(since, 1)))
            seqs = columnar_decisions.named(node.log, first, call_ids) if call_ids else {}
            for row, call_id, decision in lost:
                name = node.keys.ids.inside(decision)
                own = name.startswith(f"{node.keys.log}-")
                seq = span.sequence(name) if own else seqs.get(call_id)
                if seq is None:
                    continue
                found = np.flatnonzero((decisions.log == place) & (decisions.seq == seq))
                if len(found):
                    places[row] = int(found[0])
        return [
            (row, "other_number", places[row]) if row in places else (row, kind, at)
            for row, kind, at in findings
        ]

    def _finding(
        self, rows: Departures, decisions: _Decisions, row: int, kind: Kind, decision: int
    ) -> Finding:
        file, at = rows.file(row)
        name = ""
        if decision >= 0:
            node = self._nodes[int(decisions.log[decision])]
            name = f"{node.keys.log}-{int(decisions.seq[decision])}"
        return Finding(
            kind=kind, file=file.file, line=int(file.line[at]), at=max(int(rows.at[row]), 0),
            number=file.numbers[file.called[at]], caller_id=file.callers[file.caller[at]],
            call_id=file.call_ids[file.call[at]] if file.call[at] >= 0 else "", decision=name,
        )  # fmt: skip

    # ---- what was decided --------------------------------------------------------------------------------------------

    def _decisions(self, since: Instant, until: Instant) -> _Decisions:
        found = [
            columns
            for place, node in enumerate(self._nodes)
            for part in _parts(node, since)
            if (columns := self._taken(place, node, part, since, until)) is not None
        ]
        empty = [np.empty(0, np.int64)] * 4
        nothing = (
            *empty,
            np.empty(0, np.uint64),
            np.empty(0, np.bool_),
            np.empty(0, np.int64),
        )
        return _Decisions(*(np.concatenate(each) for each in zip(nothing, *found, strict=True)))

    def _taken(
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
        """Caller ID, the end of an allow by the law, and its longest span by the configuration."""
        body = part.bodies.get(seq) or columnar_decisions.body_of(node.log, seq)
        basis = _basis(body)
        known = (node.data, basis.config)
        if known not in self._seconds:
            seconds = content_store.answer_seconds(node.data / "kept", basis.config)
            self._seconds[known] = int(seconds * SECOND)
        shown = basis.facts.caller_id.number
        caller = self._callers.setdefault(shown, len(self._callers)) if shown else _NO_CALLER
        return caller, basis.decision.valid_until or _FOREVER, self._seconds[known]

    # ---- which of it is about whom -----------------------------------------------------------------------------------

    def _numbered(
        self, rows: Departures, decisions: _Decisions, since: Instant, until: Instant
    ) -> tuple[Longs, Longs]:
        """Of each decision the place of its number in `rows.numbers`, or -1; only of those that left."""
        of_decision = np.full(len(decisions.seq), -1, np.int64)
        for place, node in enumerate(self._nodes):
            mine = np.flatnonzero(decisions.log == place)
            for month in _months(node, decisions.at[mine], since, until):
                hashes, at = _hashed(rows.numbers, month)
                if not len(hashes):
                    continue
                found = np.minimum(np.searchsorted(hashes, decisions.number[mine]), len(hashes) - 1)
                hit = hashes[found] == decisions.number[mine]
                of_decision[mine[hit]] = at[found[hit]]
        return rows.number, of_decision


class _Judging:
    def __init__(self, rows: Departures, decisions: _Decisions, skew: Instant) -> None:
        self._rows, self._skew, self._made = rows, skew, decisions
        self._at, self._until = decisions.at.tolist(), decisions.until.tolist()
        self._allow, self._caller = decisions.allow.tolist(), decisions.caller.tolist()
        self._used = bytearray(len(self._at))
        self._times, self._shown = rows.at.tolist(), rows.caller.tolist()

    def all(self, of_call: Longs, of_decision: Longs) -> tuple[int, list[_Fault]]:
        """How many calls had their allow; of the others the row, what is wrong, and a decision or -1."""
        rows = self._rows
        unread = ((of_call < 0) | (rows.at == UNREADABLE)) & ~rows.skipped
        originated = rows.originated.tolist()
        findings: list[_Fault] = [
            (row, "originated" if originated[row] else "unreadable", -1)
            for row in np.flatnonzero(unread).tolist()
        ]
        wanted = np.flatnonzero(~unread & ~rows.skipped)
        calls = wanted[np.lexsort((rows.at[wanted], of_call[wanted]))]
        about = np.flatnonzero(of_decision >= 0)
        made = about[np.lexsort((self._made.at[about], of_decision[about]))]
        numbers = of_decision[made]
        groups = list(_groups(of_call[calls], calls))
        keys = np.array([number for number, _ in groups], np.int64)
        spans = zip(
            np.searchsorted(numbers, keys).tolist(), np.searchsorted(numbers, keys + 1).tolist(), strict=True
        )
        every, matched = made.tolist(), 0
        for (_, group), (begin, end) in zip(groups, spans, strict=True):
            held = every[begin:end]
            lost = [row for row in group if not self._matches(row, held)]
            matched += len(group) - len(lost)
            findings += [(row, *self._fault(row, held)) for row in lost]
        return matched, sorted(findings)

    def _matches(self, row: int, held: list[int]) -> bool:
        at, caller, skew = self._times[row], self._shown[row], self._skew
        used, allow, until = self._used, self._allow, self._until
        best, ends = -1, _FOREVER
        for each in held:
            if self._at[each] - skew > at:
                break
            if used[each] or not allow[each] or until[each] + skew < at or self._caller[each] != caller:
                continue
            if until[each] < ends:
                best, ends = each, until[each]
        if best >= 0:
            used[best] = True
        return best >= 0

    def _fault(self, row: int, held: list[int]) -> tuple[Kind, int]:
        at, caller, skew = self._times[row], self._shown[row], self._skew
        before = [
            each for each in held if self._at[each] - skew <= at and self._at[each] >= at - _BEFORE - skew
        ]
        in_time = [each for each in before if self._allow[each] and at <= self._until[each] + skew]
        for each in in_time:
            if self._caller[each] == caller:
                return "twice", each
        if in_time:
            return "other_caller_id", in_time[-1]
        if before:
            return ("expired" if self._allow[before[-1]] else "denied"), before[-1]
        return "undecided", -1

    def offset(self, of_call: Longs, of_decision: Longs, findings: list[_Fault]) -> Instant:
        """Find the shift by which more than half of the calls without an allow, and at least two, would have one."""
        lost = [row for row, kind, _ in findings if kind in {"undecided", "expired"}][:_SAMPLE]
        allows = np.flatnonzero((of_decision >= 0) & self._made.allow)
        numbers, order = of_decision[allows], np.argsort(of_decision[allows], kind="stable")
        votes: Counter[int] = Counter()
        for row in lost:
            begin, end = np.searchsorted(numbers, (of_call[row], of_call[row] + 1), sorter=order)
            late = self._times[row] - self._made.at[allows[order[begin:end]]]
            steps, rest = np.divmod(late + self._skew, _ZONE_STEP)
            fits = (rest <= _SOON + self._skew) & (abs(late) <= _OFFSET) & (steps != 0)
            votes.update(set(steps[fits].tolist()))
        step, votes_for_it = max(votes.items(), key=lambda each: each[1], default=(0, 0))
        return step * _ZONE_STEP if votes_for_it > max(1, len(lost) // 2) else 0


def _groups(keys: Longs, rows: Longs) -> Iterator[tuple[int, list[int]]]:
    """Runs of equal keys."""
    if not len(keys):
        return
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    every = rows.tolist()
    for begin, end in pairwise([*starts.tolist(), len(every)]):
        yield int(keys[begin]), every[begin:end]


def _parts(node: Node, since: Instant) -> Iterator[Part]:
    folder = node.log
    return columnar_decisions.parts(folder, span.begin(Reader(folder), span.Span(since=max(since, 1))))


def _months(node: Node, made: Longs, since: Instant, until: Instant) -> Iterator[MonthKeys]:
    """The keys of these months. Raises `KeyRetired`: whom the decisions of one are about cannot be known any more."""
    live = node.keys.live()
    for name in span.months(max(since, 0)):
        if name > month_of(max(until, 0)):
            return
        of = span.month(name)
        if name in live:
            yield live[name]
        elif np.any((made >= of.since) & (made < of.until)):
            raise KeyRetired(f"the keys of {name} are retired; calls of that month cannot be reconciled")


def _hashed(numbers: Sequence[str], month: MonthKeys) -> tuple[Prefixes, Longs]:
    """Sorted, each with the place of its number."""
    raw = b"".join([month.pseudonym(number)[: columnar_decisions.PREFIX_BYTES] for number in numbers])
    hashes = np.frombuffer(raw, ">u8").astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order.astype(np.int64)
