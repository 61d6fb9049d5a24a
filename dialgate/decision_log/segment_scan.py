"""One segment, read from its first byte to its last, alone and in whatever process: what it holds, what is wrong in it,
and what has to be joined with what the other segments are found to hold."""

import re
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from dialgate.decision_log.merkle import Span
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
from dialgate.native import followed

OpenSegment: TypeAlias = Callable[[Path], Iterator[tuple[int, bytes]]]
Kind: TypeAlias = Literal[
    "edited_record", "missing_record", "reordered_record", "edited_header", "renamed_segment", "missing_segment",
    "cut_segment", "foreign_segment", "unreadable_segment", "cut_end", "edited_checkpoint", "missing_checkpoint",
    "replaced_checkpoint", "wrong_key", "empty_log", "broken_timestamp", "damaged_index",
]  # fmt: skip


class Fault(Struct, frozen=True):
    """The first line of a file that is not as it was written, or does not follow from what stands before it: its
    `offset`, and the sequence number that is due there. `byte`: the first broken one in the file, as near as can be told."""

    file: str
    offset: int
    seq: int
    what: str
    kind: Kind = "edited_record"
    byte: int = 0


class Piece(Struct):
    """The leaves `begin` to `end` as `merkle.Span` has them, and the raw hash of the last line."""

    begin: int
    end: int
    nodes: list[tuple[int, bytes]]
    head: bytes


class Walked(Struct):
    """`last`: the sequence of the last entry, `first - 1` where there is none. `pieces` end where they were asked to,
    and with the segment. `bytes`: read."""

    path: Path
    first: int
    header: Header | None = None
    previous: bytes = ZERO
    head: bytes = ZERO
    last: int = 0
    bytes: int = 0
    torn: int = 0
    counts: Counter[tuple[str, bool | None]] = field(default_factory=Counter)
    fault: Fault | None = None
    pieces: list[Piece] = field(default_factory=list)


class _Entry(Struct, gc=False):
    type: str
    seq: int
    allow: bool | None = None


_DIGITS = range(9, 73)  # of the hash, in a line
_AT_ONCE = 64  # lines
_decode = msgspec.json.Decoder(_Entry).decode


def walk(path: Path, first: int, marks: Sequence[int], open_segment: OpenSegment, *, newest: bool) -> Walked:
    """`marks`: where pieces shall end, in order. At most one fault; what follows it is still counted."""
    return _Walk(path, first, marks, open_segment, newest=newest).run()


class _Walk:
    def __init__(
        self, path: Path, first: int, marks: Sequence[int], open_segment: OpenSegment, *, newest: bool
    ) -> None:
        self._found = Walked(path=path, first=first)
        self._open, self._newest = open_segment, newest
        self._marks = iter(marks)
        self._head, self._due = ZERO, first
        self._span, self._mark = Span(first - 1), next(self._marks, 0)
        self._leaves: list[bytes] = []

    def run(self) -> Walked:
        result = self._found
        try:
            self._lines()
        except (OSError, ValueError) as error:  # ValueError: an archive that cannot be unpacked
            self._fail(
                Fault(str(result.path), 0, self._due, f"it cannot be read: {error}", "unreadable_segment")
            )
        self._cut_piece()
        result.head, result.last = self._head, self._due - 1
        return result

    def _lines(self) -> None:
        """Hot: many sound entries are taken in at once, and anything else is looked at by others."""
        result, lines = self._found, iter(self._open(self._found.path))
        for offset, line in islice(lines, 1):
            self._header(line)
            result.bytes = offset + len(line)
        while some := list(islice(lines, _AT_ONCE)):
            data = b"".join([line for _, line in some])
            head, leaves, count = followed(self._head, data, len(some))
            if len(leaves) == len(some) and count == len(data):
                for (offset, line), leaf in zip(some, leaves, strict=True):
                    self._take(offset, line, leaf)
                self._head = head
            elif not self._each(some):
                return
            offset, line = some[-1]
            result.bytes = offset + len(line)

    def _take(self, offset: int, line: bytes, leaf: bytes) -> None:
        self._leaves.append(leaf)
        self._counted(offset, line[BODY])
        self._due += 1
        if self._due > self._mark > 0:
            self._head = unhexlify(line[9:73])
            self._next_piece()

    def _each(self, some: Sequence[tuple[int, bytes]]) -> bool:
        """Where one of them is not sound; false where it ends what there is."""
        for offset, line in some:
            head, leaves, count = followed(self._head, line, 1)
            if leaves and count == len(line):
                self._head = head
                self._take(offset, line, leaves[0])
                continue
            if self._is_torn(line):
                self._found.torn = len(line)
                self._found.bytes = offset
                return False
            self._broken(offset, line)
            self._due += 1
            if self._due > self._mark > 0:
                self._next_piece()
        return True

    def _next_piece(self) -> None:
        self._cut_piece()
        self._mark = next(self._marks, 0)

    def _fail(self, fault: Fault) -> None:
        self._found.fault = self._found.fault or fault

    def _is_torn(self, line: bytes) -> bool:
        """A whole line but for another last byte is no torn one: it was changed."""
        return self._newest and line[-1:] != b"\n" and follow(self._head, line[:-1] + b"\n") is None

    def _header(self, line: bytes) -> None:
        result = self._found
        result.header = header = header_of(line)
        self._head = last_stored_hash(line) or ZERO
        what = ""
        kind: Kind = "edited_header"
        if header is None:
            what = f"its first line is no header of format {FORMAT}"
        elif follow(bytes.fromhex(header.previous), line) is None:
            what = "its header was changed"
        elif header.first != result.first:
            what, kind = f"renamed: its first entry is {header.first}", "renamed_segment"
        if what:
            self._fail(Fault(str(result.path), 0, result.first, what, kind))

    def _counted(self, offset: int, body: bytes) -> None:
        try:
            entry = _decode(body)
        except UNREADABLE as error:
            what = f"not an entry: {error}"
            self._fail(Fault(str(self._found.path), offset, self._due, what, byte=offset + BODY.start))
            return
        if entry.seq != self._due:
            what = f"its number is {entry.seq}"
            self._fail(Fault(str(self._found.path), offset, self._due, what, "reordered_record", offset))
            return
        self._found.counts[entry.type, entry.allow] += 1

    def _broken(self, offset: int, line: bytes) -> None:
        """Why a line does not follow: only looked into once, since what comes after it follows from nothing sound."""
        if self._found.fault is None:
            after = (line_ for at, line_ in self._open(self._found.path) if at > offset)
            kind, what, byte = _diagnosed(self._head, self._due, line, after)
            self._fail(Fault(str(self._found.path), offset, self._due, what, kind, offset + byte))
        self._head = last_stored_hash(line) or self._head

    def _cut_piece(self) -> None:
        span, end = self._span, self._due - 1
        if end == span.begin:
            return  # a header is no entry: its hash is not what a checkpoint has
        span.extend(self._leaves)
        self._leaves.clear()
        self._found.pieces.append(Piece(span.begin, end, span.nodes, self._head))
        self._span = Span(end)


def _diagnosed(head: bytes, due: int, line: bytes, after: Iterator[bytes]) -> tuple[Kind, str, int]:
    """Kind, words, and the first broken byte of the line. A record that stands in its place was edited; else some that
    should be there are not, and stand later, or nowhere."""
    number = _seq_of(line)
    following = [_seq_of(line_) for line_ in after]
    if number is None or number == due or stored_hash(line) is None or _renumbered(head, due, line):
        return _edited(head, line)
    if due in following:
        return (
            "reordered_record",
            f"record {number} stands here, and {due} after it: they are out of order",
            0,
        )
    if number < due:
        return "reordered_record", f"record {number} stands here once more, or out of place", 0
    if following[:1] == [due + 1]:
        return _edited(head, line)
    return "missing_record", f"records {due} to {number - 1} are missing", 0


def _edited(head: bytes, line: bytes) -> tuple[Kind, str, int]:
    what = "this record, or the hash of the one before it, was changed"
    return "edited_record", what, _broken_byte(head, line)


def _renumbered(head: bytes, due: int, line: bytes) -> bool:
    """Whether it would follow if its number were the one that is due: so that alone was changed."""
    mended = re.sub(rb'"seq":\d+', b'"seq":%d' % due, line[BODY], count=1)
    return sha256(head + mended).hexdigest() == stored_hash(line)


def _seq_of(line: bytes) -> int | None:
    try:
        return _decode(line[BODY]).seq
    except UNREADABLE:
        return None


def _broken_byte(head: bytes, line: bytes) -> int:
    """The first byte that differs from the line that the hash of this body would make; the first of the body where only
    that can be it."""
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
