"""Servers to measure, each a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from dialgate.bench import BenchError

_TICKS = os.sysconf("SC_CLK_TCK")


class Server(Struct, frozen=True):
    pid: int
    port: int

    def cpu(self) -> float:
        """Seconds of processor time so far, of all its threads; in steps of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def bare(program: str) -> Iterator[Server]:
    """A server that does nothing. `program` prints its port once it listens."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Server(process.pid, int(process.stdout.readline()))
        finally:
            process.terminate()


@contextmanager
def gate(config: Path, door: str = "url") -> Iterator[Server]:
    """`dialgate serve`. `door`: which of the URLs that its event "ready" names is to be asked."""
    words = [sys.executable, "-m", "dialgate", "serve", "--config", str(config)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        try:
            yield Server(process.pid, _port(process, door))
        finally:
            process.terminate()


def _port(process: subprocess.Popen[bytes], door: str) -> int:
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        event = msgspec.json.decode(line) if line.startswith(b"{") else {}
        if event.get("event") == "ready":
            return int(event[door].rpartition(":")[2])
    raise BenchError(f"the gate did not start; it said:\n{said.decode()}")
