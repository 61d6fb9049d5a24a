"""Verification of the indexes of packed segments."""

from pathlib import Path

from msgspec import Struct

from dialgate.decision_log.archive import index
from dialgate.decision_log.archive.index import Index, Items
from dialgate.decision_log.archive.reading import PACKED, open_packed, size_of
from dialgate.decision_log.segment import LogDamaged
from dialgate.decision_log.segment_scan import Fault
from dialgate.runtime.process_pool import run_tasks

_REBUILD = "the log is complete; run `dialgate log archive --index` to rebuild the index"


def check_indexes(folder: Path, listed: list[tuple[int, Path]]) -> list[Fault]:
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
        if any(map(index_.covers, firsts)) and not _is_intact(index_)
    }
    tasks = [_Task(folder, first, frozenset(indexes)) for first in firsts]
    size = sum(size_of(path) for _, path in listed)
    for fault in filter(None, run_tasks(tasks, size)):
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
            if index_.covers(self.first) and index_.path not in self.damaged:
                try:
                    seq = index.first_missing(index_, items, self.first, last)
                except FileNotFoundError:  # merged meanwhile
                    return self._missing_entry(items, last)
                if seq:
                    what = f"record {seq} is missing from the index: {_REBUILD}"
                    return Fault(str(index_.path), 0, seq, what, "damaged_index")
        return None
