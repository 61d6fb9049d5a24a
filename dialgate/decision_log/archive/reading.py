"""One log, whether its segments are packed or not. Safe beside a running writer, and beside whoever packs.

What reads Parquet is loaded by the first packed segment that is read: it is large, and a gate seldom needs it.
"""

import mmap
import re
from binascii import b2a_base64
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dialgate.core.model import Instant
from dialgate.decision_log import Line, LogDamaged, last_checkpoint
from dialgate.decision_log.archive.index import report_key, search
from dialgate.decision_log.segment import BODY, Header, header_of, lines_of, stored_hash
from dialgate.decision_log.segment import segments as unpacked

if TYPE_CHECKING:
    from dialgate.decision_log.archive.parquet import PackedSegment

PACKED = ".parquet"
_NAME = re.compile(rf"\d{{16}}{re.escape(PACKED)}")
_REMEMBERED = 4
_NEVER = 1 << 62


def segments(folder: Path) -> list[tuple[int, Path]]:
    """First sequence and file of each. Where a segment is there in both forms, the packed one."""
    paths = dict(unpacked(folder))  # first: a segment that is packed meanwhile is then found twice, not never
    paths |= {int(path.stem): path for path in folder.iterdir() if _NAME.fullmatch(path.name)}
    return sorted(paths.items())


def opening(folder: Path) -> Header | None:
    """The header of the oldest segment; nothing where there is no segment. Raises `LogDamaged`."""
    paths = segments(folder)
    if not paths:
        return None
    header = header_of(next(open_segment(paths[0][1]))[1])
    if header is None:
        raise LogDamaged(paths[0][1], 0, "its first line is no header")
    return header


def due(folder: Path, before: Instant) -> list[Path]:
    """Those of `closed` that a signed checkpoint covers, where there are any: what signs reads what was written."""
    checkpoint = last_checkpoint(folder)
    return closed(folder, before, checkpoint.checkpoint.size if checkpoint else None)


def closed(folder: Path, before: Instant, through: int | None = None) -> list[Path]:
    """The unpacked segments that were full by `before`, oldest first: the next one was begun then. None that holds an entry
    after `through`: whoever has still to read what was written finds it where it was written. Raises `OSError`."""
    return [
        path
        for (_, path), (first, following) in pairwise(unpacked(folder))
        if (through is None or first - 1 <= through)
        and (header := header_of(next(lines_of(following))[1]))
        and header.opened_at <= before
    ]


def open_segment(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line of a segment as it was written. Raises `LogDamaged` where a packed one is not, byte
    for byte, the file that was packed."""
    if path.suffix != PACKED:
        with suppress(FileNotFoundError):  # it has been packed since the folder was listed
            yield from lines_of(path)
            return
    from dialgate.decision_log.archive.parquet import check  # noqa: PLC0415 - as `_load`

    packed = path.with_suffix(PACKED)
    check(packed)
    yield from _load(packed).lines()


class Segments:
    """Of one folder. Keeps the packed ones that were read last open: a decision rests on another entry of its segment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[Path, PackedSegment] = {}
        self._begun: dict[int, Instant] = {}

    def lines(self, first: int = 1, after: Line | None = None) -> Iterator[Line]:
        """Every entry from `first` on, headers left out, hashes not checked: that is `verify`. A line that is just being
        written is not there yet. `after`: the one before `first`, if it has been read: then nothing before it is read again.
        Raises `LogDamaged`."""
        paths = segments(self._folder)
        begin = max(bisect_right(paths, first, key=itemgetter(0)) - 1, 0)
        for start, path in paths[begin:]:
            plain = _opened(path)
            if plain is None:
                yield from self._packed(path).entries(first)
            else:
                last = after if after and after.segment == path and after.seq == first - 1 else None
                yield from _entries(plain, path, start, first, newest=path == paths[-1][1], after=last)

    def begun_before(self, at: Instant) -> tuple[int, Instant, int]:
        """Of the last segment that was begun before `at`, or of the first: the sequence of its first entry, when it was begun,
        and the first sequence of the next one, if there is one, else 0. No entry before it is of `at` or later."""
        paths = segments(self._folder)
        place = bisect_left(paths, at, lo=min(1, len(paths)), key=self._begun_at) - 1
        if place < 0:
            return 1, 0, 0
        following = paths[place + 1][0] if place + 1 < len(paths) else 0
        return paths[place][0], self._begun_at(paths[place]), following

    def _begun_at(self, segment: tuple[int, Path]) -> Instant:
        first, path = segment
        if first not in self._begun:
            plain = _opened(path)
            if plain is None:
                header: Header | None = self._packed(path).header
            else:
                with plain:
                    header = header_of(plain.readline())
            if header is None:
                raise LogDamaged(path, 0, "its first line is no header")
            self._begun[first] = header.opened_at
        return self._begun[first]

    def find(self, seq: int) -> Line | None:
        line = next(self.lines(seq), None)
        return line if line is not None and line.seq == seq else None

    def about(self, numbers: Collection[bytes]) -> Iterator[Line]:
        """The decisions that stand under one of these keyed hashes, newest first, and with them a few other entries: whoever
        decodes them compares. Of an unpacked segment's lines the sequence is 0. Raises `LogDamaged`."""
        if numbers:
            hashes = (b2a_base64(number, newline=False) for number in numbers)
            yield from self._keyed(numbers, _field("number", hashes))

    def reports(self, decisions: Collection[str]) -> Iterator[Line]:
        """What became of the calls of these decisions, as `about` has it."""
        if decisions:
            names = (decision.encode() for decision in decisions)
            yield from self._keyed([report_key(each) for each in decisions], _field("decision", names))

    def _keyed(self, keys: Collection[bytes], pattern: re.Pattern[bytes]) -> Iterator[Line]:
        """`pattern`: of what stands in an unpacked segment."""
        result = search(self._folder, keys)
        before = _NEVER
        for first, path in reversed(segments(self._folder)):
            plain = _opened(path)
            if plain is not None:
                yield from reversed(list(_matching(plain, path, pattern)))
            elif result.covers(first):
                # The index was asked first: to open a segment takes longer, and most hold nothing of a number.
                for seq in [seq for seq in result.seqs if first <= seq < before]:
                    yield from self._packed(path).at(seq)
            else:  # the segment itself can always answer, if slowly
                yield from self._packed(path).keyed(keys)
            before = first

    def outcomes(self, first: int) -> Iterator[Line]:
        """What became of calls, from the segment of `first` on, oldest first; their sequence is 0. Raises `LogDamaged`."""
        paths = segments(self._folder)
        begin = max(bisect_right(paths, first, key=itemgetter(0)) - 1, 0)
        for _, path in paths[begin:]:
            plain = _opened(path)
            if plain is None:
                yield from self._packed(path).outcomes()
            else:
                yield from _matching(plain, path, _OUTCOME)

    def held(self) -> Iterator[tuple[str, str, bool, int] | Line]:
        """What is in it, to be counted: of a packed segment, months, countries and verdicts of its decisions with how many
        there are; of another, its entries."""
        paths = segments(self._folder)
        for start, path in paths:
            plain = _opened(path)
            if plain is None:
                yield from self._packed(path).held()
            else:
                yield from _entries(plain, path, start, start, newest=path == paths[-1][1])

    def _packed(self, path: Path) -> "PackedSegment":
        path = path.with_suffix(PACKED)
        if path not in self._open:
            if len(self._open) >= _REMEMBERED:
                del self._open[next(iter(self._open))]
            self._open[path] = _load(path)
        return self._open[path]


def _load(path: Path) -> "PackedSegment":
    from dialgate.decision_log.archive.parquet import PackedSegment  # noqa: PLC0415 - see above

    return PackedSegment(path)


def _opened(path: Path) -> BinaryIO | None:
    """Nothing where the segment is packed, or has been since the folder was listed."""
    if path.suffix == PACKED:
        return None
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _entries(
    plain: BinaryIO, path: Path, start: int, first: int, *, newest: bool, after: Line | None = None
) -> Iterator[Line]:
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


def _matching(plain: BinaryIO, path: Path, pattern: re.Pattern[bytes]) -> Iterator[Line]:
    """By a search in the bytes, which is quicker than reading line by line."""
    with plain, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in pattern.finditer(data):
            offset, end = data.rfind(b"\n", 0, match.start()) + 1, data.find(b"\n", match.start()) + 1
            if end:
                yield _line(0, data[offset:end], path, offset)


_OUTCOME = re.compile(rb'"entry":\{"type":"outcome"')


def _line(seq: int, line: bytes, path: Path, offset: int) -> Line:
    own = stored_hash(line)
    if own is None:
        raise LogDamaged(path, offset, "not a line of the log")
    return Line(seq, own, line[BODY], path, offset)
