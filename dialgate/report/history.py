"""A controller's decisions, counted by local hour, campaign, call list, caller ID and reason, beside those of the weeks before.

The counts of each day are cached in `history/` in the data folder. A day that is not over is counted from where the last request
ended, so a request reads little of the log. The files can be deleted: they are then made again from the log.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct, structs

from dialgate.config.configuration import Config
from dialgate.core import local_time
from dialgate.core.model import MINUTE, Instant
from dialgate.core.struct_copies import copy_fields
from dialgate.core.text_formats import OptionalTimestamp, Timestamp
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains, shipped_until
from dialgate.decision_log.entry_columns import SEALED, EntryColumns, count_equal
from dialgate.decision_log.records import Reader
from dialgate.decision_log.span import LogSpan
from dialgate.runtime import csv_text
from dialgate.runtime.atomic_write import write_file

# In every time zone an hour begins with one; by then, a gate has written its decisions.
_QUARTER: Final = 15 * MINUTE
_WEEK: Final = 7
_COLUMNS: Final = ("controller", "allow", "shadow", "campaign", "reason", "caller_id", "lists")
_FORMAT: Final = 1

Section: TypeAlias = Literal["slots", "campaigns", "lists", "caller_ids", "reasons"]
SECTIONS: Final[tuple[Section, ...]] = get_args(Section)
Verdict: TypeAlias = Literal["allowed", "denied", "let_through"]
_Counted: TypeAlias = tuple[int, Section, str, str, Verdict]  # hour, section, campaign, name
_DayCounts: TypeAlias = Counter[_Counted]


class HistoryOrder(Struct, frozen=True, kw_only=True):
    """A request for history: local days from `first` to `last` inclusive, and of each the hours from `hours[0]` up to `hours[1]`."""

    controller: str
    zone: str
    first: date
    last: date
    now: Instant
    hours: tuple[int, int] = (0, 24)
    campaign: str = ""
    agent: str = ""  # its days are not cached


class HistoryRow(Struct, kw_only=True):
    """The decisions of one hour, day, campaign, list, caller ID or reason.

    `let_through` counts the denied calls that went on in shadow mode. `before` counts all decisions in the same hours of the
    weeks before, and `compared` those of this period up to the same time.
    """

    name: str
    allowed: int = 0
    denied: int = 0
    let_through: int = 0
    compared: int = 0
    before: int = 0

    @property
    def checked(self) -> int:
        return self.allowed + self.denied

    @property
    def any(self) -> int:
        """Return the decisions of this period and of the weeks before."""
        return self.checked + self.before

    @property
    def change(self) -> float | None:
        """Return the relative change since the weeks before, or None if there was no decision then."""
        return self.compared / self.before - 1 if self.before else None


class DecisionHistory(Struct, frozen=True, kw_only=True):
    """Decisions by hour or day, campaign, list, caller ID and reason.

    `slots` are the hours of one day, or the days of a longer period. A number can be on several lists, so `lists` can add up to
    more than `total`; the list without a name counts numbers on none. `reasons` counts each denied call once, under its first
    reason. `before_first` is the first of as many days whole weeks before. `compared_until` is the end of the comparison if the
    period is not over. `shipped` has the time up to which each other gate shipped its log.
    """

    controller: str
    zone: str
    first: date
    last: date
    before_first: date
    before_last: date
    compared_until: OptionalTimestamp
    total: HistoryRow
    slots: list[HistoryRow]
    campaigns: list[HistoryRow]
    lists: list[HistoryRow]
    caller_ids: list[HistoryRow]
    reasons: list[HistoryRow]
    shipped: dict[str, Timestamp]


class _CachedDay(Struct):
    """The counts of a day. `logs` has the next entry to read of each log, or 0 if the log has no further entry of the day."""

    zone: str
    logs: dict[str, int]
    rows: list[tuple[_Counted, int]]
    format: int = _FORMAT


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_CachedDay).decode


def gather_history(config: Config, order: HistoryOrder) -> DecisionHistory:
    """Count the decisions of a period, in a process of its own. Raises `LogDamaged`."""
    days = (order.last - order.first).days + 1
    shift = timedelta(days=_WEEK * -(-days // _WEEK))
    days_read, sums = _Days(config, order), _Sums(order)
    for day in (order.first + timedelta(days=number) for number in range(days)):
        sums.add(day, days_read.counts(day), is_before=False)
        sums.add(day, days_read.counts(day - shift), is_before=True)
    return copy_fields(
        order,
        DecisionHistory,
        before_first=order.first - shift,
        before_last=order.last - shift,
        compared_until=sums.compared_until,
        total=sums.total,
        slots=list(sums.rows["slots"].values()),
        campaigns=_sorted(sums.rows["campaigns"]),
        lists=_sorted(sums.rows["lists"]),
        caller_ids=_sorted(sums.rows["caller_ids"]),
        reasons=_sorted(sums.rows["reasons"]),
        shipped=shipped_until(days_read.chains.homes),
    )


def _sorted(rows: Mapping[str, HistoryRow]) -> list[HistoryRow]:
    return sorted(rows.values(), key=lambda row: (-row.checked, -row.before, row.name))


class _Sums:
    """The rows of a history, and the end of its comparison with the weeks before."""

    def __init__(self, order: HistoryOrder) -> None:
        self.total = HistoryRow(name="")
        self.rows: dict[Section, dict[str, HistoryRow]] = {section: {} for section in SECTIONS}
        self._order, self._now = order, local_time.hour_in(order.zone, order.now)
        day, hour = self._now
        is_over = order.last < day
        begun = local_time.instant_in(order.zone, datetime.combine(day, time(hour)))
        self.compared_until = "" if is_over else local_time.rfc3339(begun)
        for name in self._slots():
            self._row("slots", name)

    def add(self, day: date, counts: _DayCounts, *, is_before: bool) -> None:
        """Add the counts of a day of the period, or of the day before it with which it is compared."""
        order = self._order
        for (hour, section, campaign, name, verdict), number in counts.items():
            if order.hours[0] <= hour < order.hours[1] and order.campaign in {"", campaign}:
                rows = [self._row(section, name)]
                if section == "campaigns":
                    rows += [self.total, self._row("slots", self._slot(day, hour))]
                is_compared = (day, hour) < self._now
                for row in rows:
                    if is_before:
                        row.before += number * is_compared
                    else:
                        row.allowed += number * (verdict == "allowed")
                        row.denied += number * (verdict != "allowed")
                        row.let_through += number * (verdict == "let_through")
                        row.compared += number * is_compared

    def _row(self, section: Section, name: str) -> HistoryRow:
        return self.rows[section].setdefault(name, HistoryRow(name=name))

    def _slot(self, day: date, hour: int) -> str:
        return f"{hour:02}" if self._order.first == self._order.last else day.isoformat()

    def _slots(self) -> Iterator[str]:
        first, last = self._order.first, self._order.last
        hours = range(*self._order.hours) if first == last else [0]
        for number in range((last - first).days + 1):
            yield from (self._slot(first + timedelta(days=number), hour) for hour in hours)


class _Days:
    """The counts of each day, from the cache and from what the logs hold beyond it."""

    def __init__(self, config: Config, order: HistoryOrder) -> None:
        self.chains = Chains(config.data, config.shipped)
        self._order, self._folder = order, config.data / "history" / order.controller
        self._agents = self.chains.agents(order.agent) if order.agent else None
        self._columns = (*_COLUMNS, "agent") if order.agent else _COLUMNS
        self._ends = {  # until when each log has all of its decisions
            log: home.shipped_until() if home.node else order.now - _QUARTER
            for home in self.chains.homes
            for log in home.logs
        }

    def counts(self, day: date) -> _DayCounts:
        zone, path = self._order.zone, self._folder / f"{day}.history"
        since, until = (local_time.midnight(zone, midnight) for midnight in (day, day + timedelta(days=1)))
        if since > self._order.now:
            return Counter()
        cached = _CachedDay(zone, {}, []) if self._agents is not None else _read(path, zone)
        counts, logs = Counter(dict(cached.rows)), dict(cached.logs)
        for log, reader in self.chains.readers.items():
            if begin := logs.get(log, 1):
                end = self._count(reader, LogSpan(first=begin, since=since, until=until), counts)
                logs[log] = 0 if self._ends[log] >= until else end
        if logs != cached.logs and self._agents is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = _CachedDay(zone=zone, logs=logs, rows=list(counts.items()))
            write_file(path, _encode(new), path.with_name(f"{path.name}.{os.getpid()}.new"))
        return counts

    def _count(self, reader: Reader, within: LogSpan, counts: _DayCounts) -> int:
        """Count the decisions in a part of a log. Return the sequence number after its last entry."""
        end = within.first
        # The segment of an entry that was read before needs no search by time.
        unread = structs.replace(within, since=0) if within.first > 1 else within
        for entries in span.columns_within(reader, unread, self._columns):
            if len(entries.seqs):
                end = int(entries.seqs[-1]) + 1
            decisions = entries.select(entries.is_decision & (entries.times >= within.since))
            decisions = decisions.select(decisions.column("controller").where(self._order.controller.__eq__))
            if self._agents is not None:
                decisions = decisions.select(decisions.column("agent").where(self._agents.__contains__))
            if len(decisions.seqs):
                _count(decisions, self._order.zone, counts)
        return end


def _read(path: Path, zone: str) -> _CachedDay:
    try:
        cached = _decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return _CachedDay(zone, {}, [])
    return cached if (cached.zone, cached.format) == (zone, _FORMAT) else _CachedDay(zone, {}, [])


def _count(decisions: EntryColumns, zone: str, counts: _DayCounts) -> None:
    """Count at least one decision, all of one log and one local day."""
    columns = [
        decisions.unit(_QUARTER).map(lambda at: local_time.hour_in(zone, at)[1]),
        *(decisions.column(name) for name in ("campaign", "allow", "shadow", "reason", "caller_id", "lists")),
    ]
    for (hour, campaign, allow, shadow, reason, caller_id, lists), number in count_equal(columns):
        verdict: Verdict = "allowed" if allow else "let_through" if shadow else "denied"
        names: list[tuple[Section, str]] = [
            ("campaigns", campaign),
            ("caller_ids", caller_id.removesuffix(SEALED)),
            *(("lists", name) for name in lists.split() or [""]),
            *(() if allow else (("reasons", reason),)),
        ]
        for section, name in names:
            counts[hour, section, campaign, name, verdict] += number


def history_csv(history: DecisionHistory, section: Section) -> str:
    """Return the rows of one section as CSV. Its column names are English and do not change; more may be added."""
    numbers = ("checked", "allowed", "denied", "let_through", "compared", "before")
    lines: list[tuple[object, ...]] = [
        ("controller", "first", "last", "section", "name", *numbers, "before_first", "before_last")
    ]
    for row in getattr(history, section):
        values = (getattr(row, name) for name in numbers)
        days = (history.before_first.isoformat(), history.before_last.isoformat())
        first, last = history.first.isoformat(), history.last.isoformat()
        lines.append((history.controller, first, last, section, row.name, *values, *days))
    return csv_text.table(lines)
