"""A reader of unpacked segments that also works while a gate is writing to them."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path

from msgspec import Struct

from dialgate.decision_log.segment import BODY, LogDamaged, lines_of, segments, stored_hash


class Line(Struct, frozen=True, gc=False):
    """One entry and its position. `hash` is in hex; `offset` is the byte position of the line."""

    seq: int
    hash: str
    body: bytes
    segment: Path
    offset: int


def entries(folder: Path, *, first: int = 1) -> Iterator[Line]:
    """Yield the entries from `first` on, without headers. Hashes are not checked; `verify` checks them.

    A line that is still being written is not yielded.
    """
    paths = segments(folder)
    begin = max(bisect_right(paths, first, key=itemgetter(0)) - 1, 0)
    for start, path in paths[begin:]:
        lines = islice(lines_of(path), 1, None)
        for seq, (offset, line) in enumerate(lines, start):
            if not line.endswith(b"\n") and path == paths[-1][1]:
                return
            if seq >= first:
                own = stored_hash(line)
                if own is None:
                    raise LogDamaged(path, offset, "not a line of the log")
                yield Line(seq, own, line[BODY], path, offset)


def find(folder: Path, seq: int) -> Line | None:
    line = next(entries(folder, first=seq), None)
    return line if line is not None and line.seq == seq else None
