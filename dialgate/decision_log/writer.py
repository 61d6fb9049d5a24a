import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import msgspec

from dialgate.core.model import Instant
from dialgate.decision_log.hash_chain import chained
from dialgate.decision_log.segment import (
    FORMAT,
    ZERO,
    Header,
    LogDamaged,
    LogUnavailable,
    follow,
    header_of,
    in_use,
    lines_of,
    segments,
    truncate,
    unavailable,
    write_all,
)
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.file_lock import acquire_lock

_SEGMENT_BYTES = 64 * 1024 * 1024


class _End(NamedTuple):
    """The end of a log: size of the newest segment, sequence number of the next entry, raw hash of the last line."""

    size: int
    seq: int
    head: bytes


class DecisionLog:
    """The only writer of a log. After a failure it refuses to write until `recover` succeeds.

    `sync` and `recover` may run in other threads. All other methods must be called from a single thread.
    """

    def __init__(
        self,
        folder: Path,
        lock: int,
        log: str,
        gate: dict[str, str],
        segment_bytes: int,
        segment_span: Instant,
    ) -> None:
        self._folder, self._lock = folder, lock
        self.name, self._gate = log, gate
        self._segment_bytes, self._segment_span = segment_bytes, segment_span
        # Lock order: `_chain` (appending, recovery), then `_file` (syncing or replacing the segment).
        # So a write never waits for a sync, unless it begins a segment.
        self._chain, self._file = Lock(), Lock()
        self._fd = -1
        self._unsynced: list[bytes] = []
        self._broken: OSError | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        log: str,
        now: Instant,
        gate: dict[str, str],
        segment_bytes: int = _SEGMENT_BYTES,
        segment_span: Instant = 0,
    ) -> "DecisionLog":
        """Open the log and continue where it ends. Raises `LogUnavailable`, `LogDamaged`.

        A segment is full at `segment_bytes`, or `segment_span` ms after it began (0: no time limit). If `gate` differs
        from the field `gate` in the last header, a new segment begins. An unfinished last line is moved to a separate
        file; any other fault in the last segment raises `LogDamaged`.
        """
        with ExitStack() as undo:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = acquire_lock(folder / ".lock", in_use(folder))
                undo.callback(os.close, lock)
                log_ = cls(folder, lock, log, gate, segment_bytes, segment_span)
                log_._resume(now)
            except OSError as error:
                raise unavailable(folder, error) from error
            undo.pop_all()
        return log_

    @property
    def next_seq(self) -> int:
        return self._end.seq

    @property
    def head(self) -> bytes:
        """The raw hash of the last line."""
        return self._end.head

    @property
    def durable(self) -> int:
        """The sequence number of the last entry on disk."""
        return self._durable.seq - 1

    def write(self, bodies: Sequence[bytes]) -> None:
        """Append all of `bodies` or none, numbered from `next_seq`. The entries are durable only after a sync."""
        self._refuse_if_broken()  # before the lock: `recover` may hold it while a bad disk hangs
        with self._chain:
            self._refuse_if_broken()
            try:
                self._append(bodies)
            except OSError as error:
                raise self._break(error) from error

    def turn_over(self, now: Instant) -> int:
        """Begin a new segment if the newest is full. Return the sequence number of the newest segment's first entry.

        Waits for a sync in another thread: the kernel reports a disk error only once, so a later sync of a damaged segment
        succeeds. The segment could therefore count as complete if it were replaced earlier.
        """
        if self.is_full(now):
            self._refuse_if_broken()
            with self._chain:
                self._refuse_if_broken()
                try:
                    self._rotate(now)
                except OSError as error:
                    raise self._break(error) from error
        return self._first

    def is_full(self, now: Instant) -> bool:
        return self._end.size >= self._segment_bytes or self._is_old(now)

    def sync(self) -> None:
        """Block until all entries written so far are on disk. Other threads can write in the meantime."""
        with self._file:
            self._refuse_if_broken()
            end = self._end
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                raise self._break(error) from error
            self._settle(end)

    def recover(self, now: Instant) -> None:
        """Make a failed log usable again without a restart. Raises `LogUnavailable` while the cause persists.

        After a failed fsync the kernel may hold pages that it will never write. So the segment is truncated to the
        synced entries, and a new segment begins with all later entries. The new segment is on disk when `recover` returns.
        """
        with self._chain, self._file:
            if self._broken is None:
                return
            try:
                truncate(self._path, self._durable.size)
                self._begin(self._durable, self._unsynced, now)
            except OSError as error:
                raise self._break(error) from error
            self._broken = None

    def close(self) -> None:
        try:
            if self._broken is None:
                self.sync()
        finally:
            os.close(self._fd)
            os.close(self._lock)
            self._fd = -1  # the number may be reused by another file

    def _resume(self, now: Instant) -> None:
        paths = segments(self._folder)
        if not paths:
            self._first, self._previous = 1, ZERO
            self._begin(_End(0, 1, ZERO), (), now)
            return
        self._first, self._path = paths[-1]
        header, end = _inspect(self._path, self._first, self.name)
        self._previous = bytes.fromhex(header.previous)
        if end.size < self._path.stat().st_size:
            _keep_torn(self._path, end.size)
        truncate(self._path, end.size)  # also syncs: a killed process may have left unsynced lines
        if header.gate == self._gate:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            self._end = self._durable = end
            self._opened_at = header.opened_at
        else:
            self._begin(end, (), now)

    def _is_old(self, now: Instant) -> bool:
        old = 0 < self._segment_span <= now - self._opened_at
        return old and self._end.seq > self._first

    def _begin(self, end: _End, bodies: Sequence[bytes], now: Instant) -> None:
        """Begin a new segment after `end`, with `bodies` as its first entries. The segment is durable on return.

        If the current segment holds only its header, the new segment has the same file name and replaces it.
        """
        previous = end.head if end.seq > self._first else self._previous
        header = Header(
            format=FORMAT,
            log=self.name,
            first=end.seq,
            previous=previous.hex(),
            opened_at=now,
            gate=self._gate,
        )
        data, head = chained(previous, [msgspec.json.encode(header), *bodies])
        path = self._folder / f"{end.seq:016}.ndjson"
        write_file(path, data)
        old, self._fd = self._fd, os.open(path, os.O_WRONLY | os.O_APPEND)
        if old >= 0:
            os.close(old)
        self._path, self._first, self._previous = path, end.seq, previous
        self._opened_at = now
        self._end = self._durable = _End(len(data), end.seq + len(bodies), head)
        self._unsynced.clear()

    def _rotate(self, now: Instant) -> None:
        with self._file:
            self._refuse_if_broken()  # by a sync that ended just now
            os.fdatasync(self._fd)
            self._settle(self._end)
            self._begin(self._end, (), now)

    def _append(self, bodies: Sequence[bytes]) -> None:
        data, head = chained(self._end.head, bodies)
        try:
            write_all(self._fd, data)
        except OSError:
            with suppress(OSError):  # `recover` truncates too
                os.ftruncate(self._fd, self._end.size)
            raise
        self._unsynced += bodies  # before `_end`: a concurrent `sync` must not count them as settled
        self._end = _End(self._end.size + len(data), self._end.seq + len(bodies), head)

    def _settle(self, end: _End) -> None:
        del self._unsynced[: end.seq - self._durable.seq]
        self._durable = end

    def _break(self, error: OSError) -> LogUnavailable:
        self._broken = error
        return unavailable(self._path, error)

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise unavailable(self._path, self._broken)


def _inspect(path: Path, first: int, log: str) -> tuple[Header, _End]:
    """Return the header of the last segment and the end of its last valid line.

    An invalid last line is left out, because a crash can leave a line unfinished. Raises `LogDamaged` if any other line
    is invalid, `LogUnavailable` if the segment belongs to another log.
    """
    lines = lines_of(path)
    _, line = next(lines)
    header = header_of(line)
    head = follow(bytes.fromhex(header.previous), line) if header and header.first == first else None
    if header is None or head is None:
        raise LogDamaged(path, 0, f"its first line is not a header of format {FORMAT} for this file")
    if header.log != log:
        raise LogUnavailable(
            f"{path} belongs to log {header.log}, but the key file belongs to log {log}: use the key file"
            f" of log {header.log}"
        )
    end = _End(len(line), first, head)
    for offset, line in lines:
        if offset > end.size:
            raise LogDamaged(path, end.size, "this line or the line before it was modified")
        head = follow(end.head, line)
        if head is not None:
            end = _End(offset + len(line), end.seq + 1, head)
    return header, end


def _keep_torn(path: Path, size: int) -> None:
    names = (path.with_name(f"{path.name}.torn-{number}") for number in count(1))
    torn = next(name for name in names if not name.exists())
    with path.open("rb") as file:
        file.seek(size)
        write_file(torn, file.read())
