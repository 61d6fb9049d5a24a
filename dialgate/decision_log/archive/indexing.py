"""Maintenance of the indexes, which keeps their number small.

A new segment gets its own index. If the preceding index is at most twice as large, the two indexes are merged. Merging
continues with older indexes until an index is more than twice as large, or the result would exceed the size limit. So
an item is rewritten about once each time the log doubles in size. A lost index is rebuilt from the segments.
"""

from itertools import pairwise
from pathlib import Path

import structlog

from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.checksums import check
from dialgate.decision_log.archive.index import Index
from dialgate.decision_log.archive.parquet import PackedSegment
from dialgate.decision_log.archive.reading import PACKED, segments
from dialgate.decision_log.segment import LogDamaged

_MERGE_RATIO = 2  # merge if the preceding index is at most this many times larger
_MAX_ENTRIES = 1 << 32  # offsets have four bytes
_log = structlog.get_logger("dialgate.archive")


def update_indexes(folder: Path, *, rebuild: bool = False) -> None:
    """Index new packed segments and merge indexes. The caller must hold `packing.archive_lock`.

    With `rebuild`, all existing indexes are discarded first. Raises `OSError`.
    """
    _clear(folder, trusted=not rebuild)
    indexes = index.indexes(folder)
    for first, path in segments(folder):
        if path.suffix == PACKED and not any(entry.covers(first) for entry in indexes):
            _index(path)
    while run := _indexes_to_merge(index.indexes(folder)):
        damaged = [entry for entry in run if not index.is_intact(entry)]
        if damaged:
            _drop(damaged)
            update_indexes(folder)
            return
        index.merge(run)


def _index(path: Path) -> None:
    try:
        check(path)
        segment = PackedSegment(path)
        items = segment.index_items()
    except LogDamaged as error:  # search this segment directly, and index the others
        _log.error("segment not indexed", file=str(path), problem=str(error))
        return
    if segment.rows:
        index.write(path.parent, segment.first, segment.first + segment.rows - 1, items)


def _clear(folder: Path, *, trusted: bool) -> None:
    """Delete unfinished files, invalid indexes and indexes of segments that no longer exist.

    If not `trusted`, delete all indexes.
    """
    for path in folder.glob("*.index.npy.new"):
        path.unlink()
    indexes = index.indexes(folder)
    current = {entry.path for entry in indexes}
    for path in folder.glob("*.index.npy"):
        if path not in current:
            path.unlink()
    packed = [first for first, path in segments(folder) if path.suffix == PACKED]
    _drop([entry for entry in indexes if not (trusted and _is_good(entry, packed))])


def _is_good(entry: Index, packed: list[int]) -> bool:
    try:
        entry.count()
    except ValueError:
        return False
    return any(entry.covers(first) for first in packed)


def _drop(indexes: list[Index]) -> None:
    for entry in indexes:
        entry.path.unlink()


def _indexes_to_merge(indexes: list[Index]) -> list[Index]:
    """Return the indexes to merge next, oldest first, or an empty list."""
    for end in range(len(indexes), 1, -1):
        run = _run_before(indexes[:end])
        if len(run) > 1:
            return run
    return []


def _run_before(indexes: list[Index]) -> list[Index]:
    run, size = [indexes[-1]], indexes[-1].count()
    for before, after in reversed(list(pairwise(indexes))):
        count = before.count()
        if (
            before.last + 1 != after.first
            or count > _MERGE_RATIO * size
            or size + count > index.MAX_ITEMS
            or run[-1].last - before.first >= _MAX_ENTRIES
        ):
            break
        run.insert(0, before)
        size += count
    return run
