"""Reading a log back, and telling whether it is as it was written. Safe beside a running writer."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path

import msgspec
from msgspec import Struct, field

from dialgate.decision_log.segment import (
    BODY,
    FORMAT,
    UNREADABLE,
    ZERO,
    LogDamaged,
    follow,
    header_of,
    last_stored_hash,
    lines_of,
    segments,
    stored_hash,
)


class Line(Struct, frozen=True, gc=False):
    """One entry where it stands: `hash` in hex, `offset` of its line in bytes."""

    seq: int
    hash: str
    body: bytes
    segment: Path
    offset: int


def entries(folder: Path, *, first: int = 1) -> Iterator[Line]:
    """Every entry from `first` on, headers left out, hashes not checked: that is `verify`. A line that is just being
    written is not there yet."""
    found = segments(folder)
    begin = max(bisect_right(found, first, key=itemgetter(0)) - 1, 0)
    for start, path in found[begin:]:
        lines = islice(lines_of(path), 1, None)
        for seq, (offset, line) in enumerate(lines, start):
            if not line.endswith(b"\n") and path == found[-1][1]:
                return
            if seq >= first:
                own = stored_hash(line)
                if own is None:
                    raise LogDamaged(path, offset, "not a line of the log")
                yield Line(seq, own, line[BODY], path, offset)


def find(folder: Path, seq: int) -> Line | None:
    line = next(entries(folder, first=seq), None)
    return line if line is not None and line.seq == seq else None


class Fault(Struct, frozen=True):
    """The first line of a segment that is not as it was written, or does not follow from what stands before it."""

    file: str
    offset: int
    seq: int
    what: str


class Report(Struct):
    """What `verify` found. `head`: hex hash of the last line. `torn_tail`: bytes of a last line that is unfinished, left
    by a crash or being written now; no fault, for nobody was told of it."""

    segments: int = 0
    entries: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    allows: int = 0
    denies: int = 0
    first: int = 0
    last: int = 0
    head: str = ZERO.hex()
    torn_tail: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults


def verify(folder: Path) -> Report:
    """Walk all of it. At most one fault for each segment; what follows a fault is still counted."""
    found = segments(folder)
    if not found:
        return Report(faults=[Fault(str(folder), 0, 1, "there is no segment here")])
    audit = _Audit(Report(segments=len(found), first=found[0][0]))
    for first, path in found:
        audit.segment(path, first, newest=path == found[-1][1])
    return audit.finish()


class _Entry(Struct, gc=False):
    type: str
    seq: int
    allow: bool | None = None


class _Audit:
    """The state of a walk: the raw hash of the line before, the sequence number that is due, and whether the segment
    before was sound. Each check says what is wrong, or nothing."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._counts: Counter[tuple[str, bool | None]] = Counter()
        self._head, self._due, self._log, self._sound = ZERO, 1, "", True
        self._decode = msgspec.json.Decoder(_Entry).decode

    def segment(self, path: Path, first: int, *, newest: bool) -> None:
        faults = self.report.faults
        before = len(faults)
        for offset, line in lines_of(path):
            if newest and offset and line[-1:] != b"\n" and self._is_torn(line):
                self.report.torn_tail = len(line)
                break
            due = self._due
            what = self._entry(line) if offset else self._header(line, first)
            if what and len(faults) == before:
                faults.append(Fault(str(path), offset, due, what))
        self._sound = len(faults) == before

    def finish(self) -> Report:
        report = self.report
        for (name, allow), times in self._counts.items():
            report.entries += times
            report.by_type[name] = report.by_type.get(name, 0) + times
            report.allows += times * (allow is True)
            report.denies += times * (allow is False)
        report.head, report.last = self._head.hex(), self._due - 1
        return report

    def _is_torn(self, line: bytes) -> bool:
        """A whole line but for another last byte is no torn one: it was changed."""
        return follow(self._head, line[:-1] + b"\n") is None

    def _header(self, line: bytes, first: int) -> str:
        header, before, due = header_of(line), self._head, self._due
        self._head, self._due = last_stored_hash(line) or ZERO, first
        if header is None:
            return f"its first line is no header of format {FORMAT}"
        if follow(bytes.fromhex(header.previous), line) is None:
            return "its header was changed"
        self._log = self._log or header.log
        if header.first != first:
            return f"renamed: its first entry is {header.first}"
        if header.log != self._log:
            return f"it belongs to log {header.log}"
        if header.previous != before.hex() and (self._sound or first != due):
            return "what should stand before it is missing, cut short or out of place"
        return ""

    def _entry(self, line: bytes) -> str:
        head = follow(self._head, line)
        self._head = head or last_stored_hash(line) or self._head
        self._due += 1
        if head is None:
            return "this line or the one before it was changed, or lines are missing or out of place"
        try:
            entry = self._decode(line[BODY])
        except UNREADABLE as error:
            return f"not an entry: {error}"
        if entry.seq != self._due - 1:
            return f"its number is {entry.seq}"
        self._counts[entry.type, entry.allow] += 1
        return ""
