"""Programs on a pseudo-terminal, and a copy of the files that `make run` needs."""

import asyncio
import os
import re
import signal
import sys
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shutil import copy, copytree

import pytest

from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.running_gate import kill

# Gives the program a controlling terminal, like a login shell, so that Ctrl-C reaches every process on it.
_ON_A_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
PATIENCE = 120


class Terminal:
    """A program on a pseudo-terminal. `shown` is all of its output."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process, self.shown = process, ""
        self._descriptor = descriptor
        self._more = asyncio.Event()
        self._closed = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            some = os.read(self._descriptor, 1 << 16)
        except OSError:  # the last process on the terminal has ended
            some = b""
        if some:
            self.shown += some.decode(errors="replace")
        else:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._closed.set_result(None)
        self._more.set()

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def until(self, pattern: str) -> re.Match[str]:
        """Wait for output that matches `pattern`. Fail if the program asks a question, ends or takes too long."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    assert "[Y/n]" not in self.shown, f"it asks a question:\n{self.shown}"
                    if found := re.search(pattern, self.shown):
                        return found
                    assert not self._closed.done(), f"it ended:\n{self.shown}"
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pytest.fail(f"{pattern} did not appear:\n{self.shown}")

    async def wait_for_end(self) -> int:
        async with asyncio.timeout(PATIENCE):
            await self._closed
            return await self.process.wait()


@asynccontextmanager
async def on_a_terminal(
    words: Sequence[str], folder: Path, size: tuple[int, int] = (24, 80)
) -> AsyncIterator[Terminal]:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, size)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ON_A_TERMINAL, *words,
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
        with suppress(ProcessLookupError):  # the demo stops its own gate, which is in another process group
            os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        finally:
            await kill(process)


def copy_clone(folder: Path) -> int:
    """Copy the files that `make run` needs to `folder`, with port 8080 replaced by a free one. Return the port."""
    port = free_port()
    copytree(ROOT / "config", folder / "config")
    copy(ROOT / "Makefile", folder)
    settings = folder / "config/dialgate.yaml"
    text = settings.read_text("utf-8")
    assert text.count("8080") == 1
    settings.write_text(text.replace("8080", str(port)), "utf-8")
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
    return port
