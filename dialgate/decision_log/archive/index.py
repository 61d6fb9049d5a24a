"""The index of a packed segment, which locates the decisions about a number and the outcomes reported for a decision.

`dialgate.decision_log.archive` describes the format. Keys are uniformly distributed, so four bytes distinguish nearly all
entries, and a look-up in the sorted file reads only a few pages. Callers decode the results and compare whole keys.
"""

import os
from collections.abc import Callable, Collection
from functools import cache, partial
from hashlib import sha256
from io import BytesIO
from math import isqrt
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

# Row 0: first four bytes of each key, big-endian. Row 1: row of the entry in the segment.
Items: TypeAlias = NDArray[np.uint32]

_SUFFIX = ".index.npy"
_HEADER_BYTES, _ITEM_BYTES = 128, 4
_PAGE_BYTES, _SUM_BYTES = 4_096, 4
_KEYS = 1 << 32


def report_key(decision: str) -> bytes:
    """Return the index key for the outcomes reported for a decision.

    The decision itself is indexed under the keyed hash of its number.
    """
    return sha256(decision.encode()).digest()


def prefixes(keys: Collection[bytes]) -> NDArray[np.uint32]:
    raw = b"".join(key[:_ITEM_BYTES].ljust(_ITEM_BYTES, b"\0") for key in keys)
    return np.frombuffer(raw, ">u4").astype(np.uint32)


def path_of(segment: Path) -> Path:
    return segment.with_suffix(_SUFFIX)


def encode(items: Items) -> bytes:
    """Return the content of an index. `items` may be in any order; equal items give equal files."""
    items = items[:, np.lexsort((items[1], items[0]))]
    raw = items.tobytes()
    return _header(items.shape[1]) + raw + _page_checksums(raw)


def search(path: Path, keys: Collection[bytes]) -> list[int]:
    """Return the rows that may have one of `keys`, in descending order.

    Raises `OSError`, or `ValueError` if the file is damaged.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size - _HEADER_BYTES
        array = size - -(-size // (_PAGE_BYTES + _SUM_BYTES)) * _SUM_BYTES
        count, odd = divmod(array, 2 * _ITEM_BYTES)
        if odd or count < 0 or os.pread(file.fileno(), _HEADER_BYTES, 0) != _header(count):
            raise ValueError("not an index of a packed segment")
        part = partial(_part, file.fileno(), array)
        rows = {row for prefix in prefixes(keys) for row in _rows(part, count, prefix)}
        return sorted(rows, reverse=True)


def _rows(part: Callable[[int, int], Items], count: int, prefix: np.uint32) -> list[int]:
    """Return the rows stored for the keys that begin with `prefix`.

    Keys are uniformly distributed, so only the pages around the estimated position are read. `part(begin, end)` reads items
    of the flattened index array, which has `count` keys followed by their rows.
    """
    about, margin = int(prefix) * count // _KEYS, 4 * isqrt(count) + 8
    low, high = max(about - margin, 0), min(about + margin, count)
    keys = part(low, high)
    if (low and keys[0] >= prefix) or (high < count and keys[-1] <= prefix):
        low, keys = 0, part(0, count)
    begin, end = (int(np.searchsorted(keys, prefix, side)) for side in ("left", "right"))
    return part(count + low + begin, count + low + end).tolist() if begin < end else []


def _part(fd: int, array: int, begin: int, end: int) -> Items:
    """Read items `begin` to `end` of an array that is `array` bytes long.

    Raises `ValueError` if a checksum differs.
    """
    pages = range(begin * _ITEM_BYTES // _PAGE_BYTES, -(-end * _ITEM_BYTES // _PAGE_BYTES))
    start, stop = pages.start * _PAGE_BYTES, min(pages.stop * _PAGE_BYTES, array)
    raw = os.pread(fd, stop - start, _HEADER_BYTES + start)
    sums = os.pread(fd, len(pages) * _SUM_BYTES, _HEADER_BYTES + array + pages.start * _SUM_BYTES)
    if len(raw) != stop - start or sums != _page_checksums(raw):
        raise ValueError("the index is damaged")
    return np.frombuffer(raw, np.uint32, end - begin, begin * _ITEM_BYTES - start)


def _page_checksums(raw: bytes) -> bytes:
    view = memoryview(raw)
    sums = [crc32(view[at : at + _PAGE_BYTES]) for at in range(0, len(raw), _PAGE_BYTES)]
    return np.array(sums, "<u4").tobytes()


@cache
def _header(count: int) -> bytes:
    file = BytesIO()
    shape = {"descr": "<u4", "fortran_order": False, "shape": (2, count)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.getvalue()
