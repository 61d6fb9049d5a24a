"""Uploads of call lists. Quotas limit what each client sends, and a few separate processes read the files.

An upload is stored as an unnamed temporary file in the spool folder, which can be on a different disk from the decision
log. The limits keep clients from filling the decision log's disk, whether with large uploads or with slow ones.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final, TypeAlias, TypeVar

import msgspec
from aiohttp import web

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.config.listeners import Uploads as Settings
from dialgate.interfaces.http.body import late
from dialgate.interfaces.http.concurrency_limits import Turns
from dialgate.interfaces.http.errors import Fault
from dialgate.ledger import file_import
from dialgate.ledger.call_lists import Build, build_list
from dialgate.ledger.file_jobs import AnswerLines, JobLimits, JobRunner, no_answers
from dialgate.ledger.job_kinds import BuildCallList, Job
from dialgate.lists.call_list import BuildOrder, BuildResult
from dialgate.runtime.thread_pool import ThreadPool

# Bytes of a text file that this process reads itself, because starting another process would take a hundred times as long.
_SMALL: Final = 4 << 10
# A client whose files are read slowly leaves room for others.
_AT_ONCE: Final = 32
_CLIENT_AT_ONCE: Final = 8
_FREE: Final = 1 << 30  # bytes that must stay free on the disk of the spool
_SECONDS: Final = 3_600.0  # until a file has arrived
_ZIP: Final = b"PK"
_AGAIN: Final = {"Retry-After": "10"}
_MB: Final = 1 << 20
_JOB_SECONDS: Final = 86_400  # of processor time: ten million rows take minutes on each processor
Read: TypeAlias = Callable[[], Awaitable[bytes]]
Gone: TypeAlias = Callable[[], bool]
T = TypeVar("T")


class UploadSlots:
    def __init__(self, settings: Settings, data: Path, grace: float) -> None:
        """Create the spool folder, and delete leftover uploads. Raises `OSError`.

        An upload fails after `grace` seconds without data, and after an hour.
        """
        self.settings = settings
        self.closed = False
        self._grace = grace
        # Half of the processors, so that the other half decides calls. Each client has one at most.
        self._turns = Turns(max(1, len(os.sched_getaffinity(0)) // 2))
        self._open = Counter[str]()
        self._threads = ThreadPool("uploads", 2)
        self.in_thread = self._threads.run
        self._folder = data / (settings.folder or "spool")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # File systems without unnamed files leave some behind after a crash.
        for leftover in self._folder.glob("upload-*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop reading files, and reject waiting and new uploads."""
        self.closed = True

    @asynccontextmanager
    async def received(self, client: str, read: Read, gone: Gone) -> AsyncIterator["Upload"]:
        """Receive a file into a temporary file. Raises `Fault`.

        `read` returns the next chunk, or b"" at the end. `gone` returns whether the client has disconnected.
        """
        with self._admitted(client), TemporaryFile(dir=self._folder, prefix="upload-") as file:
            yield Upload(self, file, await self._receive(read, file), gone)

    async def run(  # noqa: PLR0913 - the job, its files, and when it ends
        self,
        app: App,
        client: Client,
        job: Job,
        file: IO[bytes] | None = None,
        *,
        gone: Gone = lambda: False,
        skipped: str = "",
        answer: AnswerLines = no_answers,
    ) -> bytes:
        """Run a job when it is the client's turn. Raises the errors of `JobRunner.run`."""
        if file is not None:
            await self._threads.run(file.flush)
        is_shared = app.config.settings.store is not None
        limits = JobLimits(
            self.settings.memory_mb * _MB, _JOB_SECONDS, at_once=file_import.AHEAD if is_shared else 1
        )
        access = app.registrar.access
        async with self._turns.hold(client.name):
            return await JobRunner(app.config, access.append_all, access.clock, limits).run(
                client, job, file, skipped=skipped, is_cancelled=lambda: self.closed or gone(), answer=answer
            )

    @contextmanager
    def temporary(self) -> Iterator[str]:
        """Yield the path of a file that may be created. It is deleted after the block, with all that a killed job left beside it."""
        with TemporaryDirectory(dir=self._folder, prefix="upload-") as folder:
            yield f"{folder}/file"

    async def _receive(self, read: Read, file: IO[bytes]) -> int:
        """Write what arrives to a file, and return its size. Raises `Fault`."""
        size = 0
        try:
            async with asyncio.timeout(_SECONDS):
                while True:
                    async with asyncio.timeout(self._grace):
                        chunk = await read()
                    if not chunk:
                        return size
                    size += len(chunk)
                    self._refuse_size(size, len(chunk))
                    await self._threads.run(file.write, chunk)
        except TimeoutError:
            raise late() from None

    # ---- quotas ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _admitted(self, client: str) -> Iterator[None]:
        if self._open[client] >= _CLIENT_AT_ONCE:
            raise Fault(
                429,
                "upload.busy",
                f"This client has {_CLIENT_AT_ONCE} uploads in progress, which is the maximum. Wait for one to end.",
                headers=_AGAIN,
            )
        if self._open.total() >= _AT_ONCE or self.closed:
            raise _full()
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1

    def _refuse_size(self, size: int, chunk: int) -> None:
        """Raise `Fault` if an upload exceeds a quota.

        `size` is the size of the upload with its next chunk, and `chunk` the size of that chunk. A chunk is counted before it
        is written.
        """
        limits = self.settings
        if size > limits.file_mb * _MB:
            raise Fault(
                413,
                "request.too_large",
                f"The file exceeds {limits.file_mb} MiB. Split it, or raise the setting `uploads.file_mb`.",
            )
        refuse_full(self._folder, chunk)


class Upload:
    """A received file."""

    def __init__(self, uploads: UploadSlots, file: IO[bytes], size: int, gone: Gone) -> None:
        self._uploads, self._file, self.size, self._gone = uploads, file, size, gone
        file.seek(0)
        self._is_small = size <= _SMALL and file.read(len(_ZIP)) != _ZIP

    def build(self, app: App, client: Client, skipped: str = "") -> Build:
        """Return a function that builds a call list from the file. Raises the errors of `run`."""

        async def build(order: BuildOrder) -> BuildResult:
            if not skipped and self._is_small:
                return await asyncio.to_thread(build_list, self._file, order, lambda _: None)
            report = await self.run(app, client, BuildCallList(order), skipped)
            return msgspec.json.decode(report, type=BuildResult)

        return build

    async def pass_to(self, work: Callable[[bytes], T]) -> T:
        """Return what `work` returns for the content, in a thread."""

        def run() -> T:
            self._file.seek(0)
            return work(self._file.read())

        return await self._uploads.in_thread(run)

    async def run(
        self, app: App, client: Client, job: Job, skipped: str = "", answer: AnswerLines = no_answers
    ) -> bytes:
        """Run a job on the file and return its report as JSON. Raises the errors of `JobRunner.run`."""
        return await self._uploads.run(
            app, client, job, self._file, gone=self._gone, skipped=skipped, answer=answer
        )


def refuse_full(folder: Path, size: int) -> None:
    """Raise `Fault` if too little of the folder's disk stays free after another `size` bytes."""
    disk = shutil.disk_usage(folder)
    if disk.free - size < min(_FREE, disk.total // 10):
        raise Fault(
            507,
            "upload.no_space",
            "The gate's disk is too full for uploads. Ask the operator to free space, or to move `uploads.folder`.",
        )


@asynccontextmanager
async def received_file(
    request: web.Request, app: App, client: Client, read: Read, size: tuple[int, Fault]
) -> AsyncIterator[Upload]:
    """Receive a file that the gate keeps in its data folder. `size` is the most MiB, and the fault of a larger file.

    Raises `Fault`, also if the file is empty or the disk has no room for it.
    """
    spool = request.app[UPLOADS]
    async with spool.received(client.name, _limited(read, *size), gone(request)) as received:
        if not received.size:
            raise Fault(400, "request.broken", "The file is empty. Send its content.")
        refuse_full(app.config.data, received.size)
        yield received


def _limited(read: Read, most: int, fault: Fault) -> Read:
    """Return a `Read` function that raises `fault` once more than `most` MiB have arrived."""
    size = 0

    async def read_limited() -> bytes:
        nonlocal size
        chunk = await read()
        size += len(chunk)
        if size > most * _MB:
            raise fault
        return chunk

    return read_limited


def _full() -> Fault:
    return Fault(
        503,
        "upload.full",
        "The gate is not accepting more uploads right now. Send the file later.",
        headers=_AGAIN,
    )


def gone(request: web.Request) -> Gone:
    """Return a function that reports whether the client has disconnected."""
    return lambda: request.transport is None or request.transport.is_closing()


def from_memory(body: IO[bytes]) -> Read:
    """Return a `Read` function for a body that is already in memory."""

    async def read() -> bytes:
        return body.read(_MB)

    return read


UPLOADS: Final = web.AppKey("uploads", UploadSlots)
