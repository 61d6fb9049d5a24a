"""The servers that benchmarks measure, each in its own process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.bench import BenchError


class Server(Struct, frozen=True):
    pid: int
    port: int

    def cpu(self) -> float:
        """Return the processor time used so far by all threads and child processes, in seconds."""
        seconds = 0.0
        for pid in [self.pid, *self._children()]:
            with suppress(OSError):  # it has just ended
                seconds += time.clock_gettime(_clock(pid))
        return seconds

    def _children(self) -> list[int]:
        return [*map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split())]


def _clock(pid: int) -> int:
    """Return the ID of a process's CPU-time clock. Python lacks clock_getcpuclockid(3)."""
    return ~pid << 3 | 2


@contextmanager
def bare(program: str) -> Iterator[Server]:
    """Run the Python source code `program` as a server. It prints its port when it listens."""
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Server(process.pid, int(process.stdout.readline()))
        finally:
            process.terminate()


@contextmanager
def gate(config: Path) -> Iterator[Server]:
    """Run `dialgate serve` and yield the server."""
    words = [sys.executable, "-m", "dialgate", "serve", "--config", str(config)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield Server(process.pid, _port(process))
        finally:
            process.terminate()


def _port(process: subprocess.Popen[bytes]) -> int:
    assert process.stderr is not None
    output = b""
    for line in process.stderr:
        output += line
        event = msgspec.json.decode(line) if line.startswith(b"{") else {}
        if event.get("event") in {"ready", "listening"}:
            return int(event["url"].rpartition(":")[2])
    raise BenchError(f"the gate did not start. Its output:\n{output.decode()}")


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis on a socket in the folder, and yield its URL.

    The settings are those in docs/how-to/several-nodes.md.
    """
    settings = {"port": "0", "unixsocket": str(folder / "redis.socket"), "dir": str(folder), "save": "",
                "appendonly": "yes", "appendfsync": "everysec"}  # fmt: skip
    words = ["redis-server", *(word for name, value in settings.items() for word in (f"--{name}", value))]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not any(b"Ready to accept" in line for line in process.stdout):
                raise BenchError("redis-server did not start")
            yield f"unix://{folder}/redis.socket"
        finally:
            process.kill()


def redis_report(url: str) -> dict[str, str]:
    """Return what a Redis on a socket reports about itself (INFO)."""
    words = ["redis-cli", "-s", url.removeprefix("unix://"), "info"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, check=True, stdout=subprocess.PIPE, text=True)
    return dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
