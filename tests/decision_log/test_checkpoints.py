"""Verification must detect and name every change to entries that a signed checkpoint covers.

`DIALGATE_DAMAGES` sets how many times a log is damaged at random.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.core.model import DAY
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer, public_keys, renew
from dialgate.decision_log import (
    CHECKPOINTS,
    Checkpointer,
    DecisionLog,
    LogDamaged,
    LogUnavailable,
    MerkleSpan,
    Tree,
    VerificationReport,
    last_checkpoint,
    leaf_hash,
    make_checkpoint,
    signed_checkpoints,
    verify,
)
from dialgate.decision_log.archive import Segments
from dialgate.tools.verifier.verify_evidence import merkle_root
from tests.support.sample_log import SampleDecision, write

NOW = 1_795_500_000_000
LOG = "9f2c01ab"
DAMAGES = int(os.environ.get("DIALGATE_DAMAGES", "120"))


def body(seq: int, text: str = "") -> bytes:
    return msgspec.json.encode({"type": "decision", "seq": seq, "allow": seq % 2 == 1, "text": text})


def open_log(folder: Path, segment_bytes: int = 1) -> DecisionLog:
    return DecisionLog.open(folder, log=LOG, now=NOW, gate={}, segment_bytes=segment_bytes)


def append(log: DecisionLog, number: int, text: str = "") -> None:
    log.turn_over(NOW)
    log.write([body(log.next_seq + ahead, text) for ahead in range(number)])
    log.sync()


def checkpointer(folder: Path, log: DecisionLog, interval: int = 10**15) -> Checkpointer:
    """Open a checkpointer with the key beside the log folder. By default the interval does not end during a test."""
    signing = folder.parent / "signing.json"
    return Checkpointer.open(
        folder, log=LOG, signer=lambda now: Signer.open(signing, now), interval=interval, durable=log.durable
    )


def verify_log(folder: Path, against: bytes = b"") -> VerificationReport:
    return verify(folder, keys=public_keys(folder.parent / "signing.json"), against=against)


def kinds(report: VerificationReport) -> list[str]:
    return [fault.kind for fault in report.faults]


# ---- Merkle tree -----------------------------------------------------------------------------------------------------


def reference_root(leaves: list[bytes]) -> bytes:
    """Return the root as RFC 6962, 2.1, defines it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\1" + reference_root(leaves[:k]) + reference_root(leaves[k:])).digest()


def test_the_root_matches_the_example_of_certificate_transparency() -> None:
    leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    span = MerkleSpan()
    for leaf in leaves:
        span.add(leaf_hash(bytes.fromhex(leaf)))
    assert span.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(cuts=st.lists(st.integers(0, 70), min_size=1, max_size=6).map(sorted))
def test_a_tree_restored_from_its_peaks_at_any_size_gives_the_same_root(cuts: list[int]) -> None:
    leaves = [bytes([number]) for number in range(cuts[-1])]
    tree = MerkleSpan()
    for begin, end in pairwise([0, *cuts]):
        tree = MerkleSpan(begin, tree.peaks)
        tree.extend([leaf_hash(leaf) for leaf in leaves[begin:end]])
    assert tree.root() == reference_root(leaves)


@given(size=st.integers(1, 70), data=st.data())
def test_only_contained_leaves_are_proved_from_any_earlier_state(size: int, data: st.DataObject) -> None:
    leaves = [bytes([number]) for number in range(size)]
    leaf = data.draw(st.integers(0, size - 1))
    base = MerkleSpan()
    for content in leaves[: data.draw(st.integers(0, leaf))]:
        base.add(leaf_hash(content))
    tree = Tree(base)
    for content in leaves[base.end :]:
        tree.add(leaf_hash(content))
    path, root = tree.path(leaf), reference_root(leaves)
    assert tree.root() == root == merkle_root(leaves[leaf], leaf, size, path)
    assert merkle_root(b"other", leaf, size, path) != root
    assert merkle_root(leaves[leaf], (leaf + 1) % size, size, path) != root or size == 1
    assert merkle_root(leaves[leaf], leaf, size, [*path, root]) is None


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_every_closed_segment_has_a_checkpoint_of_its_end_despite_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for _ in range(4):
        with closing(open_log(folder)) as log:
            checkpoints = checkpointer(folder, log)
            for size in (3, 5, 1):
                append(log, size)
                checkpoints.advance(log.durable, NOW)
    sizes = [entry.checkpoint.size for entry in signed_checkpoints(folder)]
    begins = sorted(int(path.stem) for path in folder.glob("0*.ndjson"))
    assert sizes == [first - 1 for first in begins[1:]]
    report = verify_log(folder)
    assert (report.faults, report.covered, report.signed) == ([], sizes[-1], len(sizes))


def test_a_checkpoint_can_be_recomputed_from_the_entries(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder)) as log:
        append(log, 13)
        checkpointer(folder, log).finish(log.durable, NOW)
    stored = last_checkpoint(folder)
    assert stored is not None
    lines = list(Segments(folder).lines())
    assert stored.checkpoint.root == reference_root([line.body for line in lines]).hex()
    assert (stored.checkpoint.size, stored.checkpoint.head) == (13, lines[-1].hash)
    signer = Signer.open(tmp_path / "signing.json", NOW)
    assert stored.checkpoint.key == sha256(signer.public[signer.name]).hexdigest()[:16]


def test_new_entries_are_signed_only_after_the_interval(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder, 1 << 20)) as log:
        checkpoints = checkpointer(folder, log, interval=60_000)
        covered = []
        for seconds in (0, 1, 59, 60, 61, 120):
            append(log, 2)
            covered.append(checkpoints.advance(log.durable, NOW + seconds * 1000))
    assert covered == [2, 2, 2, 8, 8, 12]


def test_a_checkpoint_torn_at_any_byte_is_not_a_fault_and_is_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder)) as log:
        append(log, 3)
        checkpointer(folder, log).finish(log.durable, NOW)
        path = folder / CHECKPOINTS
        size = path.stat().st_size
        append(log, 2)
        checkpointer(folder, log).finish(log.durable, NOW)
        whole = path.read_bytes()
        for end in {*range(size, len(whole), 11), len(whole) - 1}:
            path.write_bytes(whole[:end])
            assert verify_log(folder).faults == []
            checkpointer(folder, log).finish(log.durable, NOW)
            assert path.read_bytes() == whole


def test_only_entries_on_disk_are_covered(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder, 1 << 20)) as log:
        append(log, 3)
        log.write([body(4)])
        checkpoints = checkpointer(folder, log)
        checkpoints.finish(log.durable, NOW)
        assert checkpoints.size == 3


def test_a_log_whose_end_was_cut_off_is_not_continued(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder)) as log:
        append(log, 9)
        checkpointer(folder, log).finish(log.durable, NOW)
    path = folder / f"{1:016}.ndjson"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with closing(open_log(folder)) as log, pytest.raises(LogDamaged, match="covers 9: it was truncated"):
        checkpointer(folder, log)


def test_entries_that_do_not_follow_are_not_signed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder, 1 << 20)) as log:
        append(log, 5)
        path = folder / f"{1:016}.ndjson"
        path.write_bytes(path.read_bytes().replace(b'"seq":4', b'"seq":7'))
        checkpoints = checkpointer(folder, log)
        for _ in range(2):
            with pytest.raises(LogDamaged, match="does not follow"):
                checkpoints.advance(log.durable, NOW)
    assert last_checkpoint(folder) is None


def lines(folder: Path) -> list[bytes]:
    with closing(open_log(folder)) as log:
        checkpoints = checkpointer(folder, log)
        for _ in range(6):
            append(log, 3)
            checkpoints.advance(log.durable, NOW, at_once=True)
    return (folder / CHECKPOINTS).read_bytes().splitlines(keepends=True)


def test_the_newest_checkpoint_is_the_last_valid_line_however_the_file_ends(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    path, written = folder / CHECKPOINTS, lines(folder)
    first, end = b"".join(written[:-1]), written[-1]
    torn = [end[:-2], end[:1], b"\0" * 5]
    for ending in [b"", end, *torn, *(end + torn_line for torn_line in torn)]:
        path.write_bytes(first + ending)
        assert last_checkpoint(folder) == signed_checkpoints(folder)[-1], ending
    for only in (b"", *torn):
        path.write_bytes(only)
        assert last_checkpoint(folder) is None
    for changed in (b"no checkpoint\n", end[:-1] + b"x"):
        path.write_bytes(first + changed)
        with pytest.raises(LogDamaged, match=rf"byte {len(first)}: not a checkpoint"):
            last_checkpoint(folder)


def test_the_newest_checkpoint_of_a_copy_is_in_its_last_part(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    written = lines(folder)
    whole = last_checkpoint(folder)
    (folder / CHECKPOINTS).unlink()
    for first, part in ((1, written[:4]), (7, written[4:]), (19, [])):
        (folder / f"{first:016}.checkpoints").write_bytes(b"".join(part))
    assert last_checkpoint(folder) == whole == signed_checkpoints(folder)[-1]


def test_the_newest_checkpoint_of_a_huge_file_is_read_from_the_end(tmp_path: Path) -> None:
    """The eight gigabytes before the newest checkpoint are too much to read."""
    folder = tmp_path / "log"
    path, end = folder / CHECKPOINTS, lines(folder)[-1]
    with path.open("wb") as file:
        file.seek(1 << 33)
        file.write(b"\n" + end)
    newest = last_checkpoint(folder)
    assert newest is not None
    assert newest.offset == (1 << 33) + 1


def test_a_checkpoint_is_made_by_hand_only_while_no_gate_writes(tmp_path: Path) -> None:
    folder, signer = tmp_path / "log", Signer.open(tmp_path / "signing.json", NOW)
    with closing(open_log(folder)) as log:
        append(log, 9)
        with pytest.raises(LogUnavailable, match="another process is writing"):
            make_checkpoint(folder, log=LOG, signer=signer, now=NOW)
    assert make_checkpoint(folder, log=LOG, signer=signer, now=NOW) == 9
    assert verify_log(folder).covered == 9
    (tmp_path / "empty").mkdir()
    assert make_checkpoint(tmp_path / "empty", log=LOG, signer=signer, now=NOW) == 0


def test_a_new_key_signs_and_old_signatures_remain_valid(tmp_path: Path) -> None:
    folder, signing = tmp_path / "log", tmp_path / "signing.json"
    with closing(open_log(folder)) as log:
        checkpoints = checkpointer(folder, log)
        for _ in range(3):
            append(log, 2)
            checkpoints.finish(log.durable, NOW)
            renew(signing, NOW)
    assert signing.stat().st_mode & 0o777 == 0o600
    assert len({entry.checkpoint.key for entry in signed_checkpoints(folder)}) == 3
    assert [bool(key["private"]) for key in json.loads(signing.read_bytes())["keys"]] == [
        False,
        False,
        False,
        True,
    ]
    assert verify_log(folder).faults == []


def test_a_segment_without_entries_contradicts_no_checkpoint(tmp_path: Path) -> None:
    """A new version of the gate begins a new segment, which is empty until the first call."""
    folder = tmp_path / "log"
    with closing(open_log(folder)) as log:
        append(log, 4)
        checkpointer(folder, log).finish(log.durable, NOW)
    with closing(DecisionLog.open(folder, log=LOG, now=NOW, gate={"dialgate": "2"})) as log:
        checkpointer(folder, log).finish(log.durable, NOW)
        report = verify_log(folder)
        assert (report.faults, report.segments, report.covered) == ([], 2, 4)


# ---- damage ----------------------------------------------------------------------------------------------------------

SEGMENTS = [f"{first:016}.ndjson" for first in (1, 11, 21, 31)]


@pytest.fixture(scope="module")
def valid_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a log of 40 entries in four segments, with a checkpoint at the end of each."""
    folder = tmp_path_factory.mktemp("valid_log") / "log"
    with closing(open_log(folder)) as log:
        checkpoints = checkpointer(folder, log)
        for _ in SEGMENTS:
            append(log, 10)
            checkpoints.finish(log.durable, NOW)
    return folder


@pytest.fixture
def folder(valid_log: Path, tmp_path: Path) -> Path:
    return copied(valid_log, tmp_path / "copy")


def copied(valid_log: Path, to: Path) -> Path:
    shutil.copytree(valid_log.parent, to)
    return to / "log"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def rewrite(path: Path, change: Callable[[list[bytes]], object]) -> None:
    lines = lines_of(path)
    change(lines)
    path.write_bytes(b"".join(lines))


def swap(lines: list[bytes], one: int, other: int) -> None:
    lines[one], lines[other] = lines[other], lines[one]


def change_byte(folder: Path) -> set[str]:
    path = folder / random.choice([*SEGMENTS, CHECKPOINTS])
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data))
    data[at] ^= random.randrange(1, 256)
    path.write_bytes(data)
    if path.name == CHECKPOINTS:
        return {"edited_checkpoint", "wrong_key"}
    if at <= data.find(b"}}\n") + 2:
        return {"edited_header"}
    return {"edited_record", "reordered_record"}  # the byte may be a digit of the sequence


def cut_out(folder: Path) -> set[str]:
    """Cut bytes out of the middle of a file, never whole lines."""
    path = folder / random.choice(SEGMENTS)
    data = path.read_bytes()
    begin = random.randrange(len(lines_of(path)[0]), len(data) - 60)
    end = begin + random.randrange(1, 50)
    path.write_bytes(data[:begin] + data[end:])
    return {"edited_record", "reordered_record"}  # the bytes may be digits of the sequence


def cut_off(folder: Path) -> set[str]:
    """Cut off the end of a file at any byte after the header."""
    path = folder / random.choice(SEGMENTS)
    lines = lines_of(path)
    size = random.randrange(len(lines[0]), path.stat().st_size)
    os.truncate(path, size)
    if path.name == SEGMENTS[-1]:
        return {"cut_end"}
    if size == len(lines[0]):
        return {"missing_segment"}
    return {"cut_segment"} if path.read_bytes().endswith(b"\n") else {"edited_record"}


def swap_lines(folder: Path) -> set[str]:
    rewrite(folder / random.choice(SEGMENTS), lambda lines: swap(lines, *random.sample(range(1, 11), 2)))
    return {"reordered_record"}


def swap_segments(folder: Path) -> set[str]:
    one, other = (folder / name for name in random.sample(SEGMENTS, 2))
    (folder / "aside").write_bytes(one.read_bytes())
    other.rename(one)
    (folder / "aside").rename(other)
    return {"renamed_segment"}


def repeat_line(folder: Path) -> set[str]:
    at = random.randrange(1, 10)
    rewrite(folder / random.choice(SEGMENTS), lambda lines: lines.insert(at, lines[at]))
    return {"reordered_record"}


def delete_line(folder: Path) -> set[str]:
    path, at = folder / random.choice(SEGMENTS), random.randrange(1, 11)
    rewrite(path, lambda lines: lines.pop(at))
    if at < 10:
        return {"missing_record"}
    return {"cut_end" if path.name == SEGMENTS[-1] else "cut_segment"}


def delete_segment(folder: Path) -> set[str]:
    path = folder / random.choice(SEGMENTS)
    path.unlink()
    return {"cut_end" if path.name == SEGMENTS[-1] else "missing_segment"}


def delete_checkpoint(folder: Path) -> set[str]:
    """Delete a random checkpoint. If the last checkpoint is deleted, only a copy stored elsewhere reveals the loss."""
    at = random.randrange(4)
    rewrite(folder / CHECKPOINTS, lambda lines: lines.pop(at))
    return {"replaced_checkpoint" if at == 3 else "missing_checkpoint"}


WAYS = [
    change_byte, change_byte, cut_out, cut_off, swap_lines, swap_segments, repeat_line, delete_line, delete_segment,
    delete_checkpoint,
]  # fmt: skip


def test_every_random_damage_is_detected_and_named(valid_log: Path, tmp_path: Path) -> None:
    against = lines_of(valid_log / CHECKPOINTS)[-1]
    assert verify_log(valid_log, against).faults == []
    for number in range(DAMAGES):
        folder = copied(valid_log, tmp_path / str(number))
        way = WAYS[number % len(WAYS)]
        expected = way(folder)
        faults = verify_log(folder, against).faults
        assert faults, way.__name__
        assert faults[0].kind in expected, (way.__name__, faults)
        shutil.rmtree(folder.parent)


def forged(folder: Path) -> None:
    """Change entry 12 and recompute the whole chain after it."""
    head = bytes(32)
    for name in SEGMENTS:
        rewritten = []
        for line in lines_of(folder / name):
            entry = msgspec.json.decode(line[83:-2])
            if "previous" in entry:
                entry["previous"] = head.hex()
            elif entry["seq"] == 12:
                entry["allow"] = True
            text = msgspec.json.encode(entry)
            head = sha256(head + text).digest()
            rewritten.append(b'{"hash":"%b","entry":%b}\n' % (head.hex().encode(), text))
        (folder / name).write_bytes(b"".join(rewritten))


def test_a_rewritten_log_contradicts_its_checkpoints(folder: Path) -> None:
    forged(folder)
    assert verify(folder).faults
    report = verify_log(folder)
    assert kinds(report) == ["replaced_checkpoint"]
    assert (report.covered, report.faults[0].seq) == (10, 11)
    (folder / CHECKPOINTS).unlink()
    assert verify(folder).faults == [], "a chain cannot reveal it without a checkpoint"


@pytest.fixture
def daily_log(tmp_path: Path) -> Path:
    """Write a segment for each of four days, signed when it ends."""
    folder, keys = tmp_path / "log", Keys.open(tmp_path / "keys.json")
    for day in range(-4, 0):
        at = NOW + day * DAY
        write(folder, keys, [SampleDecision("+390612345678", at)], segment_bytes=1)
        make_checkpoint(folder, log=keys.log, signer=Signer.open(tmp_path / "signing.json", NOW), now=at)
    return folder


@pytest.mark.parametrize(
    ("kept", "faults"), [(4, []), (3, []), (2, []), (1, ["missing_checkpoint"]), (0, ["missing_checkpoint"])]
)
def test_removed_checkpoints_are_detected_without_a_copy(
    daily_log: Path, kept: int, faults: list[str]
) -> None:
    """A gate signs at least once a day, so records of two days without a checkpoint were not left by a crash."""
    rewrite(daily_log / CHECKPOINTS, lambda lines: lines.__delitem__(slice(kept, None)))
    report = verify_log(daily_log)
    assert (kinds(report), report.signed) == (faults, kept)
    assert all(fault.seq == 3 * kept + 1 for fault in report.faults)


def test_a_decision_that_contradicts_its_grounds_is_detected(daily_log: Path) -> None:
    """The chain is computed again, so only the grounds show it."""
    path = daily_log / SEGMENTS[0]
    lines = lines_of(path)
    head = bytes.fromhex(json.loads(lines[0])["hash"])
    for place, line in enumerate(lines[1:], 1):
        body = re.sub(rb'("grounds":1,"allow":)true', rb"\1false", line[83:-2])
        head = sha256(head + body).digest()
        lines[place] = b'{"hash":"%b","entry":%b}\n' % (head.hex().encode(), body)
    path.write_bytes(b"".join(lines))
    (fault, *_) = verify(daily_log).faults
    assert (fault.kind, fault.seq) == ("edited_record", 2)
    assert "contradicts its grounds" in fault.what


def test_a_rewritten_log_with_checkpoints_contradicts_the_checkpoint_kept_elsewhere(folder: Path) -> None:
    against = lines_of(folder / CHECKPOINTS)[1]
    forged(folder)
    (folder / CHECKPOINTS).unlink()
    signer = Signer.open(folder.parent / "signing.json", NOW)
    make_checkpoint(folder, log=LOG, signer=signer, now=NOW)
    assert verify_log(folder).faults == []
    assert kinds(verify_log(folder, against)) == ["replaced_checkpoint"]
    assert kinds(verify_log(folder, against[:-9] + b"\n")) == ["replaced_checkpoint"]


@pytest.mark.parametrize(
    ("first", "last", "segments", "records"),
    [
        (1, None, 4, 40),
        (11, 20, 1, 10),
        (15, 15, 1, 10),
        (20, 21, 2, 20),
        (31, None, 1, 10),
        (99, None, 1, 10),
    ],
)
def test_a_range_is_verified_by_its_segments(
    folder: Path, first: int, last: int | None, segments: int, records: int
) -> None:
    report = verify(folder, first=first, last=last, keys=public_keys(folder.parent / "signing.json"))
    assert (report.faults, report.segments, report.entries) == ([], segments, records)
    assert report.covered == report.last, "its tree continues from the checkpoint before it"
    for name in SEGMENTS:
        rewrite(folder / name, lambda lines: swap(lines, 3, 4))
    faults = verify(folder, first=first, last=last).faults
    assert [fault.kind for fault in faults] == ["reordered_record"] * segments


def test_many_processes_find_the_same_as_one(tmp_path: Path) -> None:
    """The log is so large that `verify` scans it in several processes."""
    folder = tmp_path / "log"
    with closing(open_log(folder, 9 << 20)) as log:
        checkpoints = checkpointer(folder, log)
        for _ in range(36):
            append(log, 1000, "x" * 900)
        checkpoints.finish(log.durable, NOW)
    progress: list[tuple[int, int]] = []
    keys = public_keys(tmp_path / "signing.json")
    report = verify(folder, keys=keys, progress=lambda done, whole: progress.append((done, whole)))
    assert (report.faults, report.entries, report.covered) == ([], 36_000, 36_000)
    assert report.segments == len(progress) > 3
    assert progress[-1][0] == progress[-1][1] == sum(path.stat().st_size for path in folder.glob("0*.ndjson"))
    third = sorted(folder.glob("0*.ndjson"))[2]
    rewrite(third, lambda lines: swap(lines, 7, 900))
    assert [(fault.file, fault.kind) for fault in verify(folder, keys=keys).faults] == [
        (str(third), "reordered_record")
    ]
