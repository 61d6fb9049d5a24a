"""Verification of a whole log, even while a gate is writing to it.

Segments are scanned in parallel. The scans are then joined by the hash chain and the checkpoints.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct, field, structs

from dialgate.core.model import DAY, HOUR, Instant
from dialgate.decision_log.archive.reading import Segments, segments, size_of
from dialgate.decision_log.checkpoints import (
    FILE,
    StoredCheckpoint,
    checkpoint_lines,
    last_checkpoint,
    parse,
)
from dialgate.decision_log.segment import ZERO
from dialgate.decision_log.segment_scan import Kind, SegmentFault, SegmentScan, scan_segment
from dialgate.runtime.process_pool import run_tasks

Progress = Callable[[int, int], None]  # bytes scanned, total bytes

# A gate signs every `checkpoint_seconds`, at most a day, and after a downtime before it decides a call. The hour is for a
# slow disk and for a copy that reads the checkpoints first.
_MAX_UNSIGNED: Instant = DAY + HOUR


class VerificationReport(Struct):
    """The result of `verify`.

    - `head`: hash of the last line, in hex
    - `torn_tail`: length of an unfinished last line, left by a crash or still being written. This is not a fault, because no
      reader has relied on it
    - `covered`: the last entry covered by a checkpoint; a truncation after it cannot be detected
    - `signed`: number of checkpoints with a valid signature
    - `stamped`: number of checkpoints with a valid time stamp, set by callers that check time stamps
    """

    segments: int = 0
    entries: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    allows: int = 0
    denies: int = 0
    first: int = 0
    last: int = 0
    head: str = ZERO.hex()
    torn_tail: int = 0
    faults: list[SegmentFault] = field(default_factory=list)
    checkpoints: int = 0
    signed: int = 0
    covered: int = 0
    stamped: int = 0

    @property
    def ok(self) -> bool:
        return not self.faults


def verify(
    folder: Path,
    *,
    first: int = 1,
    last: int | None = None,
    keys: Mapping[str, bytes] | None = None,
    against: bytes = b"",
    progress: Progress | None = None,
) -> VerificationReport:
    """Verify the segments that hold entries `first` to `last` (default: all), their indexes, and the checkpoints.

    At most one fault is reported per segment; the entries after it are still counted.

    - `keys`: public keys by name (`crypto.log_signing`); without them no signature is checked, nor that the gate signed
    - `against`: the line of a checkpoint, kept elsewhere, that must still be in the log

    A missing index is not a fault, because its segments can be searched directly.
    """
    paths = segments(folder)
    if not paths:
        return VerificationReport(
            faults=[SegmentFault(str(folder), 0, 1, "the folder contains no segments", "empty_log")]
        )
    selection = _Selection.from_paths(paths, first, last)
    stored, faults = _checkpoints(folder, keys)
    report = VerificationReport(
        segments=len(selection.segments), first=selection.segments[0][0], checkpoints=len(stored)
    )
    report.signed = 0 if keys is None else len(stored)
    joint = _Joint(report, {entry.checkpoint.size for entry in stored}, selection)
    for scan in _scans(selection, stored, progress):
        joint.join(scan)
    joint.finish(stored)
    report.faults += faults or _kept_elsewhere(stored, against, folder / FILE)
    if keys and selection.ends and not report.faults:
        report.faults += _unsigned(folder, report.first)
    report.faults += joint.index_faults
    return report


class _Selection(Struct):
    """The segments to scan.

    `begins` is true if `segments` includes the first segment of the log, `ends` if it includes the last one.
    """

    segments: list[tuple[int, Path]]
    begins: bool
    ends: bool

    @classmethod
    def from_paths(cls, paths: list[tuple[int, Path]], first: int, last: int | None) -> "_Selection":
        firsts = [first_ for first_, _ in paths]
        begin = max(bisect_right(firsts, first) - 1, 0)
        end = len(paths) if last is None else max(bisect_right(firsts, last), begin + 1)
        return cls(paths[begin:end], begin == 0, end == len(paths))


def _scans(
    selection: _Selection, stored: list[StoredCheckpoint], progress: Progress | None
) -> Iterator[SegmentScan]:
    sizes = [size_of(path) for _, path in selection.segments]
    bytes_read, whole = 0, sum(sizes)
    for scan, size in zip(run_tasks(_tasks(selection, stored), whole), sizes, strict=True):
        bytes_read += size
        if progress:
            progress(bytes_read, whole)
        yield scan


def _tasks(selection: _Selection, stored: list[StoredCheckpoint]) -> list[Callable[[], SegmentScan]]:
    marks = [entry.checkpoint.size for entry in stored]
    ends = [*(first for first, _ in selection.segments[1:]), marks[-1] + 1 if marks else 0]
    return [
        partial(
            scan_segment,
            path,
            first,
            stored[bisect_left(marks, first - 1) : bisect_left(marks, end)],
            newest=path == selection.segments[-1][1] and selection.ends,
        )
        for (first, path), end in zip(selection.segments, ends, strict=True)
    ]


def _checkpoints(
    folder: Path, keys: Mapping[str, bytes] | None
) -> tuple[list[StoredCheckpoint], list[SegmentFault]]:
    """Return the valid checkpoints up to the first fault, and a list with that fault (empty if all are valid)."""
    valid: list[StoredCheckpoint] = []
    previous = ZERO.hex()
    for offset, line in checkpoint_lines(folder):
        stored = parse(offset, line)
        size = valid[-1].checkpoint.size if valid else 0
        fault = _checkpoint_fault(stored, previous, size, valid[0] if valid else stored, keys)
        if stored is None or fault:
            what, kind = fault or ("not a checkpoint: the line was modified", "edited_checkpoint")
            return valid, [SegmentFault(str(folder / FILE), offset, size + 1, what, kind)]
        valid.append(stored)
        previous = stored.line_hash
    return valid, []


def _kept_elsewhere(stored: Sequence[StoredCheckpoint], against: bytes, file: Path) -> list[SegmentFault]:
    copy = parse(0, against)
    if not against or (copy and any(copy.line_hash == checkpoint.line_hash for checkpoint in stored)):
        return []
    seq = copy.checkpoint.size if copy else 0
    what = f"the checkpoint of record {seq} that was kept elsewhere is missing here: the log was truncated or replaced"
    if copy is None:
        what = "the file that was kept elsewhere is not a checkpoint: it was modified"
    return [SegmentFault(str(file), 0, seq, what, "replaced_checkpoint")]


class _Timed(Struct):
    at: Instant = 0  # grounds have no time


def _unsigned(folder: Path, first: int) -> list[SegmentFault]:
    """Return a fault if an entry from `first` on has no checkpoint although the gate must have signed it.

    Such checkpoints were probably removed, to edit the entries without the signing key. The newest checkpoint is read
    again, because a gate can have signed during the scan.
    """
    newest = last_checkpoint(folder)
    begin = max(newest.checkpoint.size + 1 if newest else 1, first)
    if not spans_more_than(_MAX_UNSIGNED, folder, begin):
        return []
    what = (
        f"no checkpoint covers record {begin} or later records, although a gate signs at least once a day: checkpoints"
        " were removed, or the gate cannot sign (`checkpoint failed` in its service log)"
    )
    return [SegmentFault(str(folder / FILE), 0, begin, what, "missing_checkpoint")]


def spans_more_than(limit: Instant, folder: Path, begin: int) -> bool:
    """Return whether a record is more than `limit` ms newer than the first one from `begin` on. Raises `LogDamaged`."""
    times = (msgspec.json.decode(line.body, type=_Timed).at for line in Segments(folder).lines(begin))
    oldest = next(filter(None, times), 0)
    return any(at - oldest > limit for at in times)


def _checkpoint_fault(
    stored: StoredCheckpoint | None,
    previous: str,
    size: int,
    first: StoredCheckpoint | None,
    keys: Mapping[str, bytes] | None,
) -> tuple[str, Kind] | None:
    if stored is None or first is None:
        return None
    checkpoint = stored.checkpoint
    if keys is not None and checkpoint.key not in keys:
        return f"it is signed by key {checkpoint.key}, which does not belong to this log", "wrong_key"
    if keys is not None and not stored.is_signed(keys[checkpoint.key]):
        return "its signature is invalid: it was modified", "edited_checkpoint"
    if checkpoint.previous != previous or checkpoint.size <= size:
        return (
            "it does not follow the previous checkpoint: checkpoints are missing, replaced or out of order",
            "missing_checkpoint",
        )
    if checkpoint.span().root().hex() != checkpoint.root:
        return "its root does not match its peaks", "edited_checkpoint"
    if checkpoint.log != first.checkpoint.log:
        return f"the checkpoint belongs to log {checkpoint.log}", "replaced_checkpoint"
    return None


class _Joint:
    """The state for joining the scans of consecutive segments.

    It holds the hash of the last line, the sequence number expected next, and whether the previous segment was valid. `marks`
    are the sizes of the checkpoints.
    """

    def __init__(self, report: VerificationReport, marks: Collection[int], selection: _Selection) -> None:
        self._report, self._marks, self._whole = report, marks, selection.ends
        self._head, self._due = (ZERO, 1) if selection.begins else (b"", selection.segments[0][0])
        self._log, self._is_valid, self._contradiction = "", True, False
        self._counts: Counter[tuple[str, bool | None]] = Counter()
        self._end: tuple[Path, int] = selection.segments[0][1], 0
        self.index_faults: list[SegmentFault] = []

    def join(self, scan: SegmentScan) -> None:
        fault = scan.fault
        if fault is None or fault.offset:
            fault = self._link_fault(scan) or fault
        else:
            fault = structs.replace(fault, seq=self._due)
        if fault:
            self._report.faults.append(fault)
        elif not self._contradiction:
            self._report.covered = max(self._report.covered, scan.covered)
            if scan.contradiction:
                self._contradiction = True
                contradiction = structs.replace(scan.contradiction, seq=self._report.covered + 1)
                self._report.faults.append(contradiction)
        self._is_valid = fault is None
        self._report.torn_tail += scan.torn
        self._counts.update(scan.counts)
        self.index_faults += filter(None, [scan.index_fault])
        self._head, self._due, self._end = scan.head, scan.last + 1, (scan.path, scan.bytes)

    def _link_fault(self, scan: SegmentScan) -> SegmentFault | None:
        """Return a fault if the segment does not continue where the previous one ended."""
        header, due = scan.header, self._due
        if header is None:
            return None
        self._log = self._log or header.log
        if header.log != self._log:
            return self._at(scan, f"the segment belongs to log {header.log}", "foreign_segment")
        first, follows = scan.first, not self._head or header.previous == self._head.hex()
        if follows or not (self._is_valid or first != due):
            return None
        if first < due:
            return self._at(
                scan,
                f"it begins with record {first}, which an earlier segment also contains",
                "reordered_record",
            )
        if first == due:
            return self._at(
                scan, "its header does not match the end of the previous segment", "edited_header"
            )
        absent = f"records {due} to {first - 1}"
        if due == 1 or due - 1 in self._marks or not self._marks:
            return self._at(
                scan, f"{absent} are missing before it: a segment was removed or truncated", "missing_segment"
            )
        return self._at(
            scan, f"{absent} are missing before it: the previous segment was truncated", "cut_segment"
        )

    def _at(self, scan: SegmentScan, what: str, kind: Kind) -> SegmentFault:
        return SegmentFault(str(scan.path), 0, self._due, what, kind)

    def finish(self, stored: Sequence[StoredCheckpoint]) -> None:
        report = self._report
        for (name, allow), times in self._counts.items():
            report.entries += times
            report.by_type[name] = report.by_type.get(name, 0) + times
            report.allows += times * (allow is True)
            report.denies += times * (allow is False)
        report.head, report.last = self._head.hex(), self._due - 1
        if self._whole and stored and stored[-1].checkpoint.size > report.last:
            path, size = self._end
            what = f"the log ends at record {report.last}, but its last checkpoint covers {stored[-1].checkpoint.size}"
            report.faults.append(SegmentFault(str(path), size, report.last + 1, what, "cut_end"))
