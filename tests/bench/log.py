"""The cost of storing, verifying and searching years of decisions.

The product's own code writes and archives two logs: one of the full size and one of a tenth of it. Figures per
decision include the outcome and the grounds. Three calls in ten are to a number that was called before. Each of
these calls has separate grounds; the other calls share grounds.
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dialgate.config import loader
from dialgate.core import local_time
from dialgate.core.decision import decide
from dialgate.core.model import DAY, Attempt, Decided, Deny, Grounds, Instant, Known, OutcomeRecord
from dialgate.crypto.keys import Keys, MonthKeys
from dialgate.crypto.nonces import nonces
from dialgate.decision_log import DecisionLog, verify
from dialgate.decision_log.archive import Segments, closed_segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.entry_columns import EntryColumns
from dialgate.decision_log.records import Reader
from dialgate.runtime.clock import wall_clock
from tests.bench import COUNTRIES, BenchError, Figure, world
from tests.bench.decide import facts

_BATCH = 256
_CALLS_A_NUMBER = 4
_ASKED = 25
_SPAN = 60 * DAY
_encode = msgspec.json.Encoder().encode


class _Measured(Struct, frozen=True):
    """Seconds, bytes and counts of one log.

    `bytes_each` is the archive size per decision. `why` holds the seconds of each search for all decisions about
    one number, with a cold page cache.
    """

    decisions: int
    written: float
    archived: float
    entries: int
    bytes_each: float
    verified: float
    walked: int
    why: list[float]


def run(records: int = 1_000_000, countries: Path = COUNTRIES) -> Iterator[Figure]:
    segment = min(
        64 << 20, records * 50
    )  # the default, or less so that a tenth of the records fills a segment
    with tempfile.TemporaryDirectory() as folder:
        tenth = _measure(Path(folder) / "tenth", countries, records // 10, segment)
    with tempfile.TemporaryDirectory() as folder:
        whole = _measure(Path(folder) / "whole", countries, records, segment)
    yield Figure("log.decisions", whole.decisions, "1")
    yield Figure("log.write", round(whole.decisions / whole.written), "decisions/s")
    yield Figure("log.archive", round(whole.entries / whole.archived), "entries/s")
    yield Figure("log.archive_bytes", round(whole.bytes_each, 1), "B/decision")
    yield Figure("log.verify", round(whole.walked / whole.verified), "entries/s")
    # The full log against a tenth of it.
    yield _compared("log.why_median", _median(whole.why), _median(tenth.why))
    yield _compared("log.why_slowest", max(whole.why), max(tenth.why))


def _compared(name: str, value: float, baseline: float) -> Figure:
    return Figure(name, round(value * 1e3, 2), "ms", round(baseline * 1e3, 2), round(value / baseline, 2))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _measure(folder: Path, countries: Path, records: int, segment_bytes: int) -> _Measured:
    folder.mkdir()
    writing = Writing(folder, countries, records, segment_bytes)
    began = time.perf_counter()
    writing.all()
    written = time.perf_counter()
    packed = [pack(segment) for segment in closed_segments(folder / "log", wall_clock())]
    archived = time.perf_counter()
    verified, walked = _verify(folder / "log")
    return _Measured(
        decisions=records,
        written=written - began,
        archived=archived - written,
        entries=sum(segment.entries for segment in packed),
        walked=walked,
        bytes_each=_bytes(folder / "log") / _decisions(folder / "log"),
        verified=verified,
        why=[_search_seconds(folder / "log", writing, number) for number in range(_ASKED)],
    )


def _bytes(folder: Path) -> int:
    """Return the size of the packed segments, including their checksum and index files."""
    return sum(
        path.stat().st_size for path in folder.iterdir() if path.suffix in {".parquet", ".sha256", ".npy"}
    )


def _decisions(folder: Path) -> int:
    """Return the number of decisions in the packed segments."""
    return sum(
        int(entries.is_decision.sum())
        for entries in Segments(folder).columns_or_lines((), 1)
        if isinstance(entries, EntryColumns)
    )


def _verify(folder: Path) -> tuple[float, int]:
    """Verify the log like `dialgate log verify`, on every core. Return the seconds and the number of entries."""
    began = time.perf_counter()
    report = verify(folder)
    took = time.perf_counter() - began
    if not report.ok:
        raise BenchError(f"the log does not verify: {report.faults[0]}")
    return took, report.entries


def _search_seconds(folder: Path, writing: "Writing", at: int) -> float:
    """Return the seconds to find the decisions about a sample number, with a cold page cache."""
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    number, times = writing.sample[at]
    began = time.perf_counter()
    reader = Reader(folder)
    decisions = list(reader.find_decisions(writing.keys.hashes(number).values()))
    reports = list(reader.reports({record.id for _, record in decisions}))
    took = time.perf_counter() - began
    if len(decisions) != times:
        raise BenchError(f"the search found {len(decisions)} of {times} decisions")
    if len(reports) != sum(record.decision.allow for _, record in decisions):
        raise BenchError(f"the search found {len(reports)} outcomes for {len(decisions)} decisions")
    return took


class Writing:
    """A log of two months: random numbers, one call in five denied, an outcome for each allowed call."""

    def __init__(self, folder: Path, countries: Path, records: int, segment_bytes: int) -> None:
        config = loader.load(world.write_config(folder, countries))
        self.keys = Keys.open(folder / "keys.json")
        self.sample = [(f"+39069{at:07}", 4) for at in range(_ASKED)]
        self._law = config.laws["IT"]
        clear = facts(config, self._law)
        # Valid beyond the end of the log: otherwise its last allows would have expired before they were given.
        decision = replace(decide(clear, self._law), valid_until=wall_clock() + DAY)
        self._allowed = Grounds(
            seq=0, facts=replace(clear, at=0), decision=decision, country="IT", law=config.law_hash["IT"],
            config=config.hash, snapshot="9f2c01ab9f2c01ab", node="bench",
        )  # fmt: skip
        outcomes = decision.outcomes | {
            "registry": Deny("registry.listed", "enrolled", "D.P.R. 26/2022 art. 8 c. 2")
        }
        denied = replace(decision, allow=False, outcomes=outcomes)
        self._refused = replace(self._allowed, decision=denied)
        self._records, self._folder, self._segment_bytes = records, folder / "log", segment_bytes
        self._draw, self._nonces = random.Random(1), nonces()
        self._planted = {
            self._draw.randrange(records): number for number, times in self.sample for _ in range(times)
        }
        while len(self._planted) < _ASKED * _CALLS_A_NUMBER:  # the same position was drawn twice
            self._draw_again()
        self._seq = 1

    def _draw_again(self) -> None:
        counts = list(self._planted.values())
        number = next(number for number, times in self.sample if counts.count(number) < times)
        self._planted.setdefault(self._draw.randrange(self._records), number)

    def all(self) -> None:
        now = wall_clock()
        with closing(
            DecisionLog.open(
                self._folder,
                log=self.keys.log,
                now=now,
                gate={"dialgate": "bench"},
                segment_bytes=self._segment_bytes,
            )
        ) as log:
            for start in range(0, self._records, _BATCH):
                at = now - _SPAN + _SPAN * start // self._records
                log.turn_over(at)
                log.write(self._batch(log.next_seq, start, at))
            log.sync()

    def _batch(self, first: int, start: int, at: Instant) -> list[bytes]:
        bodies: list[bytes] = []
        month, seqs = self.keys.month(at), count(first)
        shared: dict[bool, int] = {}
        for common in (self._allowed, self._refused):
            shared[common.decision.allow] = seq = next(seqs)
            bodies.append(_encode(replace(common, seq=seq)))
        for index in range(start, min(start + _BATCH, self._records)):
            allow = self._draw.random() < 0.8
            grounds = shared[allow]
            if self._draw.random() < 0.3:
                grounds = next(seqs)
                bodies.append(_encode(self._own(grounds, allow=allow, at=at)))
            seq = next(seqs)
            bodies.append(_encode(self._decided(seq, index, grounds, month, allow=allow, at=at)))
            if allow:
                bodies.append(_encode(self._outcome(next(seqs), f"{self.keys.log}-{seq}", at)))
        return bodies

    def _own(self, seq: int, *, allow: bool, at: Instant) -> Grounds:
        """Return grounds for a number that was called before."""
        attempts = tuple(
            Attempt(
                decision=f"{self.keys.log}-{self._draw.randrange(seq)}",
                at=at - self._draw.randrange(30 * DAY),
                campaign=world.CAMPAIGN,
                basis="directory",
                result="no_answer",
            )
            for _ in range(self._draw.randrange(1, 4))
        )
        grounds = self._allowed if allow else self._refused
        known = Known(seq=self._draw.randrange(10**6), attempts=attempts)
        return replace(grounds, seq=seq, facts=replace(grounds.facts, known=known))

    def _decided(
        self, seq: int, index: int, grounds: int, month: MonthKeys, *, allow: bool, at: Instant
    ) -> Decided:
        number = (
            self._planted.get(index) or f"+3906{self._draw.randrange(self._records // _CALLS_A_NUMBER):08}"
        )
        call_id = f"{at // 1000}.{index % 1_000_000}"
        return Decided(
            seq=seq, id=f"{self.keys.log}-{seq}", at=at, number=month.pseudonym(number),
            sealed=month.seal(number, next(self._nonces)), grounds=grounds, allow=allow, client=world.CLIENT,
            interface="http", call_id=call_id, question=self.keys.named("?", f"{call_id}{number}".encode()),
        )  # fmt: skip

    def _outcome(self, seq: int, decision: str, at: Instant) -> OutcomeRecord:
        later = at + self._draw.randrange(120_000)
        return OutcomeRecord(
            seq=seq, at=later, time=local_time.rfc3339(later), decision=decision, result="answered",
            client=world.CLIENT,
        )  # fmt: skip
