"""Indexes kept: each packed segment in one of them, and few of them however many segments there are.

A new segment's is small. It is merged with the ones before it as long as these are not much larger, so their sizes fall by
more than half from one to the next, and an item is written anew about as often as the log has doubled. Nothing is lost
with an index: it is made again from the segments.
"""

from itertools import pairwise
from pathlib import Path

import structlog

from dialgate.decision_log import LogDamaged
from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.index import Index
from dialgate.decision_log.archive.index_entries import items_of
from dialgate.decision_log.archive.parquet import PackedSegment, check
from dialgate.decision_log.archive.reading import PACKED, segments

_TIMES = 2  # as large the one before may be as what is merged into it
_LONGEST = 1 << 32  # entries, whose offsets four bytes can tell
_log = structlog.get_logger("dialgate.archive")


def keep(folder: Path, *, anew: bool = False) -> None:
    """Whoever calls is `packing.alone`. `anew`: trust none that is there. Raises `OSError`."""
    _clear(folder, trusted=not anew)
    covered = index.SearchResult([], [(entry.first, entry.last) for entry in index.indexes(folder)])
    for first, path in segments(folder):
        if path.suffix == PACKED and not covered.covers(first):
            _index(path)
    while run := _run(index.indexes(folder)):
        damaged = [entry for entry in run if not index.is_intact(entry)]
        if damaged:
            _drop(damaged)
            keep(folder)
            return
        index.merge(run)


def _index(path: Path) -> None:
    try:
        check(path)
        segment = PackedSegment(path)
        items = items_of(segment.groups(["number", "body"]))
    except LogDamaged as error:  # it is read without, and others must not wait for it
        _log.error("segment not indexed", file=str(path), problem=str(error))
        return
    if segment.rows:
        index.write(path.parent, segment.first, segment.first + segment.rows - 1, items)


def _clear(folder: Path, *, trusted: bool) -> None:
    """What a crash left, what cannot be an index, and what speaks of segments that are no longer here."""
    for path in folder.glob("*.index.npy.new"):
        path.unlink()
    indexes = index.indexes(folder)
    here = {entry.path for entry in indexes}
    for path in folder.glob("*.index.npy"):
        if path not in here:
            path.unlink()
    packed = [first for first, path in segments(folder) if path.suffix == PACKED]
    _drop([entry for entry in indexes if not (trusted and _is_good(entry, packed))])


def _is_good(entry: Index, packed: list[int]) -> bool:
    try:
        entry.count()
    except ValueError:
        return False
    return any(entry.first <= first <= entry.last for first in packed)


def _drop(indexes: list[Index]) -> None:
    for entry in indexes:
        entry.path.unlink()


def _run(indexes: list[Index]) -> list[Index]:
    """Those to be merged next, oldest first: none where it is well as it is."""
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
            or count > _TIMES * size
            or size + count > index.MOST_ITEMS
            or run[-1].last - before.first >= _LONGEST
        ):
            break
        run.insert(0, before)
        size += count
    return run
