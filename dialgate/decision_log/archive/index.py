"""Where what is said of a number, and of a decision, stands in many packed segments at once; its form is told in
`dialgate.archive`.

Keys are as if drawn by lot, so four bytes tell the entries of millions apart but for a few, and a sorted file answers with
a few pages however large it is. What is found is decoded and compared whole by whoever asked.
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

# Row 0: the first four bytes of each key, big-endian, ascending. Row 1: the sequence of the entry less that of the first.
Items: TypeAlias = NDArray[np.uint32]

MOST_ITEMS = 1 << 25  # 256 MiB: of some 18 million decisions. A merge rewrites so much at most
_HEADER_BYTES, _ITEM_BYTES, _DIGEST_BYTES = 128, 4, 32
_PAGE_BYTES, _SUM_BYTES = 4_096, 4
_AT_ONCE = 1 << 20  # items in memory
_KEYS = 1 << 32
_NAME = re.compile(r"(\d{16})-(\d{16})\.index\.npy")
_TRIES = 5  # indexes may be merged while they are asked


class Index(Struct, frozen=True):
    """Of all packed segments with entries from `first` to `last`."""

    path: Path
    first: int
    last: int

    def count(self) -> int:
        """Of its items. Raises `ValueError` where it cannot be an index, `OSError`."""
        with self.path.open("rb", buffering=0) as file:
            return _count(file)


class SearchResult(Struct, frozen=True):
    """`seqs`: of the entries that may be meant, newest first. `covered`: the first and last entries of the indexes that
    were asked; of other segments nothing is known."""

    seqs: list[int]
    covered: list[tuple[int, int]]

    def covers(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self.covered)


def report_key(decision: str) -> bytes:
    """Of the reports on a decision; of the decisions about a number it is the number's keyed hash."""
    return sha256(decision.encode()).digest()


def prefixes(keys: Collection[bytes]) -> NDArray[np.uint32]:
    raw = b"".join(key[:_ITEM_BYTES].ljust(_ITEM_BYTES, b"\0") for key in keys)
    return np.frombuffer(raw, ">u4").astype(np.uint32)


# ---- asked -------------------------------------------------------------------------------------------------------------


def indexes(folder: Path) -> list[Index]:
    """Oldest first. One that lies within another was merged into that, and is about to go."""
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
    """An index that cannot be read covers nothing. Raises `OSError` where the folder cannot be."""
    for _ in range(_TRIES):
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
    """Raises `OSError`, or `ValueError` where it is damaged."""
    with index.path.open("rb", buffering=0) as file:
        count = _count(file)
        part = partial(_part, file.fileno(), 2 * count * _ITEM_BYTES)
        return [index.first + offset for prefix in prefixes(keys) for offset in _offsets(part, count, prefix)]


def _offsets(part: Callable[[int, int], Items], count: int, prefix: np.uint32) -> list[int]:
    """Where a key must stand is known to within a few pages, and only those are read. `part` gives items of both rows of
    the array, one after the other."""
    about, margin = int(prefix) * count // _KEYS, 4 * isqrt(count) + 8
    low, high = max(about - margin, 0), min(about + margin, count)
    keys = part(low, high)
    if (low and keys[0] >= prefix) or (high < count and keys[-1] <= prefix):
        low, keys = 0, part(0, count)
    begin, end = (int(np.searchsorted(keys, prefix, side)) for side in ("left", "right"))
    return part(count + low + begin, count + low + end).tolist() if begin < end else []


def _part(fd: int, array: int, begin: int, end: int) -> Items:
    """`array`: bytes of it. What is read of it is what was written, or it raises `ValueError`."""
    pages = range(begin * _ITEM_BYTES // _PAGE_BYTES, -(-end * _ITEM_BYTES // _PAGE_BYTES))
    start, stop = pages.start * _PAGE_BYTES, min(pages.stop * _PAGE_BYTES, array)
    raw = os.pread(fd, stop - start, _HEADER_BYTES + start)
    sums = os.pread(fd, len(pages) * _SUM_BYTES, _HEADER_BYTES + array + pages.start * _SUM_BYTES)
    if len(raw) != stop - start or sums != _sums(raw):
        raise ValueError("the index is damaged")
    return np.frombuffer(raw, np.uint32, end - begin, begin * _ITEM_BYTES - start)


def _sums(raw: bytes) -> bytes:
    """Of each page."""
    view = memoryview(raw)
    sums = [crc32(view[at : at + _PAGE_BYTES]) for at in range(0, len(raw), _PAGE_BYTES)]
    return np.array(sums, "<u4").tobytes()


def _count(file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size - _HEADER_BYTES - _DIGEST_BYTES
    array = size - -(-size // (_PAGE_BYTES + _SUM_BYTES)) * _SUM_BYTES
    count, odd = divmod(array, 2 * _ITEM_BYTES)
    if odd or count < 0 or os.pread(file.fileno(), _HEADER_BYTES, 0) != _header(count):
        raise ValueError("no index of packed segments")
    return count


@cache
def _header(count: int) -> bytes:
    """What numpy writes before such an array."""
    file = BytesIO()
    shape = {"descr": "<u4", "fortran_order": False, "shape": (2, count)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.getvalue()


def is_intact(index: Index) -> bool:
    """Whether it is, byte for byte and by its name, what was written. Raises `FileNotFoundError`."""
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
    while size and (chunk := file.read(min(size, _AT_ONCE))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def lacking(index: Index, items: Items, first: int, last: int) -> int | None:
    """The first of the entries `first` to `last`, of which `items` are all there are, that it does not name; nothing
    where it names all. `items`: relative to `first`. Raises `OSError`, `ValueError`."""
    have = mapped(index)
    keys = np.unique(items[0])
    begins, ends = (np.searchsorted(have[0], keys, side) for side in ("left", "right"))
    counts = ends - begins
    places = np.arange(counts.sum()) + np.repeat(begins - np.cumsum(counts) + counts, counts)
    offsets = have[1][places].astype(np.int64) + (index.first - first)
    within = (offsets >= 0) & (offsets <= last - first)
    items_in_index = _joined(np.repeat(keys, counts)[within], offsets[within])
    absent = np.setdiff1d(_joined(items[0], items[1]), items_in_index, assume_unique=True)
    return first + int((absent & np.uint64(_KEYS - 1)).min()) if len(absent) else None


def _joined(keys: NDArray[np.uint32], offsets: NDArray[np.integer]) -> NDArray[np.uint64]:
    items: NDArray[np.uint64] = keys.astype(np.uint64) << np.uint64(32) | offsets.astype(np.uint64)
    return items


def mapped(index: Index) -> Items:
    """Raises `OSError`, `ValueError`."""
    items: Items = np.memmap(index.path, np.uint32, "r", _HEADER_BYTES, (2, index.count()))
    return items


# ---- made --------------------------------------------------------------------------------------------------------------


def write(folder: Path, first: int, last: int, items: Items) -> None:
    """Of one segment: `items` relative to `first`, in any order. Durable on return."""
    order = np.argsort(items[0], kind="stable")
    _publish(folder, first, last, items.shape[1], iter([items[:, order]]))


def merge(indexes_: Sequence[Index]) -> None:
    """Into one, before they go. They follow each other without a gap. Raises `OSError`, `ValueError`."""
    first, last = indexes_[0].first, indexes_[-1].last
    parts = [mapped(index) for index in indexes_]
    count = sum(part.shape[1] for part in parts)
    shifts = [np.uint32(index.first - first) for index in indexes_]
    _publish(indexes_[0].path.parent, first, last, count, _merged(parts, shifts, 0, _KEYS))
    for index in indexes_:
        index.path.unlink()


def _merged(parts: Sequence[Items], shifts: Sequence[np.uint32], low: int, high: int) -> Iterator[Items]:
    """The items of all parts with keys from `low` to before `high`, sorted: so many at once as memory shall hold."""
    cuts = [_between(part[0], low, high) for part in parts]
    if sum(slice_.stop - slice_.start for slice_ in cuts) > _AT_ONCE and high - low > 1:
        middle = (low + high) // 2
        yield from _merged(parts, shifts, low, middle)
        yield from _merged(parts, shifts, middle, high)
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
    """It appears whole and durable, or not at all."""
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
    sums = b"".join(_sums(raw) for raw in iter(partial(file.read, _AT_ONCE), b""))
    file.write(sums)
    size = file.tell()
    file.seek(0)
    file.write(_digest(file, name, size))
