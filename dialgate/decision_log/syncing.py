"""Bringing a file to the disk while the thread that asked goes on.

A thread that is compiled waits for the disk and says by an eventfd when it is done: it never asks for the interpreter. A
thread in Python would have to win it from the one that decides, twice for every batch; where nothing was compiled, Linux
does it by itself (io_submit, IOCB_CMD_FDSYNC, since 4.18), and that thread only where its seccomp filter has no such call.

What is asked while the disk is at work is done together after it, by one sync for as many as are of the same file. So however
small the batches are that are decided, a slow disk is asked no more often than it can answer.
"""

import ctypes
import errno
import os
import platform
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, Protocol

from dialgate.primitives import COMPILED

_FDSYNC, _RESFD = 3, 1
_CALLS = {
    "x86_64": (206, 207, 209, 208),
    "aarch64": (0, 1, 2, 4),
}  # io_setup, io_destroy, io_submit, io_getevents


class Done(NamedTuple):
    """`error`: an errno, or 0."""

    ticket: int
    error: int


class Syncing(Protocol):
    def fileno(self) -> int:
        """Readable while `done` has something to tell."""

    def begin(self, fd: int, ticket: int) -> None:
        """Bring everything written to the file so far to the disk. The caller keeps `fd` open until `done` returns the ticket:
        a copy of it for each sync would need descriptors, and there are none left in a crowded process. Raises `OSError`."""

    def done(self) -> list[Done]:
        """In the order in which they were begun. One ends before the next is: of two at once, the kernel tells an error of the
        disk to either."""

    def close(self) -> None: ...


class _Asked(NamedTuple):
    fd: int
    ticket: int


def _together(asked: Sequence[_Asked]) -> int:
    """Count the requests, from the first, that one sync serves: they are of one file, and were written before it."""
    return next((count for count, request in enumerate(asked) if request.fd != asked[0].fd), len(asked))


def syncing() -> Syncing:
    try:
        return CompiledSyncing() if COMPILED == "yes" else KernelSyncing()
    except OSError:
        return ThreadSyncing()


class CompiledSyncing:
    def __init__(self) -> None:
        from dialgate._primitives import Syncer  # noqa: PLC0415 - where it was compiled

        syncer = Syncer()
        self.fileno, self.begin, self.close = syncer.fileno, syncer.begin, syncer.close
        self._done = syncer.done

    def done(self) -> list[Done]:
        return [Done(*each) for each in self._done()]


class _Control(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("flags_of_write", ctypes.c_int32),
        ("operation", ctypes.c_uint16), ("priority", ctypes.c_int16), ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64), ("bytes", ctypes.c_uint64), ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("event_fd", ctypes.c_uint32),
    )  # fmt: skip


class _Event(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64), ("control", ctypes.c_uint64), ("result", ctypes.c_int64), ("more", ctypes.c_int64),
    )  # fmt: skip


class KernelSyncing:
    """Raises `OSError` where the kernel has none."""

    def __init__(self) -> None:
        calls = _CALLS.get(platform.machine())
        if calls is None:
            raise OSError(errno.ENOSYS, "the numbers of the system calls are not known for this machine")
        setup, self._destroy, self._submit, self._events = calls
        self._syscall = ctypes.PyDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._call(setup, ctypes.c_long(1), ctypes.byref(self._context))
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._control = _Control(operation=_FDSYNC, flags=_RESFD, event_fd=self._eventfd)
        self._list = (ctypes.c_void_p * 1)(ctypes.addressof(self._control))
        self._told = (_Event * 1)()
        self._asked: deque[_Asked] = deque()
        self._under_way = 0  # so many of the first

    def fileno(self) -> int:
        return self._eventfd

    def begin(self, fd: int, ticket: int) -> None:
        self._asked.append(_Asked(fd, ticket))
        if not self._under_way and (error := self._begin_first()):
            self._under_way = 0
            self._asked.pop()
            raise OSError(error, os.strerror(error))

    def _begin_first(self) -> int:
        """Returns an errno, or 0."""
        self._under_way = _together(self._asked)
        self._control.fd = self._asked[0].fd  # the kernel copies it
        try:
            self._call(self._submit, self._context, ctypes.c_long(1), self._list)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def done(self) -> list[Done]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        now = ctypes.c_long(0), ctypes.c_long(1), self._told, None
        told: list[Done] = []
        if self._call(self._events, self._context, *now):
            self._end_first(max(0, -self._told[0].result), told)
        return told

    def _end_first(self, error: int, told: list[Done]) -> None:
        """And those after them that cannot be begun."""
        while self._under_way:
            told += [Done(self._asked.popleft().ticket, error) for _ in range(self._under_way)]
            self._under_way = 0
            if self._asked and not (error := self._begin_first()):
                return

    def close(self) -> None:
        """Waits for what is under way."""
        self._call(self._destroy, self._context)
        for request in list(self._asked)[self._under_way :]:
            with suppress(OSError):  # nobody reads the result any more
                os.fdatasync(request.fd)
        os.close(self._eventfd)

    def _call(self, number: int, *values: object) -> int:
        result: int = self._syscall(ctypes.c_long(number), *values)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result


class ThreadSyncing:
    def __init__(self) -> None:
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asked: deque[_Asked] = deque()
        self._woken: SimpleQueue[bool] = SimpleQueue()
        self._done: deque[Done] = deque()
        self._thread = Thread(target=self._run, name="log-sync")
        self._thread.start()

    def fileno(self) -> int:
        return self._eventfd

    def begin(self, fd: int, ticket: int) -> None:
        self._asked.append(_Asked(fd, ticket))
        self._woken.put(True)  # noqa: FBT003 - a queue of nothing else

    def _run(self) -> None:
        while self._woken.get():
            if self._asked:  # else it was done with another
                self._sync_first()

    def _sync_first(self) -> None:
        fault = 0
        count = _together(list(self._asked))
        try:
            os.fdatasync(self._asked[0].fd)
        except OSError as error:
            fault = error.errno or errno.EIO
        for _ in range(count):
            self._done.append(Done(self._asked.popleft().ticket, fault))
        os.eventfd_write(self._eventfd, 1)

    def done(self) -> list[Done]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        return [self._done.popleft() for _ in range(len(self._done))]

    def close(self) -> None:
        self._woken.put(False)  # noqa: FBT003 - as above
        self._thread.join()
        os.close(self._eventfd)
