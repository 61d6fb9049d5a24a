"""Telling whether a log is as it was written: every segment walked, in as many processes as there are cores, then joined
by the chain and by what the signed checkpoints say. Safe beside a running writer."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import call
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, field, structs

from dialgate.decision_log.checkpoints import FILE, Stored, checkpoint_lines, parse
from dialgate.decision_log.merkle import Span
from dialgate.decision_log.segment import ZERO, lines_of, segments
from dialgate.decision_log.segment_scan import Fault, Kind, OpenSegment, Piece, Walked, walk
from dialgate.runtime.process_pool import spread

_WORTH_A_PROCESS = 32 << 20  # bytes; less is walked sooner than a process has begun
_Result = TypeVar("_Result")
Progress = Callable[[int, int], None]  # bytes walked, of how many


class Report(Struct):
    """What `verify` found. `head`: hex hash of the last line. `torn_tail`: bytes of a last line that is unfinished, left
    by a crash or being written now; no fault, for nobody was told of it. `covered`: the last entry that a checkpoint
    speaks for; what was cut off after it cannot show. `signed`: checkpoints whose signature was checked and holds;
    `stamped`: time stamps of them, by whoever checks these."""

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
    checkpoints: int = 0
    signed: int = 0
    covered: int = 0
    stamped: int = 0

    @property
    def ok(self) -> bool:
        return not self.faults


def verify(  # noqa: PLR0913 - all but the folder are for who wants something other than all of it
    folder: Path,
    *,
    first: int = 1,
    last: int | None = None,
    keys: Mapping[str, bytes] | None = None,
    against: bytes = b"",
    open_segment: OpenSegment = lines_of,
    listed: Sequence[tuple[int, Path]] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Walk the segments that hold entries `first` to `last`: all of it, unless told otherwise. At most one fault for
    each segment; what follows a fault is still counted.

    `keys`: public halves by name (`signing`), without which no signature is checked. `against`: the line of a checkpoint
    that was kept elsewhere, which must still be there. `open_segment` gives the offset and
    the bytes of each line of a segment; `listed` stands for what the folder holds. Both are for archives; with more
    than one process they must be what a process can be sent."""
    paths = segments(folder) if listed is None else list(listed)
    if not paths:
        return Report(faults=[Fault(str(folder), 0, 1, "there is no segment here", "empty_log")])
    selection = _Selection.of(paths, first, last)
    stored, faults = _checkpoints(folder, keys)
    marks = [each.checkpoint.size for each in stored]
    report = Report(segments=len(selection.segments), first=selection.segments[0][0], checkpoints=len(stored))
    report.signed = 0 if keys is None else len(stored)
    joint = _Joint(report, {each.checkpoint.size: each for each in stored}, folder / FILE, selection)
    for walked in _walked(selection, marks, open_segment, progress):
        joint.join(walked)
    joint.finish(stored)
    report.faults += faults or _kept_elsewhere(stored, against, folder / FILE)
    return report


class _Selection(Struct):
    """`begins`, `ends`: whether these are the log's first segment, and its last."""

    segments: list[tuple[int, Path]]
    begins: bool
    ends: bool

    @classmethod
    def of(cls, paths: list[tuple[int, Path]], first: int, last: int | None) -> "_Selection":
        firsts = [first_ for first_, _ in paths]
        begin = max(bisect_right(firsts, first) - 1, 0)
        end = len(paths) if last is None else max(bisect_right(firsts, last), begin + 1)
        return cls(paths[begin:end], begin == 0, end == len(paths))


def _walked(
    selection: _Selection, marks: list[int], open_segment: OpenSegment, progress: Progress | None
) -> Iterator[Walked]:
    """In order."""
    sizes = [size_of(path) for _, path in selection.segments]
    bytes_read, whole = 0, sum(sizes)
    for walked, size in zip(results(_tasks(selection, marks, open_segment), whole), sizes, strict=True):
        bytes_read += size
        if progress:
            progress(bytes_read, whole)
        yield walked


def size_of(path: Path) -> int:
    """0 where it has just been packed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Task(Struct):
    path: Path
    first: int
    marks: list[int]
    open_segment: OpenSegment
    newest: bool

    def __call__(self) -> Walked:
        return walk(self.path, self.first, self.marks, self.open_segment, newest=self.newest)


def _tasks(selection: _Selection, marks: list[int], open_segment: OpenSegment) -> list[_Task]:
    ends = [*(first for first, _ in selection.segments[1:]), marks[-1] + 1 if marks else 0]
    return [
        _Task(
            path,
            first,
            marks[bisect_left(marks, first) : bisect_left(marks, end)],
            open_segment,
            path == selection.segments[-1][1] and selection.ends,
        )
        for (first, path), end in zip(selection.segments, ends, strict=True)
    ]


def results(tasks: Sequence[Callable[[], _Result]], size: int) -> Iterator[_Result]:
    """What the tasks give, in their order, by every core if it is worth it. `size`: of what they read, in bytes."""
    return spread(call, tasks, len(tasks) if len(tasks) == 1 or size < _WORTH_A_PROCESS else 0)


def _checkpoints(folder: Path, keys: Mapping[str, bytes] | None) -> tuple[list[Stored], list[Fault]]:
    """Those up to the first that is not as it was written, and that fault."""
    sound: list[Stored] = []
    previous = ZERO.hex()
    for offset, line in checkpoint_lines(folder):
        stored = parse(offset, line)
        size = sound[-1].checkpoint.size if sound else 0
        wrong = _wrong(stored, previous, size, sound[0] if sound else stored, keys)
        if stored is None or wrong:
            what, kind = wrong or ("not a checkpoint: it was changed", "edited_checkpoint")
            return sound, [Fault(str(folder / FILE), offset, size + 1, what, kind, offset)]
        sound.append(stored)
        previous = stored.line_hash
    return sound, []


def _kept_elsewhere(stored: Sequence[Stored], against: bytes, file: Path) -> list[Fault]:
    copy = parse(0, against)
    if not against or (copy and any(copy.line_hash == checkpoint.line_hash for checkpoint in stored)):
        return []
    seq = copy.checkpoint.size if copy else 0
    what = (
        f"the checkpoint of record {seq} that was kept elsewhere is not here: the log was cut or written anew"
    )
    if copy is None:
        what = "what was kept elsewhere is no checkpoint: it was changed"
    return [Fault(str(file), 0, seq, what, "replaced_checkpoint")]


def _wrong(
    stored: Stored | None, previous: str, size: int, first: Stored | None, keys: Mapping[str, bytes] | None
) -> tuple[str, Kind] | None:
    if stored is None or first is None:
        return None
    checkpoint = stored.checkpoint
    if keys is not None and checkpoint.key not in keys:
        return f"it is signed by key {checkpoint.key}, which is none of this log's", "wrong_key"
    if keys is not None and not stored.is_signed(keys[checkpoint.key]):
        return "its signature does not hold: it was changed", "edited_checkpoint"
    if checkpoint.previous != previous or checkpoint.size <= size:
        return (
            "it does not follow the one before: some are missing, replaced or out of order",
            "missing_checkpoint",
        )
    if checkpoint.span().root().hex() != checkpoint.root:
        return "its root is not that of its peaks", "edited_checkpoint"
    if checkpoint.log != first.checkpoint.log:
        return f"it belongs to log {checkpoint.log}", "replaced_checkpoint"
    return None


class _Joint:
    """What joins the segments, one after the other: the chain's hash and the sequence that is due, whether the segment
    before was sound, and the tree, which begins with nothing or with a signed checkpoint's."""

    def __init__(
        self, report: Report, marks: Mapping[int, Stored], file: Path, selection: _Selection
    ) -> None:
        self._report, self._marks, self._file = report, marks, file
        self._whole = selection.ends
        self._head, self._due, self._log, self._sound = ZERO, 1, "", True
        self._tree: Span | None = Span()
        self._contradicted = False
        self._counts: Counter[tuple[str, bool | None]] = Counter()
        if not selection.begins:
            self._head, self._due, self._tree = b"", selection.segments[0][0], None
            self._adopt(self._due - 1)
        self._end: tuple[Path, int] = selection.segments[0][1], 0

    def join(self, walked: Walked) -> None:
        fault = walked.fault
        if fault is None or fault.offset:
            fault = self._linked(walked) or fault
        else:
            fault = structs.replace(fault, seq=self._due)
        if fault:
            self._report.faults.append(fault)
        self._sound = fault is None
        self._report.torn_tail += walked.torn
        self._counts.update(walked.counts)
        self._grow(walked)
        self._head, self._due, self._end = walked.head, walked.last + 1, (walked.path, walked.bytes)

    def _linked(self, walked: Walked) -> Fault | None:
        """Whether its header goes on where the segment before it ended."""
        header, due = walked.header, self._due
        if header is None:
            return None
        self._log = self._log or header.log
        if header.log != self._log:
            return self._at(walked, f"it belongs to log {header.log}", "foreign_segment")
        first, follows = walked.first, not self._head or header.previous == self._head.hex()
        if follows or not (self._sound or first != due):
            return None
        if first < due:
            return self._at(
                walked, f"it begins with record {first}, which stands before it too", "reordered_record"
            )
        if first == due:
            return self._at(walked, "it does not go on where the segment before it ends", "edited_header")
        absent = f"records {due} to {first - 1}"
        if due == 1 or due - 1 in self._marks or not self._marks:
            return self._at(
                walked, f"{absent} should stand before it: a segment is missing, or cut", "missing_segment"
            )
        return self._at(
            walked, f"{absent} should stand before it: the segment before was cut short", "cut_segment"
        )

    def _at(self, walked: Walked, what: str, kind: Kind) -> Fault:
        return Fault(str(walked.path), 0, self._due, what, kind)

    def _grow(self, walked: Walked) -> None:
        """The tree over what is sound; after what is not, a checkpoint's is taken on trust to go on with."""
        if not self._sound or self._tree is None or self._tree.end != walked.first - 1:
            self._tree = None
        for piece in walked.pieces:
            if self._tree is not None:
                self._tree.join(Span(piece.begin, piece.end, piece.nodes))
                self._compare(piece)
            elif self._sound:
                self._adopt(piece.end)
        if not self._sound:
            self._adopt(walked.last)

    def _adopt(self, size: int) -> None:
        checkpoint = self._marks.get(size)
        self._tree = checkpoint.checkpoint.span() if checkpoint else None

    def _compare(self, piece: Piece) -> None:
        entry = self._marks.get(piece.end)
        if entry is None or self._tree is None or self._contradicted:
            return
        checkpoint = entry.checkpoint
        if checkpoint.root == self._tree.root().hex() and checkpoint.head == piece.head.hex():
            self._report.covered = piece.end
            return
        self._contradicted = True
        what = f"the log up to record {piece.end} is not what this checkpoint signed: one of the two was replaced"
        self._report.faults.append(
            Fault(
                str(self._file),
                entry.offset,
                self._report.covered + 1,
                what,
                "replaced_checkpoint",
                entry.offset,
            )
        )

    def finish(self, stored: Sequence[Stored]) -> None:
        report = self._report
        for (name, allow), times in self._counts.items():
            report.entries += times
            report.by_type[name] = report.by_type.get(name, 0) + times
            report.allows += times * (allow is True)
            report.denies += times * (allow is False)
        report.head, report.last = self._head.hex(), self._due - 1
        if self._whole and stored and stored[-1].checkpoint.size > report.last:
            path, size = self._end
            what = f"the log ends here with record {report.last}; its last checkpoint covers {stored[-1].checkpoint.size}"
            report.faults.append(Fault(str(path), size, report.last + 1, what, "cut_end", size))
