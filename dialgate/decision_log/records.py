"""What stands in a decision log, read back: each decision together with the grounds it was given on."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.model import SECOND, Decided, Decision, Facts, Grounds, Instant, OutcomeRecord
from dialgate.decision_log import Line, LogDamaged
from dialgate.decision_log.archive import Segments

Stored: TypeAlias = Decided | Grounds | OutcomeRecord

_REMEMBERED = 4_096
_OUTCOME = b'{"type":"outcome"'
decode: Callable[[bytes], Stored] = msgspec.json.Decoder(Stored).decode


class Record(Struct, frozen=True, kw_only=True):
    """A decision together with its grounds. For any record, for ever: `decide(facts, law) == decision`.

    An assigned caller ID is in the facts, in clear; any other is in `caller_sealed`. `grounds`: the sequence of the entry
    that held them."""

    seq: int
    id: str
    at: Instant
    number: bytes
    sealed: bytes
    facts: Facts
    decision: Decision
    grounds: int
    country: str
    law: str
    config: str
    snapshot: str
    client: str
    interface: str
    call_id: str
    node: str
    question: bytes
    caller: bytes = b""
    caller_sealed: bytes = b""

    @property
    def caller_id(self) -> str:
        """The caller ID, or "" if it is sealed."""
        return "" if self.caller_sealed else self.facts.caller_id.number


class Reader:
    """Of one log folder, its archive included. Remembers the newest grounds, which the next decisions most likely rest on."""

    def __init__(self, folder: Path) -> None:
        self._segments = Segments(folder)
        self._grounds: dict[int, Grounds] = {}

    def entries(self, *, first: int = 1) -> Iterator[tuple[Line, Record | OutcomeRecord]]:
        """Decisions and outcomes from `first` on. Raises `LogDamaged`."""
        for line in self._segments.lines(first):
            entry = _decoded(line)
            if isinstance(entry, Grounds):
                self._remember(entry)
            else:
                yield line, self._whole(line, entry)

    def begun_before(self, at: Instant) -> tuple[int, Instant, int]:
        """As `Segments.begun_before`."""
        return self._segments.begun_before(at)

    def find(self, seq: int) -> Record | OutcomeRecord | None:
        line = self._segments.find(seq)
        entry = _decoded(line) if line else None
        return (
            None if line is None or entry is None or isinstance(entry, Grounds) else self._whole(line, entry)
        )

    def about(self, hashes: Collection[bytes]) -> Iterator[tuple[Line, Record]]:
        """Every decision whose `number` is one of these keyed hashes, newest first. Raises `LogDamaged`."""
        hashes_ = frozenset(hashes)
        for line in self._segments.about(hashes_):
            entry = _decoded(line)
            if isinstance(entry, Decided) and entry.number in hashes_:
                yield structs.replace(line, seq=entry.seq), self._joined(line, entry)

    def reports(self, decisions: Collection[str]) -> Iterator[OutcomeRecord]:
        """What became of the calls of these decisions, which may be of other logs; newest first. Raises `LogDamaged`."""
        for line in self._segments.reports(decisions):
            entry = _decoded(line)
            if isinstance(entry, OutcomeRecord) and entry.decision in decisions:
                yield entry

    def held(self) -> Counter[tuple[str, str, bool]]:
        """How many decisions there are for each month (`YYYY-MM`, UTC), country of the law and verdict. Raises `LogDamaged`."""
        counts: Counter[tuple[str, str, bool]] = Counter()
        for item in self._segments.held():
            if not isinstance(item, Line):
                counts[item[:3]] += item[3]
                continue
            entry = _decoded(item)
            if isinstance(entry, Grounds):
                self._remember(entry)
            elif isinstance(entry, Decided):
                record = self._joined(item, entry)
                counts[month_of(record.at), record.country, entry.allow] += 1
        return counts

    def outcomes(self, *, first: int = 1) -> Iterator[OutcomeRecord]:
        """What became of calls: the reports from entry `first` on, in their order."""
        for line in self._segments.outcomes(first):
            entry = _decoded(line)
            if isinstance(entry, OutcomeRecord) and entry.seq >= first:
                yield entry

    def _whole(self, line: Line, entry: Decided | OutcomeRecord) -> Record | OutcomeRecord:
        if isinstance(entry, OutcomeRecord):
            return entry
        return self._joined(line, entry)

    def _joined(self, line: Line, decision: Decided) -> Record:
        return joined(decision, self._grounds.get(decision.grounds) or self._look_up(line, decision.grounds))

    def _look_up(self, line: Line, seq: int) -> Grounds:
        grounds_line = self._segments.find(seq)
        entry = _decoded(grounds_line) if grounds_line else None
        if not isinstance(entry, Grounds):
            raise LogDamaged(line.segment, line.offset, f"the grounds it names, entry {seq}, are not there")
        self._remember(entry)
        return entry

    def _remember(self, grounds: Grounds) -> None:
        if len(self._grounds) >= _REMEMBERED:
            self._grounds.clear()
        self._grounds[grounds.seq] = grounds


def month_of(at: Instant) -> str:
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m}"


def joined(decision: Decided, grounds: Grounds) -> Record:
    return Record(
        seq=decision.seq,
        id=decision.id,
        at=decision.at,
        number=decision.number,
        sealed=decision.sealed,
        facts=structs.replace(grounds.facts, at=decision.at),
        decision=grounds.decision,
        grounds=decision.grounds,
        country=grounds.country,
        law=grounds.law,
        config=grounds.config,
        snapshot=grounds.snapshot,
        client=decision.client,
        interface=decision.interface,
        call_id=decision.call_id,
        node=grounds.node,
        question=decision.question,
        caller=decision.caller,
        caller_sealed=decision.caller_sealed,
    )


def _decoded(line: Line) -> Stored:
    try:
        return decode(line.body)
    except msgspec.DecodeError as error:
        raise LogDamaged(
            line.segment, line.offset, f"not an entry that this version reads: {error}"
        ) from error
