"""The format of segments: lines, headers and the errors that the writer and readers raise."""

import errno
import os
import re
from binascii import hexlify, unhexlify
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.runtime.atomic_write import sync_folder
from dialgate.runtime.file_lock import hold_lock

FORMAT: Literal[1] = 1
ZERO = bytes(32)
BODY = slice(83, -2)
_WINDOW = 1 << 14  # bytes
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)  # msgspec does not convert UnicodeDecodeError
_HASH = re.compile(rb'\{"hash":"([0-9a-f]{64})","entry":')
_NAME = re.compile(r"\d{16}\.ndjson")

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: raise it or free some space",
    errno.EFBIG: "the file may not grow further: raise the file size limit",
    errno.EROFS: "the file system is read-only: remount it writable",
    errno.EACCES: "permission denied: give the folder to the gate's user",
    errno.EPERM: "permission denied: give the folder to the gate's user",
    errno.EIO: "the disk reports an I/O error: check it and replace it",
    errno.EMFILE: "too many open files: raise the limit (`ulimit -n`)",
    errno.EWOULDBLOCK: "another process is writing this log: stop it, or use a different folder",
}


class LogUnavailable(Unavailable):
    """The error for a log that cannot currently be written to. The gate then denies all calls.

    `cause` is an errno, or 0.
    """

    component = "log"

    def __init__(self, message: str, cause: int = 0) -> None:
        super().__init__(message)
        self.cause = cause


class LogDamaged(LogUnavailable):
    """Raised if a log was modified, at byte `offset` in `file`. Retrying does not help."""

    def __init__(self, file: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{file}, byte {offset}: {what}. Keep the folder as evidence, run `dialgate log verify` and restore the folder"
            " from a copy. To start a new log instead, remove `log` from the key file and use an empty folder"
        )
        self.file, self.offset = file, offset


def unavailable(path: Path, error: OSError) -> LogUnavailable:
    code = error.errno or 0
    return LogUnavailable(f"{path}: {_ADVICE.get(code, os.strerror(code))}", code)


def in_use(folder: Path) -> LogUnavailable:
    """Return the error for a log whose lock is held by another process."""
    return unavailable(folder, BlockingIOError(errno.EWOULDBLOCK, ""))


class Header(Struct, frozen=True, kw_only=True, tag_field="type", tag="segment"):
    format: Literal[1]
    log: str  # name of the log
    first: int  # sequence of the first entry
    # hash of the line before this segment; zeros for the first
    previous: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    opened_at: Instant
    gate: dict[str, str]  # versions of the gate and of the libraries whose data decisions use


class LogLine(Struct, frozen=True, gc=False):
    """One entry and its position. `hash` is in hex; `offset` is the byte position of the line."""

    seq: int
    hash: str
    body: bytes
    segment: Path
    offset: int


def follow(head: bytes, line: bytes) -> bytes | None:
    """Return the raw hash of the line, or None if the line is incomplete or does not follow `head`."""
    own = sha256(head + line[BODY]).digest()
    whole = line[:83] == b'{"hash":"%b","entry":' % hexlify(own) and line.endswith(b"}\n")
    return own if whole else None


def stored_hash(line: bytes) -> str | None:
    """Return the hash stored in a line, in hex, or None if the line is malformed."""
    shaped = line[:9] == b'{"hash":"' and line[73:83] == b'","entry":' and line.endswith(b"}\n")
    return line[9:73].decode(errors="replace") if shaped else None


def last_stored_hash(damaged: bytes) -> bytes | None:
    """Return the last hash in a damaged line, or None if the line contains no hash.

    If a line break is missing, two lines are read as one line with two hashes.
    """
    hashes = _HASH.findall(damaged)
    return unhexlify(hashes[-1]) if hashes else None


def header_of(line: bytes) -> Header | None:
    try:
        return msgspec.json.decode(line[BODY], type=Header)
    except UNREADABLE:
        return None


def segments(folder: Path) -> list[tuple[int, Path]]:
    return sorted((int(path.stem), path) for path in folder.iterdir() if _NAME.fullmatch(path.name))


def segments_from(paths: list[tuple[int, Path]], seq: int) -> list[tuple[int, Path]]:
    """Return the segment that holds entry `seq` and all later segments, or all if `seq` precedes them."""
    return paths[max(bisect_right(paths, seq, key=itemgetter(0)) - 1, 0) :]


def lines_of(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and bytes of each line, starting at byte `offset`.

    An empty file yields one empty line, which callers report as damaged.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            yield offset, line
            offset += len(line)
    if not offset:
        yield 0, b""


def last_line(path: Path) -> tuple[int, bytes, bytes]:
    """Return the offset and bytes of the last complete line, and the bytes after it.

    Without a complete line, the offset is 0 and the line empty. The file is read from its end, so the cost does not depend on
    its size.
    """
    with path.open("rb") as file:
        size, window = file.seek(0, os.SEEK_END), _WINDOW
        while True:
            start = max(size - window, 0)
            file.seek(start)
            *whole, rest = file.read(size - start).split(b"\n")
            if len(whole) > 1 or not start:
                break
            window *= 2
    line = whole[-1] + b"\n" if whole else b""
    return size - len(rest) - len(line), line, rest


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise LogDamaged(path, size, "the file is shorter than its synced length")
        file.truncate(size)
        os.fsync(file.fileno())


@contextmanager
def closed_to_writers(folder: Path) -> Iterator[int]:
    """Hold the writer's lock and yield its descriptor. Raises `LogUnavailable` if another process holds it."""
    try:
        with hold_lock(folder / ".lock", in_use(folder)) as lock:
            yield lock
    except OSError as error:
        raise unavailable(folder, error) from error


def append_line(path: Path, offset: int, line: bytes) -> None:
    """Append a line at byte `offset` and sync it.

    What a crash or a failed append left after `offset` is removed. If `offset` is 0, the folder is synced too.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, offset)
        os.lseek(fd, offset, os.SEEK_SET)
        write_all(fd, line)
        os.fsync(fd)
    finally:
        os.close(fd)
    if not offset:
        sync_folder(path.parent)  # the file can be new


def write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
