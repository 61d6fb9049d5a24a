"""Where a number's decisions stand in a packed segment; its form is told in `dialgate.archive`.

Keyed hashes are as if drawn by lot, so four bytes tell the decisions of a segment apart but for one in thousands, and a
sorted, mapped array answers with a few pages however large it is.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

Index: TypeAlias = NDArray[np.uint32]


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
    index = np.load(path, mmap_mode="r")
    wanted = prefixes(numbers)
    begins, ends = (np.searchsorted(index[0], wanted, side) for side in ("left", "right"))
    spans = zip(begins.tolist(), ends.tolist(), strict=True)
    return sorted({row for begin, end in spans for row in index[1, begin:end].tolist()}, reverse=True)


def may_hold(segment: Path, numbers: Collection[bytes]) -> bool:
    """Also where there is no index, or it is damaged."""
    try:
        return bool(rows_of(path_of(segment), numbers))
    except (OSError, ValueError):
        return True
