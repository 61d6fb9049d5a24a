"""Packing of closed segments.

A segment is deleted only after all its lines have been rebuilt from the packed copy and compared.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import structlog
from msgspec import Struct

from dialgate.decision_log.archive import checksums, index, parquet
from dialgate.decision_log.archive.reading import PACKED, Segments, segments
from dialgate.decision_log.segment import LogDamaged, lines_of
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, sync_folder, write_file
from dialgate.runtime.file_lock import hold_lock

_log = structlog.get_logger("dialgate.archive")


class ArchiveFailed(Exception):
    """The error for a segment that could not be packed. The segment is unchanged and complete."""


class Packed(Struct, frozen=True):
    """The result of packing one segment: its size in bytes before, and the size of its packed files after."""

    segment: Path
    entries: int
    before: int
    after: int


@contextmanager
def archive_lock(folder: Path) -> Iterator[None]:
    """Hold the lock for packing this log. Raises `ArchiveFailed` if another process holds it."""
    busy = ArchiveFailed(f"{folder}: another process is archiving this log: wait until it has finished")
    with hold_lock(folder / ".archiving", busy):
        yield


def pack(segment: Path) -> Packed:
    """Pack a segment, compare the result with the original, and delete the original.

    The caller must hold `archive_lock`. Raises `LogDamaged`, `ArchiveFailed`, `OSError`.
    """
    folder, packed = segment.parent, segment.with_suffix(PACKED)
    others = Segments(folder)
    with remove_on_exit(packed.with_name(f"{packed.name}.new")) as unfinished:
        lines = (line for _, line in lines_of(segment))
        parquet.write(unfinished, segment, lines, lambda seq: _body(others, seq))
        rows = _prove(unfinished, segment)
        written = segment.stat()
        os.utime(unfinished, ns=(written.st_atime_ns, written.st_mtime_ns))  # the shipper reports its age
        checksums.write_sum(packed, checksums.digest(unfinished))
        publish_file(unfinished, packed)
    write_indexes(folder)
    segment.unlink()
    sync_folder(folder)
    after = sum(path.stat().st_size for path in checksums.files_of(packed))
    return Packed(packed, rows, written.st_size, after)


def write_indexes(folder: Path) -> None:
    """Write the missing indexes of packed segments. The caller must hold `archive_lock`. Raises `OSError`."""
    for path in folder.glob("*-*.index.npy"):  # of several segments each, written by 0.2.0
        path.unlink()
    for _, path in segments(folder):
        if path.suffix == PACKED and not index.path_of(path).exists():
            try:
                items = parquet.PackedSegment(path).index_items()
            except LogDamaged as error:  # search this segment directly, and index the others
                _log.error("segment not indexed", file=str(path), problem=str(error))
            else:
                write_file(index.path_of(path), index.encode(items))


def _prove(unfinished: Path, segment: Path) -> int:
    """Rebuild every line from the packed copy and return the number of entries.

    Raises `ArchiveFailed` if a line differs from the original.
    """
    packed = parquet.PackedSegment(unfinished)
    for line, rebuilt in zip_longest(lines_of(segment), packed.lines()):
        if line != rebuilt:
            offset = (line or rebuilt)[0]
            raise ArchiveFailed(
                f"{segment}, byte {offset}: the packed line differs from the original line. The segment stays unpacked"
            )
    return packed.rows


def _body(others: Segments, seq: int) -> bytes | None:
    try:
        line = others.find(seq)
    except LogDamaged:  # the columns from the grounds then stay empty
        return None
    return line.body if line else None
