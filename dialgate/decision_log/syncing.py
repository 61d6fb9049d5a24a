"""Syncing of files to disk in the background.

The compiled implementation waits in a native thread and reports through an eventfd, so it never needs the interpreter lock.
The fallback is a Python thread that takes that lock twice per batch.

Requests that arrive during a sync are combined: one later sync serves all requests for the same file. So a slow disk gets no
more syncs than it can handle, however small the batches are.
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
    """The result of one sync. `error` is an errno, or 0."""

    ticket: int
    error: int


class Syncing(Protocol):
    """A background thread that syncs files."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `done` has results."""

    def begin(self, fd: int, ticket: int) -> None:
        """Start syncing everything written to the file so far. Raises `OSError`.

        The caller keeps `fd` open until `done` returns the ticket. Duplicating it for each sync could exceed the limit
        on open files.
        """

    def done(self) -> list[SyncResult]:
        """Return the results of finished syncs, in the order in which the syncs began.

        Syncs never overlap, because the kernel reports a disk error to only one of two concurrent syncs.
        """

    def close(self) -> None: ...


class _SyncRequest(NamedTuple):
    fd: int
    ticket: int


def _count_same_file(requests: Sequence[_SyncRequest]) -> int:
    """Count the requests at the front of the queue for the same file. One sync serves them all."""
    return next(
        (count for count, request in enumerate(requests) if request.fd != requests[0].fd), len(requests)
    )


def syncing() -> Syncing:
    return CompiledSyncing() if COMPILED == "yes" else ThreadSyncing()


class CompiledSyncing:
    def __init__(self) -> None:
        from dialgate.native._primitives import Syncer  # noqa: PLC0415 - exists only if compiled

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
        self._woken.put(True)  # noqa: FBT003 - a queue of booleans

    def _run(self) -> None:
        while self._woken.get():
            if self._requests:  # empty if an earlier sync has already served the request
                self._sync_first()

    def _sync_first(self) -> None:
        fault = 0
        count = _count_same_file(list(self._requests))
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
