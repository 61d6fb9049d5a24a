"""Resource limits for a child process that reads untrusted files. Once set, they cannot be lifted."""

import ctypes
import os
import re
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_NICE: Final = 15  # processes that decide calls have priority
_PR_SET_PDEATHSIG: Final = 1
_SIZE: Final = re.compile(r"VmSize:\s+(\d+) kB")


def confine(memory: int, seconds: int) -> None:
    """Limit this process to `memory` additional bytes and `seconds` of processor time.

    Core files are disabled. If the machine runs out of memory, the kernel kills this process first. The process
    also ends when its parent ends, or when it writes to a pipe that has no reader.
    """
    _lower(resource.RLIMIT_AS, _size() + memory)
    # The hard limit is higher: at the soft limit the kernel sends SIGXCPU, which the parent can recognise.
    _lower(resource.RLIMIT_CPU, seconds, more=1)
    _lower(resource.RLIMIT_CORE, 0)
    os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # prctl exists only on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lower(limit: int, value: int, more: int = 0) -> None:
    """Set the soft limit to `value` and the hard limit to `value + more`.

    Both values are capped at the current hard limit.
    """
    _, hard = resource.getrlimit(limit)
    soft, highest = (
        bound if hard == resource.RLIM_INFINITY else min(bound, hard) for bound in (value, value + more)
    )
    resource.setrlimit(limit, (soft, highest))


def _size() -> int:
    """Return the size of the address space in bytes, which is more than the memory in use."""
    match = _SIZE.search(Path("/proc/self/status").read_text("ascii"))
    return int(match[1]) << 10 if match else 0
