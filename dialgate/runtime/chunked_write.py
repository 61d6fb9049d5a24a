"""Writes of large files in chunks that are synced one by one.

One large sync would block syncs of the decision log.
"""

import os
from typing import BinaryIO, Final

CHUNK: Final = 8 << 20  # bytes


def write_in_chunks(file: BinaryIO, data: memoryview) -> None:
    """Write `data` and sync the file after each full chunk. Raises `OSError`.

    The last, partial chunk is not synced.
    """
    start, at = 0, file.tell()
    while start < len(data):
        chunk = data[start : start + CHUNK - (at + start) % CHUNK]
        file.write(chunk)
        start += len(chunk)
        if (at + start) % CHUNK == 0:
            file.flush()
            os.fdatasync(file.fileno())
