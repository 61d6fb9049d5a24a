"""Closed segments become packed ones, each only after it was proved that nothing of it is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from msgspec import Struct

from dialgate.decision_log import LogDamaged
from dialgate.decision_log.archive import indexing, parquet
from dialgate.decision_log.archive.reading import PACKED, Segments
from dialgate.decision_log.segment import lines_of
from dialgate.runtime.atomic_write import publish_file, remove_on_exit, sync_folder
from dialgate.runtime.file_lock import hold_lock


class ArchiveFailed(Exception):
    """A segment could not be packed. It stays as it is, and is complete."""


class Packed(Struct, frozen=True):
    """What was packed: bytes before, and of all files after."""

    segment: Path
    entries: int
    before: int
    after: int


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raises `ArchiveFailed` where another process packs this log."""
    busy = ArchiveFailed(f"{folder}: another process archives this log; let it finish")
    with hold_lock(folder / ".archiving", busy):
        yield


def pack(segment: Path) -> Packed:
    """Pack it, prove it, and only then remove it. Whoever calls is `alone`. Raises `LogDamaged`, `ArchiveFailed`, `OSError`."""
    folder, packed = segment.parent, segment.with_suffix(PACKED)
    others = Segments(folder)
    with remove_on_exit(packed.with_name(f"{packed.name}.new")) as unfinished:
        lines = (line for _, line in lines_of(segment))
        parquet.write(unfinished, segment, lines, lambda seq: _body(others, seq))
        rows = _prove(unfinished, segment)
        parquet.write_sums(packed, {packed.name: parquet.digest(unfinished)})
        publish_file(unfinished, packed)
    indexing.keep(folder)
    before = segment.stat().st_size
    segment.unlink()
    sync_folder(folder)
    after = sum(path.stat().st_size for path in parquet.files_of(packed))
    return Packed(packed, rows, before, after)


def _prove(unfinished: Path, segment: Path) -> int:
    """That every line is given back. Returns how many entries there are."""
    packed = parquet.PackedSegment(unfinished)
    for was, rebuilt in zip_longest(lines_of(segment), packed.lines()):
        if was != rebuilt:
            offset = (was or rebuilt)[0]
            raise ArchiveFailed(
                f"{segment}, byte {offset}: cannot be given back from the archive; it stays as it is"
            )
    return packed.rows


def _body(others: Segments, seq: int) -> bytes | None:
    try:
        line = others.find(seq)
    except LogDamaged:  # of that entry one would only have searched by it
        return None
    return line.body if line else None
