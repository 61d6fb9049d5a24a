"""Parts of a log, selected by sequence number and by time."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

import numpy as np
from msgspec import Struct

from dialgate.core.model import SECOND, Instant, OutcomeRecord
from dialgate.decision_log import LogLine
from dialgate.decision_log.entry_columns import EntryColumns
from dialgate.decision_log.records import Reader, Record

_NEVER: Instant = 1 << 62
_NO_LIMIT = 1 << 40  # more entries than any log has
_DIGITS = 18


class LogSpan(Struct, frozen=True, kw_only=True):
    """The limits of a part of the log. `first`, `last` and `since` are inclusive, `until` is exclusive."""

    first: int = 1
    last: int = _NO_LIMIT
    since: Instant = 0
    until: Instant = _NEVER


def begin(reader: Reader, span: LogSpan) -> int:
    """Return the sequence number of the first entry to read. The entry can be older than `span.since`, by up to a segment."""
    return max(span.first, reader.segments.begun_before(span.since)[0]) if span.since else span.first


def within(reader: Reader, span: LogSpan) -> Iterator[tuple[LogLine, Record | OutcomeRecord]]:
    for line, entry in reader.entries(first=begin(reader, span)):
        if line.seq > span.last or entry.at >= span.until:
            return
        if entry.at >= span.since:
            yield line, entry


def columns_within(reader: Reader, span: LogSpan, names: Collection[str]) -> Iterator[EntryColumns]:
    """Yield the decisions and outcomes within the span, with the columns `names` of decisions."""
    for entries in reader.columns(names, first=begin(reader, span)):
        beyond = np.flatnonzero((entries.seqs > span.last) | (entries.times >= span.until))
        until = entries.select(slice(beyond[0] if len(beyond) else None))
        yield until.select(until.times >= span.since)
        if len(beyond):
            return


def columns_backwards(
    reader: Reader, span: LogSpan, names: Collection[str], having: Mapping[str, Any]
) -> Iterator[EntryColumns]:
    """Yield parts like `columns_within`, the newest first. Decisions that lack one of the values `having` can be left out."""
    last = min(span.last, reader.segments.begun_before(span.until)[0])  # begins the newest segment to read
    for entries in reader.columns_backwards(names, first=begin(reader, span), last=last, having=having):
        is_within = (entries.seqs >= span.first) & (entries.seqs <= span.last)
        yield entries.select(is_within & (entries.times >= span.since) & (entries.times < span.until))


def sequence(text: str) -> int | None:
    """Return the sequence number in a decision id, or None if `text` has no valid sequence number."""
    digits = text.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS else None


def months(at: Instant) -> Iterator[str]:
    """Yield month names (`YYYY-MM`, UTC) indefinitely, starting with the month of `at`."""
    day = datetime.fromtimestamp(at // SECOND, UTC)
    for number in count(12 * day.year + day.month - 1):
        yield f"{number // 12:04}-{number % 12 + 1:02}"


def month(name: str) -> LogSpan:
    """Return the span of a month (`YYYY-MM`, UTC)."""
    year, number = map(int, name.split("-"))
    begins = datetime(year, number, 1, tzinfo=UTC)
    ends = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return LogSpan(since=int(begins.timestamp()) * SECOND, until=int(ends.timestamp()) * SECOND)


def has(reader: Reader, span: LogSpan) -> bool:
    """Return whether the log has an entry within the span.

    Entries are read only if the start times of the segments do not give the answer.
    """
    first, begun = reader.segments.begun_before(span.until)
    # Not for the first segment, because its first records may be older than the segment.
    return (first > 1 and begun >= span.since) or next(within(reader, span), None) is not None
