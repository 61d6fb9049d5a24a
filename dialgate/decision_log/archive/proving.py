"""Verification of a log with packed segments and their indexes."""

from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path

from msgspec import Struct

from dialgate.decision_log import Fault, LogDamaged, Progress, Report
from dialgate.decision_log import verify as verify_log
from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.index import Index, Items
from dialgate.decision_log.archive.reading import PACKED, open_packed, open_segment, segments
from dialgate.decision_log.verify import results, size_of

_REBUILD = "the log is complete; run `dialgate log archive --index` to rebuild the index"


def verify(
    folder: Path,
    *,
    first: int = 1,
    last: int | None = None,
    keys: Mapping[str, bytes] | None = None,
    against: bytes = b"",
    progress: Progress | None = None,
) -> Report:
    """Verify a log as `decision_log.verify` does, and include packed segments and their indexes.

    A missing index is not a fault, because its segments can be searched directly.
    """
    listed = segments(folder)
    report = verify_log(
        folder,
        first=first,
        last=last,
        keys=keys,
        against=against,
        open_segment=open_segment,
        listed=listed,
        progress=progress,
    )
    begin = max(bisect_right(listed, first, key=itemgetter(0)) - 1, 0)
    end = len(listed) if last is None else bisect_right(listed, last, key=itemgetter(0))
    broken = {fault.file for fault in report.faults}
    report.faults += _index_faults(folder, [path for path in listed[begin:end] if str(path[1]) not in broken])
    return report


def _index_faults(folder: Path, listed: list[tuple[int, Path]]) -> list[Fault]:
    """Check the indexes of the segments in `listed`. Return at most one fault per index.

    The segments must already have been verified.
    """
    firsts = [first for first, path in listed if path.suffix == PACKED]
    indexes = {
        index_.path: Fault(
            str(index_.path),
            0,
            index_.first,
            f"the index was modified or truncated: {_REBUILD}",
            "damaged_index",
        )
        for index_ in index.indexes(folder)
        if any(index_.first <= first <= index_.last for first in firsts) and not _is_intact(index_)
    }
    tasks = [_Task(folder, first, frozenset(indexes)) for first in firsts]
    size = sum(size_of(path) for _, path in listed)
    for fault in filter(None, results(tasks, size)):
        indexes.setdefault(Path(fault.file), fault)
    return list(indexes.values())


def _is_intact(index_: Index) -> bool:
    try:
        return index.is_intact(index_)
    except FileNotFoundError:  # merged into a valid index since the folder was listed
        return True


class _Task(Struct):
    """A check that the indexes contain every entry of one packed segment.

    `damaged` holds the indexes known to be damaged.
    """

    folder: Path
    first: int
    damaged: frozenset[Path]

    def __call__(self) -> Fault | None:
        try:
            segment = open_packed(self.folder / f"{self.first:016}{PACKED}")
            items = segment.index_items()
        except (LogDamaged, FileNotFoundError):  # reported by `verify`, or deleted after the listing
            return None
        return self._missing_entry(items, segment.first + segment.rows - 1)

    def _missing_entry(self, items: Items, last: int) -> Fault | None:
        for index_ in index.indexes(self.folder):
            if index_.first <= self.first <= index_.last and index_.path not in self.damaged:
                try:
                    seq = index.first_missing(index_, items, self.first, last)
                except FileNotFoundError:  # merged meanwhile
                    return self._missing_entry(items, last)
                if seq:
                    what = f"record {seq} is missing from the index: {_REBUILD}"
                    return Fault(str(index_.path), 0, seq, what, "damaged_index")
        return None
