"""The pure-Python equivalent of the C code, for machines without a compiler and as a reference in tests."""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

_DIGITS, _GROUPS = 10_000, 20
_DENSE = _GROUPS + _DIGITS // 16


class Tagger:
    """A callable that looks up the tag of a number in a number set.

    The tag is 0 in a set without tags, and -1 if the number is not in the set. Raises `IndexError` for a
    damaged file, and `ValueError` after `close`.

    The arguments from `words` to `tags` are the offsets of the parts in the file. `ranks` and `tags` are 0 in
    a set without tags.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a file, in their order
        self, file: mmap, words: int, supers: int, directory: int, ranks: int, tags: int,
        word_count: int, super_count: int, number_count: int,
    ) -> None:  # fmt: skip
        self._view = memoryview(file)
        entries = super_count * 256 + 1
        self._words = self._part("H", words, word_count)
        self._directory = self._part("I", directory, entries)
        self._ranks = self._part("I", ranks, entries if tags else 0)
        self._tags = self._part("H", tags, number_count if tags else 0)
        with self._part("Q", supers, super_count) as ids:
            self._supers = dict(zip(ids, range(0, super_count * 256, 256), strict=True))

    def _part(self, kind: str, at: int, items: int) -> memoryview[int]:
        end = at + items * struct.calcsize("=" + kind)
        if end > len(self._view):
            raise IndexError("the number set is damaged: a section lies outside the file")
        part: memoryview[int] = self._view[at:end].cast(kind)  # type: ignore[call-overload]  # kind is H, I or Q
        return part

    def __call__(self, number: int) -> int:
        block, low = divmod(number, _DIGITS)
        words = self._words
        at = self._supers.get(block >> 8)
        if at is None:
            return -1
        at += block & 255
        begin, end = self._directory[at], self._directory[at + 1]
        if begin > end or end > len(words):
            raise IndexError("the number set is damaged: an offset is out of range")
        if end - begin == _DENSE:
            if not words[begin + _GROUPS + (low >> 4)] >> (low & 15) & 1:
                return -1
            # Count of numbers in the block between the last multiple of 512 and this one.
            start = begin + _GROUPS + (low >> 9) * 32
            group = int.from_bytes(words[start : start + 32].tobytes(), "little")
            before = (group & ((1 << (low & 511)) - 1)).bit_count()
            return self._tag(at, words[begin + (low >> 9)] + before)
        place = bisect_left(words, low, begin, end)
        return self._tag(at, place - begin) if place < end and words[place] == low else -1

    def _tag(self, at: int, before: int) -> int:
        return self._tags[self._ranks[at] + before] if len(self._tags) else 0

    def close(self) -> None:
        for view in (self._words, self._directory, self._ranks, self._tags, self._view):
            view.release()
