"""The decision logs that a node can read: its own, and those that other nodes shipped (`dialgate.shipping`).

The gate writes one of its own logs; the others have ended. A shipped folder has the same layout.

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
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from heapq import merge
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dialgate.core.decision_ids import log_of
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Instant, OutcomeRecord
from dialgate.crypto.agent_ids import seal_agent
from dialgate.crypto.keys import Keys, MonthKeys, PeerKeys, first_log, log_name
from dialgate.decision_log import LogLine, last_checkpoint, span
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


class Home(Struct, frozen=True):
    """The folder with the logs of one node: its data folder, or the copy that the node shipped.

    `logs` has the log folders, by the name of the log, and `numbers` the numbers of the logs. `key_file` contains the node's
    keys. `node` is empty for this node.
    """

    folder: Path
    logs: dict[str, Path]
    numbers: dict[str, int]
    key_file: Path
    node: str = ""

    @classmethod
    def open(cls, folder: Path, first: str, key_file: Path, node: str = "") -> "Home":
        """Find the logs in a folder. `first` is the name of the first log."""
        found = {log_name(first, number): (number, path) for number, path in folders(folder).items()}
        logs = {name: path for name, (_, path) in found.items()}
        return cls(folder, logs, {name: number for name, (number, _) in found.items()}, key_file, node)

    def keys(self, log: str = "") -> Keys:
        """Return the keys of one of the logs, or of the first. Raises `KeysUnusable`."""
        return (PeerKeys if self.node else Keys).open(self.key_file, self.numbers.get(log, 1))

    def shipped_until(self) -> Instant:
        """Return the time of the newest checkpoint, which covers all shipped entries, or 0. Raises `LogDamaged`."""
        ends = map(last_checkpoint, self.logs.values())
        return max((end.checkpoint.at for end in ends if end), default=0)


def homes(data: Path, shipped: Path | None) -> list[Home]:
    """Return this node's data folder, then the folders that the other nodes shipped to the folder `shipped`.

    Nodes whose keys this node does not have are left out: they use another store. If `shipped` cannot be read, for example a share that is not mounted, the result is this node's folder alone.
    """
    own, others = first_log(data / "keys.json"), list[Path]()
    with suppress(OSError):
        others = [path.parent for path in sorted(shipped.glob("*/*/log"))] if shipped else []
    keys = {path.stem: path for path in (data / "peers").glob("*.json")}
    copies = [
        Home.open(path, path.name, keys[path.name], path.parent.name)
        for path in others
        if path.name in keys and path.name != own
    ]
    return [*_without_repeats([Home.open(data, own, data / "keys.json"), *copies])]


def _without_repeats(homes_: Iterable[Home]) -> Iterator[Home]:
    """Yield the homes without logs that an earlier one has: nothing at the target takes the place of a log of this node."""
    seen: set[str] = set()
    for home in homes_:
        logs = {name: path for name, path in home.logs.items() if name not in seen}
        seen |= logs.keys()
        if logs or not home.node:
            yield replace(home, logs=logs)


def shipped_until(homes_: Iterable[Home]) -> dict[str, str]:
    """Return the time (RFC 3339) up to which each other node shipped its logs. Raises `LogDamaged`."""
    ends = sorted((home.node, at) for home in homes_ if home.node and (at := home.shipped_until()))
    return {node: rfc3339(at) for node, at in ends}  # the newest of the logs of a node that began again


class LoggedDecision(Struct, frozen=True):
    line: LogLine
    record: Record


class Chains:
    """A reader of the chains of this node and of the nodes that shipped theirs, safe to use while gates write."""

    def __init__(self, data: Path, shipped: Path | None = None) -> None:
        """Open the chains in `data`, and in the folder `shipped` of other nodes' copies."""
        self.homes = homes(data, shipped)
        self.readers = {name: Reader(path) for home in self.homes for name, path in home.logs.items()}

    def home_of(self, log: str) -> Home | None:
        """Return the node that wrote the log."""
        return next((home for home in self.homes if log in home.logs), None)

    def hashes(self, number: str, month: str = "") -> frozenset[bytes]:
        """Return the keyed hashes of a number (E.164) in one month, or in all that are not retired, in all chains.

        Raises `KeysUnusable`.
        """
        return frozenset(
            hashed
            for home in self.homes
            for name, hashed in home.keys().hashes(number).items()
            if month in {"", name}
        )

    def agents(self, agent: str) -> frozenset[bytes]:
        """Return an agent's ID as decisions hold it in each month that is not retired. Raises `KeysUnusable`."""
        return frozenset(
            seal_agent(month, agent) for home in self.homes for month in home.keys().live().values()
        )

    def months(self) -> set[str]:
        """Return the months (`YYYY-MM`) for which a chain has keys."""
        return {name for home in self.homes for name in home.keys().live()}

    def month_keys(self, record: Record) -> MonthKeys:
        """Return the keys with which a decision's numbers are encrypted. Raises `KeysUnusable`, also as `KeyRetired`."""
        log = log_of(record.id)
        home = self.home_of(log) or self.homes[0]
        return home.keys(log).month(record.at)

    def find(self, decision: str) -> LoggedDecision | None:
        """Return a decision by its id. Raises `LogDamaged`."""
        seq, reader = span.sequence(decision), self.readers.get(log_of(decision))
        if seq is None or reader is None:
            return None
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
        """Yield the outcomes reported for these decisions. Raises `LogDamaged`.

        The decisions themselves may be in logs that are not here.
        """
        for reader in self.readers.values():
            yield from reader.reports(decisions)

    def entries(self) -> Iterator[tuple[LogLine, Record | OutcomeRecord]]:
        """Yield all decisions and outcomes, one chain after another. Raises `LogDamaged`."""
        for reader in self.readers.values():
            yield from reader.entries()
