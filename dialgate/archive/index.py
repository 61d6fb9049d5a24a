"""Where a number's decisions stand in a packed segment; its form is told in `dialgate.archive`.

Keyed hashes are as if drawn by lot, so four bytes tell the decisions of a segment apart but for one in thousands, and a
sorted, mapped array answers with a few pages however large it is.
"""

import os
from collections.abc import Callable, Collection
from functools import cache, partial
from io import BytesIO
from math import isqrt
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

Index: TypeAlias = NDArray[np.uint32]
_HEADER_BYTES, _ITEM_BYTES = 128, 4


def path_of(segment: Path) -> Path:
    return segment.with_suffix(".numbers.npy")


def prefixes(numbers: Collection[bytes]) -> NDArray[np.uint32]:
    raw = b"".join(number[:4] for number in numbers)
    return np.frombuffer(raw, ">u4").astype(np.uint32)


def built(numbers: NDArray[np.uint32], rows: NDArray[np.uint32]) -> Index:
    """From the prefixes in the order of the rows."""
    order = np.argsort(numbers, kind="stable")
    return np.stack((numbers[order], rows[order]))


def write(path: Path, index: Index) -> None:
    """Durable on return, but for its name: whoever publishes the segment syncs the folder."""
    with opened_new(path) as file:
        np.save(file, index)
        file.flush()
        os.fsync(file.fileno())


def opened_new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def rows_of(path: Path, numbers: Collection[bytes]) -> list[int]:
    """The rows in which one of `numbers` may stand, newest first. Raises `OSError`, or `ValueError` where it is damaged."""
    with path.open("rb", buffering=0) as file:
        count, odd = divmod(os.fstat(file.fileno()).st_size - _HEADER_BYTES, 2 * _ITEM_BYTES)
        if odd or count < 0 or file.read(_HEADER_BYTES) != _header(count):
            raise ValueError("no index of a packed segment")
        found = {
            row for prefix in prefixes(numbers) for row in _rows(partial(_part, file.fileno()), count, prefix)
        }
    return sorted(found, reverse=True)


def _rows(part: Callable[[int, int], Index], count: int, prefix: np.uint32) -> list[int]:
    """Hashes are spread evenly, so where one must stand is known to within a few pages, and only those are read: there may
    be hundreds of segments. `part` gives items of both rows of the array, one after the other."""
    about, margin = int(prefix) * count >> 32, 4 * isqrt(count) + 8
    low, high = max(about - margin, 0), min(about + margin, count)
    keys = part(low, high)
    if (low and keys[0] >= prefix) or (high < count and keys[-1] <= prefix):
        low, keys = 0, part(0, count)
    begin, end = (int(np.searchsorted(keys, prefix, side)) for side in ("left", "right"))
    return part(count + low + begin, count + low + end).tolist() if begin < end else []


def _part(fd: int, begin: int, end: int) -> Index:
    raw = os.pread(fd, (end - begin) * _ITEM_BYTES, _HEADER_BYTES + begin * _ITEM_BYTES)
    if len(raw) != (end - begin) * _ITEM_BYTES:
        raise ValueError("the index was cut short")
    return np.frombuffer(raw, np.uint32)


@cache
def _header(count: int) -> bytes:
    """What numpy writes before such an array."""
    file = BytesIO()
    shape = {"descr": "<u4", "fortran_order": False, "shape": (2, count)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.getvalue()


def may_hold(segment: Path, numbers: Collection[bytes]) -> bool:
    """Also where there is no index, or it is damaged."""
    try:
        return bool(rows_of(path_of(segment), numbers))
    except (OSError, ValueError):
        return True
