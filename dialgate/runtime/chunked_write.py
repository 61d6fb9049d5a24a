"""Writes of large files with a sync after each chunk: one large sync would block syncs of the decision log."""

import os
from typing import BinaryIO, Final

CHUNK: Final = 8 << 20  # bytes


def write_in_chunks(file: BinaryIO, data: memoryview) -> None:
    """Write a view of bytes, and sync each full chunk of the file. The caller syncs the rest. Raises `OSError`."""
    start, at = 0, file.tell()
    while start < len(data):
        chunk = data[start : start + CHUNK - (at + start) % CHUNK]
        file.write(chunk)
        start += len(chunk)
        if (at + start) % CHUNK == 0:
            file.flush()
            os.fdatasync(file.fileno())
