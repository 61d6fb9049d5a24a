"""The parent process for a node's workers. It starts them, restarts crashed ones, and does rolling restarts.

It opens no store and no log, and answers no checks. Each worker is a separate program (worker.py) that writes its own log and
inherits a socket on each port (listening.py). Each worker has the same number as its log. A rolling restart needs one spare
number, because a new worker opens a log before the old worker closes its log.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from itertools import chain
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct, structs

from dialgate.config.configuration import Config, ConfigError
from dialgate.config.listeners import Operations
from dialgate.interfaces.workers import held_signals, listening
from dialgate.interfaces.workers.worker import Post, log_start

_AGAIN_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
_READY_SECONDS: Final = 120.0
_log = structlog.get_logger(__name__)


class NotReady(Exception):
    """Raised if a new worker exits or is not ready in time."""


class _Worker(Struct):
    number: int
    process: asyncio.subprocess.Process
    ready: dict[str, Any] = {}


class _Slot:
    """A worker and its sockets, one for each port."""

    def __init__(self, doors: dict[str, list[socket.socket]]) -> None:
        self.doors = doors
        self.worker: _Worker | None = None
        self.watch: asyncio.Task[None] | None = None

    def descriptors(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(sock.fileno() for sock in sockets) for name, sockets in self.doors.items()}


class Workers:
    """The workers of a node. `run` returns when all have ended after SIGTERM or SIGINT."""

    def __init__(self, post: Post, config: Config) -> None:
        self._post, self._count = post, post.workers
        self._store = config.settings.store
        self._slots = [_Slot(doors) for doors in _doors(config, self._count)]
        self._alive, self._parent = os.pipe()
        self._numbers: set[int] = set()  # in use
        self._processes: set[asyncio.subprocess.Process] = set()  # including starting ones
        self._hangups = 0
        self._rolling: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Start all workers and run until a signal arrives.

        Raises `NotReady` if a worker fails to start. Workers that end later are restarted.
        """
        self._listen_to_signals()
        try:
            if await self._start_all():
                events = [slot.worker.ready for slot in self._slots if slot.worker is not None]
                problems = {name: text for event in events for name, text in event.pop("problems").items()}
                log_start({**(events[0] if events else {}), "workers": self._count}, problems)
                await self._stopping.wait()
        finally:
            await self._end()
        _log.info("stopped")

    async def _start_all(self) -> bool:
        """Start all workers. Return False if a signal arrives before they are ready."""
        async with self._turn:  # delays a rolling restart
            starting: asyncio.Future[Any] = asyncio.gather(*(self._serve(slot) for slot in self._slots))
            stopping: asyncio.Future[Any] = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if starting.done():
                starting.result()
                return True
            starting.cancel()
            await asyncio.wait([starting])
            return False

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(ending, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGUSR2, self._begin_rolling)
        held_signals.release()

    def _hang_up(self) -> None:
        """Forward SIGHUP to each ready worker.

        A worker that is still starting gets SIGHUP once it is ready. Before a new process blocks SIGHUP, the signal
        would end it.
        """
        self._hangups += 1
        for slot in self._slots:
            if slot.worker is not None:
                _send(slot.worker.process, signal.SIGHUP)

    # ---- a worker ----------------------------------------------------------------------------------------------------

    async def _serve(self, slot: _Slot) -> None:
        slot.worker = await self._start(slot)
        slot.watch = asyncio.create_task(self._watch(slot, slot.worker))

    async def _start(self, slot: _Slot) -> _Worker:
        await self._refuse_another_store()
        number = min(set(range(1, self._count + 2)) - self._numbers)
        self._numbers.add(number)
        reading, writing = os.pipe()
        post = structs.replace(
            self._post, worker=number, doors=slot.descriptors(), ready=writing, parent=self._alive
        )
        hangups = self._hangups
        descriptors = [
            writing,
            self._alive,
            *(door_socket for many in post.doors.values() for door_socket in many),
        ]
        words = ["-m", "dialgate.interfaces.worker_process", msgspec.json.encode(post).decode()]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdin=asyncio.subprocess.DEVNULL, pass_fds=descriptors
        )
        os.close(writing)
        self._processes.add(process)
        try:
            ready = await asyncio.wait_for(_receive_line(reading), _READY_SECONDS)
        except TimeoutError:
            process.kill()
            ready = {}
        if not ready:
            await self._wait(process)
            self._numbers.discard(number)
            raise NotReady(f"worker {number} did not start. See its log lines above for the reason")
        _log.info("worker ready", worker=number, pid=process.pid, operations=ready.get("operations"))
        if self._hangups != hangups:  # the worker may have read the old files
            _send(process, signal.SIGHUP)
        return _Worker(number, process, ready)

    async def _refuse_another_store(self) -> None:
        """Raise `NotReady` if the setting `store` has changed.

        Workers on different stores would not see each other's entries.
        """
        try:
            config = await asyncio.to_thread(self._post.load)
        except ConfigError:
            return  # the worker reports the problem
        if config.settings.store != self._store:
            raise NotReady("the setting `store` has changed. Stop the gate and start it again")

    async def _watch(self, slot: _Slot, worker: _Worker) -> None:
        await self._wait(worker.process)
        self._numbers.discard(worker.number)
        if slot.worker is not worker or self._stopping.is_set():
            return
        _log.error("worker died", worker=worker.number, status=worker.process.returncode)
        slot.worker = None
        for tries in range(1 << 30):
            await asyncio.sleep(_AGAIN_SECONDS[min(tries, len(_AGAIN_SECONDS) - 1)])
            async with self._turn:
                try:
                    await self._serve(slot)
                except NotReady as problem:
                    _log.error("worker not started", problem=str(problem))
                else:
                    return

    # ---- all workers -------------------------------------------------------------------------------------------------

    def _begin_rolling(self) -> None:
        rolling = asyncio.create_task(self._roll())
        self._rolling.add(rolling)
        rolling.add_done_callback(self._rolling.discard)
        rolling.add_done_callback(lambda task: task.cancelled() or task.result())

    async def _roll(self) -> None:
        """Replace the workers one by one. Each new worker is ready before the old one stops."""
        async with self._turn:
            for slot in self._slots:
                old = slot.worker
                if old is None or self._stopping.is_set():
                    continue  # a replacement is being started already
                try:
                    await self._serve(slot)
                except NotReady as problem:
                    _log.error(
                        "rolling restart stopped; the remaining old workers keep running",
                        problem=str(problem),
                    )
                    return
                _send(old.process, signal.SIGUSR1)
                await self._wait(old.process)
                self._numbers.discard(old.number)
            _log.info("rolled", workers=self._count)

    async def _end(self) -> None:
        self._stopping.set()
        # First, so that no task starts a worker after the others got SIGTERM.
        tasks = [*self._rolling, *(slot.watch for slot in self._slots if slot.watch is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in self._processes:
            _send(process, signal.SIGTERM)
        os.close(self._parent)
        for process in list(self._processes):
            await self._wait(process)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._processes.discard(process)


def _doors(config: Config, count: int) -> list[dict[str, list[socket.socket]]]:
    per_worker: list[dict[str, list[socket.socket]]] = [{} for _ in range(count)]
    for name in ("listen", "fastagi"):
        where = getattr(config.settings, name)
        if where is not None:
            for doors, sockets in zip(
                per_worker, listening.shared(name, where.host, where.port, count), strict=True
            ):
                doors[name] = sockets
    for doors, sockets in zip(per_worker, _operations(config, count), strict=False):
        doors["operations"] = sockets
    return per_worker


def _operations(config: Config, count: int) -> list[list[socket.socket]]:
    """Return the sockets of the operations listeners, by slot: one port for each, counted up from the configured one.

    The list is empty if the listener is not configured and one of the default ports is in use. Raises `ConfigError`.
    """
    where = config.settings.operations or Operations()
    by_slot: list[list[socket.socket]] = []
    try:
        for slot in range(count):
            port = where.port + slot if where.port else 0
            by_slot += listening.shared("operations", where.host, port, 1)
    except ConfigError as error:
        for sock in chain.from_iterable(by_slot):
            sock.close()
        if config.settings.operations is not None:
            raise
        _log.warning(listening.operations_refused(error), problem=str(error))
        return []
    return by_slot


async def _receive_line(descriptor: int) -> dict[str, Any]:
    """Return the message in which a worker reports that it is ready, or an empty dict if the worker ended first."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        line = await reader.readline()
    finally:
        transport.close()
    message: dict[str, Any] = msgspec.json.decode(line) if line else {}
    return message


def _send(process: asyncio.subprocess.Process, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(what)
