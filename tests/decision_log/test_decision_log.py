"""Entries are durable once `sync` has returned; lost or torn ones are detected. Without a log, no call is allowed."""

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from threading import Event

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dialgate.decision_log import DecisionLog, LogDamaged, LogUnavailable, verify
from dialgate.decision_log.archive import Segments
from dialgate.gate.recorder import LogRecorder
from dialgate.observability.metrics import Metrics
from tests.support.damage import fill
from tests.support.paths import ROOT

ONE = "0000000000000001.ndjson"
NOW = 1_795_500_000_000
LOG = "9f2c01ab"


def body(seq: int, text: str = "") -> bytes:
    return msgspec.json.encode({"type": "outcome", "seq": seq, "text": text})


def open_log(folder: Path, segment_bytes: int = 1 << 20, version: str = "0.1") -> DecisionLog:
    return DecisionLog.open(folder, log=LOG, now=NOW, gate={"dialgate": version}, segment_bytes=segment_bytes)


def append(log: DecisionLog, number: int, text: str = "") -> None:
    log.turn_over(NOW)
    log.write([body(log.next_seq + ahead, text) for ahead in range(number)])


def seqs(folder: Path) -> list[int]:
    return [msgspec.json.decode(line.body)["seq"] for line in Segments(folder).lines()]


@pytest.mark.parametrize("opened_anew", [False, True])
def test_a_segment_ends_after_its_time_span_unless_it_is_empty(tmp_path: Path, opened_anew: bool) -> None:
    def again() -> DecisionLog:
        return DecisionLog.open(tmp_path / "log", log=LOG, now=NOW + 1, gate={}, segment_span=1_000)

    log = DecisionLog.open(tmp_path / "log", log=LOG, now=NOW, gate={}, segment_span=1_000)
    assert log.turn_over(NOW + 5_000) == 1
    log.write([body(1)])
    if opened_anew:
        log.close()
        log = again()
    assert log.turn_over(NOW + 999) == 1
    assert log.turn_over(NOW + 1_000) == 2
    assert log.turn_over(NOW + 9_000) == 2
    log.write([body(2)])
    log.close()
    assert seqs(tmp_path / "log") == [1, 2]
    assert verify(tmp_path / "log").faults == []


# ---- writing and reading ----------------------------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with closing(open_log(folder, segment_bytes=1)) as log:
        append(log, 1)
        append(log, 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@given(
    groups=st.lists(st.integers(1, 7), max_size=12),
    segment_bytes=st.integers(1, 3000),
    restarts=st.integers(0, 1),
)
@settings(max_examples=40)
def test_entries_are_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, groups: Sequence[int], segment_bytes: int, restarts: int
) -> None:
    """For any grouping, segment size and restarts, all entries are read in order and the chain is valid."""
    folder = tmp_path_factory.mktemp("log")
    log = open_log(folder, segment_bytes)
    for size in groups:
        append(log, size)
        if restarts:
            log.close()
            log = open_log(folder, segment_bytes)
    head, total = log.head, sum(groups)
    log.close()
    report = verify(folder)
    assert (report.ok, report.entries, report.last, report.head) == (True, total, total, head.hex())
    assert seqs(folder) == list(range(1, total + 1))


# ---- crashes ---------------------------------------------------------------------------------------------------------


def test_a_last_line_torn_at_any_byte_is_cut_off_kept_and_written_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with closing(open_log(whole)) as log:
        append(log, 3)
        size = (whole / ONE).stat().st_size
        append(log, 1)
    data = (whole / ONE).read_bytes()
    for end in range(size, len(data)):
        folder = tmp_path / str(end)
        folder.mkdir()
        path = folder / ONE
        path.write_bytes(data[:end])
        report = verify(folder)
        assert (report.ok, report.torn_tail, report.last) == (True, end - size, 3)
        with closing(open_log(folder)) as log:
            assert log.next_seq == 4
            append(log, 1)
        assert path.read_bytes() == data
        assert [kept.read_bytes() for kept in folder.glob("*.torn-*")] == [data[size:end]] * (end > size)


@given(
    synced=st.integers(0, 5), lost=st.integers(0, 5), kept=st.floats(0, 1), fill=st.sampled_from([b"", b"\0"])
)
@settings(max_examples=40)
def test_a_power_failure_loses_nothing_that_was_synced(
    tmp_path_factory: pytest.TempPathFactory, synced: int, lost: int, kept: float, fill: bytes
) -> None:
    """Wherever the unsynced bytes end or turn to zeros, all synced entries are kept and the chain continues."""
    folder = tmp_path_factory.mktemp("log")
    with closing(open_log(folder)) as log:
        append(log, synced)
        path = next(folder.glob("*.ndjson"))
        size = path.stat().st_size
        append(log, lost)
    data = path.read_bytes()
    end = size + int(kept * (len(data) - size))
    path.write_bytes(data[:end] + fill * (len(data) - end))
    with closing(open_log(folder)) as log:
        assert log.next_seq > synced
        append(log, 2)
        last = log.next_seq - 1
    assert verify(folder).ok
    assert seqs(folder) == list(range(1, last + 1))


WRITER = """
import sys
from pathlib import Path
from threading import Thread
from dialgate.decision_log import DecisionLog

log = DecisionLog.open(Path(sys.argv[1]), log="9f2c01ab", now=0, gate={}, segment_bytes=200_000)
body = '{"type":"decision","seq":%d,"text":"' + 2000 * "x" + '"}'
while True:
    written = []
    for size in (1 + log.next_seq % 40, 7):
        log.turn_over(0)
        log.write([(body % (log.next_seq + ahead)).encode() for ahead in range(size)])
        written.append(log.next_seq - 1)
        if len(written) == 1:
            sync = Thread(target=log.sync)
            sync.start()
    sync.join()
    print(written[0], flush=True)
"""


def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Kill 20 writers of one log, one after the other, while they write."""
    acknowledged = 0
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            lines = list(islice(process.stdout, random.randint(1, 12)))
            process.kill()
            lines += process.stdout.readlines()
        assert int(lines[-1]) > acknowledged
        acknowledged = int(lines[-1])
        report = verify(tmp_path)
        assert report.faults == []
        assert report.last >= acknowledged
    assert seqs(tmp_path) == list(range(1, report.last + 1))


# ---- failures of the operating system --------------------------------------------------------------------------------


def state(log: DecisionLog, folder: Path) -> tuple[int, bytes, int]:
    return log.next_seq, log.head, next(folder.glob("*.ndjson")).stat().st_size


def write_until_refused(log: DecisionLog, folder: Path) -> tuple[LogUnavailable, tuple[int, bytes, int]]:
    """Write groups until the log refuses one. Return the error, and the state of the log before that group."""
    while True:
        before = state(log, folder)
        try:
            append(log, 50, text="x" * 500)
        except LogUnavailable as failure:
            return failure, before
        log.sync()


def refuses(log: DecisionLog, *more: Callable[[], object], match: str | None = None) -> None:
    """Assert that the log refuses the operations in `more`, a sync, an append, and a second sync."""
    for attempt in (*more, log.sync, lambda: append(log, 1), log.sync):
        with pytest.raises(LogUnavailable, match=match):
            attempt()


def test_a_full_disk_stops_the_log_until_space_is_freed(small_disk: Path) -> None:
    folder, ballast = small_disk / "log", small_disk / "ballast"
    ballast.write_bytes(bytes(512 * 1024))
    with closing(open_log(folder)) as log:
        failure, before = write_until_refused(log, folder)
        assert failure.cause == errno.ENOSPC
        assert state(log, folder) == before
        fill(small_disk / "more")
        refuses(log, lambda: log.recover(NOW), match="disk is full: free some space")
        assert not list(folder.glob("*.new"))
        ballast.unlink()
        log.recover(NOW)
        assert log.next_seq == before[0]
        append(log, 50)
        log.sync()
        assert verify(folder).ok
        assert seqs(folder) == list(range(1, before[0] + 50))


def test_a_read_only_disk_is_reported_and_the_lock_released(small_disk: Path) -> None:
    open_log(small_disk / "log").close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(LogUnavailable, match="read-only") as failure:
        open_log(small_disk / "log")
    assert failure.value.cause == errno.EROFS
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    open_log(small_disk / "log").close()


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(LogUnavailable, match="another process is writing this log"):
            open_log(tmp_path)
        process.kill()
    open_log(tmp_path).close()


def test_the_key_file_of_another_log_is_refused(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with pytest.raises(LogUnavailable, match=f"belongs to log {LOG}"):
        DecisionLog.open(tmp_path, log="00000000", now=NOW, gate={})
    open_log(tmp_path).close()


def break_descriptor(log: DecisionLog, device: str) -> None:
    """Replace the log's file descriptor with a descriptor of a device that cannot be synced.

    `/dev/full` refuses writes. `/dev/null` accepts and discards them.
    """
    other = os.open(device, os.O_WRONLY)
    os.dup2(other, log._fd)
    os.close(other)


def test_recovery_after_a_failed_sync_rewrites_unsynced_entries(tmp_path: Path) -> None:
    """Unsynced entries are written again to a new segment, so the next `sync` makes them durable."""
    with closing(open_log(tmp_path)) as log:
        append(log, 3)
        log.sync()
        append(log, 2)
        break_descriptor(log, "/dev/null")
        append(log, 2)
        with pytest.raises(LogUnavailable, match="Invalid argument"):
            log.sync()
        refuses(log)
        log.recover(NOW)
        log.sync()
        assert log.next_seq == 8
        append(log, 1)
    assert [path.name for path in sorted(tmp_path.glob("*.ndjson"))] == [ONE, f"{4:016}.ndjson"]
    assert verify(tmp_path).ok
    assert seqs(tmp_path) == list(range(1, 9))


@pytest.fixture
def lossy_disk(small_disk: Path) -> Iterator[Path]:
    """Mount a disk image that is larger than the disk below it.

    When the disk below is full, a sync fails once and the unsynced data is lost.
    """
    image, disk = small_disk / "image", small_disk / "disk"
    disk.mkdir()
    image.touch()
    os.truncate(image, 32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def remount(disk: Path, image: Path) -> None:
    """Remount the image, so that reads come from the disk."""
    subprocess.run(["umount", disk], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)


async def test_a_segment_that_fills_up_after_a_failed_sync_loses_no_entry(
    lossy_disk: Path, small_disk: Path
) -> None:
    log = open_log(lossy_disk, segment_bytes=200_000)
    recorder = LogRecorder(log, lambda: NOW, Metrics(CollectorRegistry()))
    with (small_disk / "filling").open("wb", buffering=0) as filling, suppress(OSError):
        while filling.write(bytes(1 << 12)):
            pass
    append(log, 2_500)  # the segment is full
    synced = recorder.sync()
    while log._broken is None:  # the event loop does not read the result yet
        pass
    (small_disk / "filling").unlink()
    with pytest.raises(LogUnavailable, match="the disk is full"):
        recorder.grounds(NOW)
    with pytest.raises(LogUnavailable):
        await synced
    log.recover(NOW)
    recorder.grounds(NOW)
    append(log, 1)
    await recorder.sync()
    await recorder.close()
    remount(lossy_disk, small_disk / "image")
    assert verify(lossy_disk).faults == []
    assert seqs(lossy_disk) == list(range(1, 2_502))


def test_recovery_in_another_thread_loses_no_entry(tmp_path: Path) -> None:
    """One thread writes, one syncs and one recovers while the disk fails repeatedly."""
    over = Event()

    def keep_recovering() -> None:
        while not over.wait(0.0002):
            log.recover(NOW)

    with closing(open_log(tmp_path, segment_bytes=3000)) as log, ThreadPoolExecutor(2) as threads:
        mending = threads.submit(keep_recovering)
        written = 0
        for turn in range(400):
            if turn % 7 == 0 and log._broken is None:
                break_descriptor(log, "/dev/null")
            sync = threads.submit(log.sync)
            for _ in range(5):
                with suppress(LogUnavailable):
                    append(log, 1)
                    written += 1
            sync.exception()
        over.set()
        mending.result()
        log.recover(NOW)
        with suppress(LogUnavailable):
            log.sync()
        log.recover(NOW)
    assert verify(tmp_path).ok
    assert seqs(tmp_path) == list(range(1, written + 1))


@pytest.mark.parametrize("synced", [0, 1, 3])
def test_a_failed_write_keeps_earlier_entries(tmp_path: Path, synced: int) -> None:
    with closing(open_log(tmp_path)) as log:
        append(log, synced)
        log.sync()
        append(log, 3 - synced)
        break_descriptor(log, "/dev/full")
        with pytest.raises(LogUnavailable) as failure:
            append(log, 1)
        assert (failure.value.cause, log.next_seq) == (errno.ENOSPC, 4)
        log.recover(NOW)
        append(log, 1)
    assert verify(tmp_path).ok
    assert seqs(tmp_path) == [1, 2, 3, 4]


def test_the_log_stops_while_no_segment_can_be_created(tmp_path: Path) -> None:
    with closing(open_log(tmp_path, segment_bytes=1)) as log:
        append(log, 3)
        obstacle = tmp_path / f"{4:016}.ndjson.new"
        obstacle.mkdir()
        with pytest.raises(LogUnavailable, match="Is a directory"):
            append(log, 1)
        refuses(log, lambda: log.recover(NOW), match="Is a directory")
        obstacle.rmdir()
        log.recover(NOW)
        append(log, 1)
    assert verify(tmp_path).ok
    assert seqs(tmp_path) == [1, 2, 3, 4]


def test_a_log_that_lost_synced_bytes_does_not_recover(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log, 3)
    log.sync()
    break_descriptor(log, "/dev/null")
    os.truncate(tmp_path / ONE, 300)
    with pytest.raises(LogUnavailable):
        log.sync()
    with pytest.raises(LogDamaged, match="shorter than its synced length"):
        log.recover(NOW)
    refuses(log)
    log.close()


def test_a_closed_log_does_not_write_to_a_reused_descriptor(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    log.close()
    with (tmp_path / "one").open("wb"), (tmp_path / "two").open("wb"), pytest.raises(LogUnavailable):
        append(log, 1)
    assert (tmp_path / "one").read_bytes() + (tmp_path / "two").read_bytes() == b""


def test_a_new_version_of_the_gate_begins_a_new_segment(tmp_path: Path) -> None:
    """The versions in a header apply to all entries of its segment. An empty segment is replaced."""
    for version, number in (("0.1", 0), ("0.2", 2), ("0.2", 1), ("0.3", 1)):
        with closing(open_log(tmp_path, version=version)) as log:
            append(log, number)
    headers = {
        path.name: json.loads(path.read_bytes().splitlines()[0])["entry"]["gate"]["dialgate"]
        for path in tmp_path.glob("*.ndjson")
    }
    assert headers == {ONE: "0.2", f"{4:016}.ndjson": "0.3"}
    assert verify(tmp_path).ok
