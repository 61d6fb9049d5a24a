"""The history of a number: the decisions about it by all gates on the store, with outcomes and registry receipts.

A month's keys link numbers to the records from that month. Once the keys are destroyed, these records are
anonymous, and the history reports the month as retired.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from heapq import merge
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.audit.legal_holds import Holds
from dialgate.core.decision_ids import log_of
from dialgate.core.model import Instant, OutcomeRecord
from dialgate.crypto.keys import Keys
from dialgate.decision_log import LogLine, last_checkpoint, span
from dialgate.decision_log.chains import Chains, Home
from dialgate.decision_log.entry_columns import EntryColumns
from dialgate.decision_log.records import Position, Record, position
from dialgate.lists.manifest import SnapshotMissing, read_manifest
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Consultation, read_contents

BEGINNING: Final[Position] = (0, "", 0)
_FOR_EVER: Final[Instant] = 1 << 62


class Visibility(Struct, frozen=True, kw_only=True):
    """A filter for the decisions that a client may see.

    The filter admits decisions for `controllers` (None for all) with `since` <= time < `until`. A decision about
    an unknown campaign belongs to no controller. Such a decision is admitted if `controllers` is None or if
    `client` requested the decision.
    """

    controllers: tuple[str, ...] | None = None
    client: str = ""
    since: Instant = 0
    until: Instant = _FOR_EVER

    @classmethod
    def for_client(cls, client: str, controllers: tuple[str, ...], controller: str = "") -> "Visibility":
        """Return the filter for a client that has access to `controllers`.

        If `controller` is given, the filter admits only decisions for that controller. If the client has no access to
        that controller, the filter admits nothing.
        """
        if not controller:
            return cls(controllers=controllers, client=client)
        return cls(controllers=(controller,) if controller in controllers else ())

    def __call__(self, record: Record) -> bool:
        owner = record.facts.controller.id
        if not self.since <= record.at < self.until:
            return False
        if self.controllers is None:
            return True
        return owner in self.controllers if owner else bool(self.client) and record.client == self.client

    def mask(self, decisions: EntryColumns) -> NDArray[np.bool_]:
        """Return for each decision whether the filter admits it, whatever its time."""
        controllers, owner = self.controllers, decisions.column("controller")
        if controllers is None:
            return np.ones(len(owner.codes), np.bool_)
        is_theirs = owner.where(lambda controller: bool(controller) and controller in controllers)
        if not self.client:
            return is_theirs
        is_own = owner.where("".__eq__) & decisions.column("client").where(self.client.__eq__)
        return is_theirs | is_own


class FoundDecision(Struct, frozen=True):
    """A decision with its outcomes."""

    hash: str  # of the record's line, in hex
    record: Record
    outcomes: tuple[OutcomeRecord, ...]
    # by registry: the consultation that gave its answer, if still published
    consultations: dict[str, Consultation]


class Inquiry:
    """A reader for the decisions of this node, and of the nodes that shipped theirs. It works without a running gate."""

    def __init__(self, data: Path, keys: Keys, shipped: Path | None = None) -> None:
        """Open this node's logs, and those in the folder `shipped` of the other nodes."""
        self._keys, self._data, self._snapshots = keys, data, data / "snapshots"
        self.chains = Chains(data, shipped)

    def find(
        self,
        number: str,
        sees: Callable[[Record], bool],
        *,
        before: Position | None = None,
        most: int | None = None,
    ) -> list[FoundDecision]:
        """Return up to `most` decisions about a number (E.164), newest first.

        If `before` is given, return only decisions older than this position. The result includes decisions from
        retired months that are under a legal hold. Raises `KeysUnusable`, `LogDamaged`, `HoldRefused`.
        """
        merged = merge(
            self.chains.find_decisions(self.chains.hashes(number)),
            self._under_hold(number),
            key=lambda line_and_record: position(line_and_record[1]),
            reverse=True,
        )
        visible = (
            (line, record)
            for line, record in merged
            if sees(record) and (before is None or position(record) < before)
        )
        return self._with_outcomes(list(islice(visible, most)))

    def one_position(self, decision: str, sees: Visibility) -> Position | None:
        """Return a decision's position in the order of `find`, or None if there is no such decision."""
        entry = self.chains.find(decision)
        return position(entry.record) if entry is not None and sees(entry.record) else None

    def may_come(self, decision: str) -> bool:
        """Return whether another node may have made this decision, but has not shipped it yet."""
        home, seq = self.chains.home_of(log_of(decision)), span.sequence(decision)
        if home is None or not home.node or seq is None:
            return False
        end = last_checkpoint(home.logs[log_of(decision)])
        return end is None or end.checkpoint.size < seq

    def _under_hold(self, number: str) -> Iterator[tuple[LogLine, Record]]:
        """Yield the decisions in retired months that only a legal hold still links to `number`, newest first."""
        hold = Holds(self._data, self._keys).find(number)
        live = self.chains.hashes(number)
        entries = filter(None, map(self.chains.find, hold.records if hold else ()))
        for entry in sorted(entries, key=lambda entry: position(entry.record), reverse=True):
            if entry.record.number not in live:
                yield entry.line, entry.record

    def one(self, decision: str, sees: Visibility) -> FoundDecision | None:
        entry = self.chains.find(decision)
        if entry is None or not sees(entry.record):
            return None
        return self._with_outcomes([(entry.line, entry.record)])[0]

    def retired(self) -> list[str]:
        """Return the months (`YYYY-MM`) that have decisions but whose keys are destroyed."""
        return sorted({month for home in self.chains.homes for month in self._retired(home)})

    def _retired(self, home: Home) -> list[str]:
        readers = [self.chains.readers[log] for log in home.logs]
        live = home.keys().live().keys()
        firsts = [first[1].at for reader in readers if (first := next(reader.entries(), None))]
        if not firsts or not live:
            return []
        past = (name for name in span.months(min(firsts)) if name not in live)
        missing = takewhile(lambda name: name < max(live), past)
        return [name for name in missing if any(span.has(reader, span.month(name)) for reader in readers)]

    def _with_outcomes(self, entries: Collection[tuple[LogLine, Record]]) -> list[FoundDecision]:
        if not entries:
            return []
        outcomes = self.chains.outcomes([record for _, record in entries])
        published = published_consultations(self._snapshots)
        return [
            FoundDecision(line.hash, record, tuple(outcomes[record.id]), consultations_of(record, published))
            for line, record in entries
        ]


def read_consultations(path: Path) -> tuple[Consultation, ...]:
    """Return the consultations of a snapshot file, or none if it cannot be read: records name their consultations anyway."""
    try:
        with closing(NumberSet.open(path)) as numbers:
            return read_contents(numbers, path).consultations
    except (DamagedFile, OSError):
        return ()


Published: TypeAlias = dict[tuple[str, str, str], Consultation]


def published_consultations(folder: Path) -> Published:
    """Return the published consultations, keyed by registry, controller and id.

    Consultations from earlier publications are included.
    """
    try:
        files = read_manifest(folder).files
    except (SnapshotMissing, DamagedFile, OSError):
        return {}
    return {
        (entry.registry, entry.controller, consultation.id): consultation
        for entry in files
        for consultation in read_consultations(folder / entry.file)
    }


def consultations_of(record: Record, published: Published) -> dict[str, Consultation]:
    """Return the published consultations that gave the answers in a record, by registry."""
    owner = record.facts.controller.id
    pairs = (
        (answer.registry, published.get((answer.registry, name, answer.consultation)))
        for answer in record.facts.registries
        for name in ("", owner)
    )
    return {registry: consultation for registry, consultation in pairs if consultation is not None}
