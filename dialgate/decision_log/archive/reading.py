"""A reader of logs with packed and unpacked segments, safe to use while other processes write or pack the log.

The Parquet code is imported when the first packed segment is read, because the import is slow and a gate seldom reads packed
segments.
"""

import mmap
import os
import re
from binascii import b2a_base64
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dialgate.core.model import Instant
from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.checksums import check
from dialgate.decision_log.checkpoints import last_checkpoint
from dialgate.decision_log.entry_columns import EntryColumns, ReportedResults
from dialgate.decision_log.segment import (
    BODY,
    Header,
    LogDamaged,
    LogLine,
    header_of,
    lines_of,
    segments_from,
    stored_hash,
)
from dialgate.decision_log.segment import segments as unpacked
from dialgate.runtime.extras import require

if TYPE_CHECKING:
    from dialgate.decision_log.archive.parquet import PackedSegment

PACKED = ".parquet"
_NAME = re.compile(rf"\d{{16}}{re.escape(PACKED)}")
_MAX_OPEN = 4
_NEVER = 1 << 62


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return each segment as (sequence number of its first entry, path), oldest first.

    If a segment exists both packed and unpacked, the path is that of the packed file.
    """
    paths = dict(unpacked(folder))  # unpacked first: a segment packed meanwhile is listed twice, not missed
    paths |= {int(path.stem): path for path in folder.iterdir() if _NAME.fullmatch(path.name)}
    return sorted(paths.items())


def first_header(folder: Path) -> Header | None:
    """Return the header of the oldest segment, or None if there is no segment. Raises `LogDamaged`."""
    paths = segments(folder)
    if not paths:
        return None
    header = header_of(next(open_segment(paths[0][1]))[1])
    if header is None:
        raise LogDamaged(paths[0][1], 0, "its first line is not a segment header")
    return header


def segments_to_pack(folder: Path, before: Instant) -> list[Path]:
    """Return the segments that are ready to pack: unpacked, and closed at or before the time `before`.

    A checkpoint must also cover all entries of the segment, because `Checkpointer` reads only unpacked segments.
    """
    checkpoint = last_checkpoint(folder)
    return closed_segments(folder, before, checkpoint.checkpoint.size if checkpoint else 0)


def closed_segments(folder: Path, before: Instant, through: int | None = None) -> list[Path]:
    """Return the unpacked segments that were closed at or before the time `before`, oldest first. Raises `OSError`.

    A segment is closed when the next segment is opened. `through` is a sequence number: segments with later entries are
    omitted.
    """
    return [
        path
        for (_, path), (first, following) in pairwise(unpacked(folder))
        if (through is None or first - 1 <= through)
        and (header := header_of(next(lines_of(following))[1]))
        and header.opened_at <= before
    ]


def open_segment(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and bytes of each line of a segment, as they were before packing.

    Raises `LogDamaged` if a packed segment was modified.
    """
    if path.suffix != PACKED:
        with suppress(FileNotFoundError):  # packed since the folder was listed
            yield from lines_of(path)
            return
    check(path.with_suffix(PACKED))
    yield from open_packed(path).lines()


def has_wrong_index(segment: Path) -> bool:
    """Return whether a packed segment has an index that differs from its entries. Raises `LogDamaged`, `OSError`."""
    try:
        written = index.path_of(segment).read_bytes()
    except FileNotFoundError:  # the segment is then searched directly
        return False
    return written != index.encode(open_packed(segment).index_items())


def size_of(path: Path) -> int:
    """Return the size of a segment's file, or 0 if it has been packed since the folder was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Segments:
    """A reader of one log folder.

    It keeps recently read packed segments open, because decisions refer to grounds in other segments.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open_packed = lru_cache(_MAX_OPEN)(open_packed)
        self._begun: dict[int, Instant] = {}

    def lines(self, first: int = 1, after: LogLine | None = None) -> Iterator[LogLine]:
        """Yield the entries from `first` on, without headers. Hashes are not checked; `verify` checks them.

        A line that is still being written is not yielded. `after` only saves time: if it is entry `first - 1` of an
        unpacked segment, reading starts at the end of that entry. Raises `LogDamaged`.
        """
        paths = segments(self._folder)
        for start, path in segments_from(paths, first):
            plain = _open_plain(path)
            if plain is None:
                yield from self._open_packed(path).entries(first)
            else:
                last = after if after and after.segment == path and after.seq == first - 1 else None
                yield from _entries(plain, path, start, first, newest=path == paths[-1][1], after=last)

    def begun_before(self, at: Instant) -> tuple[int, Instant]:
        """Return the first entry of the newest segment that began before `at`, and the time at which that segment began.

        All earlier entries are older than `at`. If no segment or only the first one began before `at`, return 1 and 0.
        """
        paths = segments(self._folder)
        place = bisect_left(paths, at, lo=min(1, len(paths)), key=self._begun_at) - 1
        return (paths[place][0], self._begun_at(paths[place])) if place > 0 else (1, 0)

    def end(self) -> int:
        """Return the sequence number after the last entry."""
        paths = segments(self._folder)
        return paths[-1][0] + self._count(paths[-1][1]) if paths else 1

    def gaps(self) -> Iterator[tuple[Instant, Instant]]:
        """Yield the periods, as (begin, end), whose entries can be in segments that are missing from the folder.

        A removed newest segment is not detected. Raises `LogDamaged`.
        """
        begun, due, found = 0, 1, segments(self._folder)
        for segment in found:
            begin, begun = begun, self._begun_at(segment)
            if segment[0] != due:
                yield begin, begun
            due = segment[0] + self._count(segment[1])
        if not found:
            yield 0, _NEVER

    def _count(self, path: Path) -> int:
        """Return the number of entries in a segment."""
        plain = _open_plain(path)
        if plain is None:
            return self._open_packed(path).rows
        with plain:
            return sum(1 for _ in plain) - 1

    def _begun_at(self, segment: tuple[int, Path]) -> Instant:
        first, path = segment
        if first not in self._begun:
            plain = _open_plain(path)
            if plain is None:
                header: Header | None = self._open_packed(path).header
            else:
                with plain:
                    header = header_of(plain.readline())
            if header is None:
                raise LogDamaged(path, 0, "its first line is not a segment header")
            self._begun[first] = header.opened_at
        return self._begun[first]

    def find(self, seq: int) -> LogLine | None:
        line = next(self.lines(seq), None)
        return line if line is not None and line.seq == seq else None

    def find_decisions(self, numbers: Collection[bytes]) -> Iterator[LogLine]:
        """Yield the decisions with one of these keyed hashes, newest first.

        A few other entries can be yielded too. Callers must decode each entry and check that its `number` is in
        `numbers`. `Line.seq` is 0 for an entry from an unpacked segment. Raises `LogDamaged`.
        """
        if numbers:
            hashes = (b2a_base64(number, newline=False) for number in numbers)
            yield from self._keyed(numbers, _field("number", hashes))

    def reports(self, decisions: Collection[str]) -> Iterator[LogLine]:
        """Yield the outcomes reported for these decisions, newest first.

        A few other entries can be yielded too. Callers must decode each entry and check that its `decision` is in
        `decisions`.
        """
        if decisions:
            names = (decision.encode() for decision in decisions)
            yield from self._keyed(
                [index.report_key(decision) for decision in decisions], _field("decision", names)
            )

    def _keyed(self, keys: Collection[bytes], pattern: re.Pattern[bytes]) -> Iterator[LogLine]:
        """Yield the entries with one of these keys. `pattern` finds them in an unpacked segment."""
        for _, path in reversed(segments(self._folder)):
            plain = _open_plain(path)
            if plain is not None:
                yield from reversed(list(_matching(plain, path, pattern)))
                continue
            try:
                # Use the index first: opening a segment is slower, and most segments contain no match.
                rows = index.search(index.path_of(path), keys)
            except (OSError, ValueError):  # without an index: slow
                yield from self._open_packed(path).keyed(keys)
            else:
                if rows:
                    yield from self._open_packed(path).at_rows(rows, keys)

    def columns_or_lines(
        self, names: Collection[str], first: int
    ) -> Iterator[EntryColumns | Iterator[LogLine]]:
        """Yield the entries from `first` on, one part for each segment. Raises `LogDamaged`.

        A packed segment that lacks one of the columns `names` for a decision is yielded as lines, like unpacked ones.
        """
        paths = segments(self._folder)
        for start, path in segments_from(paths, first):
            plain = _open_plain(path)
            if plain is None:
                packed = self._open_packed(path)
                yield packed.columns(names, first) or packed.entries(first)
            else:
                yield _entries(plain, path, start, first, newest=path == paths[-1][1])

    def columns_or_lines_backwards(
        self, names: Collection[str], first: int, last: int, having: Mapping[str, Any]
    ) -> Iterator[EntryColumns | Iterator[LogLine]]:
        """Yield the entries like `columns_or_lines`, but the newest segment first, from that of entry `last` back to that of `first`.

        Parts of packed segments without a decision that has the values `having` can be left out.
        """
        paths = segments(self._folder)
        until = max(bisect_right(paths, last, key=itemgetter(0)), 1)
        for start, path in reversed(segments_from(paths[:until], first)):
            plain = _open_plain(path)
            if plain is None:
                packed = self._open_packed(path)
                yield packed.columns(names, first, having) or packed.entries(first)
            else:
                yield _entries(plain, path, start, first, newest=path == paths[-1][1])

    def results_or_lines(self, log: str, first: int) -> Iterator[ReportedResults | Iterator[LogLine]]:
        """Yield the outcomes reported for decisions in `log`, one part for each segment from that of entry `first` on.

        A part is lines of outcomes for any log, if the segment is not packed or lacks the columns. `Line.seq` is 0.
        Raises `LogDamaged`.
        """
        for _, path in segments_from(segments(self._folder), first):
            plain = _open_plain(path)
            if plain is None:
                packed = self._open_packed(path)
                yield packed.results(log) or packed.outcomes()
            else:
                yield _matching(plain, path, _OUTCOME)


def open_packed(path: Path) -> "PackedSegment":
    """Open a packed segment. `path` may be its path before packing. Raises `MissingExtra`, `LogDamaged`."""
    require("archive", "Reading a packed segment in the log")
    from dialgate.decision_log.archive.parquet import PackedSegment  # noqa: PLC0415 - see the module docstring

    return PackedSegment(path.with_suffix(PACKED))


def _open_plain(path: Path) -> BinaryIO | None:
    """Open an unpacked segment. Return None if it is packed, or was packed after the folder was listed.

    Raises `LogDamaged` if the file is empty: a segment appears with its header, so it was emptied later.
    """
    if path.suffix == PACKED:
        return None
    try:
        plain = path.open("rb")
    except FileNotFoundError:
        return None
    if not os.fstat(plain.fileno()).st_size:
        plain.close()
        raise LogDamaged(path, 0, "its first line is not a segment header")
    return plain


def _entries(
    plain: BinaryIO, path: Path, start: int, first: int, *, newest: bool, after: LogLine | None = None
) -> Iterator[LogLine]:
    with plain:
        offset = len(plain.readline())
        if after is not None:
            start, offset = first, after.offset + len(after.body) + BODY.start - BODY.stop
            plain.seek(offset)
        for seq, line in enumerate(plain, start):
            if newest and not line.endswith(b"\n"):
                return
            if seq >= first:
                yield _line(seq, line, path, offset)
            offset += len(line)


def _field(name: str, values: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b'"%b":"(?:%b)"' % (name.encode(), b"|".join(map(re.escape, values))))


def _matching(plain: BinaryIO, path: Path, pattern: re.Pattern[bytes]) -> Iterator[LogLine]:
    """Yield the lines that match `pattern`. The whole file is searched at once, which is faster than line by line."""
    with plain, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in pattern.finditer(data):
            offset, end = data.rfind(b"\n", 0, match.start()) + 1, data.find(b"\n", match.start()) + 1
            if end:
                yield _line(0, data[offset:end], path, offset)


_OUTCOME = re.compile(rb'"entry":\{"type":"outcome"')


def _line(seq: int, line: bytes, path: Path, offset: int) -> LogLine:
    own = stored_hash(line)
    if own is None:
        raise LogDamaged(path, offset, "not a line of the log")
    return LogLine(seq, own, line[BODY], path, offset)
