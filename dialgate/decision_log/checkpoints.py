"""Signed checkpoints: what the log was at an instant, in a file beside its segments that no decision waits for.

`checkpoints.ndjson` in the log's folder, mode 0600. Every line is one JSON object, byte for byte

    {"signature":"<128 hex digits>","checkpoint":<body>}\\n       Ed25519 of "dialgate checkpoint\\n", then body as stored

    body: {"format":1,"log":"9f2c01ab","size":<entries>,"root":"<hash>","head":"<hash>","at":<ms>,"key":"<16 hex digits>",
           "previous":"<SHA-256 of the checkpoint line before; 64 zeros for the first>","peaks":["<hash>", …]}

`root` is the Merkle root (`merkle`) of entries 1 to `size`, `head` the chain's hash of entry `size`, `peaks` the tree's
whole subtrees, largest first, from which the root follows. `size` grows from line to line. A checkpoint covers only what
is on the disk: a log that holds less than its last checkpoint says was cut. There is one for the last entry of each
closed segment, and others at an interval. A copy of closed segments may have, instead of this file, what it says of each
beside it, `0000000000000001.checkpoints`: one after the other they are its beginning. How it may change: fields are appended; anything else is a new `format`. A last
line that a crash left unfinished is cut off: nobody was told of it.
"""

import os
import time
from binascii import hexlify
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Meta, Struct

from dialgate.core.model import Instant
from dialgate.crypto.log_signing import Signer, is_signed
from dialgate.decision_log.durable import tell
from dialgate.decision_log.merkle import Span
from dialgate.decision_log.segment import (
    UNREADABLE,
    ZERO,
    LogDamaged,
    closed_to_writers,
    follow,
    last_line,
    lines_of,
    segments,
    unavailable,
)
from dialgate.native import followed
from dialgate.runtime.atomic_write import sync_folder

FILE = "checkpoints.ndjson"
PART = ".checkpoints"
FORMAT: Literal[1] = 1
_BODY = slice(157, -2)
_MOST = (
    100_000  # entries taken in at a time: a log of before there were checkpoints is caught up with by and by
)
_READ = 1 << 16  # bytes read before the threads that decide are given way,
_PAUSE = 0.000_2  # for so many seconds
_DOES_NOT_FOLLOW = "it does not follow from what stands before it"
_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Checkpoint(Struct, frozen=True, kw_only=True):
    format: Literal[1]
    log: str
    size: Annotated[int, Meta(ge=1)]
    root: _Hash
    head: _Hash
    at: Instant
    key: str
    previous: _Hash
    peaks: list[_Hash]

    def span(self) -> Span:
        """Raises `ValueError`."""
        return Span.of_peaks(self.size, [bytes.fromhex(peak) for peak in self.peaks])


class Stored(Struct, frozen=True):
    """A checkpoint where it stands; `body` and `signature` as they are stored."""

    checkpoint: Checkpoint
    body: bytes
    signature: bytes
    offset: int
    line_hash: str

    def is_signed(self, public: bytes) -> bool:
        return is_signed(public, signed_text(self.body), self.signature)


def signed_text(body: bytes) -> bytes:
    return b"dialgate checkpoint\n" + body


def checkpoint_lines(folder: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line but a torn one, from `start` on; nothing where there is no file. A whole line but for
    another last byte is no torn one: it was changed."""
    file = folder / FILE
    parts = [] if file.exists() else sorted(folder.glob(f"*{PART}"))
    begin = 0
    for path in parts or [file]:
        size = 0
        with suppress(FileNotFoundError):
            for offset, line in lines_of(path, 0 if parts else start):
                size = offset + len(line)
                if line.endswith(b"\n") or parse(offset, line[:-1] + b"\n"):
                    yield begin + offset, line
        begin += size


def parse(offset: int, line: bytes) -> Stored | None:
    """None where it is no checkpoint of this format, down to the last byte of its frame."""
    body, digits = line[_BODY], line[14:142]
    if line != b'{"signature":"%b","checkpoint":%b}\n' % (digits, body):
        return None
    try:
        checkpoint = msgspec.json.decode(body, type=Checkpoint)
        checkpoint.span()
        signature = bytes.fromhex(digits.decode())
    except (*UNREADABLE, ValueError):
        return None
    if hexlify(signature) != digits:
        return None
    return Stored(checkpoint, body, signature, offset, sha256(line).hexdigest())


def last_checkpoint(folder: Path) -> Stored | None:
    """Raises `LogDamaged` where the last whole line is none."""
    file = folder / FILE
    parts = [file] if file.exists() else sorted(folder.glob(f"*{PART}"))
    while parts and (newest := _newest(parts[-1])) is None:
        parts.pop()
    if not parts or newest is None:
        return None
    offset = sum(part.stat().st_size for part in parts[:-1]) + newest[0]
    entry = parse(offset, newest[1])
    if entry is None:
        raise LogDamaged(file, offset, "not a checkpoint")
    return entry


def _newest(path: Path) -> tuple[int, bytes] | None:
    """As `checkpoint_lines` gives it last. A log of years has hundreds of megabytes of them."""
    offset, line, rest = last_line(path)
    if rest and parse(offset + len(line), rest[:-1] + b"\n"):
        return offset + len(line), rest
    return (offset, line) if line else None


def signed_checkpoints(folder: Path) -> list[Stored]:
    """All of them, their signatures not checked: that is `verify`. Raises `LogDamaged`."""
    entries = []
    for offset, line in checkpoint_lines(folder):
        entry = parse(offset, line)
        if entry is None:
            raise LogDamaged(folder / FILE, offset, "not a checkpoint")
        entries.append(entry)
    return entries


class Checkpointer:
    """The one writer of a log's checkpoints, under the lock of the log's writer. Reads what is synced from where it
    stopped, proves its chain, and signs; in threads that are not the one that decides."""

    def __init__(self, folder: Path, log: str, signer: Callable[[Instant], Signer], interval: int) -> None:
        """`interval`: ms. Raises `LogDamaged`."""
        self._folder, self._log, self._signer, self._interval = folder, log, signer, interval
        last = last_checkpoint(folder)
        self._span = last.checkpoint.span() if last else Span()
        self._head = bytes.fromhex(last.checkpoint.head) if last else ZERO
        self._previous = last.line_hash if last else ZERO.hex()
        self._end = last.offset + len(last.body) + _BODY.start - _BODY.stop if last else 0
        self._at = last.checkpoint.at if last else 0
        self._lock = Lock()
        self._place: tuple[Path, int] = folder, 0
        self.size = self._span.end

    @classmethod
    def open(
        cls, folder: Path, *, log: str, signer: Callable[[Instant], Signer], interval: int, durable: int
    ) -> "Checkpointer":
        """`durable`: the last entry of the log. Raises `LogDamaged` where the last checkpoint knew of more."""
        checkpointer = cls(folder, log, signer, interval)
        if checkpointer.size > durable:
            path = segments(folder)[-1][1]
            what = f"the log ends with entry {durable}, but its last checkpoint covers {checkpointer.size}: its end was cut off"
            raise LogDamaged(path, path.stat().st_size, what)
        with suppress(OSError):  # `advance` says so
            tell(folder, durable)
        return checkpointer

    def advance(self, durable: int, now: Instant, *, at_once: bool = False) -> int:
        """Tell how far the log is on the disk (`durable`); take in the entries up to there, or the first many of them; sign where a segment
        has ended, and where the interval is over or `at_once`. Returns the entries covered. Raises `LogUnavailable`,
        `KeysUnusable`."""
        with self._lock:
            try:
                tell(self._folder, durable)
                for is_complete in self._read(min(durable, self._span.end + _MOST)):
                    if is_complete:
                        self._sign(now)
                if at_once or now - self._at >= self._interval:
                    self._sign(now)
            except OSError as error:
                raise unavailable(self._folder / FILE, error) from error
            return self.size

    def finish(self, durable: int, now: Instant) -> None:
        """All of it, up to the last entry. Raises as `advance`."""
        while self.advance(durable, now, at_once=True) < durable:
            pass

    def _read(self, durable: int) -> Iterator[bool]:
        """Yields at the end of each segment: whether another follows."""
        paths = segments(self._folder)
        # From the segment of the last entry that was read: that it has ended may have become known since.
        begin = max(bisect_right(paths, self._span.end, key=itemgetter(0)) - 1, 0)
        firsts = [first for first, _ in paths[begin:]]
        for (first, path), following in zip(paths[begin:], [*firsts[1:], 0], strict=True):
            if self._span.end < durable:
                self._read_segment(path, first, durable)
            yield following == self._span.end + 1

    def _read_segment(self, path: Path, first: int, durable: int) -> None:
        if first > self._span.end + 1:
            raise LogDamaged(path, 0, f"entry {self._span.end + 1} should stand before it and is not there")
        with path.open("rb") as file:
            if path != self._place[0]:
                self._place = path, self._begin(path, file, first)
            while self._span.end < durable and self._take(path, file, durable - self._span.end):
                time.sleep(_PAUSE)

    def _begin(self, path: Path, file: BinaryIO, first: int) -> int:
        """Where the first entry stands that is still to be read."""
        header = file.readline()
        if first == self._span.end + 1:
            head = follow(self._head, header)
            if head is None:
                raise LogDamaged(path, 0, _DOES_NOT_FOLLOW)
            self._head = head
        for _ in range(first, self._span.end + 1):
            file.readline()
        return file.tell()

    def _take(self, path: Path, file: BinaryIO, most: int) -> bool:
        """As many of the next entries as are read at a time; false where the file ends."""
        offset = self._place[1]
        file.seek(offset)
        data = file.read(_READ)
        if b"\n" not in data:
            data += file.readline()
        head, leaves, count = followed(self._head, data, most)
        if data and not leaves:
            raise LogDamaged(path, offset, _DOES_NOT_FOLLOW)
        self._head = head
        self._span.extend(leaves)
        self._place = path, offset + count
        return bool(data)

    def _sign(self, now: Instant) -> None:
        span = self._span
        if span.end == self.size:
            return
        signer = self._signer(now)
        body = msgspec.json.encode(
            Checkpoint(
                format=FORMAT,
                log=self._log,
                size=span.end,
                root=span.root().hex(),
                head=self._head.hex(),
                at=now,
                key=signer.name,
                previous=self._previous,
                peaks=[peak.hex() for peak in span.peaks],
            )
        )
        signature = hexlify(signer.sign(signed_text(body)))
        line = b'{"signature":"%b","checkpoint":%b}\n' % (signature, body)
        self._append(line)
        self._previous, self._end = sha256(line).hexdigest(), self._end + len(line)
        self._at, self.size = now, span.end

    def _append(self, line: bytes) -> None:
        path = self._folder / FILE
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, self._end)  # what a crash, or an append that failed, left unfinished
            size = 0
            while size < len(line):
                size += os.pwrite(fd, line[size:], self._end + size)
            os.fsync(fd)
        finally:
            os.close(fd)
        if not self._end:
            sync_folder(self._folder)


def cover(folder: Path, *, log: str, signer: Signer, now: Instant) -> int:
    """A checkpoint of all there is, of a log that nobody writes. Returns the entries covered. Raises `LogUnavailable`
    while a gate writes it, for that one makes its own."""
    with closed_to_writers(folder):
        first, newest = segments(folder)[-1]
        with newest.open("rb") as file:
            os.fsync(file.fileno())
        whole = sum(line.endswith(b"\n") for _, line in lines_of(newest))
        checkpointer = Checkpointer(folder, log, lambda _: signer, 0)
        checkpointer.finish(first + whole - 2, now)
        return checkpointer.size
