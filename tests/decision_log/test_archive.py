"""A packed log unpacks to the original bytes, can be searched by number, and is tamper-evident."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config.loader import load as settings_of
from dialgate.core.model import HOUR, Call, Decided, OwnGrounds
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import DecisionLog, LogDamaged, make_checkpoint, verify
from dialgate.decision_log.archive import (
    Background,
    Segments,
    closed_segments,
    index,
    open_segment,
    packing,
    segments,
    segments_to_pack,
)
from dialgate.decision_log.archive.checksums import digest, write_sum
from dialgate.decision_log.archive.packing import ArchiveFailed, archive_lock, pack
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.segment import ZERO, follow, header_of
from tests.support.damage import flip
from tests.support.sample_log import NOW, SampleDecision, write
from tests.support.world import CALLER, CLEAR, Hand, running

NUMBERS = [f"+39061234{at:04}" for at in range(40)]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.open(tmp_path / "keys.json")


@pytest.fixture
def folder(tmp_path: Path, keys: Keys) -> Path:
    """Write a log of three segments, two of them closed, with 120 decisions about 40 numbers."""
    decisions = [
        SampleDecision(NUMBERS[at % 40], NOW + at, allow=at % 3 > 0, call_id=f"{at}.7" if at % 2 else "")
        for at in range(120)
    ]
    write(tmp_path / "log", keys, decisions, segment_bytes=25_000)
    return tmp_path / "log"


def pack_all(folder: Path) -> list[packing.Packed]:
    return [pack(segment) for segment in closed_segments(folder, NOW + HOUR)]


def sign_checkpoint(folder: Path, keys: Keys) -> int:
    """Sign a checkpoint of the whole log. Return the number of entries covered."""
    signer = Signer.open(folder.parent / "signing.json", NOW)
    return make_checkpoint(folder, log=keys.log, signer=signer, now=NOW)


def content(folder: Path) -> list[tuple[int, bytes]]:
    return [line for _, path in segments(folder) for line in open_segment(path)]


def wait_for_process(background: Background) -> None:
    """Wait for the packing process to end, without reaping it."""
    os.waitid(os.P_PID, background._process, os.WEXITED | os.WNOWAIT)


def chain_holds(folder: Path) -> bool:
    head = ZERO
    for _, path in segments(folder):
        for _, line in open_segment(path):
            header = header_of(line)
            if header is not None and header.previous != head.hex():
                return False
            followed = follow(head, line)
            if followed is None:
                return False
            head = followed
    return True


def about(folder: Path, keys: Keys, number: str) -> list[int]:
    return [record.seq for _, record in Reader(folder).find_decisions(keys.hashes(number).values())]


# ---- equivalence -------------------------------------------------------------------------------------------------------


def test_every_line_is_rebuilt_byte_for_byte_and_the_original_is_deleted(folder: Path) -> None:
    before = content(folder)
    written = {path.stem: path.stat().st_mtime_ns for path in closed_segments(folder, NOW + HOUR)}
    packed = pack_all(folder)
    assert len(packed) == 2
    assert content(folder) == before
    # The shipper reports the age of what it has not delivered.
    assert {one.segment.stem: one.segment.stat().st_mtime_ns for one in packed} == written
    assert chain_holds(folder)
    assert len(list(folder.glob("*.ndjson"))) == 1
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert not list(folder.glob("*.new"))


WORDS = st.text(max_size=12)
BODIES = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("decision"),
            "id": st.sampled_from(["9f2c01ab-", "other-"]),
            "at": st.integers(0, 1 << 45),
            "number": st.binary(min_size=15, max_size=16),
            "sealed": st.binary(max_size=60),
            "grounds": st.integers(0, 1 << 40),
            "allow": st.booleans(),
        },
        optional={
            "client": WORDS,
            "interface": WORDS,
            "call_id": WORDS,
            "question": st.binary(max_size=17),
            "new_field": st.integers(),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["grounds", "outcome", "of a later version"]), "x": WORDS}
    ),
)


@given(bodies=st.lists(BODIES, max_size=30), spread=st.booleans())
@settings(max_examples=25)
def test_any_entry_is_rebuilt(
    tmp_path_factory: pytest.TempPathFactory, bodies: Sequence[dict[str, object]], spread: bool
) -> None:
    """Vary field lengths, texts, unknown fields and types, field order and spacing."""
    folder = tmp_path_factory.mktemp("log")
    with closing(DecisionLog.open(folder, log="9f2c01ab", now=NOW, gate={}, segment_bytes=1)) as log:
        for seq, body in enumerate(bodies, 1):
            named = {"type": body["type"], "seq": seq, **body}
            if "id" in body:
                named["id"] = f"{body['id']}{seq}"
            raw = msgspec.json.encode(named)
            log.write([msgspec.json.format(raw, indent=0).replace(b"\n", b" ") if spread else raw])
        log.turn_over(NOW)
    before = content(folder)
    pack_all(folder)
    assert content(folder) == before


def test_no_field_of_a_decision_is_stored_twice(tmp_path: Path) -> None:
    """Fields without a column are stored in `rest`, those of later versions too."""
    values = {int: 7, str: "x", bytes: b"0123456789abcdef", bool: True, OwnGrounds | None: {"basis": "x"}}
    fields = {field.name: values[field.type] for field in msgspec.structs.fields(Decided)}
    decided = msgspec.convert({**fields, "type": "decision", "seq": 1, "id": "9f2c01ab-1"}, Decided)
    assert decided.caller_sealed
    with closing(DecisionLog.open(tmp_path, log="9f2c01ab", now=NOW, gate={}, segment_bytes=1)) as log:
        log.write([msgspec.json.encode(decided)])
        log.turn_over(NOW)
    before = content(tmp_path)
    (packed,) = pack_all(tmp_path)
    assert content(tmp_path) == before
    assert pq.read_table(packed.segment, columns=["body"]).column("body").to_pylist() == [None]


def test_a_large_segment_is_rebuilt_and_small(tmp_path: Path, keys: Keys) -> None:
    """The first segment spans several row groups and several stored hashes."""
    draw = random.Random(1)
    decisions = [
        SampleDecision(f"+3906{draw.randrange(10**8):08}", NOW + at * 7, call_id=f"{NOW // 1000}.{at}")
        for at in range(10_000)
    ]
    folder = tmp_path / "log"
    write(folder, keys, decisions, segment_bytes=6_000_000)
    log = DecisionLog.open(folder, log=keys.log, now=NOW, gate={"dialgate": "0.2"})
    log.close()
    before = content(folder)
    packed = pack_all(folder)
    assert sum(segment.entries for segment in packed) == 20_000 + len(packed)
    assert content(folder) == before
    assert sum(segment.after for segment in packed) / 10_000 < 110
    assert [line.seq for line in Segments(folder).lines(9_000)] == list(range(9_000, 20_001 + len(packed)))


def test_records_are_read_searched_and_joined_as_before_packing(folder: Path, keys: Keys) -> None:
    plain = Reader(folder)
    before = [(line.seq, line.hash, record) for line, record in plain.entries()]
    hashes = {seq: own for seq, own, _ in before}
    named = {number: about(folder, keys, number) for number in NUMBERS}
    counts = plain.decision_counts()
    pack_all(folder)
    packed = Reader(folder)
    assert [(line.seq, line.hash, record) for line, record in packed.entries()] == before
    assert [packed.find(seq) for seq, _, _ in before] == [record for _, _, record in before]
    assert {number: about(folder, keys, number) for number in NUMBERS} == named
    for line, record in packed.find_decisions(keys.hashes(NUMBERS[7]).values()):
        assert (line.seq, line.hash) == (record.seq, hashes[record.seq])
        assert keys.month(record.at).unseal(record.sealed) == NUMBERS[7]
    assert all(len(seqs) == 3 and seqs == sorted(seqs, reverse=True) for seqs in named.values())
    assert packed.decision_counts() == counts
    assert counts == {("2026-11", "IT", True): 80, ("2026-11", "IT", False): 40}
    assert packed.find(10**6) is None
    assert about(folder, keys, "+390699999999") == []
    assert list(packed.find_decisions([])) == []


@settings(max_examples=60)
@given(st.data())
def test_an_index_finds_every_row_of_a_number_for_any_distribution_of_hashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Hashes are uniform, as in practice, or concentrated where the search does not look first."""
    draw = random.Random(data.draw(st.integers(0, 1 << 32)))
    spread, count = data.draw(st.sampled_from([1 << 4, 1 << 12, 1 << 32])), data.draw(st.integers(0, 3_000))
    start = data.draw(st.integers(0, (1 << 32) - spread))
    hashes = [(start + draw.randrange(spread)).to_bytes(4, "big") + bytes(12) for _ in range(count)]
    path = tmp_path_factory.mktemp("index") / "1.index.npy"
    whole = index.encode(np.stack((index.prefixes(hashes), np.arange(count, dtype=np.uint32))))
    path.write_bytes(whole)
    searched = [*draw.sample(hashes, min(count, 5)), bytes(16), b"\xff" * 16]
    rows = [at for at in range(count) if hashes[at][:4] in {key[:4] for key in searched}]
    assert index.search(path, searched) == rows[::-1]
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="index"):
        index.search(path, searched)


def test_a_log_packed_during_verification_is_valid(folder: Path) -> None:
    def pack_meanwhile(_done: int, _whole: int) -> None:
        pack_all(folder)

    report = verify(folder, progress=pack_meanwhile)
    assert list(folder.glob("*.parquet"))
    assert (report.faults, report.segments) == ([], 3)


def test_reading_during_packing_misses_no_entry(folder: Path) -> None:
    before = [line.seq for line in Segments(folder).lines()]
    reading = Segments(folder).lines()
    read = [next(reading).seq for _ in range(3)]
    pack_all(folder)
    assert read + [line.seq for line in reading] == before


def test_an_unfinished_last_line_is_not_read(folder: Path, keys: Keys) -> None:
    newest = max(folder.glob("*.ndjson"))
    whole = newest.read_bytes()
    last = [line.seq for line in Segments(folder).lines()][-1]
    before = {number: about(folder, keys, number) for number in NUMBERS}
    assert [len(seqs) for seqs in before.values()] == [3] * 40
    newest.write_bytes(whole[:-1])
    assert [line.seq for line in Segments(folder).lines()][-1] == last - 1
    assert all(set(about(folder, keys, number)) >= set(before[number]) - {last} for number in NUMBERS)


def test_duckdb_and_sha256sum_read_a_packed_segment(folder: Path) -> None:
    pack_all(folder)
    counted = duckdb.execute(
        f"select controller, campaign, country, reason, count(*) from '{folder}/*.parquet'"
        " where type = 'decision' group by all order by reason"
    ).fetchall()
    allowed, denied = counted
    assert allowed[:4] == ("acme", "acme-fibre", "IT", "")
    assert denied[:4] == ("acme", "acme-fibre", "IT", "registry.listed")
    sums = sorted(path.name for path in folder.glob("*.sha256"))
    assert (
        subprocess.run(["sha256sum", "--check", "--strict", *sums], cwd=folder, check=False).returncode == 0
    )


def test_a_segment_packed_by_0_2_0_is_verified_searched_and_indexed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    shutil.copytree(Path(__file__).parent / "packed_by_0_2_0", folder)
    assert (verify(folder).faults, verify(folder).last) == ([], 62)
    entries = [entry for _, entry in Reader(folder).entries() if isinstance(entry, Record)]
    number = entries[7].number
    expected = [entry for entry in reversed(entries) if entry.number == number]
    assert len(expected) > 2
    for _ in range(2):
        assert [record for _, record in Reader(folder).find_decisions([number])] == expected
        packing.write_indexes(folder)
    assert list(folder.glob("*.index.npy"))
    assert verify(folder).faults == []


# ---- segments that are not packed ----------------------------------------------------------------------------------------


def test_a_damaged_segment_is_not_packed(folder: Path) -> None:
    segment = closed_segments(folder, NOW + HOUR)[0]
    flip(segment)
    damaged = segment.read_bytes()
    with pytest.raises(LogDamaged, match=r"byte \d+: this line"):
        pack(segment)
    assert segment.read_bytes() == damaged
    assert not list(folder.glob("*.parquet*"))


def test_only_full_segments_that_a_checkpoint_covers_are_packed(folder: Path, keys: Keys) -> None:
    """A checkpoint needs all entries before it, unpacked. The newest segment is never packed."""
    one, two = sorted(folder.glob("*.ndjson"))[:-1]
    end = int(two.stem) - 1
    for before, through, closed in [
        (NOW, None, []),
        (NOW + HOUR, None, [one, two]),
        (NOW + HOUR, end - 1, []),
        (NOW + HOUR, end, [one]),
        (NOW + HOUR, 10**6, [one, two]),
    ]:
        assert closed_segments(folder, before, through) == closed
    assert segments_to_pack(folder, NOW + HOUR) == []
    assert sign_checkpoint(folder, keys) > 120
    assert segments_to_pack(folder, NOW + HOUR) == [one, two]


def test_a_packed_file_with_a_wrong_line_does_not_replace_the_segment(folder: Path, tmp_path: Path) -> None:
    one, two = closed_segments(folder, NOW + HOUR)
    shutil.copy(one, tmp_path / one.name)
    packed = pack(one).segment
    packing._prove(packed, tmp_path / one.name)
    with pytest.raises(ArchiveFailed, match="differs from the original"):
        packing._prove(packed, two)


def test_only_one_process_packs_at_a_time(folder: Path) -> None:
    with archive_lock(folder), pytest.raises(ArchiveFailed, match="another process"), archive_lock(folder):
        pass
    with archive_lock(folder):
        pass


def test_packing_is_repeated_after_a_crash_at_any_point(folder: Path, tmp_path: Path) -> None:
    """A file may be half-written, and a segment may exist in both forms."""
    before = content(folder)
    segment = closed_segments(folder, NOW + HOUR)[0]
    copy = tmp_path / segment.name
    shutil.copy(segment, copy)
    packed = segment.with_suffix(".parquet")
    packed.with_name(f"{packed.name}.new").write_bytes(b"half")
    (folder / f"{segment.stem}.index.npy.new").write_bytes(b"half")
    pack(segment)
    shutil.copy(copy, segment)
    assert content(folder) == before
    pack_all(folder)
    assert content(folder) == before
    assert not list(folder.glob("*.new"))


# ---- tampering -----------------------------------------------------------------------------------------------------------


def damages(data: bytes, draw: random.Random) -> Iterator[bytes]:
    for _ in range(60):
        at = draw.randrange(len(data))
        yield data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    for _ in range(10):
        yield data[: draw.randrange(len(data))]


@pytest.mark.parametrize("suffix", [".parquet", ".sha256"])
def test_any_changed_byte_of_a_packed_segment_is_detected(folder: Path, suffix: str) -> None:
    pack_all(folder)
    path = min(folder.glob("*.parquet")).with_suffix(suffix)
    whole = path.read_bytes()
    for damaged in damages(whole, random.Random(suffix)):
        path.write_bytes(damaged)
        with pytest.raises(LogDamaged):
            content(folder)
    path.write_bytes(whole)
    assert chain_holds(folder)


def test_an_edited_record_breaks_the_chain_even_with_new_checksums(folder: Path) -> None:
    pack_all(folder)
    path = min(folder.glob("*.parquet"))
    metadata = {
        key: value for key, value in pq.ParquetFile(path).metadata.metadata.items() if key[:9] == b"dialgate."
    }
    table = pq.ParquetFile(path).read()
    allow = table.column("allow").to_pylist()
    allow[allow.index(False)] = True
    column = table.schema.get_field_index("allow")
    edited = table.set_column(column, "allow", [allow])
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(edited)
        writer.add_key_value_metadata(metadata)
    write_sum(path, digest(path))
    content(folder)
    assert not chain_holds(folder)


# ---- in a gate -------------------------------------------------------------------------------------------------------------


def test_a_failure_to_pack_is_reported_and_the_log_is_unchanged(folder: Path, keys: Keys) -> None:
    sign_checkpoint(folder, keys)
    segment = closed_segments(folder, NOW + HOUR)[0]
    segment.write_bytes(segment.read_bytes()[:-20])
    done = subprocess.run(
        [sys.executable, "-m", "dialgate.decision_log.archive", str(folder), str(NOW + HOUR)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "was modified" in done.stdout + done.stderr
    assert segment.exists()


async def test_a_gate_packs_its_log_and_continues_it(tmp_path: Path) -> None:
    async with running(tmp_path, log_segment_mb=1, log_archive_hours=0) as world:
        client = world.app.config.settings.clients[0]
        calls = [  # long names, so that few of them fill a file
            Call(
                to=CLEAR,
                from_=CALLER,
                campaign="acme-fibre",
                call_id=f"{at:2000}",
            )
            for at in range(700)
        ]
        answers = [await answer for answer in [world.app.gate.check(call, client) for call in calls]]
        await world.app.tick()  # signs the checkpoint that packing needs
        world.hand.at += HOUR
        await world.app.tick()
        wait_for_process(world.app._upkeep._archiving)
        data = world.app.config.data
    assert list((data / "log").glob("*.parquet"))
    keys = Keys.open(data / "keys.json")
    ids = [record.id for _, record in Reader(data / "log").find_decisions(keys.hashes(CLEAR).values())]
    assert ids == [answer.decision_id for answer in reversed(answers)]
    assert chain_holds(data / "log")
    app = await App.open(
        settings_of(tmp_path / "dialgate.yaml"), registry=CollectorRegistry(), clock=Hand(NOW + 2 * HOUR)
    )
    await app.close()
