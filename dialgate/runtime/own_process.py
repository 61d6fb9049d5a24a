"""One task in a process of its own, so that heavy work does not delay the event loop.

The process has a low priority, because calls must not wait for a report. It ends with its task.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from dialgate.core.faults import Unavailable
from dialgate.core.refusal import Refused
from dialgate.runtime.garbage_collection import collect_less
from dialgate.runtime.process_pool import WorkerLost

T = TypeVar("T")
_NICE: Final = 10


async def run_apart(work: Callable[[], T]) -> T:
    """Return `work()` from a new process. Raises `Refused` and `Unavailable` like `work`, and `WorkerLost` for any other error.

    `work`, its result and its exceptions are pickled. The process is killed if this coroutine is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    reading = asyncio.create_task(process.communicate(pickle.dumps(work)))
    try:
        output, _ = await asyncio.shield(reading)
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait([reading])
    if process.returncode:
        raise WorkerLost(f"the process for this task ended unexpectedly ({process.returncode})")
    result: Any = pickle.loads(output)  # noqa: S301 - written by this program
    if isinstance(result, Exception):
        raise result
    return result  # type: ignore[no-any-return]


def _main() -> None:
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the work prints must not mix with its result
    os.nice(_NICE)
    os.umask(0o077)
    collect_less()  # to unpickle the work imports its modules
    work = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by this program
    try:
        result = work()
    except (Refused, Unavailable) as error:
        result = error
    with output:
        pickle.dump(result, output)


if __name__ == "__main__":
    _main()
