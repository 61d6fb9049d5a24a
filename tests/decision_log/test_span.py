"""A time span of the log contains exactly the entries from that time, whether or not the segments are packed."""

from pathlib import Path

import pytest

from dialgate.core.model import HOUR
from dialgate.crypto.keys import Keys
from dialgate.decision_log import span
from dialgate.decision_log.archive import closed_segments, segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.records import Reader
from dialgate.decision_log.span import LogSpan
from tests.support.sample_log import NOW, SampleDecision, write

NUMBERS = [f"+39061234{at:04}" for at in range(9)]


def at(number: int) -> int:
    """Return the time of an entry. Some times are equal, and there are hours without calls."""
    return NOW + number // 3 * 1_000 + number // 50 * HOUR


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    keys, folder = Keys.open(tmp_path / "keys.json"), tmp_path / "log"
    decisions = [
        SampleDecision(NUMBERS[number % 9], at(number), allow=number % 2 > 0) for number in range(400)
    ]
    write(folder, keys, decisions, segment_bytes=9_000)
    for segment in closed_segments(folder, NOW + 1_000 * HOUR) if request.param else []:
        pack(segment)
    return folder


def test_a_span_between_any_two_instants_is_complete(folder: Path) -> None:
    assert len(segments(folder)) > 20
    every = [(line.seq, entry.at) for line, entry in Reader(folder).entries()]
    edges = sorted({instant + by for _, instant in every[::37] for by in (-1, 0, 1)} | {0, NOW + 99 * HOUR})
    for since in edges[::4]:
        for until in edges[::5]:
            reader, part = Reader(folder), LogSpan(since=since, until=until)
            expected = [seq for seq, instant in every if since <= instant < until]
            assert [line.seq for line, _ in span.within(reader, part)] == expected
            assert span.has(reader, part) == bool(expected), part


def test_an_empty_log_has_no_entries(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert not span.has(Reader(tmp_path / "log"), LogSpan(since=NOW))
