"""The figures in a report. They depend only on the records, not on when the report is made."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from msgspec import Struct

from dialgate.audit.number_history import read_consultations
from dialgate.audit.search import with_results
from dialgate.config.configuration import Config
from dialgate.core import local_time
from dialgate.core.abandonment import ANSWERED
from dialgate.core.ledger_events import Entry, Revoked
from dialgate.core.model import MINUTE, Instant, Result
from dialgate.crypto.keys import Keys
from dialgate.decision_log.chains import Chains, homes, shipped_until
from dialgate.decision_log.entry_columns import SEALED, Column, EntryColumns, count_equal
from dialgate.decision_log.records import Position
from dialgate.decision_log.span import LogSpan
from dialgate.lists.manifest import SnapshotMissing, read_manifest
from dialgate.lists.manifest_history import manifest_before
from dialgate.lists.number_set import DamagedFile
from dialgate.store import Ledger

_HOURS = 24
_ENTRIES = 4_096  # ledger entries per read
_QUARTER = 15 * MINUTE  # in every time zone an hour begins with one
_COUNTED = ("allow", "shadow", "campaign", "reason", "caller_id", "country", "law")


class Period(Struct, frozen=True, kw_only=True):
    """A period of whole local days, from `first` to `last` inclusive. `name` is the requested day, week or month."""

    name: str
    first: date
    last: date
    zone: str
    since: Instant
    until: Instant

    @property
    def is_day(self) -> bool:
        return self.first == self.last

    @property
    def slots(self) -> list[str]:
        """Return the labels for the chart's time axis: the hours of a day, or the days of the month."""
        if self.is_day:
            return [f"{hour:02}" for hour in range(_HOURS)]
        days = (self.last - self.first).days + 1
        return [str((self.first + timedelta(days=number)).day) for number in range(days)]

    def slot(self, at: Instant) -> int:
        day, hour = local_time.hour_in(self.zone, at)
        return hour if self.is_day else (day - self.first).days


class Slot(Struct, frozen=True, kw_only=True):
    name: str
    allowed: int
    denied: int


class CampaignRow(Struct, frozen=True, kw_only=True):
    """A campaign's calls.

    `abandoned_share` is the share of answered calls that were abandoned (at most 0.03: Garante, provv. 83/2014).
    """

    campaign: str
    asked: int
    allowed: int
    denied: int
    answered: int
    abandoned: int
    opt_outs: int
    abandoned_share: float


class RegistryUse(Struct, frozen=True, kw_only=True):
    """A registry's consultations in the period, and its state at the end of the period.

    Only answers that were imported by then are counted. `numbers` is the number of published answers, or None if that
    publication is no longer kept. `newest` is the time of the newest consultation in RFC 3339 format, even if it is before
    the period.
    """

    registry: str
    numbers: int | None
    consultations: int
    asked_about: int
    listed: int
    newest: str
    receipts: tuple[str, ...]


class StopFigures(Struct, frozen=True, kw_only=True):
    """The revocations that took effect in the period.

    `median_wait` and `longest_wait` are in milliseconds. A wait begins with the data subject's request. It ends
    with the ledger entry, which applies to all later decisions.
    """

    revocations: int
    by_channel: dict[str, int]
    median_wait: int
    longest_wait: int


class CallReport(Struct, frozen=True, kw_only=True):
    """All figures in a report.

    `reasons` counts each denied call once, under its first reason. `records` holds the ids of the first and last decision in
    the report, and `laws` the hashes of the laws in force. `shipped` has the time up to which each other gate shipped its log:
    later decisions by that gate are not in the report. `let_through` counts the denied calls that went on in shadow mode.
    """

    controller: str
    name: str
    period: Period
    made_at: str
    asked: int
    allowed: int
    denied: int
    reasons: dict[str, int]
    slots: tuple[Slot, ...]
    campaigns: tuple[CampaignRow, ...]
    outcomes: dict[str, int]
    bases: dict[str, int]
    caller_ids: dict[str, int]
    registries: tuple[RegistryUse, ...]
    stops: StopFigures
    ledger: dict[str, int]
    records: tuple[str, ...]
    laws: tuple[str, ...]
    shipped: dict[str, str] = {}
    let_through: int = 0

    @property
    def allowed_share(self) -> float:
        return self.allowed / self.asked if self.asked else 0.0


def day(text: str, zone: str) -> Period:
    """Return the period for the day `text` (`YYYY-MM-DD`) in a time zone. Raises `ValueError`."""
    first = date.fromisoformat(text)
    return _period(text, first, first, zone)


def week(text: str, zone: str) -> Period:
    """Return the period for the week `text` (`YYYY-Www`, from Monday, ISO 8601) in a time zone. Raises `ValueError`."""
    if not re.fullmatch(r"\d{4}-W\d\d", text):
        raise ValueError(text)
    first = date.fromisoformat(f"{text}-1")
    return _period(text, first, first + timedelta(days=6), zone)


def month(text: str, zone: str) -> Period:
    """Return the period for the month `text` (`YYYY-MM`) in a time zone. Raises `ValueError`."""
    first = date.fromisoformat(f"{text}-01")
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return _period(text, first, last, zone)


# How to read a period's name, and how a date in it gives the name.
PERIODS = {"day": (day, "%Y-%m-%d"), "week": (week, "%G-W%V"), "month": (month, "%Y-%m")}


def _period(name: str, first: date, last: date, zone: str) -> Period:
    since, until = local_time.midnight(zone, first), local_time.midnight(zone, last + timedelta(days=1))
    return Period(name=name, first=first, last=last, zone=zone, since=since, until=until)


class _Tally:
    def __init__(self, period: Period) -> None:
        self.reasons: Counter[str] = Counter()
        self.slots: Counter[tuple[int, bool]] = Counter()
        self.calls: Counter[tuple[str, bool]] = Counter()
        self.results: Counter[tuple[str, Result]] = Counter()
        self.bases: Counter[str] = Counter()
        self.caller_ids: Counter[str] = Counter()
        self.laws: set[str] = set()
        self.let_through = 0
        self.ends: list[Position] = []  # of the first and the last decision
        self._period = period

    def add(self, decisions: EntryColumns, results: Column) -> None:
        """Count at least one decision, all of one log. `results` holds the result of each call."""
        order = np.lexsort((decisions.seqs, decisions.times))[[0, -1]]
        times, seqs = decisions.times[order].tolist(), decisions.seqs[order].tolist()
        ends = [*self.ends, *((at, decisions.log, seq) for at, seq in zip(times, seqs, strict=True))]
        self.ends = [min(ends), max(ends)]
        columns = [
            results,
            decisions.unit(_QUARTER).map(self._period.slot),
            decisions.column("basis").map(lambda basis: basis.partition(":")[0]),
            *(decisions.column(name) for name in _COUNTED),
        ]
        for values, number in count_equal(columns):
            result, slot, basis, allow, shadow, campaign, reason, caller_id, country, law = values
            self.calls[campaign, allow] += number
            self.slots[slot, allow] += number
            self.laws.add(f"{country} {law}")
            if allow:
                self.bases[basis] += number
            else:
                self.reasons[reason] += number
            if allow or shadow:
                self.caller_ids[caller_id.removesuffix(SEALED)] += number
                self.results[campaign, result] += number
            if shadow and not allow:
                self.let_through += number


async def gather(
    config: Config, store: Ledger, controller: str, period: Period, made_at: Instant
) -> CallReport:
    """Collect the figures for a period. Raises `LogDamaged`, `StoreUnavailable`."""
    tally = _read_log(Chains(config.data, config.shipped), controller, period)
    entries = await _entries(store, controller, period)
    campaigns = tuple(_campaigns(tally))
    totals: Counter[str] = Counter()
    for (_, result), count in tally.results.items():
        totals[result] += count
    return CallReport(
        controller=controller,
        name=config.controllers[controller].name,
        period=period,
        made_at=local_time.rfc3339(made_at),
        asked=sum(row.asked for row in campaigns),
        allowed=sum(row.allowed for row in campaigns),
        denied=sum(row.denied for row in campaigns),
        reasons=dict(tally.reasons.most_common()),
        slots=tuple(
            Slot(name=name, allowed=tally.slots[index, True], denied=tally.slots[index, False])
            for index, name in enumerate(period.slots)
        ),
        campaigns=campaigns,
        outcomes=dict(totals.most_common()),
        bases=dict(tally.bases.most_common()),
        caller_ids=dict(tally.caller_ids.most_common()),
        registries=tuple(_registries(config.data / "snapshots", controller, period)),
        stops=_stops(entries),
        ledger=dict(Counter(_kind(entry) for entry in entries).most_common()),
        records=outside_ids(
            config, dict.fromkeys((f"{log}-{seq}", controller) for _, log, seq in tally.ends)
        ),
        laws=tuple(sorted(tally.laws)),
        shipped=shipped_until(homes(config.data, config.shipped)),
        let_through=tally.let_through,
    )


def outside_ids(config: Config, decisions: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the ids that clients see for decisions, given with their owners. Raises `KeysUnusable`."""
    if not config.shared:
        return tuple(name for name, _ in decisions)
    return tuple(Keys.open(config.data / "keys.json").ids.outside(decisions))


def _read_log(chains: Chains, controller: str, period: Period) -> _Tally:
    tally, within = _Tally(period), LogSpan(since=period.since, until=period.until)
    for reader in chains.readers.values():
        for entries, results in with_results(chains, reader, within, ["controller", "basis", *_COUNTED]):
            decisions = entries.select(entries.column("controller").where(controller.__eq__))
            if len(decisions.seqs):
                tally.add(decisions, results.of(decisions))
    return tally


def _campaigns(tally: _Tally) -> Iterator[CampaignRow]:
    for name in sorted({campaign for campaign, _ in tally.calls}):
        allowed, denied = tally.calls[name, True], tally.calls[name, False]
        answered = sum(tally.results[name, result] for result in ANSWERED)
        abandoned = tally.results[name, "abandoned"]
        yield CampaignRow(
            campaign=name,
            asked=allowed + denied,
            allowed=allowed,
            denied=denied,
            answered=answered,
            abandoned=abandoned,
            opt_outs=tally.results[name, "opt_out"],
            abandoned_share=abandoned / answered if answered else float(abandoned > 0),
        )


async def _entries(store: Ledger, controller: str, period: Period) -> Sequence[Entry]:
    selected: list[Entry] = []
    seq = 0
    while entries := await store.since(seq, _ENTRIES):
        selected += [
            entry
            for entry in entries
            if entry.controller in {controller, "*"} and period.since <= entry.at < period.until
        ]
        seq = entries[-1].seq
    return selected


def _kind(entry: Entry) -> str:
    return str(entry.event.__struct_config__.tag)


def _stops(entries: Iterable[Entry]) -> StopFigures:
    revoked = [(entry, entry.event) for entry in entries if isinstance(entry.event, Revoked)]
    waits = [max(entry.at - event.at, 0) for entry, event in revoked]
    return StopFigures(
        revocations=len(revoked),
        by_channel=dict(Counter(entry.channel for entry, _ in revoked).most_common()),
        median_wait=int(median(waits)) if waits else 0,
        longest_wait=max(waits, default=0),
    )


def _registries(folder: Path, controller: str, period: Period) -> Iterator[RegistryUse]:
    """Yield each registry's state at the end of the period, or nothing if the published snapshot cannot be read."""
    try:
        files, then = read_manifest(folder).files, manifest_before(folder, period.until)
    except (SnapshotMissing, DamagedFile, OSError):
        return
    numbers = {(file.registry, file.controller): file.numbers for file in then.files} if then else {}
    for file in files:
        if file.controller in {controller, ""}:
            # The newest file also holds the consultations of earlier publications.
            consultations = [
                consultation
                for consultation in read_consultations(folder / file.file)
                if consultation.imported_at < period.until
            ]
            within = [
                consultation for consultation in consultations if period.since <= consultation.submitted_at
            ]
            newest = max((consultation.submitted_at for consultation in consultations), default=0)
            yield RegistryUse(
                registry=file.registry,
                numbers=numbers.get((file.registry, file.controller), 0) if then else None,
                consultations=len(within),
                asked_about=sum(consultation.lines for consultation in within),
                listed=sum(consultation.listed for consultation in within),
                newest=local_time.rfc3339(newest) if newest else "",
                receipts=tuple(consultation.receipt for consultation in within),
            )


def as_json(report: CallReport) -> bytes:
    return msgspec.json.encode(report) + b"\n"
