"""The decision logs of one node: one chain for each worker, which is its only writer.

    log/             the first worker's, and the only one of a gate without workers
    log/worker-2/    the second's; and so on

Each is a log of its own, with its own name, lock, checkpoints and archive; all are under the keys of one file. What became
of a call may stand in another chain than its decision: the report came to another worker.
"""

import re
from collections.abc import Callable, Collection, Iterator
from heapq import merge
from pathlib import Path
from typing import Final

from msgspec import Struct

from dialgate.core.model import OutcomeRecord
from dialgate.crypto.keys import log_name
from dialgate.decision_log import Line, span
from dialgate.decision_log.records import Reader, Record

_WORKER: Final = re.compile(r"worker-([2-9]|[1-9][0-9]{1,2})")


def folder(data: Path, worker: int) -> Path:
    return data / "log" if worker == 1 else data / "log" / f"worker-{worker}"


def folders(data: Path) -> dict[int, Path]:
    """Of the workers that ever wrote one, by number. Empty where no gate has ever run."""
    first = data / "log"
    if not first.is_dir():
        return {}
    folders_ = {1: first}
    for path in first.iterdir():
        if match := _WORKER.fullmatch(path.name):
            folders_[int(match[1])] = path
    return dict(sorted(folders_.items()))


def of(data: Path, name: str, log: str) -> int | None:
    """The worker that wrote the log called `log`; `name`: what the first worker's is called."""
    return next((worker for worker in folders(data) if log_name(name, worker) == log), None)


class Place(Struct, frozen=True):
    """A decision in the chain that holds it."""

    reader: Reader
    line: Line
    record: Record


class Chains:
    """All of a node, read together. Safe beside running writers."""

    def __init__(self, data: Path) -> None:
        self.readers = {worker: Reader(path) for worker, path in folders(data).items()}

    def find(self, decision: str) -> Place | None:
        """Raises `LogDamaged`."""
        seq = span.sequence(decision)
        if seq is None:
            return None
        for reader in self.readers.values():
            line, record = next(reader.entries(first=seq), (None, None))
            if line is not None and isinstance(record, Record) and record.id == decision:
                return Place(reader, line, record)
        return None

    def about(self, hashes: Collection[bytes]) -> Iterator[tuple[Line, Record]]:
        """Every decision whose `number` is one of these keyed hashes, newest first. Raises `LogDamaged`."""
        return merge(*(reader.about(hashes) for reader in self.readers.values()), key=_at, reverse=True)

    def outcomes(self, of: Collection[Record]) -> dict[str, list[OutcomeRecord]]:
        """What became of these decisions, by id, in the order in which it was reported. Raises `LogDamaged`."""
        outcomes_: dict[str, list[OutcomeRecord]] = {record.id: [] for record in of}
        for outcome in self.reports(outcomes_.keys()):
            outcomes_[outcome.decision].append(outcome)
        for reports in outcomes_.values():
            reports.sort(key=lambda report: (report.at, report.seq))
        return outcomes_

    def reports(self, decisions: Collection[str]) -> Iterator[OutcomeRecord]:
        """What became of these, which may be of other logs than this node's. Raises `LogDamaged`."""
        for reader in self.readers.values():
            yield from reader.reports(decisions)

    def within(
        self, select: Callable[[Reader], Iterator[tuple[Line, Record | OutcomeRecord]]]
    ) -> Iterator[tuple[Line, Record | OutcomeRecord]]:
        """One chain after the other."""
        for reader in self.readers.values():
            yield from select(reader)


def _at(entry: tuple[Line, Record]) -> tuple[int, str, int]:
    record = entry[1]
    return record.at, record.id.rpartition("-")[0], record.seq
