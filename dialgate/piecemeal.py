"""A large file, brought to the disk a piece at a time: all of it at once would keep the decision log from the disk meanwhile."""

import os
from typing import BinaryIO, Final

PIECE: Final = 8 << 20  # bytes


def write(file: BinaryIO, data: memoryview) -> None:
    """`data` is of bytes. What is left after the file's last whole piece is its owner's to sync. Raises OSError."""
    start, at = 0, file.tell()
    while start < len(data):
        some = data[start : start + PIECE - (at + start) % PIECE]
        file.write(some)
        start += len(some)
        if (at + start) % PIECE == 0:
            file.flush()
            os.fdatasync(file.fileno())
