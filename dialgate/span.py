"""A part of the log, by sequence and by time."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

from msgspec import Struct

from dialgate.decision_log import Line
from dialgate.model import SECOND, Instant, OutcomeRecord
from dialgate.records import Reader, Record

_NEVER: Instant = 1 << 62
_MOST = 1 << 40  # entries that no log has


class Span(Struct, frozen=True, kw_only=True):
    """Both ends of the sequence are within it; of the time the first only, and `until` is where it ends."""

    first: int = 1
    last: int = _MOST
    since: Instant = 0
    until: Instant = _NEVER


def begin(reader: Reader, span: Span) -> int:
    """The sequence that reading begins with."""
    return max(span.first, first_since(reader, span.since)) if span.since else span.first


def within(reader: Reader, span: Span) -> Iterator[tuple[Line, Record | OutcomeRecord]]:
    for line, entry in reader.entries(first=begin(reader, span)):
        if line.seq > span.last or entry.at >= span.until:
            return
        yield line, entry


def end(reader: Reader) -> int:
    """The sequence that no entry has yet."""
    return first_since(reader, _NEVER)


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


def first_since(reader: Reader, at: Instant) -> int:
    """The lowest sequence from which on every entry is of `at` or later: a gate's clock never goes back, so a few of
    them need be looked at."""
    return bisect_left(range(_MOST), at, lo=1, key=lambda seq: _instant(reader, seq))


def _instant(reader: Reader, seq: int) -> Instant:
    found = next(reader.entries(first=seq), None)
    return _NEVER if found is None else found[1].at
