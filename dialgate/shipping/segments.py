"""Shipping of segments, in order.

A closed segment is verified and then sent with its checkpoints. Until it has arrived, its file at the target grows: each round
appends the entries that a new checkpoint covers, and then the checkpoint, so that every shipped entry can be proved.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import structlog
from msgspec.structs import replace

from dialgate.config import content_store
from dialgate.core.model import SECOND, Instant
from dialgate.crypto.keys import Keys, PeerKeys
from dialgate.crypto.log_signing import pem, public_keys
from dialgate.decision_log import LogDamaged, StoredCheckpoint, chains
from dialgate.decision_log.archive import first_header, index
from dialgate.decision_log.archive import segments as segments_of
from dialgate.decision_log.archive.checksums import files_of
from dialgate.decision_log.archive.reading import PACKED
from dialgate.decision_log.checkpoints import FILE, PART, checkpoint_lines, parse
from dialgate.decision_log.segment_scan import scan_segment
from dialgate.decision_log.timestamps import PART as STAMP
from dialgate.decision_log.timestamps import Stamped, stamp_lines, stamp_of
from dialgate.shipping.cursor import Cursor, Cursors
from dialgate.shipping.status import LogProgress
from dialgate.shipping.target import StorageRefused, Target, TargetFailed

_NEVER = 1 << 62
_PART_BYTES = 8 << 20
_DIGEST = re.compile("[0-9a-f]{64}")
_log = structlog.get_logger(__name__)


class SegmentShipping:
    """A shipper that sends segments to one target. Run it in a separate thread, because it blocks while it sends.

    `standings` contains the state of each log, by its number.
    """

    def __init__(
        self, data: Path, node: str, target: Target, cursors: Cursors, *, at_once: bool, shared: bool = False
    ) -> None:
        """`shared` means that other nodes share the store, and need this node's keys to read what it shipped."""
        self._shared = shared
        self._data, self._node, self._target, self._cursors = data, node, target, cursors
        self._at_once, self.interval = at_once, target.interval
        self._chains: dict[int, _Chain] = {}
        self._keys: set[str] = set()
        self._kept: set[str] = set()
        self._sizes: dict[str, int] = {}  # of the growing files at the target
        self._places: dict[str, tuple[int, int]] = {}  # number and end of the lines read of growing segments
        self.standings: dict[int, LogProgress] = {}

    def round(self) -> bool:
        """Ship all closed segments of all logs. Return False if a log could not be shipped.

        The reason is recorded in `standings`.
        """
        for number, folder in chains.folders(self._data).items():
            standing = self.standings.setdefault(number, LogProgress())
            with standing.attempt("segments", number):
                self._ship(number, folder, standing)
        return not any(standing.problem for standing in self.standings.values())

    def _ship(self, number: int, folder: Path, standing: LogProgress) -> None:
        chain = self._chains.get(number) or self._open_chain(number, folder)
        if chain is None:
            return
        log = self._chains[1].log
        if self._shared and not self._are_keys_published(log):
            raise TargetFailed(
                "the keys of this node are not in the store yet: the gate publishes them within seconds"
            )
        home = f"{self._node}/{log}"
        self._ship_keys(home)
        self._ship_kept(home)
        place = f"{home}/{folder.relative_to(self._data)}"
        self._ship_closed(number, chain, place, standing)
        self._ship_open(chain, place)
        for stamp, line in chain.stamps():
            self._target.put(f"{place}/{stamp.size:016}{STAMP}", line)
            chain.shipped_stamp(stamp, self._cursors)
        chain.observe(standing)

    def _are_keys_published(self, log: str) -> bool:
        copy = self._data / "peers" / f"{log}.json"
        if not copy.exists():
            return False
        months, published = Keys.open(self._data / "keys.json").live().keys(), PeerKeys.open(copy)
        public = public_keys(self._data / "signing.json").keys()
        return months <= published.live().keys() and public <= published.public.keys()

    def _ship_closed(self, number: int, chain: "_Chain", place: str, standing: LogProgress) -> None:
        for closed in chain.unshipped():
            chain.observe(standing)
            if closed.path.suffix != PACKED and not self._at_once:
                return
            checkpoints = chain.checkpoints(closed)
            if not checkpoints:
                return  # the gate signs a closed segment within seconds
            _prove(closed, checkpoints[-1])
            files = _files(closed.path)
            if files is None:
                return
            try:
                for path in files:
                    self._target.put(f"{place}/{path.name}", path)
            except FileNotFoundError:
                return  # packed meanwhile: ship the packed files in the next round
            lines = b"".join(checkpoint.line for checkpoint in checkpoints)
            self._target.put(f"{place}/{closed.first:016}{PART}", lines)
            chain.shipped(closed, checkpoints[-1], self._cursors)
            if closed.path.suffix == PACKED:
                self._target.remove(f"{place}/{closed.first:016}.ndjson")
            _log.info("segment shipped", log_number=number, first=closed.first, last=closed.last)

    def _ship_open(self, chain: "_Chain", place: str) -> None:
        """Append to the target the entries that new checkpoints cover, and then these checkpoints."""
        for first, path, checkpoints in chain.growing():
            lines = b"".join(checkpoint.line for checkpoint in checkpoints)
            # A file that was packed meanwhile is shipped in the next round.
            with suppress(FileNotFoundError), path.open("rb") as file:
                end = self._end(file, f"{place}/{path.name}", checkpoints[-1].checkpoint.size - first + 2)
                self._grow(f"{place}/{path.name}", file, end)
                self._grow(f"{place}/{path.stem}{PART}", BytesIO(lines), len(lines))

    def _end(self, file: BinaryIO, name: str, lines: int) -> int:
        """Return the offset after the given number of lines of a segment. Reading continues where it last ended."""
        read, offset = self._places.get(name, (0, 0))
        file.seek(offset)
        for _ in range(read, lines):
            offset += len(file.readline())
        self._places[name] = lines, offset
        return offset

    def _grow(self, name: str, source: BinaryIO, end: int) -> None:
        size = self._sizes.get(name)
        if size is None:
            size = self._target.size(name)
        source.seek(size)
        while size < end:
            part = source.read(min(end - size, _PART_BYTES))
            self._target.extend(name, size, part)
            size += len(part)
        self._sizes[name] = size

    def _open_chain(self, number: int, folder: Path) -> "_Chain | None":
        """Open a log, or return None if it is empty.

        The target path of every log contains the name of the first log. Therefore the other logs are not opened until
        the first has an entry.
        """
        header = first_header(folder)
        if header is None or (number > 1 and 1 not in self._chains):
            return None
        cursor = self._cursors.get(header.log) or Cursor(header.first - 1)
        chain = self._chains[number] = _Chain(folder, header.log, cursor)
        return chain

    def _ship_keys(self, home: str) -> None:
        for name, public in public_keys(self._data / "signing.json").items():
            if name not in self._keys:
                self._target.put(f"{home}/keys/{name}.pem", pem(public))
                self._keys.add(name)

    def _ship_kept(self, home: str) -> None:
        """Ship the laws and controllers' files that records name, without which nobody can replay or prove them."""
        folder = self._data / "kept"
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in self._kept and _DIGEST.fullmatch(path.name):
                raw = path.read_bytes()
                if content_store.is_shipped(raw):
                    self._target.put(f"{home}/kept/{path.name}", raw)
                self._kept.add(path.name)


class _ClosedSegment:
    def __init__(self, first: int, last: int, path: Path) -> None:
        self.first, self.last, self.path = first, last, path


class _Chain:
    def __init__(self, folder: Path, log: str, cursor: Cursor) -> None:
        self._folder, self.log, self._cursor = folder, log, cursor
        self._offset = 0  # in the checkpoints file; everything before this offset has been shipped
        self._stamps = 0  # likewise in the time-stamp file
        self._waiting: list[_ClosedSegment] = []

    def unshipped(self) -> Iterator[_ClosedSegment]:
        """Yield closed segments that were not shipped, oldest first. Log an error for missing segments."""
        segments = segments_of(self._folder)
        self._waiting = [
            _ClosedSegment(first, following - 1, path)
            for (first, path), (following, _) in pairwise(segments)
            if first > self._cursor.seq
        ]
        if segments:
            self._note_missing(self._waiting[0].first if self._waiting else segments[-1][0])
        while self._waiting:
            yield self._waiting[0]

    def _note_missing(self, oldest: int) -> None:
        absent = oldest - self._cursor.seq - 1
        if absent > 0:
            _log.error(
                "records were deleted before they were shipped",
                log=self.log,
                records=absent,
                up_to=oldest - 1,
            )
            self._cursor = replace(self._cursor, seq=oldest - 1, missed=self._cursor.missed + absent)

    def checkpoints(self, closed: _ClosedSegment) -> list[StoredCheckpoint]:
        """Return the checkpoints for a segment. Raises `LogDamaged`.

        Return an empty list if no checkpoint covers the segment's last entry yet.
        """
        checkpoints = self.checkpoints_within(closed.first, closed.last)
        return checkpoints if checkpoints and checkpoints[-1].checkpoint.size == closed.last else []

    def growing(self) -> Iterator[tuple[int, Path, list[StoredCheckpoint]]]:
        """Yield the first entry, path and checkpoints of the unpacked segments that have not been shipped, oldest first."""
        paths = [row for row in segments_of(self._folder) if row[0] > self._cursor.seq]
        followings = [*(first for first, _ in paths[1:]), _NEVER]
        for (first, path), following in zip(paths, followings, strict=True):
            checkpoints = self.checkpoints_within(first, following - 1)
            if path.suffix != PACKED and checkpoints:
                yield first, path, checkpoints

    def checkpoints_within(self, first: int, last: int) -> list[StoredCheckpoint]:
        """Return the checkpoints at the entries `first` to `last`. Raises `LogDamaged`."""
        checkpoints = []
        for offset, line in checkpoint_lines(self._folder, self._offset):
            stored = parse(offset, line)
            if stored is None:
                raise LogDamaged(self._folder / FILE, offset, "not a checkpoint")
            if stored.checkpoint.size > last:
                break
            if stored.checkpoint.size >= first:
                checkpoints.append(stored)
        return checkpoints

    def shipped(self, closed: _ClosedSegment, newest: StoredCheckpoint, cursors: Cursors) -> None:
        self._waiting.pop(0)
        self._cursor = replace(self._cursor, seq=closed.last)
        self._offset = newest.offset
        cursors.store(self.log, self._cursor)

    def stamps(self) -> Iterator[tuple[Stamped, bytes]]:
        """Yield the new time stamps for shipped checkpoints. Raises `LogDamaged`.

        Time stamps are shipped separately, because a time stamp arrives some time after the checkpoint was signed.
        """
        for path, offset, line in stamp_lines(self._folder, self._stamps):
            stamp = stamp_of(path, offset, line)
            if stamp.size > self._cursor.seq:
                return
            if stamp.size > self._cursor.stamped:
                yield stamp, line
            self._stamps = offset + len(line)

    def shipped_stamp(self, stamp: Stamped, cursors: Cursors) -> None:
        self._cursor = replace(self._cursor, stamped=stamp.size)
        cursors.store(self.log, self._cursor)

    def observe(self, standing: LogProgress) -> None:
        standing.last, standing.missed = self._cursor.seq, self._cursor.missed
        standing.behind = self._waiting[-1].last - self._cursor.seq if self._waiting else 0
        if self._waiting:
            standing.since = _closed_at(self._waiting[0].path) or standing.since


def _closed_at(path: Path) -> Instant:
    """Return when the segment was last written, or 0 if it has been packed in the meantime."""
    try:
        return int(path.stat().st_mtime * SECOND)
    except FileNotFoundError:
        return 0


def _files(segment: Path) -> list[Path] | None:
    """Return the files of a segment, with the segment itself last, or None while the segment is being packed."""
    if segment.suffix != PACKED:
        return [segment]
    by_number = index.path_of(segment)
    if by_number.exists():
        return [by_number, *files_of(segment)]
    return None if segment.with_suffix(".ndjson").exists() else files_of(segment)


def _prove(closed: _ClosedSegment, signed: StoredCheckpoint) -> None:
    """Raise `StorageRefused` unless the whole segment matches its signed checkpoint."""
    scan = scan_segment(closed.path, closed.first)
    if scan.fault is not None:
        raise StorageRefused(
            f"{scan.fault.file}, byte {scan.fault.offset}: {scan.fault.what}. Run `dialgate log verify`"
        )
    if scan.last != closed.last or scan.head.hex() != signed.checkpoint.head:
        raise StorageRefused(f"{closed.path} differs from its signed checkpoint. Run `dialgate log verify`")
