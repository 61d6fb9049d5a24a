r"""An immutable set of telephone numbers in a mapped file, optionally with a 16-bit tag per number.

A number is an int: the digits of its E.164 form, below 10**15. The file is little-endian; every part begins
at a multiple of 8 bytes and is padded with zeros.

    header       magic "\x93NUMSET\n", order mark u16 = 1, format u16 = 1, bytes per tag u16 (0 or 2), u16 = 0,
                 length of file u64, length of metadata u32, super-blocks S u32, words u32, numbers u32,
                 sha256 of metadata, sha256 of body, sha256 of the header so far
    metadata     any bytes
    body         containers  u16[words]
                 super-blocks u64[S], ascending: number // 2,560,000
                 directory   u32[256 S + 1]: offset in words of the container of each block of 10,000 numbers
                 ranks       u32[256 S + 1], in a tagged set: count of numbers before each block
                 tags        u16[numbers], in a tagged set: in the order of the numbers

A container of fewer than 645 words holds the sorted last four digits, one number per word. A container of 645
words is a bitmap: 20 words with the count of numbers before each group of 512 bits, then 10,000 bits, the
lowest first. The size of a container therefore determines its kind.

Compatibility: the layout of `format` 1 never changes. A different layout gets a higher `format`, which older
readers reject. The program that writes the file defines the content of the metadata.

The header's checksum covers the checksums of metadata and body, so it identifies the whole content. It is
available as `NumberSet.sha256`. Look-ups copy nothing. All processes that map the file share its pages.
"""

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dialgate.runtime.chunked_write import write_in_chunks

Numbers: TypeAlias = NDArray[np.uint64]
Tags: TypeAlias = NDArray[np.uint16]
Words: TypeAlias = NDArray[np.uint16]

LIMIT: Final = 10**15
MAGIC: Final = b"\x93NUMSET\n"
FORMAT: Final = 1
BLOCK: Final = 10_000
BLOCKS: Final = 256  # blocks per super-block; look-ups use a shift by 8
GROUPS: Final = 20
DENSE: Final = GROUPS + BLOCK // 16
HEADER: Final = struct.Struct("<8sHHHHQIIII32s32s32s")
SLICE: Final = 1 << 20


class DamagedFile(Exception):
    """Raised for a file that is damaged or has an unsupported format. The message is `PATH: FAULT`."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.path = path
        self.fault = fault


class _Header(NamedTuple):
    magic: bytes
    order: int
    format: int
    tag_bytes: int
    zero: int
    length: int
    meta: int
    supers: int
    words: int
    numbers: int
    meta_sha256: bytes
    body_sha256: bytes
    sha256: bytes


def _padded(length: int) -> int:
    return -(-length // 8) * 8


# ---- writing ---------------------------------------------------------------------------------------------------------


class _Body:
    """A writer of the file's body, which also computes its checksum and length."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sum = sha256()
        self.length = 0

    def add(self, part: bytes | memoryview) -> None:
        view = memoryview(part).cast("B")
        write_in_chunks(self.file, view)
        self.sum.update(view)
        self.length += view.nbytes

    def pad(self) -> None:
        self.add(bytes(_padded(self.length) - self.length))


class _Blocks(NamedTuple):
    """The blocks of a sorted array, as parallel arrays.

    Each block has an id, the position of its first number, a count of numbers, and the size of its container in words.
    """

    ids: Numbers
    begins: NDArray[np.int64]
    counts: NDArray[np.int64]
    words: NDArray[np.int64]


def write(path: Path, chunks: Iterable[Numbers], *, meta: bytes, tags: Tags | None = None) -> None:
    """Write a number set to `path` and sync the file. The caller must rename the file and sync its folder.

    The numbers of all chunks must be strictly ascending. `tags` has one entry per number, in the same order.
    Without tags, writing needs memory for one chunk and 32 bytes per block. Raises `ValueError` for invalid
    numbers or a wrong number of tags. Raises `struct.error` for more than 4,294,967,295 numbers or container words.
    """
    with path.open("wb") as file:
        file.write(bytes(HEADER.size) + meta)
        file.write(bytes(_padded(file.tell()) - file.tell()))
        start = file.tell()
        body = _Body(file)
        blocks = _write_containers(body, chunks)
        words, numbers = body.length // 2, int(blocks.counts.sum())
        body.pad()
        supers = _write_directories(body, blocks, ranked=tags is not None)
        if tags is not None:
            if len(tags) != numbers:
                raise ValueError(f"{len(tags):,} tags for {numbers:,} numbers")
            body.add(tags.astype("<u2").data)
        header = HEADER.pack(
            *(MAGIC, 1, FORMAT, 0 if tags is None else 2, 0, start + body.length),
            *(len(meta), supers, words, numbers, sha256(meta).digest(), body.sum.digest(), b""),
        )[:-32]
        file.seek(0)
        file.write(header + sha256(header).digest())
        file.flush()
        os.fsync(file.fileno())


def distinct(numbers: Numbers) -> Numbers:
    """Return the numbers sorted and without duplicates, for `write`.

    `np.unique` took 20 times as long for 3 million numbers.
    """
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def longest_prefixes(numbers: Numbers, prefixes: Sequence[str]) -> "NDArray[np.int32]":
    """Return the index of the longest prefix of each of the sorted numbers, or -1."""
    found = np.full(len(numbers), -1, np.int32)
    for index, prefix in sorted(enumerate(prefixes), key=lambda item: len(item[1])):
        for zeros in range(len(str(LIMIT)) - len(prefix)):
            bounds = np.array([int(prefix), int(prefix) + 1], np.uint64) * np.uint64(10**zeros)
            begin, end = np.searchsorted(numbers, bounds)
            found[begin:end] = index
    return found


def _whole_blocks(chunks: Iterable[Numbers]) -> Iterator[Numbers]:
    """Regroup the numbers so that no block of 10,000 is split between two chunks."""
    rest = np.empty(0, np.uint64)
    for chunk in chunks:
        run = np.concatenate((rest, chunk))
        if not len(run):
            continue
        if run[-1] >= LIMIT or not np.all(run[1:] > run[:-1]):
            raise ValueError("the numbers must be strictly ascending and below 10**15")
        end = int(np.searchsorted(run, run[-1] // BLOCK * BLOCK))
        rest = run[end:]
        yield run[:end]
    yield rest


def _write_containers(body: _Body, chunks: Iterable[Numbers]) -> _Blocks:
    parts: list[_Blocks] = []
    for run in _whole_blocks(chunks):
        block = run // np.uint64(BLOCK)
        first = np.ones(len(run), np.bool_)
        first[1:] = block[1:] != block[:-1]
        begins = np.flatnonzero(first)
        counts = np.diff(begins, append=len(run))
        blocks = _Blocks(block[begins], begins, counts, np.minimum(counts, DENSE))
        lows = (run - block * np.uint64(BLOCK)).astype("<u2")
        body.add(_containers(lows, blocks).data)
        parts.append(blocks)
    return _Blocks(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _containers(lows: Words, blocks: _Blocks) -> Words:
    """Return the concatenated words of the containers of all blocks."""
    dense = blocks.counts >= DENSE
    if not dense.any():
        return lows
    is_dense = np.repeat(dense, blocks.counts)
    place = np.repeat((np.cumsum(dense) - 1) * BLOCK, np.where(dense, blocks.counts, 0))
    bits = np.zeros((int(dense.sum()), BLOCK), np.bool_)
    bits.ravel()[place + lows[is_dense]] = True
    words = np.empty(int(blocks.words.sum()), "<u2")
    of_dense = np.repeat(dense, blocks.words)
    words[of_dense] = _bitmaps(bits).ravel()
    words[~of_dense] = lows[~is_dense]
    return words


def _bitmaps(bits: NDArray[np.bool_]) -> Words:
    """Return a row of 645 words for each row of 10,000 bits."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    counts = np.add.reduceat(np.bitwise_count(packed), np.arange(GROUPS) * 64, axis=1, dtype=np.uint16)
    before = np.cumsum(counts, axis=1, dtype="<u2") - counts
    return np.concatenate((before.astype("<u2"), packed.view("<u2")), axis=1)


def _write_directories(body: _Body, blocks: _Blocks, *, ranked: bool) -> int:
    supers, row = np.unique(blocks.ids // BLOCKS, return_inverse=True)
    body.add(supers.astype("<u8").data)
    at = row * BLOCKS + (blocks.ids % BLOCKS).astype(np.int64) + 1
    for sizes in (blocks.words, blocks.counts) if ranked else (blocks.words,):
        ends = np.zeros(len(supers) * BLOCKS + 1, np.int64)
        ends[at] = sizes
        body.add(np.cumsum(ends).astype("<u4").data)
    return len(supers)


# ---- reading ---------------------------------------------------------------------------------------------------------


class NumberSet:
    """An open number set. Look-ups are thread-safe. After `close` they raise `ValueError`."""

    def __init__(self, path: str, header: _Header, data: mmap.mmap) -> None:
        self._path = path
        self._header = header
        self._map = data
        self._view = view = memoryview(data)
        at = HEADER.size
        self.meta = bytes(view[at : at + header.meta])
        self._body = at = _padded(at + header.meta)
        self._words = self._part("H", at, header.words)
        at = _padded(at + header.words * 2)
        ids = self._part("Q", at, header.supers)
        self._supers = dict(zip(ids, range(0, header.supers * BLOCKS, BLOCKS), strict=True))
        directory, entries = at + header.supers * 8, header.supers * BLOCKS + 1
        self._directory = self._part("I", directory, entries)
        self.tagged = header.tag_bytes != 0
        self._ranks = self._part("I", directory + entries * 4, entries if self.tagged else 0)
        self._tags = self._part("H", directory + entries * 8, header.numbers if self.tagged else 0)
        self.sha256 = header.sha256.hex()

    @classmethod
    def open(cls, path: Path) -> "NumberSet":
        """Open a file and verify its header, length and metadata. Raises `DamagedFile` and `OSError`.

        `verify` checks the rest.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = _read_header(str(path), file.read(HEADER.size), size)
            if sha256(file.read(header.meta)).digest() != header.meta_sha256:
                raise DamagedFile(str(path), "metadata checksum differs")
            return cls(str(path), header, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _part(
        self, kind: str, at: int, items: int
    ) -> "memoryview[int]":  # quoted, because only type checkers can subscript it
        part: memoryview[int] = self._view[at : at + items * struct.calcsize("=" + kind)].cast(kind)  # type: ignore[call-overload]  # kind is H, I or Q
        return part

    def __len__(self) -> int:
        return self._header.numbers

    def __contains__(self, number: int) -> bool:
        return self.tag(number) >= 0

    def tag(self, number: int) -> int:
        """Return a number's tag, 0 in a set without tags, or -1 if the number is not in the set.

        Each check does this several times. Raises `IndexError` if the file is damaged, and `ValueError` after `close`.
        """
        block, low = divmod(number, BLOCK)
        words = self._words
        first = self._supers.get(block >> 8)
        if first is None:
            return -1
        at = first + (block & 255)
        begin, end = self._directory[at], self._directory[at + 1]
        if begin > end or end > len(words):
            raise IndexError("the number set is damaged: an offset is out of range")
        if end - begin == DENSE:
            if not words[begin + GROUPS + (low >> 4)] >> (low & 15) & 1:
                return -1
            # Count of numbers in the block between the last multiple of 512 and this one.
            start = begin + GROUPS + (low >> 9) * 32
            group = int.from_bytes(words[start : start + 32].tobytes(), "little")
            before = words[begin + (low >> 9)] + (group & ((1 << (low & 511)) - 1)).bit_count()
        else:
            place = bisect_left(words, low, begin, end)
            if place == end or words[place] != low:
                return -1
            before = place - begin
        return self._tags[self._ranks[at] + before] if self.tagged else 0

    def tags_of(self, numbers: Numbers) -> "NDArray[np.int32]":
        """Return what `tag` returns for each of the numbers, which must be sorted."""
        tags = np.full(len(numbers), -1, np.int32)
        for span, first in self._supers.items():
            low = span * BLOCKS * BLOCK
            begin, end = np.searchsorted(numbers, np.array([low, low + BLOCKS * BLOCK], np.uint64))
            if begin == end:
                continue
            run, part = self._span(low, first), numbers[begin:end]
            at = np.searchsorted(run, part)
            is_in = run[np.minimum(at, len(run) - 1)] == part
            rows = at[is_in] + self._ranks[first] if self.tagged else 0
            tags[begin:end][is_in] = np.frombuffer(self._tags, "<u2")[rows] if self.tagged else 0
        return tags

    def verify(self) -> None:
        """Verify the checksum of the whole file without blocking other threads. Raises `DamagedFile`."""
        total = sha256()
        for at in range(self._body, len(self._view), SLICE):
            total.update(self._view[at : at + SLICE])
        if total.digest() != self._header.body_sha256:
            raise DamagedFile(self._path, "body checksum differs")

    def arrays(self) -> tuple[Numbers, Tags | None]:
        """Return copies of all numbers, in order, and of their tags."""
        numbers, filled = np.empty(len(self), np.uint64), 0
        for span in self.spans():
            numbers[filled : filled + len(span)] = span
            filled += len(span)
        return numbers[:filled], np.array(self._tags, np.uint16) if self.tagged else None

    def spans(self, begin: int = 0, end: int = LIMIT) -> Iterator[Numbers]:
        """Yield the sorted numbers from `begin` up to but not including `end`.

        To save memory, each array covers only one super-block.
        """
        for span, first in self._supers.items():
            low, high = span * BLOCKS * BLOCK, (span + 1) * BLOCKS * BLOCK
            if low < end and high > begin:
                run = self._span(low, first)
                at, until = np.searchsorted(run, np.array([begin, end], np.uint64))
                yield run[at:until]

    def _span(self, low: int, first: int) -> Numbers:
        bounds = np.array(self._directory[first : first + BLOCKS + 1], np.int64)
        sizes = np.diff(bounds)
        begin, end = int(bounds[0]), int(bounds[-1])
        words = np.frombuffer(self._words[begin:end], "<u2")
        block_of = np.repeat(np.arange(BLOCKS, dtype=np.uint32), sizes)
        dense = np.flatnonzero(sizes == DENSE)
        if not len(dense):
            numbers: Numbers = (block_of * np.uint32(BLOCK) + words).astype(np.uint64) + np.uint64(low)
            return numbers
        present = np.zeros((BLOCKS, BLOCK), np.bool_)
        sparse = np.repeat(sizes != DENSE, sizes)
        present[block_of[sparse], words[sparse]] = True
        bitmaps = words[(bounds[dense] - begin + GROUPS)[:, None] + np.arange(DENSE - GROUPS)]
        present[dense] = np.unpackbits(bitmaps.view(np.uint8), axis=1, bitorder="little")
        members: Numbers = np.flatnonzero(present).astype(np.uint64)
        return members + np.uint64(low)

    def close(self) -> None:
        for view in (self._words, self._directory, self._ranks, self._tags, self._view):
            view.release()
        self._map.close()


def _read_header(path: str, head: bytes, size: int) -> _Header:
    if not head.startswith(MAGIC):
        raise DamagedFile(path, "not a number set")
    if len(head) < HEADER.size:
        raise DamagedFile(path, f"truncated: {size:,} bytes; the header alone has {HEADER.size}")
    header = _Header(*HEADER.unpack(head))
    if struct.unpack_from("=H", head, len(MAGIC)) != (1,):
        raise DamagedFile(path, "the file is little-endian, but this machine is not: use another machine")
    if header.format > FORMAT:
        raise DamagedFile(
            path, f"format {header.format} is newer than this version supports ({FORMAT}): update dialgate"
        )
    if sha256(head[:-32]).digest() != header.sha256:
        raise DamagedFile(path, "header checksum differs")
    if size < header.length:
        raise DamagedFile(path, f"truncated: {size:,} of {header.length:,} bytes")
    if size > header.length:
        raise DamagedFile(path, f"{size - header.length:,} bytes too long")
    return header
