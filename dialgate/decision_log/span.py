"""A part of the log, by sequence and by time."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

from msgspec import Struct

from dialgate.core.model import SECOND, Instant, OutcomeRecord
from dialgate.decision_log import Line
from dialgate.decision_log.records import Reader, Record

_NEVER: Instant = 1 << 62
_MOST = 1 << 40  # entries that no log has
_STRIDE = 4_096
_DIGITS = 18


class Span(Struct, frozen=True, kw_only=True):
    """Both ends of the sequence are within it; of the time the first only, and `until` is where it ends."""

    first: int = 1
    last: int = _MOST
    since: Instant = 0
    until: Instant = _NEVER


def begin(reader: Reader, span: Span) -> int:
    """The sequence to begin reading with: the first entries from there on may be too early."""
    return max(span.first, _first_since(reader, span.since)) if span.since else span.first


def within(reader: Reader, span: Span) -> Iterator[tuple[Line, Record | OutcomeRecord]]:
    for line, entry in reader.entries(first=begin(reader, span)):
        if line.seq > span.last or entry.at >= span.until:
            return
        if entry.at >= span.since:
            yield line, entry


def end(reader: Reader) -> int:
    """About where the log ends: at most so many entries later as are skipped in looking for it."""
    return _first_since(reader, _NEVER) + _STRIDE


def sequence(text: str) -> int | None:
    """What stands at the end of a decision's id, if it can be a sequence."""
    digits = text.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS else None


def months(at: Instant) -> Iterator[str]:
    """The names of the months (UTC, `YYYY-MM`) from that of `at` on, without end."""
    day = datetime.fromtimestamp(at // SECOND, UTC)
    for number in count(12 * day.year + day.month - 1):
        yield f"{number // 12:04}-{number % 12 + 1:02}"


def month(name: str) -> Span:
    """Of a `YYYY-MM`, as keys have them: in UTC."""
    year, number = map(int, name.split("-"))
    begins = datetime(year, number, 1, tzinfo=UTC)
    ends = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return Span(since=int(begins.timestamp()) * SECOND, until=int(ends.timestamp()) * SECOND)


def _first_since(reader: Reader, at: Instant) -> int:
    """A sequence that is followed, within a stride, by the first entry of `at` or later. A gate's clock never goes back,
    so few entries need be looked at, all in one segment; but each look may have to read that up to there."""
    previous, _, following = reader.begun_before(at)
    low = max(
        previous - _STRIDE, 1
    )  # who writes at once may have read the clock a moment earlier than who wrote before
    high = following or next(seq for seq in _doubled(low) if _instant(reader, seq) >= at)
    strides = range((high - low) // _STRIDE + 1)
    later = bisect_left(strides, at, key=lambda stride: _instant(reader, low + stride * _STRIDE))
    return low + max(later - 1, 0) * _STRIDE


def _doubled(low: int) -> Iterator[int]:
    return (low + (_STRIDE << power) for power in count())


def has(reader: Reader, span: Span) -> bool:
    """Whether there is anything within it. Most often that shows by a segment that was begun in it."""
    first, previous, _ = reader.begun_before(span.until)
    # Of the first segment of all that says nothing: a log may have been begun with records that are older than it.
    return (first > 1 and previous >= span.since) or next(within(reader, span), None) is not None


def _instant(reader: Reader, seq: int) -> Instant:
    entry = next(reader.entries(first=seq), None)
    return _NEVER if entry is None else entry[1].at
