"""One process at a time, by a lock on a file that goes with the process that holds it, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, refusal: Exception | None = None) -> Iterator[int]:
    """As `take`, until the end of the block."""
    fd = take(path, refusal)
    try:
        yield fd
    finally:
        os.close(fd)


def take(path: Path, refusal: Exception | None = None) -> int:
    """Makes the file where there is none, for its owner alone, and gives a descriptor; whoever closes it gives the lock
    back. While another holds it: raises `refusal`, or waits where none is given. Raises `OSError`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if (
            os.geteuid() == 0
        ):  # whose the folder is must be able to take it, though a command of root's has made it
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
        fcntl.flock(fd, fcntl.LOCK_EX if refusal is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if refusal is not None and isinstance(error, BlockingIOError):
            raise refusal from None
        raise
    return fd
