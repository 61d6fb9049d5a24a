"""The scan of one segment from first to last byte.

It does not depend on other segments and can run in another process: the Merkle tree of all earlier entries is in the checkpoint
before the segment. The result contains the counts, the first fault, and what `verify` needs to join the scans of all segments.
"""

from binascii import unhexlify
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.reading import PACKED, has_wrong_index, open_segment
from dialgate.decision_log.checkpoints import FILE, StoredCheckpoint
from dialgate.decision_log.hash_chain import followed
from dialgate.decision_log.merkle import MerkleSpan
from dialgate.decision_log.segment import (
    BODY,
    FORMAT,
    UNREADABLE,
    ZERO,
    Header,
    follow,
    header_of,
    last_stored_hash,
    stored_hash,
)

Kind: TypeAlias = Literal[
    "edited_record", "missing_record", "reordered_record", "edited_header", "renamed_segment", "missing_segment",
    "cut_segment", "foreign_segment", "unreadable_segment", "cut_end", "edited_checkpoint", "missing_checkpoint",
    "replaced_checkpoint", "wrong_key", "empty_log", "broken_timestamp", "missing_timestamp",
    "damaged_index",
]  # fmt: skip


class SegmentFault(Struct, frozen=True):
    """The first faulty line of a file: it was modified, or does not follow the line before it.

    `offset` is the position of the line in the file, and `seq` the sequence number expected there.
    """

    file: str
    offset: int
    seq: int
    what: str
    kind: Kind = "edited_record"


class SegmentScan(Struct):
    """The result of scanning a segment.

    `head` is the raw hash of the last line, and `last` the sequence number of the last entry, or `first - 1` for an empty
    segment. `bytes` is the number of bytes read, and `torn` the length of an unfinished last line. `covered` is the last entry
    whose checkpoint matches the entries, 0 if none does. `contradiction` concerns the first checkpoint that does not match, and
    `index_fault` the index.
    """

    path: Path
    first: int
    header: Header | None = None
    head: bytes = ZERO
    last: int = 0
    bytes: int = 0
    torn: int = 0
    counts: Counter[tuple[str, bool | None]] = field(default_factory=Counter)
    covered: int = 0
    fault: SegmentFault | None = None
    contradiction: SegmentFault | None = None
    index_fault: SegmentFault | None = None


class _Verdict(Struct, gc=False):
    allow: bool


class _OwnGrounds(Struct, gc=False):
    outcomes: dict[str, msgspec.Raw] = {}


class _Entry(Struct, gc=False):
    type: str
    seq: int
    allow: bool | None = None
    grounds: int = 0
    decision: _Verdict | str = ""  # of grounds; the id of a decision in its outcome
    own: _OwnGrounds | None = None


_BATCH_LINES = 64
_WRONG_INDEX = "the index differs from the log, which is complete: delete the index and run `dialgate log archive`, which writes it again"
_decode = msgspec.json.Decoder(_Entry).decode


def scan_segment(
    path: Path, first: int, checkpoints: Iterable[StoredCheckpoint] = (), *, newest: bool = False
) -> SegmentScan:
    """Scan a segment. At most one fault is reported; the entries after it are still counted.

    `checkpoints` are those of the segment's entries, and the one of the entry before the segment. A torn last line is a fault
    unless `newest` is true.
    """
    return _Scanner(path, first, checkpoints, newest=newest).run()


class _Scanner:
    def __init__(
        self, path: Path, first: int, checkpoints: Iterable[StoredCheckpoint], *, newest: bool
    ) -> None:
        self._result = SegmentScan(path=path, first=first)
        self._newest = newest
        self._checkpoints = {entry.checkpoint.size: entry for entry in checkpoints}
        self._head, self._due = ZERO, first
        before = self._checkpoints.get(first - 1)
        # Of all entries up to the last leaf. None if unknown: then it begins with the next checkpoint.
        self._tree = before.checkpoint.span() if before else None if first > 1 else MerkleSpan()
        self._leaves: list[bytes] = []
        self._verdicts: dict[int, bool] = {}  # of the grounds in this segment

    def run(self) -> SegmentScan:
        result = self._result
        try:
            self._scan_lines()
            if result.path.suffix == PACKED and has_wrong_index(result.path):
                result.index_fault = SegmentFault(
                    str(index.path_of(result.path)), 0, result.first, _WRONG_INDEX, "damaged_index"
                )
        except (OSError, ValueError) as error:  # ValueError: a packed segment that cannot be unpacked
            self._fail(0, f"the segment cannot be read: {error}", "unreadable_segment")
        result.head, result.last = self._head, self._due - 1
        return result

    def _scan_lines(self) -> None:
        """Read all lines in batches, for speed. Process a batch with an invalid line one line at a time."""
        result, lines = self._result, open_segment(self._result.path)
        for offset, line in islice(lines, 1):
            self._header(line)
            result.bytes = offset + len(line)
        while batch := list(islice(lines, _BATCH_LINES)):
            data = b"".join([line for _, line in batch])
            head, leaves, count = followed(self._head, data, len(batch))
            if len(leaves) == len(batch) and count == len(data):
                for (offset, line), leaf in zip(batch, leaves, strict=True):
                    self._take(offset, line, leaf)
                self._head = head
            elif not self._take_one_by_one(batch):
                return
            offset, line = batch[-1]
            result.bytes = offset + len(line)

    def _take(self, offset: int, line: bytes, leaf: bytes) -> None:
        self._leaves.append(leaf)
        self._count_entry(offset, line[BODY])
        if self._due in self._checkpoints:
            self._compare(self._checkpoints[self._due], unhexlify(line[9:73]))
        self._due += 1

    def _take_one_by_one(self, batch: Sequence[tuple[int, bytes]]) -> bool:
        """Process a batch with an invalid line. Return False at a torn line, where the log ends."""
        for offset, line in batch:
            head, leaves, count = followed(self._head, line, 1)
            if leaves and count == len(line):
                self._head = head
                self._take(offset, line, leaves[0])
                continue
            if self._is_torn(line):
                self._result.torn = len(line)
                self._result.bytes = offset
                return False
            self._report_broken_line(offset, line)
            self._due += 1
        return True

    def _compare(self, stored: StoredCheckpoint, head: bytes) -> None:
        result, checkpoint = self._result, stored.checkpoint
        if result.fault or result.contradiction:
            return
        if self._tree is None:  # then only the chain is compared
            self._tree = checkpoint.span()
        else:
            self._tree.extend(self._leaves)
        if (self._tree.root().hex(), head.hex()) == (checkpoint.root, checkpoint.head):
            result.covered = checkpoint.size
        else:
            what = f"the log up to record {checkpoint.size} does not match this checkpoint: one of the two was replaced"
            result.contradiction = SegmentFault(
                str(result.path.with_name(FILE)),
                stored.offset,
                result.covered + 1,
                what,
                "replaced_checkpoint",
            )
        self._leaves.clear()

    def _fail(self, offset: int, what: str, kind: Kind = "edited_record", seq: int | None = None) -> None:
        fault = SegmentFault(str(self._result.path), offset, self._due if seq is None else seq, what, kind)
        self._result.fault = self._result.fault or fault

    def _is_torn(self, line: bytes) -> bool:
        """Return whether this is an unfinished last line.

        A complete line with a wrong last byte was modified, not torn.
        """
        return self._newest and line[-1:] != b"\n" and follow(self._head, line[:-1] + b"\n") is None

    def _header(self, line: bytes) -> None:
        result = self._result
        result.header = header = header_of(line)
        self._head = last_stored_hash(line) or ZERO
        if header is None:
            self._fail(0, f"its first line is not a segment header of format {FORMAT}", "edited_header")
        elif follow(bytes.fromhex(header.previous), line) is None:
            self._fail(0, "its header was modified", "edited_header")
        elif header.first != result.first:
            self._fail(0, f"the file was renamed: its first entry is {header.first}", "renamed_segment")

    def _count_entry(self, offset: int, body: bytes) -> None:
        try:
            entry = _decode(body)
        except UNREADABLE as error:
            self._fail(offset, f"not a valid entry: {error}")
            return
        if entry.seq != self._due:
            self._fail(offset, f"its sequence number is {entry.seq}", "reordered_record")
            return
        if isinstance(entry.decision, _Verdict):
            self._verdicts[entry.seq] = entry.decision.allow
        elif not (entry.own and entry.own.outcomes) and (
            self._verdicts.get(entry.grounds, entry.allow) != entry.allow
        ):
            self._fail(offset, f"its verdict contradicts its grounds, record {entry.grounds}")
        self._result.counts[entry.type, entry.allow] += 1

    def _report_broken_line(self, offset: int, line: bytes) -> None:
        """Report the first line that does not follow the previous one.

        Later lines are not diagnosed, because none of them can be valid.
        """
        if self._result.fault is None:
            after = (line_ for at, line_ in open_segment(self._result.path) if at > offset)
            kind, what = _diagnose(self._due, line, after)
            self._fail(offset, what, kind)
        self._head = last_stored_hash(line) or self._head


def _diagnose(due: int, line: bytes, after: Iterator[bytes]) -> tuple[Kind, str]:
    """Return the kind of fault, and the message, of a line in the place of entry `due`, from the sequence numbers."""
    number = _seq_of(line)
    following = [_seq_of(line_) for line_ in after]
    edited: tuple[Kind, str] = (
        "edited_record",
        "this record or the hash of the record before it was modified",
    )
    if number is None or number == due or stored_hash(line) is None:
        return edited
    if due in following:
        return "reordered_record", f"record {number} is stored before record {due}: out of order"
    if number < due:
        return "reordered_record", f"record {number} is a duplicate or out of order"
    if following[:1] == [due + 1]:
        return edited
    return "missing_record", f"records {due} to {number - 1} are missing"


def _seq_of(line: bytes) -> int | None:
    try:
        return _decode(line[BODY]).seq
    except UNREADABLE:
        return None
