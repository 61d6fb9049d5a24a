"""File locks between processes. The kernel releases a lock when its process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

from dialgate.core.faults import Unavailable

_LOCK: Final = "gate.lock"


class FolderInUse(Unavailable):
    """Raised if a gate uses the data folder already, or a command that replaces its store."""

    component = "data"


def own_folder(data: Path) -> IO[bytes]:
    """Lock the data folder, create it if it is missing, and return the open lock file. Closing it releases the lock.

    A gate owns its folder for its whole life: no other process writes to its store, ledger or log. Raises `FolderInUse`
    and `OSError`.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    refusal = FolderInUse(
        f"{data} is in use by a gate, or by a command that replaces its store. Stop that first, or set another `data`"
    )
    with ExitStack() as held:
        lock = held.enter_context(os.fdopen(acquire_lock(data / _LOCK, refusal), "r+b"))
        for of_log in data.glob("log/**/.lock"):  # a gate of an earlier version holds only this one
            with hold_lock(of_log, refusal):
                pass
        held.pop_all()
    return lock


@contextmanager
def hold_lock(path: Path, refusal: Exception | None = None) -> Iterator[int]:
    """Lock a file until the block ends. See `acquire_lock`."""
    fd = acquire_lock(path, refusal)
    try:
        yield fd
    finally:
        os.close(fd)


def acquire_lock(path: Path, refusal: Exception | None = None) -> int:
    """Lock a file and return its descriptor. Closing it releases the lock.

    If another process holds the lock, raise `refusal`, or wait if `refusal` is None. A missing file is created
    with mode 0600. Raises `OSError`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.geteuid() == 0:  # if root creates the file, the folder's owner must still be able to lock it
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
        fcntl.flock(fd, fcntl.LOCK_EX if refusal is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if refusal is not None and isinstance(error, BlockingIOError):
            raise refusal from None
        raise
    return fd
