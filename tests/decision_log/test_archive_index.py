"""A search by number opens few packed segments, and a damaged or wrong index is detected and written again."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from dialgate.core.model import HOUR, OutcomeRecord
from dialgate.crypto.keys import Keys
from dialgate.decision_log import LogDamaged, verify
from dialgate.decision_log.archive import closed_segments, index, segments
from dialgate.decision_log.archive.packing import pack, write_indexes
from dialgate.decision_log.archive.reading import open_packed
from dialgate.decision_log.records import Reader, Record
from dialgate.tools.backup import back_up
from tests.support.commands import run_command
from tests.support.damage import flip
from tests.support.sample_log import NOW, SampleDecision, write
from tests.support.world import write_folder

DAMAGES = int(os.environ.get("DIALGATE_ARCHIVE_DAMAGES", "10"))
NUMBERS = [f"+39061234{at:04}" for at in range(30)]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.open(tmp_path / "keys.json")


@pytest.fixture
def folder(tmp_path: Path, keys: Keys) -> Path:
    """Write a log of about ten segments, all but the last closed, with 300 decisions about 30 numbers."""
    decisions = [SampleDecision(NUMBERS[at % 30], NOW + at, allow=at % 3 > 0) for at in range(300)]
    write(tmp_path / "log", keys, decisions, segment_bytes=20_000)
    return tmp_path / "log"


def pack_all(folder: Path) -> None:
    for segment in closed_segments(folder, NOW + HOUR):
        pack(segment)


def packed_segments(folder: Path) -> list[Path]:
    return [path for _, path in segments(folder) if path.suffix == ".parquet"]


def about(folder: Path, keys: Keys, number: str) -> list[int]:
    """Search the decisions about a number, and their outcomes."""
    reader = Reader(folder)
    records = [record for _, record in reader.find_decisions(keys.hashes(number).values())]
    outcomes = reader.reports({record.id for record in records})
    return [record.seq for record in records] + [outcome.seq for outcome in outcomes]


def everything(folder: Path, keys: Keys) -> dict[str, list[int]]:
    return {number: about(folder, keys, number) for number in NUMBERS}


def kinds(folder: Path) -> list[tuple[str, int]]:
    return [(fault.kind, fault.seq) for fault in verify(folder).faults]


def flipped(whole: bytes, at: int, draw: random.Random) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :]


# ---- searching -------------------------------------------------------------------------------------------------------------


def test_a_search_with_an_index_without_one_and_before_packing_gives_the_same(
    folder: Path, keys: Keys
) -> None:
    before = everything(folder, keys)
    assert len(before[NUMBERS[1]]) == 20
    pack_all(folder)
    packed = packed_segments(folder)
    assert len(packed) > 5
    assert all(index.path_of(path).exists() for path in packed)
    assert (everything(folder, keys), kinds(folder)) == (before, [])
    for path in packed:
        index.path_of(path).unlink()
    assert (everything(folder, keys), kinds(folder)) == (before, [])


def test_packing_during_a_search_misses_no_entry(folder: Path, keys: Keys) -> None:
    hashes = keys.hashes(NUMBERS[4]).values()
    before = [record.seq for _, record in Reader(folder).find_decisions(hashes)]
    reading = Reader(folder).find_decisions(hashes)
    read = []
    for segment in closed_segments(folder, NOW + HOUR):
        pack(segment)
        read += [record.seq for _, record in [next(reading, (None, None))] if record]
    assert read + [record.seq for _, record in reading] == before


def test_a_copy_made_during_packing_gives_the_same_results(tmp_path: Path, keys: Keys, folder: Path) -> None:
    before = everything(folder, keys)
    waiting = closed_segments(folder, NOW + HOUR)

    def progress(_done: int, _whole: int) -> None:
        if waiting:
            pack(waiting.pop(0))

    pack(waiting.pop(0))
    back_up(tmp_path, tmp_path / "copy", progress)
    assert everything(tmp_path / "copy" / "log", keys) == before


def test_missing_indexes_are_written_and_those_of_an_earlier_version_removed(folder: Path) -> None:
    *others, last = closed_segments(folder, NOW + HOUR)
    for segment in others:
        pack(segment)
    written = {index.path_of(path): index.path_of(path).read_bytes() for path in packed_segments(folder)}
    for path in written:
        path.unlink()
    merged = folder / f"{1:016}-{900:016}.index.npy"
    merged.write_bytes(b"an index of all segments")
    damaged = packed_segments(folder)[3]
    damaged.write_bytes(b"no parquet")
    pack(last)
    assert not merged.exists()
    del written[index.path_of(damaged)]
    assert {path: path.read_bytes() for path in written} == written
    assert not index.path_of(damaged).exists()


# ---- tampering -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".index.npy", ".parquet"])
def test_no_changed_byte_hides_a_decision_or_an_outcome(folder: Path, keys: Keys, suffix: str) -> None:
    """A search in damaged files gives the same result, or an error."""
    pack_all(folder)
    before, draw, refused = (
        {number: about(folder, keys, number) for number in NUMBERS[::6]},
        random.Random(2),
        0,
    )
    path = packed_segments(folder)[1].with_suffix(suffix)
    whole = path.read_bytes()
    for at in draw.sample(range(len(whole)), DAMAGES):
        path.write_bytes(flipped(whole, at, draw))
        assert kinds(folder)[0][0] in {"damaged_index", "unreadable_segment"}
        try:
            assert {number: about(folder, keys, number) for number in before} == before
        except LogDamaged:
            refused += 1
    assert refused or suffix == ".index.npy"


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 30_000])
def test_an_index_returns_what_was_written_or_is_refused(tmp_path: Path, count: int) -> None:
    draw, path = random.Random(count), tmp_path / "1.index.npy"
    keys = [draw.randbytes(4) for _ in range(count)]
    whole = index.encode(np.array([index.prefixes(keys), np.arange(count, dtype=np.uint32)]))
    path.write_bytes(whole)
    assert all(at in index.search(path, [keys[at]]) for at in draw.sample(range(count), min(count, 50)))
    assert index.search(path, [b"none"]) == []
    refused = 0
    for at in draw.sample(range(len(whole)), min(len(whole), 400)):
        path.write_bytes(flipped(whole, at, draw))
        row = draw.randrange(count) if count else 0
        try:
            assert not count or row in index.search(path, [keys[row]])
        except ValueError:
            refused += 1
    assert refused or not count


@pytest.mark.parametrize("kind", [Record, OutcomeRecord])
def test_a_record_missing_from_an_index_is_detected(folder: Path, kind: type[Record | OutcomeRecord]) -> None:
    pack_all(folder)
    hidden = [entry.seq for _, entry in Reader(folder).entries() if isinstance(entry, kind)][20]
    first, holds = [(first, path) for first, path in segments(folder) if first <= hidden][-1]
    items = open_packed(holds).index_items()
    assert hidden - first in items[1]
    index.path_of(holds).write_bytes(index.encode(items[:, items[1] != hidden - first]))
    report = verify(folder)
    assert [(fault.kind, fault.file) for fault in report.faults] == [
        ("damaged_index", str(index.path_of(holds)))
    ]
    assert report.last == verify(folder, first=report.last).last
    index.path_of(holds).unlink()
    write_indexes(folder)
    assert kinds(folder) == []


def test_the_commands_report_a_damaged_index_and_write_it_again(tmp_path: Path, keys: Keys) -> None:
    config = write_folder(tmp_path)
    folder = tmp_path / "data" / "log"
    write(folder, keys, [SampleDecision(NUMBERS[at % 30], NOW + at) for at in range(60)], segment_bytes=6_000)
    pack_all(folder)
    path = index.path_of(packed_segments(folder)[0])
    flip(path, -1)
    verify_ = ("dialgate", "log", "verify", "--data", folder.parent)
    done = run_command(*verify_)
    assert (done.code, "the chain is valid, but an index is DAMAGED" in done.out) == (1, True)
    path.unlink()
    assert run_command("dialgate", "log", "archive", "--config", config).code == 0
    assert path.exists()
    assert run_command(*verify_).code == 0
