"""Bringing a file to the disk while the thread that asked goes on.

The compiled thread waits for the disk and reports by an eventfd: it never needs the interpreter's lock. The fallback is a thread
in Python, which takes that lock twice per batch.

Requests that arrive while the disk is at work are served together after it, by one sync for as many as are of the same file. So
a slow disk is asked no more often than it can answer, however small the batches are.
"""

import errno
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, Protocol

from dialgate.native import COMPILED


class SyncResult(NamedTuple):
    """`error`: an errno, or 0."""

    ticket: int
    error: int


class Syncing(Protocol):
    def fileno(self) -> int:
        """Readable while `done` has something to tell."""

    def begin(self, fd: int, ticket: int) -> None:
        """Bring everything written to the file so far to the disk. The caller keeps `fd` open until `done` returns the ticket:
        a copy of it for each sync would need descriptors, and there are none left in a crowded process. Raises `OSError`."""

    def done(self) -> list[SyncResult]:
        """In the order in which they were begun. One ends before the next is: of two at once, the kernel tells an error of the
        disk to either."""

    def close(self) -> None: ...


class _SyncRequest(NamedTuple):
    fd: int
    ticket: int


def _together(requests: Sequence[_SyncRequest]) -> int:
    """Count the requests, from the first, that one sync serves: they are of one file, and were written before it."""
    return next(
        (count for count, request in enumerate(requests) if request.fd != requests[0].fd), len(requests)
    )


def syncing() -> Syncing:
    return CompiledSyncing() if COMPILED == "yes" else ThreadSyncing()


class CompiledSyncing:
    def __init__(self) -> None:
        from dialgate.native._primitives import Syncer  # noqa: PLC0415 - where it was compiled

        syncer = Syncer()
        self.fileno, self.begin, self.close = syncer.fileno, syncer.begin, syncer.close
        self._done = syncer.done

    def done(self) -> list[SyncResult]:
        return [SyncResult(*item) for item in self._done()]


class ThreadSyncing:
    def __init__(self) -> None:
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._requests: deque[_SyncRequest] = deque()
        self._woken: SimpleQueue[bool] = SimpleQueue()
        self._done: deque[SyncResult] = deque()
        self._thread = Thread(target=self._run, name="log-sync")
        self._thread.start()

    def fileno(self) -> int:
        return self._eventfd

    def begin(self, fd: int, ticket: int) -> None:
        self._requests.append(_SyncRequest(fd, ticket))
        self._woken.put(True)  # noqa: FBT003 - a queue of nothing else

    def _run(self) -> None:
        while self._woken.get():
            if self._requests:  # else it was done with another
                self._sync_first()

    def _sync_first(self) -> None:
        fault = 0
        count = _together(list(self._requests))
        try:
            os.fdatasync(self._requests[0].fd)
        except OSError as error:
            fault = error.errno or errno.EIO
        for _ in range(count):
            self._done.append(SyncResult(self._requests.popleft().ticket, fault))
        os.eventfd_write(self._eventfd, 1)

    def done(self) -> list[SyncResult]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        return [self._done.popleft() for _ in range(len(self._done))]

    def close(self) -> None:
        self._woken.put(False)  # noqa: FBT003 - as above
        self._thread.join()
        os.close(self._eventfd)
