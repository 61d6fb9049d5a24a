"""Any reader can check the stored log, and every change, cut, move or removal is detected and located."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from dialgate.decision_log import DecisionLog, LogDamaged, VerificationReport, verify
from dialgate.decision_log.archive import Segments
from dialgate.decision_log.records import Reader

NOW = 1_795_500_000_000
LOG = "9f2c01ab"


def open_log(folder: Path) -> DecisionLog:
    return DecisionLog.open(folder, log=LOG, now=NOW, gate={"dialgate": "0.1"}, segment_bytes=1)


def body(seq: int) -> bytes:
    kind = "outcome" if seq % 5 == 0 else "decision"
    verdict = {"decision": f"{LOG}-{seq - 1}"} if seq % 5 == 0 else {"allow": seq % 2 == 1}
    return msgspec.json.encode({"type": kind, "seq": seq, **verdict})


def three_segments(folder: Path) -> list[Path]:
    """Write 30 entries in three segments."""
    with closing(open_log(folder)) as log:
        for first in (1, 11, 21):
            log.turn_over(NOW)
            log.write([body(seq) for seq in range(first, first + 10)])
    return sorted(folder.glob("*.ndjson"))


def faults(report: VerificationReport) -> list[tuple[str, int, int]]:
    return [(Path(fault.file).name, fault.offset, fault.seq) for fault in report.faults]


def test_the_stored_format_can_be_checked_with_json_and_sha256(tmp_path: Path) -> None:
    """Read the format as the docstring of `dialgate.decision_log` describes it, without using that package."""
    head, first = bytes(32), 1
    for path in three_segments(tmp_path):
        assert path.name == f"{first:016}.ndjson"
        for line in path.read_bytes().splitlines(keepends=True):
            stored, entry = line[9:73].decode(), line[83:-2]
            assert line == b'{"hash":"%b","entry":%b}\n' % (stored.encode(), entry)
            previous, head = head, sha256(head + entry).digest()
            assert stored == head.hex()
            parsed = json.loads(line)["entry"]
            if parsed["type"] == "segment":
                assert parsed == {
                    "type": "segment", "format": 1, "log": LOG, "first": first, "previous": previous.hex(),
                    "opened_at": NOW, "gate": {"dialgate": "0.1"},
                }  # fmt: skip
            else:
                assert parsed["seq"] == first
                first += 1
    assert first == 31


def test_find_returns_the_entry_of_a_sequence_or_none(tmp_path: Path) -> None:
    three_segments(tmp_path)
    for seq in (1, 10, 11, 20, 21, 30):
        line = Segments(tmp_path).find(seq)
        assert line is not None
        stored = line.segment.read_bytes()[line.offset :].split(b"\n")[0]
        assert json.loads(stored) == {"hash": line.hash, "entry": {**json.loads(body(seq))}}
    assert [Segments(tmp_path).find(seq) for seq in (0, -1, 31)] == [None, None, None]


def test_verify_counts_the_entries(tmp_path: Path) -> None:
    three_segments(tmp_path)
    report = verify(tmp_path)
    assert (report.segments, report.entries, report.first, report.last) == (3, 30, 1, 30)
    assert report.by_type == {"decision": 24, "outcome": 6}
    assert (report.allows, report.denies) == (12, 12)


def test_every_changed_byte_is_detected_and_located(tmp_path: Path) -> None:
    """Change one byte at a time in a log of 30 entries: there is one fault, at the line of that byte."""
    for path in three_segments(tmp_path):
        start = 0
        with path.open("r+b", buffering=0) as file:
            for offset, byte in enumerate(path.read_bytes()):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << offset % 8]), offset)
                assert [(name, at) for name, at, _ in faults(verify(tmp_path))] == [(path.name, start)], (
                    offset
                )
                os.pwrite(file.fileno(), bytes([byte]), offset)
                if byte == ord("\n"):
                    start = offset + 1
    assert verify(tmp_path).ok


def rewrite(path: Path, change: Callable[[list[bytes]], object]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def swap(one: Path, other: Path) -> None:
    aside = one.with_suffix(".aside")
    for source, target in ((one, aside), (other, one), (aside, other)):
        source.rename(target)


def forge(lines: list[bytes]) -> None:
    """Change entry 12, and recompute the hash of that entry only."""
    entry = lines[2][83:-2].replace(b'"seq":12', b'"seq":12,"x":1')
    own = sha256(bytes.fromhex(lines[1][9:73].decode()) + entry).hexdigest().encode()
    lines[2] = b'{"hash":"%b","entry":%b}\n' % (own, entry)


def edit_and_delete(one: Path, two: Path, _three: Path) -> None:
    rewrite(one, lambda lines: lines.pop(1))
    two.unlink()


ONE, TWO, THREE = (f"{first:016}.ndjson" for first in (1, 11, 21))

# The change to the three segments, and the expected fault: segment, number of lines before it, sequence.
DAMAGE: dict[str, tuple[Callable[[Path, Path, Path], object], list[tuple[str, int, int]]]] = {
    "first segment deleted": (lambda one, _two, _three: one.unlink(), [(TWO, 0, 1)]),
    "middle segment deleted": (lambda _one, two, _three: two.unlink(), [(THREE, 0, 11)]),
    "segment emptied": (lambda _one, two, _three: two.write_bytes(b""), [(TWO, 0, 11), (THREE, 0, 11)]),
    "segment renamed": (lambda _one, two, _three: two.rename(two.with_name(f"{12:016}.ndjson")), [(f"{12:016}.ndjson", 0, 11)]),
    "segments swapped": (lambda _one, two, three: swap(two, three), [(TWO, 0, 11), (THREE, 0, 21)]),
    "segment repeated": (lambda _one, two, three: shutil.copy(two, three), [(THREE, 0, 21)]),
    "line deleted": (lambda _one, two, _three: rewrite(two, lambda lines: lines.pop(4)), [(TWO, 4, 14)]),
    "line repeated": (lambda _one, two, _three: rewrite(two, lambda lines: lines.insert(4, lines[4])), [(TWO, 5, 15)]),
    "lines out of order": (lambda _one, two, _three: rewrite(two, lambda lines: lines.reverse()), [(TWO, 0, 11)]),
    "last line deleted": (lambda _one, two, _three: rewrite(two, lambda lines: lines.pop()), [(THREE, 0, 20)]),
    "cut inside a line": (lambda _one, two, _three: os.truncate(two, two.stat().st_size - 9), [(TWO, 10, 20)]),
    "forged with its hash": (lambda _one, two, _three: rewrite(two, forge), [(TWO, 3, 13)]),
    "two segments": (edit_and_delete, [(ONE, 1, 1), (THREE, 0, 10)]),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_detected_and_named(
    tmp_path: Path, damage: Callable[[Path, Path, Path], object], expected: list[tuple[str, int, int]]
) -> None:
    one, two, three = three_segments(tmp_path)
    damage(one, two, three)
    reported = [
        (name, (tmp_path / name).read_bytes()[:offset].count(b"\n"), seq)
        for name, offset, seq in faults(verify(tmp_path))
    ]
    assert reported == expected


def test_entries_stops_at_an_invalid_line(tmp_path: Path) -> None:
    """If the line were skipped, the response to an access request could be silently incomplete."""
    one, _, _ = three_segments(tmp_path)
    rewrite(one, lambda lines: lines.insert(3, b"\xff\n"))
    with pytest.raises(LogDamaged, match="not a line of the log") as failure:
        list(Segments(tmp_path).lines())
    assert failure.value.file == one
    assert [line.seq for line in Segments(tmp_path).lines(11)] == list(range(11, 31))


def test_an_entry_that_is_not_utf8_is_reported_as_damage(tmp_path: Path) -> None:
    with closing(open_log(tmp_path)) as log:
        log.write([b'{"type":"outcome","seq":1,"at":1,"decision":"x-0","result":"busy","client":"\xff"}'])
    with pytest.raises(LogDamaged, match="cannot read the entry"):
        list(Reader(tmp_path).entries())


@pytest.mark.parametrize(
    "read",
    [
        lambda found: list(found.lines()),
        lambda found: [
            list(lines) for lines in found.results_or_lines(LOG, 1) if isinstance(lines, Iterator)
        ],
        lambda found: list(found.reports([f"{LOG}-4"])),
        lambda found: list(found.find_decisions([bytes(16)])),
    ],
)
def test_an_emptied_segment_is_reported_as_damage(
    tmp_path: Path, read: Callable[[Segments], list[object]]
) -> None:
    """Otherwise the answer to a data subject could lack decisions."""
    _, two, _ = three_segments(tmp_path)
    two.write_bytes(b"")
    with pytest.raises(LogDamaged, match="not a segment header") as failure:
        read(Segments(tmp_path))
    assert failure.value.file == two


def test_a_folder_without_segments_is_a_fault(tmp_path: Path) -> None:
    assert not verify(tmp_path).ok


def test_a_wrong_sequence_is_a_fault_even_if_the_chain_is_valid(tmp_path: Path) -> None:
    with closing(open_log(tmp_path)) as log:
        log.write([body(1), body(3), b"[]", body(4)])
    assert [fault.what for fault in verify(tmp_path).faults] == ["its sequence number is 3"]


@pytest.mark.parametrize("line", range(10))
def test_a_change_before_the_last_line_is_never_repaired(tmp_path: Path, line: int) -> None:
    path = three_segments(tmp_path)[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"entry"', b'"Entry"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(LogDamaged) as failure:
        open_log(tmp_path)
    offset = len(b"".join(lines[:line]))
    assert (failure.value.file, failure.value.offset) == (path, offset)
    assert f"{path}, byte {offset}" in str(failure.value)
    assert path.read_bytes() == b"".join(lines)
