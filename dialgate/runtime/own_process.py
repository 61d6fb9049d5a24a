"""One task in a process of its own, so that heavy work does not delay the event loop.

The process has a low priority, because calls must not wait for a report. It ends with its task. It is forked by a server that
starts with the first task and has imported what most tasks need, which takes a third of a second.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeVar

from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.runtime.garbage_collection import spare_collector
from dialgate.runtime.process_pool import WorkerLost

T = TypeVar("T")
_NICE: Final = 10
_context: Final = multiprocessing.get_context("forkserver")
# By name, because packages above this one are imported in the server only.
_context.set_forkserver_preload(
    [
        "dialgate.audit.decision_pages",
        "dialgate.ledger.file_jobs",
        "dialgate.report.history",
        "dialgate.report.rendering",
    ]
)


async def run_apart(work: Callable[[], T]) -> T:
    """Return `work()` from a new process. Raises `Refused` and `Unavailable` like `work`, and `WorkerLost` for any other error.

    `work`, its result and its exceptions are pickled. The process is killed if this coroutine is cancelled.
    """
    receiving, sending = _context.Pipe(duplex=False)
    with receiving, sending:
        async with run_process(_run, work, sending) as process:
            sending.close()  # so that the end of the process closes the pipe
            result = await _receive(receiving, process)
    if isinstance(result, Exception):
        raise result
    return result  # type: ignore[no-any-return]


@asynccontextmanager
async def run_process(target: Callable[..., object], *args: object) -> AsyncIterator[BaseProcess]:
    """Run `target(*args)` in a new process, which is killed at the end of the block. Raises `WorkerLost` if it cannot start.

    The process gets copies of the sockets and connections among `args`.
    """
    process = _context.Process(target=_enter, args=(target, *args))
    start = asyncio.create_task(asyncio.to_thread(process.start))
    try:
        await _until_started(start)
        yield process
    finally:
        await asyncio.wait([start])
        if process.pid is not None:
            process.kill()
            await asyncio.to_thread(process.join)


async def _until_started(start: asyncio.Task[None]) -> None:
    try:
        await asyncio.shield(start)
    except (EOFError, OSError) as error:  # also if the server was killed: the next task starts another
        raise WorkerLost(f"no process could start for this task: {error!r}") from None


async def _receive(receiving: Connection, process: BaseProcess) -> Any:
    await _until_readable(receiving)
    # uvloop's `add_reader` clears it, and a pipe holds only 64 KiB of a result.
    os.set_blocking(receiving.fileno(), True)
    try:
        return await asyncio.to_thread(receiving.recv)
    except (EOFError, OSError):
        await asyncio.to_thread(process.join)
        raise WorkerLost(f"the process for this task ended unexpectedly ({process.exitcode})") from None


async def _until_readable(connection: Connection) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


def _enter(target: Callable[..., object], *args: object) -> None:
    os.dup2(2, 1)  # what the work prints must not mix with the gate's output
    os.umask(0o077)
    spare_collector()  # the modules of the server stay shared
    threading.Thread(target=_end_with_gate, daemon=True).start()
    target(*args)


def _end_with_gate() -> None:
    """Kill this process when the gate is killed. The kernel cannot: its parent is the server, which ends after it."""
    gate = multiprocessing.parent_process()
    assert gate is not None
    gate.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _run(work: Callable[[], object], sending: Connection) -> None:
    os.nice(_NICE)
    try:
        result = work()
    except (Refused, Unavailable) as error:
        result = error
    with sending:
        sending.send(result)
