r"""Signed checkpoints of the log, in a file next to its segments. Decisions do not wait for checkpoints.

`checkpoints.ndjson` in the log folder, mode 0600. Every line is one JSON object in exactly this form:

    {"signature":"<128 hex digits>","checkpoint":<body>}\n       Ed25519 of "dialgate checkpoint\n", then body as stored

    body: {"format":1,"log":"9f2c01ab","size":<entries>,"root":"<hash>","head":"<hash>","at":<ms>,"key":"<16 hex digits>",
           "previous":"<SHA-256 of the previous checkpoint line; 64 zeros for the first>","peaks":["<hash>", …]}

`root` is the Merkle root (`merkle`) of entries 1 to `size`. `head` is the chain hash of entry `size`. `peaks` are the hashes
of the complete subtrees, largest first; the root can be computed from them. `size` increases from line to line.

A checkpoint covers only entries that are on disk. So if a log has fewer entries than its last checkpoint covers, the
log was truncated. The last entry of each closed segment has a checkpoint. More checkpoints are written at regular
intervals.

A copy of closed segments may hold `0000000000000001.checkpoints` files instead, one per segment. Concatenated, they are the
beginning of the original file. New fields may be appended; any other change needs a new `format`. An unfinished
last line after a crash is removed, because no reader has relied on it.
"""

import os
import time
from binascii import hexlify
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Meta, Struct

from dialgate.core.model import Instant
from dialgate.crypto.log_signing import Signer, is_signed
from dialgate.decision_log.durable import publish_durable
from dialgate.decision_log.hash_chain import followed
from dialgate.decision_log.merkle import MerkleSpan
from dialgate.decision_log.segment import (
    UNREADABLE,
    ZERO,
    LogDamaged,
    append_line,
    closed_to_writers,
    follow,
    last_line,
    lines_of,
    segments,
    segments_from,
    unavailable,
)

FILE = "checkpoints.ndjson"
PART = ".checkpoints"
FORMAT: Literal[1] = 1
_BODY = slice(157, -2)
_MAX_ENTRIES = 100_000  # entries per `advance`, because the upkeep of the gate waits for it
_READ_BYTES = 1 << 16  # bytes between pauses that let the deciding thread run
_PAUSE = 0.000_2  # seconds
_DOES_NOT_FOLLOW = "it does not follow the entry before it"
_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Checkpoint(Struct, frozen=True, kw_only=True):
    format: Literal[1]
    log: str  # name of the log
    size: Annotated[int, Meta(ge=1)]  # number of entries covered
    root: _Hash  # Merkle root of these entries
    head: _Hash  # hash of the last entry's line
    at: Instant
    key: str  # name of the signing key
    previous: _Hash  # SHA-256 of the previous checkpoint's line; zeros for the first
    peaks: list[_Hash]  # hashes of the complete subtrees, largest first

    def span(self) -> MerkleSpan:
        """Return the Merkle tree of the covered entries. Raises `ValueError` if `peaks` do not fit `size`."""
        return MerkleSpan(self.size, [bytes.fromhex(peak) for peak in self.peaks])


class StoredCheckpoint(Struct, frozen=True):
    """A checkpoint with the bytes of its line in the file."""

    checkpoint: Checkpoint
    signature: bytes
    offset: int
    line: bytes
    line_hash: str

    @property
    def body(self) -> bytes:
        return self.line[_BODY]

    def is_signed(self, public: bytes) -> bool:
        return is_signed(public, signed_text(self.body), self.signature)


def signed_text(body: bytes) -> bytes:
    return b"dialgate checkpoint\n" + body


def checkpoint_lines(folder: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and bytes of each line from byte `start` on, except a torn last line.

    A last line is not torn if only its line break was overwritten. Yield this line too, so that callers detect the
    change. Yield nothing if the folder has no checkpoint file. `start` is ignored for `.checkpoints` files.
    """
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


def parse(offset: int, line: bytes) -> StoredCheckpoint | None:
    """Return the checkpoint, or None if the line is not exactly a checkpoint of this format."""
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
    return StoredCheckpoint(checkpoint, signature, offset, line, sha256(line).hexdigest())


def last_checkpoint(folder: Path) -> StoredCheckpoint | None:
    """Return the newest checkpoint. Raises `LogDamaged` if the last complete line is not a checkpoint."""
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
    """Return the offset and bytes of the last line that `checkpoint_lines` yields, or None.

    The file is read from its end, because it grows to hundreds of megabytes within a few years.
    """
    offset, line, rest = last_line(path)
    if rest and parse(offset + len(line), rest[:-1] + b"\n"):
        return offset + len(line), rest
    return (offset, line) if line else None


def signed_checkpoints(folder: Path) -> list[StoredCheckpoint]:
    """Return all checkpoints. Signatures are not checked; `verify` checks them. Raises `LogDamaged`."""
    entries = []
    for offset, line in checkpoint_lines(folder):
        entry = parse(offset, line)
        if entry is None:
            raise LogDamaged(folder / FILE, offset, "not a checkpoint")
        entries.append(entry)
    return entries


class Checkpointer:
    """The only writer of a log's checkpoints. The caller must hold the log writer's lock.

    It reads the synced entries after the last checkpoint, checks their hash chain and signs a new checkpoint. It never runs
    in the thread that decides calls.
    """

    def __init__(self, folder: Path, log: str, signer: Callable[[Instant], Signer], interval: int) -> None:
        """Continue after the last checkpoint. `interval` is in ms. Raises `LogDamaged`."""
        self._folder, self._log, self._signer, self._interval = folder, log, signer, interval
        last = last_checkpoint(folder)
        self._span = last.checkpoint.span() if last else MerkleSpan()
        self._head = bytes.fromhex(last.checkpoint.head) if last else ZERO
        self._previous = last.line_hash if last else ZERO.hex()
        self._end = last.offset + len(last.line) if last else 0
        self._at = last.checkpoint.at if last else 0
        self._lock = Lock()
        self._place: tuple[Path, int] = folder, 0
        self.size = self._span.end

    @classmethod
    def open(
        cls, folder: Path, *, log: str, signer: Callable[[Instant], Signer], interval: int, durable: int
    ) -> "Checkpointer":
        """Open the checkpoints of a log whose last entry on disk is `durable`.

        Raises `LogDamaged` if the last checkpoint covers entries after `durable`, because the log must have been
        truncated.
        """
        checkpointer = cls(folder, log, signer, interval)
        if checkpointer.size > durable:
            path = segments(folder)[-1][1]
            what = f"the log ends at entry {durable}, but its last checkpoint covers {checkpointer.size}: it was truncated"
            raise LogDamaged(path, path.stat().st_size, what)
        with suppress(OSError):  # `advance` reports it
            publish_durable(folder, durable)
        return checkpointer

    def advance(self, durable: int, now: Instant, *, at_once: bool = False) -> int:
        """Publish `durable` as the last entry on disk, read up to that entry, and sign a checkpoint if one is due.

        Reads at most 100,000 entries. A checkpoint is due at the end of a segment, after the interval, and always with
        `at_once`. Returns the number of entries covered. Raises `LogUnavailable`, `KeysUnusable`.
        """
        with self._lock:
            try:
                publish_durable(self._folder, durable)
                for is_complete in self._read(min(durable, self._span.end + _MAX_ENTRIES)):
                    if is_complete:
                        self._sign(now)
                if at_once or now - self._at >= self._interval:
                    self._sign(now)
            except OSError as error:
                raise unavailable(self._folder / FILE, error) from error
            return self.size

    def finish(self, durable: int, now: Instant) -> None:
        """Sign checkpoints until all entries up to `durable` are covered. Raises the same errors as `advance`."""
        while self.advance(durable, now, at_once=True) < durable:
            pass

    def _read(self, durable: int) -> Iterator[bool]:
        """Read up to entry `durable`. After each segment, yield whether it is closed and was read completely."""
        # Start with the segment of the last entry read: it may have been closed after that read.
        paths = segments_from(segments(self._folder), self._span.end)
        followings = [first for first, _ in paths[1:]] + [0]
        for (first, path), following in zip(paths, followings, strict=True):
            if self._span.end < durable:
                self._read_segment(path, first, durable)
            yield following == self._span.end + 1

    def _read_segment(self, path: Path, first: int, durable: int) -> None:
        if first > self._span.end + 1:
            raise LogDamaged(path, 0, f"entry {self._span.end + 1} is missing before this segment")
        with path.open("rb") as file:
            if path != self._place[0]:
                self._place = path, self._begin(path, file, first)
            while self._span.end < durable and self._take(path, file, durable - self._span.end):
                time.sleep(_PAUSE)

    def _begin(self, path: Path, file: BinaryIO, first: int) -> int:
        """Return the offset of the first unread entry."""
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
        """Read the next block of at most `most` entries. Return False at the end of the file."""
        offset = self._place[1]
        file.seek(offset)
        data = file.read(_READ_BYTES)
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
        append_line(self._folder / FILE, self._end, line)
        self._previous, self._end = sha256(line).hexdigest(), self._end + len(line)
        self._at, self.size = now, span.end


def make_checkpoint(folder: Path, *, log: str, signer: Signer, now: Instant) -> int:
    """Sign a checkpoint of the whole log and return the number of entries covered, 0 if the log is empty.

    The entries are on disk on return, and published as such. Raises `LogUnavailable` if a gate is writing the log. A
    running gate makes its own checkpoints. Raises `LogDamaged` if the log was truncated.
    """
    with closed_to_writers(folder):
        if not segments(folder):
            return 0
        first, newest = segments(folder)[-1]
        with newest.open("rb") as file:
            os.fsync(file.fileno())
        head = first + sum(line.endswith(b"\n") for _, line in lines_of(newest)) - 2
        checkpointer = Checkpointer.open(folder, log=log, signer=lambda _: signer, interval=0, durable=head)
        checkpointer.finish(head, now)
        return checkpointer.size
