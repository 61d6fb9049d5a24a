"""Index files, which locate the decisions about a number and the outcomes reported for a decision.

`dialgate.decision_log.archive` describes the format. Keys are uniformly distributed, so four bytes distinguish nearly all
entries, and a lookup in the sorted file reads only a few pages. Callers decode the results and compare whole keys.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, partial
from hashlib import sha256
from io import BytesIO
from math import isqrt
from pathlib import Path
from typing import BinaryIO, TypeAlias
from zlib import crc32

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dialgate.runtime.atomic_write import replace_file

# Row 0: first four bytes of each key, big-endian, ascending. Row 1: sequence of the entry minus the first sequence.
Items: TypeAlias = NDArray[np.uint32]

MAX_ITEMS = 1 << 25  # 256 MiB, about 18 million decisions: the most that a merge rewrites
_HEADER_BYTES, _ITEM_BYTES, _DIGEST_BYTES = 128, 4, 32
_PAGE_BYTES, _SUM_BYTES = 4_096, 4
_MAX_IN_MEMORY = 1 << 20  # items, or bytes of a file
_KEYS = 1 << 32
_NAME = re.compile(r"(\d{16})-(\d{16})\.index\.npy")
_ATTEMPTS = 5  # indexes may be merged during a search


class Index(Struct, frozen=True):
    """An index of all packed segments with entries from `first` to `last`."""

    path: Path
    first: int
    last: int

    def covers(self, seq: int) -> bool:
        return self.first <= seq <= self.last

    def count(self) -> int:
        """Return the number of items. Raises `OSError`, or `ValueError` if the file is not an index."""
        with self.path.open("rb", buffering=0) as file:
            return _count(file)


class SearchResult(Struct, frozen=True):
    """The result of a search in all indexes.

    `seqs` are the sequence numbers of possible matches, newest first. `covered` holds the first and last entry of each
    index that was searched; callers search all other segments themselves.
    """

    seqs: list[int]
    covered: list[tuple[int, int]]

    def covers(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self.covered)


def report_key(decision: str) -> bytes:
    """Return the index key for the outcomes reported for a decision.

    The decision itself is indexed under the keyed hash of its number.
    """
    return sha256(decision.encode()).digest()


def prefixes(keys: Collection[bytes]) -> NDArray[np.uint32]:
    raw = b"".join(key[:_ITEM_BYTES].ljust(_ITEM_BYTES, b"\0") for key in keys)
    return np.frombuffer(raw, ">u4").astype(np.uint32)


# ---- reading -----------------------------------------------------------------------------------------------------------


def indexes(folder: Path) -> list[Index]:
    """Return the indexes in use, oldest first.

    If a larger index covers all entries of an index, the smaller index was merged into the larger one and is omitted.
    """
    paths = (
        Index(path, int(name[1]), int(name[2]))
        for path in folder.iterdir()
        if (name := _NAME.fullmatch(path.name))
    )
    indexes_: list[Index] = []
    for index in sorted(paths, key=lambda index: (index.first, -index.last)):
        if not indexes_ or index.last > indexes_[-1].last:
            indexes_.append(index)
    return indexes_


def search(folder: Path, keys: Collection[bytes]) -> SearchResult:
    """Search all readable indexes for `keys`. Raises `OSError` if the folder is unreadable."""
    for _ in range(_ATTEMPTS):
        try:
            return _search(indexes(folder), keys)
        except FileNotFoundError:  # merged since the folder was listed
            continue
    return SearchResult([], [])


def _search(indexes_: Sequence[Index], keys: Collection[bytes]) -> SearchResult:
    seqs: set[int] = set()
    covered = []
    for index in indexes_:
        try:
            seqs.update(seqs_of(index, keys))
        except FileNotFoundError:
            raise
        except (OSError, ValueError):
            continue
        covered.append((index.first, index.last))
    return SearchResult(sorted(seqs, reverse=True), covered)


def seqs_of(index: Index, keys: Collection[bytes]) -> list[int]:
    """Search one index for `keys`. Return the sequence numbers of possible matches.

    Raises `OSError`, or `ValueError` if the index is damaged.
    """
    with index.path.open("rb", buffering=0) as file:
        count = _count(file)
        part = partial(_part, file.fileno(), 2 * count * _ITEM_BYTES)
        return [index.first + offset for prefix in prefixes(keys) for offset in _offsets(part, count, prefix)]


def _offsets(part: Callable[[int, int], Items], count: int, prefix: np.uint32) -> list[int]:
    """Return the offsets stored for the keys that begin with `prefix`.

    Keys are uniformly distributed, so only the pages around the estimated position are read. `part(begin, end)` reads items
    of the flattened index array, which has `count` keys followed by their offsets.
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
        raise ValueError("the index is damaged: run `dialgate log archive --index` to rebuild it")
    return np.frombuffer(raw, np.uint32, end - begin, begin * _ITEM_BYTES - start)


def _page_checksums(raw: bytes) -> bytes:
    view = memoryview(raw)
    sums = [crc32(view[at : at + _PAGE_BYTES]) for at in range(0, len(raw), _PAGE_BYTES)]
    return np.array(sums, "<u4").tobytes()


def _count(file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size - _HEADER_BYTES - _DIGEST_BYTES
    array = size - -(-size // (_PAGE_BYTES + _SUM_BYTES)) * _SUM_BYTES
    count, odd = divmod(array, 2 * _ITEM_BYTES)
    if odd or count < 0 or os.pread(file.fileno(), _HEADER_BYTES, 0) != _header(count):
        raise ValueError("not an index of packed segments")
    return count


@cache
def _header(count: int) -> bytes:
    file = BytesIO()
    shape = {"descr": "<u4", "fortran_order": False, "shape": (2, count)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.getvalue()


def is_intact(index: Index) -> bool:
    """Return whether the index file and its name are unmodified. Raises `FileNotFoundError`."""
    try:
        with index.path.open("rb") as file:
            _count(file)
            own = _digest(file, index.path.name, os.fstat(file.fileno()).st_size - _DIGEST_BYTES)
            return own == file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        return False


def _digest(file: BinaryIO, name: str, size: int) -> bytes:
    digest = sha256(name.encode())
    while size and (chunk := file.read(min(size, _MAX_IN_MEMORY))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def first_missing(index: Index, items: Items, first: int, last: int) -> int | None:
    """Return the first entry from `first` to `last` that the index does not contain, or None.

    `items` are the expected items of that range, with offsets relative to `first`. Raises `OSError`, `ValueError`.
    """
    indexed = mapped(index)
    keys = np.unique(items[0])
    begins, ends = (np.searchsorted(indexed[0], keys, side) for side in ("left", "right"))
    counts = ends - begins
    places = np.arange(counts.sum()) + np.repeat(begins - np.cumsum(counts) + counts, counts)
    offsets = indexed[1][places].astype(np.int64) + (index.first - first)
    within = (offsets >= 0) & (offsets <= last - first)
    items_in_index = _pack_items(np.repeat(keys, counts)[within], offsets[within])
    absent = np.setdiff1d(_pack_items(items[0], items[1]), items_in_index, assume_unique=True)
    return first + int((absent & np.uint64(_KEYS - 1)).min()) if len(absent) else None


def _pack_items(keys: NDArray[np.uint32], offsets: NDArray[np.integer]) -> NDArray[np.uint64]:
    items: NDArray[np.uint64] = keys.astype(np.uint64) << np.uint64(32) | offsets.astype(np.uint64)
    return items


def mapped(index: Index) -> Items:
    """Map the items of an index into memory. Raises `OSError`, `ValueError`."""
    items: Items = np.memmap(index.path, np.uint32, "r", _HEADER_BYTES, (2, index.count()))
    return items


# ---- writing ------------------------------------------------------------------------------------------------------------


def write(folder: Path, first: int, last: int, items: Items) -> None:
    """Write the index of one segment and sync it.

    `items` may be in any order. Their offsets are relative to `first`.
    """
    order = np.argsort(items[0], kind="stable")
    _publish(folder, first, last, items.shape[1], iter([items[:, order]]))


def merge(indexes_: Sequence[Index]) -> None:
    """Merge adjacent indexes into a new one and delete the old ones. Raises `OSError`, `ValueError`."""
    first, last = indexes_[0].first, indexes_[-1].last
    parts = [mapped(index) for index in indexes_]
    count = sum(part.shape[1] for part in parts)
    shifts = [np.uint32(index.first - first) for index in indexes_]
    _publish(indexes_[0].path.parent, first, last, count, _merge_range(parts, shifts, 0, _KEYS))
    for index in indexes_:
        index.path.unlink()


def _merge_range(parts: Sequence[Items], shifts: Sequence[np.uint32], low: int, high: int) -> Iterator[Items]:
    """Yield the items of all parts with `low <= key < high`, sorted by key, in chunks that fit in memory."""
    cuts = [_between(part[0], low, high) for part in parts]
    if sum(slice_.stop - slice_.start for slice_ in cuts) > _MAX_IN_MEMORY and high - low > 1:
        middle = (low + high) // 2
        yield from _merge_range(parts, shifts, low, middle)
        yield from _merge_range(parts, shifts, middle, high)
        return
    pairs = zip(parts, cuts, shifts, strict=True)
    items = np.concatenate([_shifted(part[:, slice_], shift) for part, slice_, shift in pairs], axis=1)
    yield items[:, np.argsort(items[0], kind="stable")]


def _between(keys: NDArray[np.uint32], low: int, high: int) -> slice:
    end = len(keys) if high == _KEYS else int(np.searchsorted(keys, np.uint32(high)))
    return slice(int(np.searchsorted(keys, np.uint32(low))), end)


def _shifted(items: Items, shift: np.uint32) -> Items:
    return np.stack((items[0], items[1] + shift))


def _publish(folder: Path, first: int, last: int, count: int, parts: Iterator[Items]) -> None:
    path = folder / f"{first:016}-{last:016}.index.npy"
    with replace_file(path) as file:
        _write(file, path.name, count, parts)


def _write(file: BinaryIO, name: str, count: int, parts: Iterator[Items]) -> None:
    file.write(_header(count))
    offset = 0
    for part in parts:
        for row, values in enumerate(part):
            file.seek(_HEADER_BYTES + (row * count + offset) * _ITEM_BYTES)
            file.write(values.tobytes())
        offset += part.shape[1]
    file.seek(_HEADER_BYTES)
    sums = b"".join(_page_checksums(raw) for raw in iter(partial(file.read, _MAX_IN_MEMORY), b""))
    file.write(sums)
    size = file.tell()
    file.seek(0)
    file.write(_digest(file, name, size))
