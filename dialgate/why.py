"""Why a number was called, or not: every decision about it that can still be found, and what each rests on.

A month's keys name its numbers. Where they are retired its records belong to nobody, and what is told is that.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice, takewhile
from pathlib import Path

from msgspec import Struct

from dialgate import phone, span
from dialgate.decision_log import Line
from dialgate.holds import Holds
from dialgate.keys import Keys
from dialgate.model import OutcomeRecord
from dialgate.numberset import DamagedFile, NumberSet
from dialgate.records import Reader, Record
from dialgate.snapshot import Consultation, SnapshotMissing, read_contents, read_manifest

Sees = Callable[[Record], bool]


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
        self._keys, self._log, self._snapshots = keys, data / "log", data / "snapshots"

    def about(self, number: str, sees: Sees, *, before: int = 0, most: int | None = None) -> list[Found]:
        """Newest first; of those older than entry `before`, if given. `number`: in E.164. Also those of retired months
        that a legal hold keeps. Raises `KeysUnusable`, `LogDamaged`, `HoldRefused`."""
        reader = Reader(self._log)
        found = (
            (line, record)
            for line, record in chain(
                reader.about(set(self._keys.hashes(number).values())), self._held(reader, number)
            )
            if (not before or record.seq < before) and sees(record)
        )
        return self._joined(reader, list(islice(found, most)))

    def _held(self, reader: Reader, number: str) -> Iterator[tuple[Line, Record]]:
        """Of months whose keys are gone, newest first: they are older than those that have keys."""
        hold = Holds(self._log.parent, self._keys).find(number)
        live = set(self._keys.hashes(number).values())
        seqs = {span.sequence(decision) or 0: decision for decision in (hold.records if hold else ())}
        for seq in sorted(seqs, reverse=True):
            line, record = next(reader.entries(first=seq), (None, None))
            if line and isinstance(record, Record) and record.id == seqs[seq] and record.number not in live:
                yield line, record

    def hashes(self, number: str) -> frozenset[bytes]:
        return frozenset(self._keys.hashes(number).values())

    def one(self, decision: str, sees: Sees) -> Found | None:
        seq = span.sequence(decision)
        if seq is None:
            return None
        reader = Reader(self._log)
        line, record = next(reader.entries(first=seq), (None, None))
        if line is None or not isinstance(record, Record) or record.id != decision or not sees(record):
            return None
        return self._joined(reader, [(line, record)])[0]

    def retired(self) -> list[str]:
        """The months (`YYYY-MM`) in which something was decided and whose keys are gone."""
        reader, live = Reader(self._log), self._keys.hashes("").keys()
        first = next(reader.entries(), None)
        if first is None or not live:
            return []
        past = (name for name in span.months(first[1].at) if name not in live)
        missing = takewhile(lambda name: name < max(live), past)
        return [name for name in missing if next(span.within(reader, span.month(name)), None)]

    def _joined(self, reader: Reader, found: Collection[tuple[Line, Record]]) -> list[Found]:
        """With what became of the calls, which stands later in the log."""
        if not found:
            return []
        outcomes: dict[str, list[OutcomeRecord]] = {record.id: [] for _, record in found}
        for outcome in reader.outcomes(first=min(line.seq for line, _ in found), of=outcomes.keys()):
            outcomes[outcome.decision].append(outcome)
        held = _consultations(self._snapshots)
        return [
            Found(line.hash, record, tuple(outcomes[record.id]), _those_of(record, held))
            for line, record in found
        ]


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
