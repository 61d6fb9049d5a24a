"""Why a number was called, or not: every decision about it that can still be found, and what each rests on.

A month's keys name its numbers. Where they are retired its records belong to nobody, and what is told is that.
"""

from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct

from dialgate.audit.legal_holds import Holds
from dialgate.core import phone
from dialgate.core.model import Instant, OutcomeRecord
from dialgate.crypto.keys import Keys
from dialgate.decision_log import Line, span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Record
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Consultation, SnapshotMissing, read_contents, read_manifest

# Of a decision among those of all gates: when it was made, in which log, and where there. A newer one comes after.
Position: TypeAlias = tuple[Instant, str, int]
BEGINNING: Final[Position] = (0, "", 0)
_FOR_EVER: Final[Instant] = 1 << 62


class Sees(Struct, frozen=True, kw_only=True):
    """Whose decisions are told: of `controllers`, or of every one and also of campaigns that nobody has (None); of these last, else,
    what `client` asked for itself. Within [`since`, `until`)."""

    controllers: tuple[str, ...] | None = None
    client: str = ""
    since: Instant = 0
    until: Instant = _FOR_EVER

    @classmethod
    def of(cls, client: str, controllers: tuple[str, ...], controller: str = "") -> "Sees":
        """As a client sees: of its controllers, or of one of them alone."""
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


class NumberUnreadable(ValueError):
    """`str()` is what is wrong with it, without a digit of it."""


class Found(Struct, frozen=True):
    """`hash`: of the record's line, in hex. `consultations`: those that its registry answers came from, by registry, as
    far as they are still published."""

    hash: str
    record: Record
    outcomes: tuple[OutcomeRecord, ...]
    consultations: dict[str, Consultation]


class Inquiry:
    """Of one data folder, beside a running gate or without one."""

    def __init__(self, data: Path, keys: Keys) -> None:
        self._keys, self._data, self._snapshots = keys, data, data / "snapshots"

    def about(
        self, number: str, sees: Sees, *, before: Position | None = None, most: int | None = None
    ) -> list[Found]:
        """Newest first; of those older than `before`, if given. `number`: in E.164. Also those of retired months that a legal
        hold keeps. Raises `KeysUnusable`, `LogDamaged`, `HoldRefused`."""
        chains = Chains(self._data)
        every = merge(
            chains.about(set(self._keys.hashes(number).values())),
            self._held(chains, number),
            key=lambda each: position(each[1]),
            reverse=True,
        )
        found = (
            (line, record)
            for line, record in every
            if sees(record) and (before is None or position(record) < before)
        )
        return self._joined(chains, list(islice(found, most)))

    def _held(self, chains: Chains, number: str) -> Iterator[tuple[Line, Record]]:
        """Of months whose keys are gone, newest first."""
        hold = Holds(self._data, self._keys).find(number)
        live = set(self._keys.hashes(number).values())
        found = filter(None, map(chains.find, hold.records if hold else ()))
        for each in sorted(found, key=lambda each: position(each.record), reverse=True):
            if each.record.number not in live:
                yield each.line, each.record

    def hashes(self, number: str) -> frozenset[bytes]:
        return frozenset(self._keys.hashes(number).values())

    def one(self, decision: str, sees: Sees) -> Found | None:
        chains = Chains(self._data)
        found = chains.find(decision)
        if found is None or not sees(found.record):
            return None
        return self._joined(chains, [(found.line, found.record)])[0]

    def outcomes(self, decisions: Collection[str]) -> list[OutcomeRecord]:
        """The reports here of what became of these decisions' calls, which may be another gate's. Raises `LogDamaged`."""
        return list(Chains(self._data).reports(decisions))

    def retired(self) -> list[str]:
        """The months (`YYYY-MM`) in which something was decided and whose keys are gone."""
        readers, live = Chains(self._data).readers.values(), self._keys.hashes("").keys()
        firsts = [first[1].at for reader in readers if (first := next(reader.entries(), None))]
        if not firsts or not live:
            return []
        past = (name for name in span.months(min(firsts)) if name not in live)
        missing = takewhile(lambda name: name < max(live), past)
        return [name for name in missing if any(span.has(reader, span.month(name)) for reader in readers)]

    def _joined(self, chains: Chains, found: Collection[tuple[Line, Record]]) -> list[Found]:
        """With what became of the calls."""
        if not found:
            return []
        outcomes = chains.outcomes([record for _, record in found])
        held = _consultations(self._snapshots)
        return [
            Found(line.hash, record, tuple(outcomes[record.id]), _those_of(record, held))
            for line, record in found
        ]


def position(record: Record) -> Position:
    return record.at, record.id.rpartition("-")[0], record.seq


def e164(raw: str, home: str) -> str:
    """Raises `NumberUnreadable`."""
    try:
        return phone.parse(raw, home).e164
    except phone.NotANumber as problem:
        raise NumberUnreadable(str(problem)) from problem


_Held = dict[tuple[str, str, str], Consultation]


def _consultations(folder: Path) -> _Held:
    """By registry, controller and id. A publication keeps those of its forerunners."""
    held: _Held = {}
    try:
        for entry in read_manifest(folder).files:
            path = folder / entry.file
            numbers = NumberSet.open(path)
            try:
                contents = read_contents(numbers, path)
            finally:
                numbers.close()
            held |= {(entry.registry, entry.controller, each.id): each for each in contents.consultations}
    except (SnapshotMissing, DamagedFile, FileNotFoundError):
        return held  # the record names the consultation all the same
    return held


def _those_of(record: Record, held: _Held) -> dict[str, Consultation]:
    owner = record.facts.controller.id
    pairs = (
        (answer.registry, held.get((answer.registry, name, answer.consultation)))
        for answer in record.facts.registries
        for name in ("", owner)
    )
    return {registry: consultation for registry, consultation in pairs if consultation is not None}
