"""Work on large files in a separate process, whose ledger entries the gate writes.

Reading a file of a million rows, or judging its numbers, occupies a core for a minute. So a job has a process of its own, with
a low priority. It reads the store itself. Its entries go to the gate, which is the store's only writer, in parts that are small
enough for calls in between.

The process gets its file and then the sequence numbers that the gate gave to its entries from one socket. It writes frames to
another.
"""

import asyncio
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry

from dialgate.config import loader
from dialgate.config.clients import Client, Scope
from dialgate.config.configuration import Config, ConfigError
from dialgate.core.faults import Unavailable
from dialgate.core.model import Instant
from dialgate.core.refusal import Refused
from dialgate.crypto.keys import Keys
from dialgate.ledger.call_lists import build_list
from dialgate.ledger.host_gate import Append, NoGate
from dialgate.ledger.job_kinds import (
    BuildCallList,
    ImportRevocations,
    Job,
    PlanCalls,
    PreviewList,
    RecordLines,
    Scrub,
)
from dialgate.ledger.list_exports import requested_time
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.request_lines import LineWriter
from dialgate.lists.call_list import RowProblem
from dialgate.observability.metrics import Metrics
from dialgate.runtime.own_process import run_process
from dialgate.runtime.resource_limits import confine
from dialgate.store import factory
from dialgate.store.encoded_entries import AnyDraft, EncodedEntry, encoded

AnswerLines: TypeAlias = Callable[[bytes], Awaitable[None]]
_POLL: Final = 0.5  # seconds between checks whether the client has disconnected
_LENGTH: Final = struct.Struct(">I")
_CHANGED: Final = "the configuration on disk differs from the gate's. Reload or restart the gate, or undo the change, and send the request again"


class JobLimits(Struct, frozen=True):
    """The limits of a job.

    `memory` is in bytes, without mapped files. `seconds` limits the processor time. `at_once` is the number of parts that may wait
    to be written: one in a store that is written by one thread, because calls wait behind them.
    """

    memory: int
    seconds: int
    at_once: int = 1


class _Task(Struct, frozen=True):
    """A job with its circumstances.

    `now` is the gate's time at `begun` of the monotonic clock, which all processes share. A receipt must not state a time before
    its entry was durable, so the time that this process takes to start counts.

    `config` is the path of dialgate.yaml. `config_hash` and `data` are of the configuration that the gate has in force.
    `skipped` is the file for the rows that are left out, as lines of JSON. If it is empty, they are only counted.
    """

    config: str
    config_hash: str
    data: str
    client: str
    controllers: tuple[str, ...]
    scopes: tuple[Scope, ...]
    now: Instant
    begun: float
    limits: JobLimits
    job: Job
    has_file: bool
    skipped: str


class _Entries(Struct, frozen=True, tag=True):
    drafts: Sequence[EncodedEntry]


class _Answers(Struct, frozen=True, tag=True):
    """Lines for the client."""

    lines: bytes


class _Report(Struct, frozen=True, tag=True):
    """The end of a job, with its report as JSON."""

    report: bytes


class _Problem(Struct, frozen=True, tag=True):
    """The end of a job that was refused. The fields are those of `Refused`."""

    code: str
    message: str
    field: str
    status: int


_Send: TypeAlias = Callable[[_Entries | _Answers | _Report | _Problem], None]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_frame: Final = msgspec.msgpack.Decoder(_Entries | _Answers | _Report | _Problem).decode
_decode_seqs: Final = msgspec.msgpack.Decoder(list[int]).decode


async def no_answers(_: bytes, /) -> None:
    return None


class JobRunner:
    """Runs the jobs of one gate."""

    def __init__(
        self, config: Config, append: Append, clock: Callable[[], Instant], limits: JobLimits
    ) -> None:
        self._config, self._append, self._clock, self._limits = config, append, clock, limits

    async def run(
        self,
        client: Client,
        job: Job,
        file: IO[bytes] | None = None,
        *,
        skipped: str = "",
        is_cancelled: Callable[[], bool] = lambda: False,
        answer: AnswerLines = no_answers,
    ) -> bytes:
        """Run a job and return its report as JSON. Raises `Refused` and `Unavailable`.

        `answer` gets the lines that the job answers while it runs.

        The process is killed if `is_cancelled()` returns True, or if this coroutine is cancelled. Parts that are already written
        stay, and the same file can be sent again.
        """
        task = _Task(
            config=str(self._config.path),
            config_hash=self._config.hash,
            data=str(self._config.data),
            client=client.name,
            controllers=client.controllers,
            scopes=client.scopes,
            now=self._clock(),
            begun=time.monotonic(),
            limits=self._limits,
            job=job,
            has_file=file is not None,
            skipped=skipped,
        )
        incoming, _, sending = await _connect(file)
        outgoing, frames, receiving = await _connect()
        try:
            with incoming, outgoing:
                async with run_process(_main, task, incoming, outgoing) as process:
                    incoming.close()
                    outgoing.close()  # so that the end of the process ends the frames
                    serving = asyncio.create_task(self._serve(process, frames, sending, answer))
                    try:
                        while not serving.done():
                            await asyncio.wait([serving], timeout=_POLL)
                            if is_cancelled():
                                raise _ended("The client has disconnected.")
                        return serving.result()
                    finally:
                        process.kill()
                        serving.cancel()
                        await asyncio.wait([serving])
        finally:
            sending.close()
            receiving.close()

    async def _serve(
        self,
        process: BaseProcess,
        frames: asyncio.StreamReader,
        sending: asyncio.StreamWriter,
        answer: AnswerLines,
    ) -> bytes:
        """Write the entries of a job's process until it ends, and return its report.

        The process may wait for its first part before it sends another frame, so neither is awaited alone.
        """
        writing: deque[asyncio.Future[Sequence[int]]] = deque()
        reading = asyncio.ensure_future(_read_frame(frames))
        try:
            while True:
                awaited: list[asyncio.Future[Any]] = [writing[0]] if writing else []
                if len(writing) < self._limits.at_once:
                    awaited.append(reading)
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if writing and writing[0].done():
                    sending.write(_framed(list(writing.popleft().result())))
                    continue
                frame = _decode_frame(reading.result())
                if isinstance(frame, _Report):
                    return frame.report
                if isinstance(frame, _Problem):
                    raise Refused(frame.code, frame.message, frame.field, frame.status)
                if isinstance(frame, _Answers):
                    await answer(frame.lines)
                else:
                    writing.append(asyncio.ensure_future(self._append(frame.drafts)))
                reading = asyncio.ensure_future(_read_frame(frames))
        except (asyncio.IncompleteReadError, ConnectionError):
            await asyncio.to_thread(process.join)
            if process.exitcode == -signal.SIGABRT:  # a library could not allocate memory
                raise _too_large() from None
            raise _ended(f"It ended unexpectedly ({process.exitcode}).") from None
        finally:
            reading.cancel()
            await asyncio.gather(reading, *writing, return_exceptions=True)


async def _connect(
    file: IO[bytes] | None = None,
) -> tuple[socket.socket, asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a socket for the process, and the streams to it. It first receives the file, if there is one."""
    ours, theirs = socket.socketpair()
    if file is not None:
        socket.send_fds(ours, [b"\0"], [file.fileno()])
    return theirs, *await asyncio.open_unix_connection(sock=ours)


def _framed(content: list[int] | _Entries | _Answers | _Report | _Problem) -> bytes:
    body = _encode(content)
    return _LENGTH.pack(len(body)) + body


async def _read_frame(stream: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    return await stream.readexactly(length)


def _ended(why: str) -> Refused:
    text = f"The process that read the file has ended. {why} Send the file again; entries that are recorded are not repeated."
    return Refused("upload.failed", text, status=503)


def _too_large() -> Refused:
    text = "The file takes too much memory to read. Split it, or raise the setting `uploads.memory_mb`."
    return Refused("list.unreadable", text, "file")


# ---- the process of a job --------------------------------------------------------------------------------------------


class _GateAppends:
    """Appends entries through the gate, in order."""

    def __init__(self, answers: asyncio.StreamReader, send: _Send) -> None:
        self._send = send
        self._waiting: deque[asyncio.Future[Sequence[int]]] = deque()
        self._reading = asyncio.create_task(self._read(answers))

    async def append(self, drafts: Sequence[AnyDraft]) -> Sequence[int]:
        waiting: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._send(_Entries([encoded(draft) for draft in drafts]))
        return await waiting

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read(self, answers: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError):  # the gate ended, and this process ends with it
            while True:
                seqs = _decode_seqs(await _read_frame(answers))
                self._waiting.popleft().set_result(seqs)


@contextmanager
def _written_to(path: str) -> Iterator[Callable[[RowProblem], None]]:
    """Yield a function that writes a skipped row to a file as a line of JSON, or does nothing without a file."""
    if not path:
        yield lambda _: None
        return
    with Path(path).open("wb") as file:

        def write(problem: RowProblem) -> None:
            file.write(msgspec.json.encode(problem) + b"\n")

        yield write


async def _run(
    task: _Task, config: Config, file: IO[bytes] | None, gate: socket.socket, send: _Send
) -> bytes:
    answers, stream = await asyncio.open_unix_connection(sock=gate)
    appends = _GateAppends(answers, send)

    def clock() -> Instant:
        return task.now + int((time.monotonic() - task.begun) * 1_000)

    store, keys = await factory.open_reader(config), Keys.open(config.data / "keys.json")
    registrar = Registrar(config, keys, store, clock, Metrics(CollectorRegistry()), NoGate(appends.append))
    client = Client(name=task.client, controllers=task.controllers, scopes=task.scopes)
    try:
        return msgspec.json.encode(await _do(task, registrar, client, file, send))
    except MemoryError:
        pass  # after this block the memory of the work is free
    finally:
        registrar.close()
        await store.close()
        await appends.close()
        stream.close()
    raise _too_large()


async def _do(
    task: _Task, registrar: Registrar, client: Client, file: IO[bytes] | None, send: _Send
) -> object:
    job, exports = task.job, registrar.list_exports
    if isinstance(job, PreviewList):
        at = requested_time(job.at) or task.now
        return [await exports.preview(client, job.list, campaign, at) for campaign in job.campaigns]
    if isinstance(job, PlanCalls) and job.list:
        return await exports.plan(client, job.request, job.list, Path(job.out), job.hints)
    assert file is not None
    if isinstance(job, PlanCalls):
        return await exports.plan(client, job.request, file, Path(job.out), job.hints)
    file.seek(0)
    with _written_to(task.skipped) as note:
        if isinstance(job, RecordLines):
            lines = LineWriter(registrar, client, job.kind, lambda answers: send(_Answers(answers)))
            return await lines.write(file)
        if isinstance(job, BuildCallList):
            return build_list(file, job.order, note)
        if isinstance(job, Scrub):
            return await exports.scrub(client, job.request, file, Path(job.out), job.hints)
        if isinstance(job, ImportRevocations):
            return await registrar.revocations.revoke_all(client, job.request, file, job.hints, note)
        return await registrar.consents.record_all(client, job.request, file, job.hints, note)


def _load(task: _Task) -> Config:
    """Load the gate's configuration. Raises `ConfigError` if the files have changed since the gate read them.

    With another data folder or store, the keys differ from the gate's, and entries would bind no call.
    """
    config = loader.load(Path(task.config))
    if (config.hash, str(config.data)) != (task.config_hash, task.data):
        raise ConfigError([_CHANGED])
    return config


def _main(task: _Task, incoming: socket.socket, outgoing: socket.socket) -> None:
    file = os.fdopen(socket.recv_fds(incoming, 1, 1)[1][0], "rb") if task.has_file else None

    def send(frame: _Entries | _Answers | _Report | _Problem) -> None:
        outgoing.sendall(_framed(frame))

    try:
        config = _load(task)
        mapped = (path for name in ("snapshots", "lists") for path in (config.data / name).rglob("*"))
        confine(task.limits.memory + sum(path.stat().st_size for path in mapped), task.limits.seconds)
        with file or nullcontext():
            report = asyncio.run(_run(task, config, file, incoming, send))
        send(_Report(report))
    except Refused as refused:
        send(_Problem(refused.code, refused.message, refused.field, refused.status))
    except (ConfigError, Unavailable) as error:
        send(_Problem("gate.unavailable", f"The file was not read: {error}", "", 503))
