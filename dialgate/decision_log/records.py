"""Decisions from a log, each joined with its grounds."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct, structs

from dialgate.core.decision_ids import log_of, seq_of
from dialgate.core.model import HOUR, SECOND, Decided, Decision, Facts, Grounds, Instant, OutcomeRecord
from dialgate.core.own_grounds import whole_grounds
from dialgate.crypto.nonces import NONCE_BYTES
from dialgate.decision_log import LogDamaged, LogLine
from dialgate.decision_log.archive import Segments
from dialgate.decision_log.entry_columns import Column, EntryColumns, ReportedResults, count_equal, searchable
from dialgate.decision_log.segment import UNREADABLE

Entry: TypeAlias = Decided | Grounds | OutcomeRecord
# Orders decisions across gates, oldest first: time, log, sequence in the log.
Position: TypeAlias = tuple[Instant, str, int]

_CACHED_GROUNDS = 4_096
_BATCH = 4_096  # entries of unpacked segments
decode: Callable[[bytes], Entry] = msgspec.json.Decoder(Entry).decode


class Record(Struct, frozen=True, kw_only=True):
    """A decision together with its grounds. For every record, `decide(facts, law) == decision` holds.

    The facts contain the caller ID unencrypted if it is assigned to the campaign or is a short code. `caller_sealed`
    contains any other caller ID, encrypted. `grounds` is the sequence number of the log entry that contains the
    grounds.
    """

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
    shadow: bool = False
    agent: bytes = b""

    @property
    def caller_id(self) -> str:
        """The caller ID, or an empty string if it is sealed."""
        return "" if self.caller_sealed else self.facts.caller_id.number


class Reader:
    """A reader of one log folder, including packed segments.

    It caches the newest grounds, because the next decisions most likely refer to them. `segments` reads the same log without
    decoding its entries.
    """

    def __init__(self, folder: Path) -> None:
        self.segments = Segments(folder)
        self._grounds: dict[int, Grounds] = {}

    def entries(self, *, first: int = 1) -> Iterator[tuple[LogLine, Record | OutcomeRecord]]:
        """Yield decisions and outcomes from `first` on. Raises `LogDamaged`."""
        yield from self._joined(self.segments.lines(first))

    def _joined(
        self, lines: Iterable[LogLine], segment: Sequence[LogLine] = ()
    ) -> Iterator[tuple[LogLine, Record | OutcomeRecord]]:
        """Join each decision with its grounds. They are looked for in `segment` first, consecutive lines."""
        for line in lines:
            entry = _decoded(line)
            if isinstance(entry, Grounds):
                self._cache_grounds(entry)
            else:
                yield line, self._whole(line, entry, segment)

    def columns(self, names: Collection[str], *, first: int = 1) -> Iterator[EntryColumns]:
        """Yield decisions and outcomes from `first` on, with the columns `names` of decisions. Raises `LogDamaged`.

        The columns are those of packed segments. Of these, other columns can be read, too.
        """
        for part in self.segments.columns_or_lines(names, first):
            if isinstance(part, EntryColumns):
                yield part
            else:
                entries = self._joined(part)
                while batch := [entry for _, entry in islice(entries, _BATCH)]:
                    yield columns_of(batch)

    def columns_backwards(
        self, names: Collection[str], *, first: int, last: int, having: Mapping[str, Any]
    ) -> Iterator[EntryColumns]:
        """Yield parts like `columns`, the newest first, from the segment of entry `last` back to that of entry `first`.

        Decisions that lack one of the values `having` can be left out. Raises `LogDamaged`.
        """
        for part in self.segments.columns_or_lines_backwards(names, first, last, having):
            if isinstance(part, EntryColumns):
                yield part
                continue
            lines = [*part]
            for end in range(len(lines), 0, -_BATCH):
                batch = lines[max(end - _BATCH, 0) : end]
                yield columns_of([entry for _, entry in self._joined(batch, lines)])

    def results(self, log: str, *, first: int = 1) -> Iterator[ReportedResults]:
        """Yield the results reported for decisions in `log`, oldest first, from the segment of entry `first` on.

        Raises `LogDamaged`.
        """
        for part in self.segments.results_or_lines(log, first):
            if isinstance(part, ReportedResults):
                yield part
            else:
                entries = [entry for line in part if isinstance(entry := _decoded(line), OutcomeRecord)]
                reports = [entry for entry in entries if log_of(entry.decision) == log]
                decisions = np.array([seq_of(entry.decision) for entry in reports], np.int64)
                yield ReportedResults(decisions, Column.of(entry.result for entry in reports))

    def find(self, seq: int) -> Record | OutcomeRecord | None:
        line = self.segments.find(seq)
        entry = _decoded(line) if line else None
        return (
            None if line is None or entry is None or isinstance(entry, Grounds) else self._whole(line, entry)
        )

    def find_decisions(self, hashes: Collection[bytes]) -> Iterator[tuple[LogLine, Record]]:
        """Yield the decisions whose keyed hash `number` is in `hashes`, newest first. Raises `LogDamaged`."""
        hashes_ = frozenset(hashes)
        for line in self.segments.find_decisions(hashes_):
            entry = _decoded(line)
            if isinstance(entry, Decided) and entry.number in hashes_:
                yield structs.replace(line, seq=entry.seq), self._join_grounds(line, entry)

    def reports(self, decisions: Collection[str]) -> Iterator[OutcomeRecord]:
        """Yield the outcomes reported for these decisions, newest first. Raises `LogDamaged`.

        The decisions themselves may be in other logs.
        """
        for line in self.segments.reports(decisions):
            entry = _decoded(line)
            if isinstance(entry, OutcomeRecord) and entry.decision in decisions:
                yield entry

    def decision_counts(self) -> Counter[tuple[str, str, bool]]:
        """Count the decisions by month (`YYYY-MM`, UTC), the law's country, and whether the call could go on.

        Raises `LogDamaged`.
        """
        counts: Counter[tuple[str, str, bool]] = Counter()
        for entries in self.columns(["country", "allow", "shadow"]):
            decisions = entries.select(entries.is_decision)
            keys = [
                decisions.unit(HOUR).map(month_of),
                decisions.column("country"),
                decisions.column("allow"),
                decisions.column("shadow"),
            ]
            for (month, country, allow, shadow), count in count_equal(keys):
                counts[month, country, allow or shadow] += count
        return counts

    def _whole(
        self, line: LogLine, entry: Decided | OutcomeRecord, segment: Sequence[LogLine] = ()
    ) -> Record | OutcomeRecord:
        if isinstance(entry, OutcomeRecord):
            return entry
        return self._join_grounds(line, entry, segment)

    def _join_grounds(self, line: LogLine, decision: Decided, segment: Sequence[LogLine] = ()) -> Record:
        grounds = self._grounds.get(decision.grounds) or self._look_up(line, decision.grounds, segment)
        return build_record(decision, grounds)

    def _look_up(self, line: LogLine, seq: int, segment: Sequence[LogLine]) -> Grounds:
        place = seq - segment[0].seq if segment else -1
        grounds_line = segment[place] if 0 <= place < len(segment) else self.segments.find(seq)
        entry = _decoded(grounds_line) if grounds_line else None
        if not isinstance(entry, Grounds):
            raise LogDamaged(
                line.segment,
                line.offset,
                f"the decision refers to entry {seq}, which is missing or is not a grounds entry",
            )
        self._cache_grounds(entry)
        return entry

    def _cache_grounds(self, grounds: Grounds) -> None:
        if len(self._grounds) >= _CACHED_GROUNDS:
            self._grounds.clear()
        self._grounds[grounds.seq] = grounds


def month_of(at: Instant) -> str:
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m}"


def position(record: Record) -> Position:
    return record.at, log_of(record.id), record.seq


def build_record(decided: Decided, grounds: Grounds) -> Record:
    facts, decision = whole_grounds(decided, grounds)
    return Record(
        seq=decided.seq,
        id=decided.id,
        at=decided.at,
        number=decided.number,
        sealed=decided.sealed,
        facts=facts,
        decision=decision,
        grounds=decided.grounds,
        country=grounds.country,
        law=grounds.law,
        config=grounds.config,
        snapshot=grounds.snapshot,
        client=decided.client,
        interface=decided.interface,
        call_id=decided.call_id,
        node=grounds.node,
        question=decided.question,
        caller=decided.caller,
        caller_sealed=decided.caller_sealed,
        shadow=decided.shadow,
        agent=decided.agent,
    )


def columns_of(entries: Sequence[Record | OutcomeRecord]) -> EntryColumns:
    """Return entries of one log as columns."""
    cells = [_cells(entry) if isinstance(entry, Record) else {} for entry in entries]
    ids = (entry.id if isinstance(entry, Record) else "" for entry in entries)
    return EntryColumns(
        log=next((log_of(id_) for id_ in ids if id_), ""),
        seqs=np.array([entry.seq for entry in entries], np.int64),
        times=np.array([entry.at for entry in entries], np.int64),
        is_decision=np.array([bool(cell) for cell in cells], np.bool_),
        rows=np.arange(len(entries)),
        read=lambda name, rows: Column.of(cells[row][name] for row in rows.tolist()),
    )


def _cells(record: Record) -> dict[str, object]:
    own = {
        name: getattr(record, name)
        for name in ("client", "interface", "call_id", "shadow", "agent", "grounds")
    }
    own |= {"nonce": record.sealed[:NONCE_BYTES], "sealed": record.sealed[NONCE_BYTES:]}
    is_sealed = bool(record.caller_sealed)
    shared = searchable(record.facts, record.decision, record.country, record.law, is_sealed=is_sealed)
    return {**own, **shared, "allow": record.decision.allow}


def _decoded(line: LogLine) -> Entry:
    try:
        return decode(line.body)
    except UNREADABLE as error:
        raise LogDamaged(line.segment, line.offset, f"this version cannot read the entry: {error}") from error
