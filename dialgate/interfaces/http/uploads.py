"""Files that clients send: received into a spool within quotas, and read by processes of their own, a few at a time.

The spool is a folder of unnamed files, on a disk apart from the decision log's if the operator says so. A tenant must not be
able to fill the disk that decisions are written to, neither by large uploads nor by slow ones.
"""

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, TypeAlias

from aiohttp import web
from msgspec import Struct

from dialgate.config.listeners import Uploads as Settings
from dialgate.interfaces.http.body import late
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.errors import Fault
from dialgate.lists.list_builder import BuildResult, Here, Limits, Order, build_apart
from dialgate.runtime.thread_pool import ThreadPool

_SMALL: Final = (
    4 << 10
)  # bytes of text that are read here: a process would take a hundred times as long to start
_ZIP: Final = b"PK"
_AGAIN: Final = {"Retry-After": "10"}
_MB: Final = 1 << 20
Read: TypeAlias = Callable[[], Awaitable[bytes]]
Gone: TypeAlias = Callable[[], bool]


class Pace(Struct, frozen=True):
    """How long an upload may take: `grace` seconds between two pieces, and until `bytes_per_second` counts; `total` in all."""

    grace: float
    total: float
    bytes_per_second: int

    def left(self, elapsed: float, received: int) -> float:
        """Return in how many seconds the next piece must arrive; not above zero where it is too late."""
        due = self.grace + received / self.bytes_per_second
        return min(self.grace, due - elapsed, self.total - elapsed)


class Uploads:
    """Of one process. `grace`: seconds of silence that end an upload. Empties the spool. Raises `OSError`."""

    def __init__(self, settings: Settings, data: Path, grace: float) -> None:
        self.settings = settings
        self.closed = False
        self._pace = Pace(grace, settings.receive_seconds, settings.bytes_per_second)
        self._turns = Turns(settings.processes or max(1, len(os.sched_getaffinity(0)) // 2))
        self._open, self._bytes = Counter[str](), Counter[str]()
        self._threads = ThreadPool("uploads", 2)
        self._folder = data / (settings.folder or "spool")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.glob(
            "upload-*"
        ):  # where no file can be unnamed from the start, and the power went
            left.unlink(missing_ok=True)

    def close(self) -> None:
        """Kill what is being read, and refuse what waits."""
        self.closed = True

    @asynccontextmanager
    async def received(self, client: str, read: Read, gone: Gone) -> AsyncIterator["Upload"]:
        """Receive a file. `read` returns pieces of it, and none at its end; `gone`: whether the client has hung up. Raises
        `Fault`."""
        with (
            self._admitted(client),
            TemporaryFile(dir=self._folder, prefix="upload-") as file,
            self._counted(client) as count,
        ):
            begun, size = time.monotonic(), 0
            while piece := await self._piece(read, self._pace.left(time.monotonic() - begun, size)):
                size += len(piece)
                count(len(piece))
                self._refuse_size(client, size, len(piece))
                await self._threads.run(file.write, piece)
            yield Upload(self, client, file, gone)

    async def build(self, client: str, file: IO[bytes], order: Order, gone: Gone) -> BuildResult:
        """Raises as `list_builder.Source.build`."""
        size = file.seek(0, SEEK_END)
        file.seek(0)
        if size <= _SMALL and file.read(len(_ZIP)) != _ZIP:
            return await self._threads.run(Here(file).built, order)
        limits = Limits(self.settings.memory_mb * _MB, self.settings.seconds)
        async with self._turns.of(client):
            return await build_apart(file, order, limits, lambda: self.closed or gone())

    async def _piece(self, read: Read, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await read()
        except TimeoutError:
            raise late() from None

    # ---- what one client and all may take ----------------------------------------------------------------------------

    @contextmanager
    def _admitted(self, client: str) -> Iterator[None]:
        if self._open[client] >= self.settings.client_at_once:
            raise Fault(
                429,
                "upload.busy",
                "You have as many uploads under way as you may; wait for one.",
                headers=_AGAIN,
            )
        if self._open.total() >= self.settings.at_once or self.closed:
            raise _full()
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1

    @contextmanager
    def _counted(self, client: str) -> Iterator[Callable[[int], None]]:
        taken = 0

        def count(size: int) -> None:
            nonlocal taken
            taken += size
            self._bytes[client] += size

        try:
            yield count
        finally:
            self._bytes[client] -= taken

    def _refuse_size(self, client: str, size: int, piece: int) -> None:
        """`size`: of an upload with its next piece, of `piece` bytes, which is counted and not written yet."""
        limits = self.settings
        if size > limits.file_mb * _MB:
            raise Fault(413, "request.too_large", f"A list may have {limits.file_mb} MiB; split it.")
        if self._bytes[client] > limits.client_mb * _MB:
            raise Fault(
                429,
                "upload.busy",
                "Your uploads together are too large; wait for one to end.",
                headers=_AGAIN,
            )
        if self._bytes.total() > limits.total_mb * _MB:
            raise _full()
        disk = shutil.disk_usage(self._folder)
        if disk.free - piece < min(limits.free_mb * _MB, disk.total // 10):
            raise Fault(507, "upload.no_space", "The gate's disk has no room for uploads; tell its operator.")


class Upload:
    """A received file, as `list_builder.Source`."""

    def __init__(self, uploads: Uploads, client: str, file: IO[bytes], gone: Gone) -> None:
        self._uploads, self._client, self._file, self._gone = uploads, client, file, gone

    async def build(self, order: Order) -> BuildResult:
        return await self._uploads.build(self._client, self._file, order, self._gone)


def _full() -> Fault:
    return Fault(503, "upload.full", "The gate takes no more uploads now; send it later.", headers=_AGAIN)


def gone(request: web.Request) -> Gone:
    """Return a function that says whether the request's client has hung up."""
    return lambda: request.transport is None or request.transport.is_closing()


def from_memory(body: IO[bytes]) -> Read:
    """Return a reader of what has been received already."""

    async def read() -> bytes:
        return body.read(_MB)

    return read


UPLOADS: Final = web.AppKey("uploads", Uploads)
