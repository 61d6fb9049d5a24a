"""A search by number reads few files however long the log is, and a wrong index is detected and rebuilt."""

import os
import random
import shutil
import subprocess
import sys
from itertools import pairwise
from math import log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgate.core.model import HOUR, OutcomeRecord
from dialgate.crypto.keys import Keys
from dialgate.decision_log import archive, verify
from dialgate.decision_log.archive import closed_segments, index, indexing, segments
from dialgate.decision_log.archive.packing import pack
from dialgate.decision_log.records import Reader, Record
from dialgate.tools.backup import back_up
from tests.support.damage import flip
from tests.support.sample_log import NOW, SampleDecision, write
from tests.support.world import write_folder

DAMAGES = int(os.environ.get("DIALGATE_INDEX_DAMAGES", "5"))
NUMBERS = [f"+39061234{at:04}" for at in range(30)]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.open(tmp_path / "keys.json")


@pytest.fixture
def folder(tmp_path: Path, keys: Keys) -> Path:
    """Write a log of about thirty segments, all but the last closed, with 300 decisions about 30 numbers."""
    decisions = [SampleDecision(NUMBERS[at % 30], NOW + at, allow=at % 3 > 0) for at in range(300)]
    write(tmp_path / "log", keys, decisions, segment_bytes=6_000)
    return tmp_path / "log"


def pack_all(folder: Path) -> None:
    for segment in closed_segments(folder, NOW + HOUR):
        pack(segment)


def find_packed(folder: Path) -> list[int]:
    return [first for first, path in segments(folder) if path.suffix == ".parquet"]


def about(folder: Path, keys: Keys, number: str) -> list[int]:
    return [record.seq for _, record in Reader(folder).about(keys.hashes(number).values())]


def everything(folder: Path, keys: Keys) -> dict[str, list[int]]:
    return {number: about(folder, keys, number) for number in NUMBERS}


def kinds(folder: Path) -> list[tuple[str, int]]:
    return [(fault.kind, fault.seq) for fault in verify(folder).faults]


# ---- merging -------------------------------------------------------------------------------------------------------------


def test_a_log_of_many_segments_has_few_indexes_that_cover_it(folder: Path, keys: Keys) -> None:
    before = everything(folder, keys)
    pack_all(folder)
    count, entries = len(find_packed(folder)), index.indexes(folder)
    assert count > 20
    assert len(entries) <= log2(count) + 1
    assert (entries[0].first, entries[-1].last) == (1, segments(folder)[-1][0] - 1)
    assert all(one.last + 1 == other.first for one, other in pairwise(entries))
    assert everything(folder, keys) == before
    assert kinds(folder) == []


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 2_000), min_size=2, max_size=6), seed=st.integers(0, 1 << 32))
def test_merged_indexes_equal_one_index_of_everything(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int
) -> None:
    assert_merged_equals_one(tmp_path_factory.mktemp("log"), sizes, seed)


def test_large_indexes_are_merged_in_parts(tmp_path: Path) -> None:
    assert_merged_equals_one(tmp_path, [700_000, 900_000, 3], 1)


def assert_merged_equals_one(folder: Path, sizes: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    items = np.stack(
        (draw.integers(0, 1 << 32, sum(sizes), np.uint32), np.arange(sum(sizes), dtype=np.uint32))
    )
    items[0, : sum(sizes) // 2] //= 1 << 20  # so that many keys are equal
    first, parts = 1, list[index.Items]()
    for size in sizes:
        own = items[:, first - 1 : first - 1 + size]
        last = first + size  # one more entry, without a key
        index.write(
            folder, first + len(parts), last + len(parts), own - np.array([[0], [first - 1]], np.uint32)
        )
        parts.append(own + np.array([[0], [len(parts)]], np.uint32))
        first += size
    run = index.indexes(folder)
    index.merge(run)
    (merged,) = index.indexes(folder)
    whole = merged.path.read_bytes()
    assert (merged.first, merged.last) == (1, sum(sizes) + len(sizes))
    index.write(folder, merged.first, merged.last, np.concatenate(parts, axis=1))
    assert whole == merged.path.read_bytes()
    assert index.is_intact(merged)


def test_the_index_finds_outcomes_too(folder: Path, keys: Keys) -> None:
    reader = Reader(folder)
    outcomes = {outcome.decision: outcome for outcome in reader.outcomes()}
    names = [f"{keys.log}-{seq}" for seq in (3, 8, 200, 301, 10**9)] + ["another-3"]
    expected = [outcomes[name] for name in reversed(names) if name in outcomes]
    assert expected
    assert list(reader.reports(names)) == expected
    pack_all(folder)
    assert list(Reader(folder).reports(names)) == expected
    assert list(Reader(folder).reports([])) == []
    for path in folder.glob("*.npy"):
        path.unlink()
    assert list(Reader(folder).reports(names)) == expected


def test_equal_four_byte_prefixes_are_distinguished(folder: Path, keys: Keys) -> None:
    """An extra index entry costs a look-up, but never causes a wrong result."""
    before = everything(folder, keys)
    pack_all(folder)
    for entry in index.indexes(folder):
        keys_, offsets = (np.unique(row) for row in np.array(index.mapped(entry)))
        every = np.stack((np.repeat(keys_, len(offsets)), np.tile(offsets, len(keys_))))
        index.write(folder, entry.first, entry.last, every)
    assert everything(folder, keys) == before


# ---- concurrent changes --------------------------------------------------------------------------------------------------


def test_a_crash_between_any_two_steps_of_a_merge_loses_no_result(
    folder: Path, keys: Keys, tmp_path: Path
) -> None:
    """After the crash, the new index is unfinished, or it is complete and some of the old indexes still exist."""
    before = everything(folder, keys)
    pack_all(folder)
    for path in folder.glob("*.npy"):
        path.unlink()
    for first in find_packed(folder):
        indexing._index(folder / f"{first:016}.parquet")
    small = index.indexes(folder)
    for entry in small:
        shutil.copy(entry.path, tmp_path)
    index.merge(small)
    (merged,) = index.indexes(folder)
    merged.path.with_name(f"{merged.path.name}.new").write_bytes(b"half")
    for entry in small:
        shutil.copy(tmp_path / entry.path.name, entry.path)
        assert index.indexes(folder) == [merged]
    assert everything(folder, keys) == before
    assert kinds(folder) == []
    indexing.update_indexes(folder)
    assert [path for path in folder.iterdir() if ".npy" in path.name] == [merged.path]
    assert everything(folder, keys) == before


def test_reading_during_a_merge_misses_no_entry(folder: Path, keys: Keys) -> None:
    before = about(folder, keys, NUMBERS[4])
    unpacked = closed_segments(folder, NOW + HOUR)
    reading = Reader(folder).about(keys.hashes(NUMBERS[4]).values())
    read = []
    for segment in unpacked:
        pack(segment)
        read += [record.seq for _, record in [next(reading, (None, None))] if record]
    assert read + [record.seq for _, record in reading] == before


def test_indexes_of_deleted_segments_are_deleted_and_the_rest_is_found(folder: Path, keys: Keys) -> None:
    pack_all(folder)
    before = everything(folder, keys)
    *removed, first_kept = find_packed(folder)
    for first in removed:
        for path in folder.glob(f"{first:016}.*"):
            path.unlink()
    assert everything(folder, keys) == {
        number: [seq for seq in seqs if seq >= first_kept] for number, seqs in before.items()
    }
    indexing.update_indexes(folder)
    assert [entry.last >= first_kept for entry in index.indexes(folder)] == [True]


def test_indexes_are_not_merged_over_a_gap_so_a_restored_segment_is_found(
    folder: Path, keys: Keys, tmp_path: Path
) -> None:
    pack_all(folder)
    before = everything(folder, keys)
    absent = find_packed(folder)[10]
    for path in [*folder.glob(f"{absent:016}.*"), *folder.glob("*.npy")]:
        shutil.move(path, tmp_path / path.name)
    indexing.update_indexes(folder)
    entries = index.indexes(folder)
    assert len(entries) > 1
    assert not any(entry.first <= absent <= entry.last for entry in entries)
    for path in tmp_path.glob(f"{absent:016}.*"):
        shutil.move(path, folder / path.name)
    assert everything(folder, keys) == before


def test_an_archive_of_an_earlier_version_is_indexed_and_verified(folder: Path, keys: Keys) -> None:
    pack_all(folder)
    before = everything(folder, keys)
    for path in folder.glob("*.npy"):
        path.unlink()
    for first in find_packed(folder):
        segment = folder / f"{first:016}.parquet"
        segment.with_suffix(".numbers.npy").write_bytes(b"an index of its own")
        names = (segment, segment.with_suffix(".numbers.npy"))
        archive.checksums.write_sums(segment, {path.name: archive.checksums.digest(path) for path in names})
    assert everything(folder, keys) == before
    indexing.update_indexes(folder)
    assert len(index.indexes(folder)) == 1
    assert everything(folder, keys) == before
    assert kinds(folder) == []
    segment.with_suffix(".numbers.npy").write_bytes(b"another")
    assert kinds(folder)[0] == ("unreadable_segment", find_packed(folder)[-1])


def test_a_copy_made_during_a_merge_gives_the_same_results(tmp_path: Path, keys: Keys, folder: Path) -> None:
    before = everything(folder, keys)
    waiting = closed_segments(folder, NOW + HOUR)

    def progress(_done: int, _whole: int) -> None:
        if waiting:
            pack(waiting.pop(0))

    pack(waiting.pop(0))
    back_up(tmp_path, tmp_path / "copy", progress)
    assert everything(tmp_path / "copy" / "log", keys) == before


# ---- tampering -----------------------------------------------------------------------------------------------------------


def test_every_changed_byte_of_an_index_is_detected_and_repaired(folder: Path, keys: Keys) -> None:
    pack_all(folder)
    before, entries = everything(folder, keys), index.indexes(folder)
    draw = random.Random(1)
    for entry in entries:
        whole = entry.path.read_bytes()
        for at in [draw.randrange(len(whole)) for _ in range(40)]:
            entry.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
            assert not index.is_intact(entry)
        assert kinds(folder) == [("damaged_index", entry.first)]
        entry.path.write_bytes(whole)
    assert kinds(folder) == []
    entries[0].path.write_bytes(bytes(len(whole)))
    indexing.update_indexes(folder, rebuild=True)
    assert (kinds(folder), everything(folder, keys)) == ([], before)


def test_no_changed_byte_of_an_index_hides_a_decision(folder: Path, keys: Keys) -> None:
    pack_all(folder)
    before, entry, draw = everything(folder, keys), index.indexes(folder)[0], random.Random(2)
    whole = entry.path.read_bytes()
    for at in draw.sample(range(len(whole)), DAMAGES):
        entry.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        assert everything(folder, keys) == before


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 30_000])
def test_an_index_returns_what_was_written_or_is_refused(tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    keys = [draw.randbytes(4) for _ in range(count)]
    index.write(tmp_path, 1, count + 1, np.array([index.prefixes(keys), np.arange(count, dtype=np.uint32)]))
    (entry,) = index.indexes(tmp_path)
    whole, refused = entry.path.read_bytes(), 0
    assert entry.count() == count
    assert index.is_intact(entry)
    assert all(at + 1 in index.seqs_of(entry, [keys[at]]) for at in draw.sample(range(count), min(count, 50)))
    assert index.seqs_of(entry, [b"none"]) == []
    for at in draw.sample(range(len(whole)), min(len(whole), 400)):
        entry.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        position = draw.randrange(count) if count else 0
        try:
            assert not count or position + 1 in index.seqs_of(entry, [keys[position]])
        except ValueError:
            refused += 1
    assert refused or not count


def test_a_damaged_index_is_rebuilt_and_not_merged(folder: Path, keys: Keys) -> None:
    *first, last = closed_segments(folder, NOW + HOUR)
    before = everything(folder, keys)
    for segment in first:
        pack(segment)
    newest = index.indexes(folder)[-1].path
    flip(newest, 200)
    pack(last)
    assert not newest.exists()
    assert (kinds(folder), everything(folder, keys)) == ([], before)


def test_a_renamed_index_is_not_intact(folder: Path) -> None:
    pack_all(folder)
    entry = index.indexes(folder)[-1]
    entry.path.rename(folder / f"{entry.first + 1:016}-{entry.last:016}.index.npy")
    assert [kind for kind, _ in kinds(folder)] == ["damaged_index"]


@pytest.mark.parametrize("kind", [Record, OutcomeRecord])
def test_a_record_missing_from_an_index_is_detected_even_with_a_new_digest(
    folder: Path, kind: type[Record | OutcomeRecord]
) -> None:
    pack_all(folder)
    hidden = [entry.seq for _, entry in Reader(folder).entries() if isinstance(entry, kind)][20]
    entry = next(entry for entry in index.indexes(folder) if entry.first <= hidden <= entry.last)
    items = np.array(index.mapped(entry))
    assert hidden - entry.first in items[1]
    index.write(folder, entry.first, entry.last, items[:, items[1] != hidden - entry.first])
    assert index.is_intact(entry)
    assert kinds(folder) == [("damaged_index", hidden)]
    (_, holds), *_ = [(first, path) for first, path in segments(folder) if first > hidden]
    assert not verify(folder, first=int(holds.stem)).faults
    indexing.update_indexes(folder, rebuild=True)
    assert kinds(folder) == []


def test_a_segment_without_an_index_is_not_a_fault(folder: Path) -> None:
    pack_all(folder)
    for path in folder.glob("*.npy"):
        path.unlink()
    assert kinds(folder) == []


def test_a_damaged_segment_is_not_indexed_and_others_are(folder: Path) -> None:
    pack_all(folder)
    for path in folder.glob("*.npy"):
        path.unlink()
    damaged = find_packed(folder)[3]
    (folder / f"{damaged:016}.parquet").write_bytes(b"no parquet")
    indexing.update_indexes(folder)
    covered = [
        first
        for first in find_packed(folder)
        if any(e.first <= first <= e.last for e in index.indexes(folder))
    ]
    assert covered == [first for first in find_packed(folder) if first != damaged]


def test_the_commands_report_and_rebuild_a_damaged_index(tmp_path: Path, keys: Keys) -> None:
    config = write_folder(tmp_path)
    folder = tmp_path / "data" / "log"
    write(folder, keys, [SampleDecision(NUMBERS[at % 30], NOW + at) for at in range(60)], segment_bytes=6_000)
    pack_all(folder)
    entry = index.indexes(folder)[0]
    flip(entry.path, -1)
    log = [sys.executable, "-m", "dialgate", "log"]
    done = subprocess.run(
        [*log, "verify", "--data", folder.parent], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "the chain is valid, but an index is DAMAGED" in done.stdout) == (1, True)
    subprocess.run([*log, "archive", "--index", "--config", config], capture_output=True, check=True)
    assert (
        subprocess.run([*log, "verify", "--data", folder.parent], capture_output=True, check=False).returncode
        == 0
    )
