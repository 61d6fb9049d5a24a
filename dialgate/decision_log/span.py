"""Parts of a log, selected by sequence number and by time."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

from msgspec import Struct

from dialgate.core.model import SECOND, Instant, OutcomeRecord
from dialgate.decision_log import LogLine
from dialgate.decision_log.records import Reader, Record

_NEVER: Instant = 1 << 62
_NO_LIMIT = 1 << 40  # more entries than any log has
_STRIDE = 4_096
_DIGITS = 18


class LogSpan(Struct, frozen=True, kw_only=True):
    """The limits of a part of the log. `first`, `last` and `since` are inclusive, `until` is exclusive."""

    first: int = 1
    last: int = _NO_LIMIT
    since: Instant = 0
    until: Instant = _NEVER


def begin(reader: Reader, span: LogSpan) -> int:
    """Return the sequence number of the first entry to read. This entry can be older than `span.since`."""
    return max(span.first, _first_since(reader, span.since)) if span.since else span.first


def within(reader: Reader, span: LogSpan) -> Iterator[tuple[LogLine, Record | OutcomeRecord]]:
    for line, entry in reader.entries(first=begin(reader, span)):
        if line.seq > span.last or entry.at >= span.until:
            return
        if entry.at >= span.since:
            yield line, entry


def end(reader: Reader) -> int:
    """Return an upper bound for the sequence numbers in the log, at most `_STRIDE` above the last one."""
    return _first_since(reader, _NEVER) + _STRIDE


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


def _first_since(reader: Reader, at: Instant) -> int:
    """Return the sequence number from which to read all entries with time `at` or later.

    At most about `_STRIDE` older entries are read too. The clock of a gate never goes back, so a binary search within one
    segment is enough. Each probe may read the segment from its start.
    """
    previous, _, following = reader.begun_before(at)
    low = max(previous - _STRIDE, 1)  # concurrent writes: an entry can be slightly older than the one before
    high = following or next(seq for seq in _doubled(low) if _instant(reader, seq) >= at)
    strides = range((high - low) // _STRIDE + 1)
    later = bisect_left(strides, at, key=lambda stride: _instant(reader, low + stride * _STRIDE))
    return low + max(later - 1, 0) * _STRIDE


def _doubled(low: int) -> Iterator[int]:
    return (low + (_STRIDE << power) for power in count())


def has(reader: Reader, span: LogSpan) -> bool:
    """Return whether the log has an entry within the span.

    Entries are read only if the start times of the segments do not give the answer.
    """
    first, previous, _ = reader.begun_before(span.until)
    # Not for the first segment, because its first records may be older than the segment.
    return (first > 1 and previous >= span.since) or next(within(reader, span), None) is not None


def _instant(reader: Reader, seq: int) -> Instant:
    entry = next(reader.entries(first=seq), None)
    return _NEVER if entry is None else entry[1].at
