"""The scan of one segment from first to last byte.

It does not depend on other segments and can run in another process. The result contains the counts, the first fault, and what
`verify` needs to join the scans of all segments.
"""

import re
from binascii import unhexlify
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.reading import PACKED, has_wrong_index, open_segment
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

    `offset` is the position of the line in the file, and `seq` the sequence number expected there. `byte` is the
    position of the first modified byte in the file, as precisely as can be determined.
    """

    file: str
    offset: int
    seq: int
    what: str
    kind: Kind = "edited_record"
    byte: int = 0


class Piece(Struct):
    """The entries from `begin` to `end` as a `merkle.MerkleSpan`, with the raw hash of the last line."""

    begin: int
    end: int
    nodes: list[tuple[int, bytes]]
    head: bytes


class SegmentScan(Struct):
    """The result of scanning a segment.

    `last` is the sequence number of the last entry, or `first - 1` for an empty segment. `pieces` are the parts of the
    segment between the marks passed to `scan_segment`. `bytes` is the number of bytes read, and `torn` the length of an
    unfinished last line. `index_fault` does not concern the log itself.
    """

    path: Path
    first: int
    header: Header | None = None
    previous: bytes = ZERO
    head: bytes = ZERO
    last: int = 0
    bytes: int = 0
    torn: int = 0
    counts: Counter[tuple[str, bool | None]] = field(default_factory=Counter)
    fault: SegmentFault | None = None
    index_fault: SegmentFault | None = None
    pieces: list[Piece] = field(default_factory=list)


class _Verdict(Struct, gc=False):
    allow: bool


class _Entry(Struct, gc=False):
    type: str
    seq: int
    allow: bool | None = None
    grounds: int = 0
    decision: _Verdict | str = ""  # of grounds; the id of a decision in its outcome


_DIGITS = range(9, 73)  # position of the hash in a line
_BATCH_LINES = 64
_WRONG_INDEX = "the index differs from the log, which is complete: delete the index and run `dialgate log archive`, which writes it again"
_decode = msgspec.json.Decoder(_Entry).decode


def scan_segment(path: Path, first: int, marks: Sequence[int], *, newest: bool) -> SegmentScan:
    """Scan a segment. At most one fault is reported; the entries after it are still counted.

    The result is cut into pieces that end at `marks`, a list of sequence numbers in ascending order. A torn last line
    is a fault unless `newest` is true.
    """
    return _Scanner(path, first, marks, newest=newest).run()


class _Scanner:
    def __init__(self, path: Path, first: int, marks: Sequence[int], *, newest: bool) -> None:
        self._result = SegmentScan(path=path, first=first)
        self._newest = newest
        self._marks = iter(marks)
        self._head, self._due = ZERO, first
        self._span, self._mark = MerkleSpan(first - 1), next(self._marks, 0)
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
            self._fail(
                SegmentFault(
                    str(result.path),
                    0,
                    self._due,
                    f"the segment cannot be read: {error}",
                    "unreadable_segment",
                )
            )
        self._cut_piece()
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
        self._due += 1
        if self._due > self._mark > 0:
            self._head = unhexlify(line[9:73])
            self._next_piece()

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
            if self._due > self._mark > 0:
                self._next_piece()
        return True

    def _next_piece(self) -> None:
        self._cut_piece()
        self._mark = next(self._marks, 0)

    def _fail(self, fault: SegmentFault) -> None:
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
        what = ""
        kind: Kind = "edited_header"
        if header is None:
            what = f"its first line is not a segment header of format {FORMAT}"
        elif follow(bytes.fromhex(header.previous), line) is None:
            what = "its header was modified"
        elif header.first != result.first:
            what, kind = f"the file was renamed: its first entry is {header.first}", "renamed_segment"
        if what:
            self._fail(SegmentFault(str(result.path), 0, result.first, what, kind))

    def _count_entry(self, offset: int, body: bytes) -> None:
        try:
            entry = _decode(body)
        except UNREADABLE as error:
            what = f"not a valid entry: {error}"
            self._fail(
                SegmentFault(str(self._result.path), offset, self._due, what, byte=offset + BODY.start)
            )
            return
        if entry.seq != self._due:
            what = f"its sequence number is {entry.seq}"
            self._fail(
                SegmentFault(str(self._result.path), offset, self._due, what, "reordered_record", offset)
            )
            return
        if isinstance(entry.decision, _Verdict):
            self._verdicts[entry.seq] = entry.decision.allow
        elif self._verdicts.get(entry.grounds, entry.allow) != entry.allow:
            what = f"its verdict contradicts its grounds, record {entry.grounds}"
            self._fail(
                SegmentFault(str(self._result.path), offset, self._due, what, byte=offset + BODY.start)
            )
        self._result.counts[entry.type, entry.allow] += 1

    def _report_broken_line(self, offset: int, line: bytes) -> None:
        """Report the first line that does not follow the previous one.

        Later lines are not diagnosed, because none of them can be valid.
        """
        if self._result.fault is None:
            after = (line_ for at, line_ in open_segment(self._result.path) if at > offset)
            kind, what, byte = _diagnose(self._head, self._due, line, after)
            self._fail(SegmentFault(str(self._result.path), offset, self._due, what, kind, offset + byte))
        self._head = last_stored_hash(line) or self._head

    def _cut_piece(self) -> None:
        span, end = self._span, self._due - 1
        if end == span.begin:
            return  # no new entry: `_head` may be the hash of a header, which no checkpoint contains
        span.extend(self._leaves)
        self._leaves.clear()
        self._result.pieces.append(Piece(span.begin, end, span.nodes, self._head))
        self._span = MerkleSpan(end)


def _diagnose(head: bytes, due: int, line: bytes, after: Iterator[bytes]) -> tuple[Kind, str, int]:
    """Return the kind of fault, the message, and the position of the first modified byte in the line.

    The kind is `edited_record` if the sequence numbers show that the line is in its correct place. Otherwise, the kind
    is `reordered_record` or `missing_record`.
    """
    number = _seq_of(line)
    following = [_seq_of(line_) for line_ in after]
    if number is None or number == due or stored_hash(line) is None or _is_renumbered(head, due, line):
        return _edited(head, line)
    if due in following:
        return (
            "reordered_record",
            f"record {number} is stored before record {due}: out of order",
            0,
        )
    if number < due:
        return "reordered_record", f"record {number} is a duplicate or out of order", 0
    if following[:1] == [due + 1]:
        return _edited(head, line)
    return "missing_record", f"records {due} to {number - 1} are missing", 0


def _edited(head: bytes, line: bytes) -> tuple[Kind, str, int]:
    what = "this record or the hash of the record before it was modified"
    return "edited_record", what, _broken_byte(head, line)


def _is_renumbered(head: bytes, due: int, line: bytes) -> bool:
    """Return whether only the sequence number was modified."""
    restored = re.sub(rb'"seq":\d+', b'"seq":%d' % due, line[BODY], count=1)
    return sha256(head + restored).hexdigest() == stored_hash(line)


def _seq_of(line: bytes) -> int | None:
    try:
        return _decode(line[BODY]).seq
    except UNREADABLE:
        return None


def _broken_byte(head: bytes, line: bytes) -> int:
    """Return the position of the first modified byte in the line.

    The line is compared with a valid line that has the same body. If only the hash differs, in more than one digit, the
    body was probably modified. The result is the position of the first byte of the body.
    """
    own = sha256(head + line[BODY]).hexdigest().encode()
    frame = b'{"hash":"%b","entry":' % own
    digits = line[_DIGITS.start : _DIGITS.stop]
    differing = [at for at, (one, other) in enumerate(zip(frame, line, strict=False)) if one != other]
    beyond = [at for at in differing if at not in _DIGITS]
    if beyond:
        return beyond[0]
    if not line.endswith(b"}\n"):
        return len(line) - 2
    changed = sum(one != other for one, other in zip(own, digits, strict=False))
    return differing[0] if changed == 1 else BODY.start
