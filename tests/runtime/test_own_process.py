"""Tasks in a process of their own: results, errors, and the end of the process."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import uvloop

from dialgate.core.refusal import Refused
from dialgate.decision_log import LogDamaged
from dialgate.runtime.own_process import run_apart
from dialgate.runtime.process_pool import WorkerLost
from tests.support.paths import ROOT


def describe() -> tuple[int, int]:
    os.write(1, b"output of the work")
    return os.getpid(), os.nice(0)


def fail(error: Exception) -> None:
    raise error


def block(fifo: Path) -> None:
    with fifo.open("wb", buffering=0) as opened:
        opened.write(b"begun")
        signal.pause()


async def test_result_comes_from_a_process_with_a_low_priority() -> None:
    process, priority = await run_apart(describe)
    assert process != os.getpid()
    assert priority == min(os.nice(0) + 10, 19)


async def test_expected_errors_are_raised_here() -> None:
    with pytest.raises(LogDamaged, match="byte 7: a hole") as damaged:
        await run_apart(partial(fail, LogDamaged(Path("log"), 7, "a hole")))
    assert (damaged.value.component, damaged.value.offset) == ("log", 7)
    with pytest.raises(Refused, match="none") as refused:
        await run_apart(partial(fail, Refused("list.unknown", "none", "id", status=404)))
    assert (refused.value.code, refused.value.field, refused.value.status) == ("list.unknown", "id", 404)


async def test_any_other_error_is_a_lost_process() -> None:
    with pytest.raises(WorkerLost):
        await run_apart(partial(fail, ZeroDivisionError()))


async def test_killed_server_is_started_again() -> None:
    server = await run_apart(os.getppid)
    os.kill(server, signal.SIGKILL)
    async with asyncio.timeout(10):
        other = server
        while other == server:
            with suppress(WorkerLost):  # until the system has ended it
                other = await run_apart(os.getppid)
    assert other != os.getpid()


async def test_process_ends_with_its_caller(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = asyncio.create_task(run_apart(partial(block, fifo)))
    with await asyncio.to_thread(fifo.open, "rb", buffering=0) as opened:
        assert await asyncio.to_thread(opened.read, 5) == b"begun"
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(10):  # its end closes the pipe
            assert await asyncio.to_thread(opened.read, 1) == b""


CALLER = """
import asyncio, pathlib
from functools import partial
from dialgate.runtime.own_process import run_apart
from tests.runtime.test_own_process import block
asyncio.run(run_apart(partial(block, pathlib.Path({fifo!r}))))
"""


async def test_process_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = CALLER.format(fifo=str(fifo))
    caller = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    with await asyncio.to_thread(fifo.open, "rb", buffering=0) as opened:
        assert await asyncio.to_thread(opened.read, 5) == b"begun"
        caller.kill()
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(opened.read, 1) == b""
    await caller.wait()


def test_large_result_arrives_whole_in_the_loop_of_a_gate() -> None:
    """A pipe holds less, and uvloop does not block on it."""
    assert len(uvloop.run(run_apart(partial(os.urandom, 10_000_000)))) == 10_000_000
