"""The decision logs of one node. The gate writes one; the others have ended.

    log/             the log of a gate that was never restored from a backup
    log/restored-N/  the log since the node was restored. N, at least 1000, is random and serves as the log's number
    log/worker-N/    the log of worker N, if an earlier version ran several workers
    log/restored/    in a backup: renamed to log/restored-N when the first gate starts on the copy

A restored log lacks the decisions made after the backup. A gate that continued it would give their ids to other calls.

Each chain is a log with its own name, lock, checkpoints and archive. All chains use the same key file. A decision and the
outcome of its call can be in different chains, because the report may arrive after a restore, or at another node.
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


def folder(data: Path, number: int) -> Path:
    if number == 1:
        return data / "log"
    return data / "log" / (f"worker-{number}" if number < _FIRST_RESTORED else f"restored-{number}")


def folders(data: Path) -> dict[int, Path]:
    """Return the existing log folders by number."""
    first = data / "log"
    if not first.is_dir():
        return {}
    folders_ = {1: first}
    for path in first.iterdir():
        if match := _NAME.fullmatch(path.name):
            folders_[int(match[1] or match[2])] = path
    return dict(sorted(folders_.items()))


def logs_of(data: Path) -> tuple[list[int], int]:
    """Return the numbers of the logs that the gate no longer writes, oldest first, and of the log that it writes."""
    numbers = [number for number in folders(data) if number > 1]
    current = max((number for number in numbers if number >= _FIRST_RESTORED), default=1)
    return [number for number in (1, *numbers) if number != current], current


def mark_as_copy(data: Path) -> None:
    """Make the first gate that starts on this copy of a data folder begin a new log."""
    mark = data / "log" / "restored"
    mark.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file, because copies to object storage lack empty folders.
    write_file(mark / "README", b"The first gate that starts on this copy begins a new log in this folder.\n")


def begin_restored_log(data: Path) -> None:
    """Create the folder of a new log if `data` is a copy on which no gate has started yet. Raises `OSError`."""
    if (data / "log" / "restored").is_dir():
        _, newest = logs_of(data)
        number = max(_FIRST_RESTORED, newest + 1) + secrets.randbelow(_STEP)
        (data / "log" / "restored").rename(folder(data, number))
        sync_folder(data / "log")


def number_of(data: Path, name: str, log: str) -> int | None:
    """Return the number of this node's log with the name `log`, or None if it has none. `name` is that of the first log."""
    return next((number for number in folders(data) if log_name(name, number) == log), None)


class LoggedDecision(Struct, frozen=True):
    line: LogLine
    record: Record


class Chains:
    """A reader of all chains of a node, safe to use while the gate writes to one."""

    def __init__(self, data: Path) -> None:
        self.readers = {number: Reader(path) for number, path in folders(data).items()}

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

    def find_decisions(self, hashes: Collection[bytes]) -> Iterator[tuple[LogLine, Record]]:
        """Yield the decisions whose `number` is one of these keyed hashes, newest first. Raises `LogDamaged`."""
        return merge(
            *(reader.find_decisions(hashes) for reader in self.readers.values()),
            key=lambda entry: position(entry[1]),
            reverse=True,
        )

    def outcomes(self, decisions: Collection[Record]) -> dict[str, list[OutcomeRecord]]:
        """Return the outcomes reported for each decision, oldest first, by decision id. Raises `LogDamaged`."""
        outcomes_: dict[str, list[OutcomeRecord]] = {record.id: [] for record in decisions}
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
