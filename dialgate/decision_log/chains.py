"""The decision logs of one node: one chain per worker, written only by that worker.

    log/             the first worker; the only chain of a gate without workers
    log/worker-2/    the second worker; and so on
    log/restored-N/  the first worker since the node was restored from a backup. N, at least 1000, is random and
                     serves as the worker's number
    log/restored/    in a backup: renamed to log/restored-N when the first gate starts on the copy

A restored log lacks the decisions made after the backup. A gate that continued it would give their ids to other calls.

Each chain is a log with its own name, lock, checkpoints and archive. All chains use the same key file. A decision and the
outcome of its call can be in different chains, because any worker may receive the report.
"""

import re
import secrets
from collections.abc import Collection, Iterator
from heapq import merge
from pathlib import Path
from typing import Final

from msgspec import Struct

from dialgate.core.model import OutcomeRecord
from dialgate.crypto.keys import log_name
from dialgate.decision_log import LogLine, span
from dialgate.decision_log.records import Reader, Record, position
from dialgate.runtime.atomic_write import sync_folder, write_file

_NAME: Final = re.compile(r"worker-([2-9]|[1-9][0-9]{1,2})|restored-([1-9][0-9]{3,17})")
_FIRST_RESTORED: Final = 1_000
_STEP: Final = 10**9  # so that two gates restored from one backup choose different numbers


def folder(data: Path, worker: int) -> Path:
    if worker == 1:
        return data / "log"
    return data / "log" / (f"worker-{worker}" if worker < _FIRST_RESTORED else f"restored-{worker}")


def folders(data: Path) -> dict[int, Path]:
    """Return the existing log folders by worker number."""
    first = data / "log"
    if not first.is_dir():
        return {}
    folders_ = {1: first}
    for path in first.iterdir():
        if match := _NAME.fullmatch(path.name):
            folders_[int(match[1] or match[2])] = path
    return dict(sorted(folders_.items()))


def logs_of(data: Path, worker: int) -> tuple[list[int], int]:
    """Return the numbers of the logs that a worker no longer writes, oldest first, and of the log that it writes.

    Only the first worker can have several logs: those from before each restore of the node.
    """
    if worker > 1:
        return [], worker
    *ended, current = 1, *(number for number in folders(data) if number >= _FIRST_RESTORED)
    return ended, current


def mark_as_copy(data: Path) -> None:
    """Make the first gate that starts on this copy of a data folder begin a new log."""
    mark = data / "log" / "restored"
    mark.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file, because copies to object storage lack empty folders.
    write_file(mark / "README", b"The first gate that starts on this copy begins a new log in this folder.\n")


def begin_restored_log(data: Path) -> None:
    """Create the folder of a new log if `data` is a copy on which no gate has started yet. Raises `OSError`."""
    if (data / "log" / "restored").is_dir():
        _, newest = logs_of(data, 1)
        number = max(_FIRST_RESTORED, newest + 1) + secrets.randbelow(_STEP)
        (data / "log" / "restored").rename(folder(data, number))
        sync_folder(data / "log")


def worker_of(data: Path, name: str, log: str) -> int | None:
    """Return the number of the worker that wrote `log`, or None if no worker of this node did.

    `name` is the log name of the first worker.
    """
    return next((worker for worker in folders(data) if log_name(name, worker) == log), None)


class LoggedDecision(Struct, frozen=True):
    line: LogLine
    record: Record


class Chains:
    """A reader of all chains of a node, safe to use while workers write to them."""

    def __init__(self, data: Path) -> None:
        self.readers = {worker: Reader(path) for worker, path in folders(data).items()}

    def find(self, decision: str) -> LoggedDecision | None:
        """Return a decision by its id. Raises `LogDamaged`."""
        seq = span.sequence(decision)
        if seq is None:
            return None
        for reader in self.readers.values():
            line, record = next(reader.entries(first=seq), (None, None))
            if line is not None and isinstance(record, Record) and record.id == decision:
                return LoggedDecision(line, record)
        return None

    def about(self, hashes: Collection[bytes]) -> Iterator[tuple[LogLine, Record]]:
        """Yield the decisions whose `number` is one of these keyed hashes, newest first. Raises `LogDamaged`."""
        return merge(
            *(reader.about(hashes) for reader in self.readers.values()),
            key=lambda entry: position(entry[1]),
            reverse=True,
        )

    def outcomes(self, of: Collection[Record]) -> dict[str, list[OutcomeRecord]]:
        """Return the outcomes reported for each decision, oldest first, by decision id. Raises `LogDamaged`."""
        outcomes_: dict[str, list[OutcomeRecord]] = {record.id: [] for record in of}
        for outcome in self.reports(outcomes_.keys()):
            outcomes_[outcome.decision].append(outcome)
        for reports in outcomes_.values():
            reports.sort(key=lambda report: (report.at, report.seq))
        return outcomes_

    def reports(self, decisions: Collection[str]) -> Iterator[OutcomeRecord]:
        """Yield the outcomes reported to this node for these decisions. Raises `LogDamaged`.

        The decisions themselves may be in the logs of other nodes.
        """
        for reader in self.readers.values():
            yield from reader.reports(decisions)

    def entries(self) -> Iterator[tuple[LogLine, Record | OutcomeRecord]]:
        """Yield all decisions and outcomes, one chain after another. Raises `LogDamaged`."""
        for reader in self.readers.values():
            yield from reader.entries()
