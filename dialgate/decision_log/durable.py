"""How far a log is on the disk, for who reads it beside its writer.

`.durable` in the log's folder: the sequence of an entry that is on the disk, as is all before it, in 20 digits, twice:

    00000000000000001042 00000000000000001042\\n

Written in place about once a second, and not synced: after a crash it may say less than is true, never more. What stands in
the segments after that entry may still be lost, or be cut off, and another entry get its number: a reader who passes on what
he reads stops there. A copy of a log must not have it.
"""

import os
from contextlib import suppress
from pathlib import Path

FILE = ".durable"
_DIGITS = 20


def tell(folder: Path, seq: int) -> None:
    """Raises `OSError`."""
    fd = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, b"%0*d %0*d\n" % (_DIGITS, seq, _DIGITS, seq), 0)
    finally:
        os.close(fd)


def durable(folder: Path) -> int:
    """0 where nothing is known, or it is being written just now: then the two are not alike. Raises `OSError`."""
    with suppress(FileNotFoundError, ValueError):
        one, other = (folder / FILE).read_bytes().split()
        if one == other:
            return int(one)
    return 0
