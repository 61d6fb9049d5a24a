r"""The sequence number of the last entry known to be on disk, published for other processes that read the log.

`.durable` in the log folder contains this sequence number twice, with 20 digits each:

    00000000000000001042 00000000000000001042\n

The writer of the log overwrites the file in place about once a second, without syncing. After a crash the number can
be too low, but never too high. Later entries can still be lost and their numbers reused, so a reader must not forward
entries after this number. Do not copy this file with a log.
"""

import os
from contextlib import suppress
from pathlib import Path

FILE = ".durable"
_DIGITS = 20


def publish_durable(folder: Path, seq: int) -> None:
    """Publish `seq` as the sequence number of the last entry known to be on disk. Raises `OSError`."""
    fd = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, b"%0*d %0*d\n" % (_DIGITS, seq, _DIGITS, seq), 0)
    finally:
        os.close(fd)


def durable(folder: Path) -> int:
    """Return the sequence number of the last entry known to be on disk, or 0 if unknown. Raises `OSError`.

    While the file is being written, the two copies of the number can differ. In that case the number is unknown.
    """
    with suppress(FileNotFoundError, ValueError):
        one, other = (folder / FILE).read_bytes().split()
        if one == other:
            return int(one)
    return 0
