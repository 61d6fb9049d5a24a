"""Large files, synced in chunks: one sync of all of it would keep the decision log from the disk meanwhile."""

import os
from typing import BinaryIO, Final

CHUNK: Final = 8 << 20  # bytes


def write_in_chunks(file: BinaryIO, data: memoryview) -> None:
    """Write `data`, a view of bytes, and sync each whole chunk of the file. The caller syncs the rest. Raises `OSError`."""
    start, at = 0, file.tell()
    while start < len(data):
        some = data[start : start + CHUNK - (at + start) % CHUNK]
        file.write(some)
        start += len(some)
        if (at + start) % CHUNK == 0:
            file.flush()
            os.fdatasync(file.fileno())
