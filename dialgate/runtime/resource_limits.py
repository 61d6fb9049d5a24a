"""Limits that a process sets itself before it reads what a stranger sent. For a child process only: none is ever lifted."""

import ctypes
import os
import re
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_NICE: Final = 15  # calls are decided by other processes, which come first
_PR_SET_PDEATHSIG: Final = 1
_SIZE: Final = re.compile(r"VmSize:\s+(\d+) kB")


def confine(memory: int, seconds: int) -> None:
    """Allow this process `memory` bytes more than it has now, and `seconds` of processor time; write no core; end with the
    process that started it, or with the reader of its output; and where memory is short, be killed before others.
    """
    _lower(resource.RLIMIT_AS, _size() + memory)
    _lower(
        resource.RLIMIT_CPU, seconds, more=1
    )  # at the hard limit the kernel sends SIGKILL, which says nothing
    _lower(resource.RLIMIT_CORE, 0)
    os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lower(limit: int, value: int, more: int = 0) -> None:
    """Set the soft limit to `value`, and the hard limit to `more` than that, where they are not lower."""
    _, hard = resource.getrlimit(limit)
    soft, highest = (
        bound if hard == resource.RLIM_INFINITY else min(bound, hard) for bound in (value, value + more)
    )
    resource.setrlimit(limit, (soft, highest))


def _size() -> int:
    """Return the bytes of address space in use: libraries reserve much that they never touch."""
    match = _SIZE.search(Path("/proc/self/status").read_text("ascii"))
    return int(match[1]) << 10 if match else 0
