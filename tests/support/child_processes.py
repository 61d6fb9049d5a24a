"""The processes that the tests have started, and those that these have started."""

import os
from contextlib import suppress
from pathlib import Path

from dialgate.runtime.own_process import run_apart


def descendants(process: int | None = None) -> set[int]:
    """Return the running descendants of a process, by default of this one."""
    found: set[int] = set()
    with suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
        for task in Path(f"/proc/{process or os.getpid()}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                found |= {int(child) for child in (task / "children").read_text().split()}
    return found.union(*map(descendants, found))


async def start_server() -> None:
    """Start the server that forks the processes of heavy work, unless it runs."""
    await run_apart(os.getpid)
