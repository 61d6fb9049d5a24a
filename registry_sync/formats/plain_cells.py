"""The cells of whole lines as arrays, without a Python object for each line.

A cell ends at its separator or at the end of the line; spaces around it do not count. Digits are read eight at a time, from
64-bit words that end where the cell ends: a multiplication by 10 and a shift join all neighbouring digits of a word at once.
"""

from typing import Final, NamedTuple

import numpy as np

from registry_sync.formats.text import CR, LF, SPACE, Bytes, Integers, Mask, Numbers

_WORD: Final = 8
_LONGEST: Final = 2 * _WORD  # digits
_ZEROS: Final = np.uint64(0x3030303030303030)
_ABOVE_NINE: Final = np.uint64(0x7676767676767676)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)
# Factor, shift and mask of each step: digits become pairs, pairs become fours, and fours the number.
_STEPS: Final = tuple(
    (np.uint64(factor), np.uint64(shift), np.uint64(mask))
    for factor, shift, mask in (
        (10, 8, 0x00FF00FF00FF00FF),
        (100, 16, 0x0000FFFF0000FFFF),
        (10_000, 32, 0x00000000FFFFFFFF),
    )
)


class PlainCells(NamedTuple):
    """One column of some lines: the end and length of each cell in `text`, which begins with `_LONGEST` other bytes."""

    text: bytes
    ends: Integers
    lengths: Integers

    def numbers(self) -> Numbers | None:
        """Return the value of each cell, or None if a cell is empty, too long, or has other characters than digits."""
        longest = int(self.lengths.max(initial=0))
        if longest > _LONGEST or not self.lengths.all():
            return None
        low, is_number = _parse(self._words(0))
        if longest > _WORD:
            high, is_high = _parse(self._words(_WORD))
            low += high * np.uint64(10**_WORD)
            is_number &= is_high
        return low if is_number.all() else None

    def words(self) -> Numbers | None:
        """Return the text of each cell as a little-endian word, or None if one has no character or more than eight."""
        if not self.lengths.all() or self.lengths.max(initial=0) > _WORD:
            return None
        ends = self._ending_words(0)
        return ends >> (np.uint64(8) * (np.uint64(_WORD) - self.lengths.astype(np.uint64)))

    def one(self, at: int) -> str:
        end = int(self.ends[at])
        return self.text[end - int(self.lengths[at]) : end].decode("ascii")

    def _words(self, skipped: int) -> Numbers:
        """Return the last eight digits before the last `skipped` of each cell, with the character 0 where it is shorter."""
        others = np.maximum(_WORD + skipped - self.lengths, 0).astype(np.uint64) * np.uint64(8)
        word: Numbers = self._ending_words(skipped) ^ _ZEROS
        word >>= others
        word <<= others  # a shift by 64 bits or more gives 0
        return word

    def _ending_words(self, skipped: int) -> Numbers:
        words = np.ndarray(len(self.text) - _WORD + 1, "<u8", self.text, strides=(1,))
        ending: Numbers = words[self.ends - (_WORD + skipped)]
        return ending


def _parse(word: Numbers) -> tuple[Numbers, Mask]:
    """Return the number in each word of eight digits (0 to 9 as bytes, the first lowest), and whether it is one."""
    is_number = ((word + _ABOVE_NINE) | word) & _HIGH_BITS == 0
    for factor, shift, mask in _STEPS:
        word = (word * factor + (word >> shift)) & mask
    return word, is_number


def split(chunk: bytes, separator: str, columns: int) -> list[PlainCells] | None:
    """Return the columns of the lines in `chunk`, or None if they need a reader of CSV.

    They need one if a line has more or fewer columns, a quotation mark, a character beyond ASCII, or a CR that is not before
    its LF. With a single column, `separator` does not count.
    """
    if not chunk.isascii() or b'"' in chunk:
        return None
    text = bytes(_LONGEST) + chunk
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == LF)
    if not chunk.endswith(b"\n"):
        ends = np.append(ends, len(text))
    begins = np.append(_LONGEST, ends[:-1] + 1)
    has_cr = data[ends - 1] == CR
    if np.count_nonzero(has_cr) != np.count_nonzero(data == CR):
        return None
    ends = ends - has_cr
    inner: list[Integers] = []
    if columns > 1:
        separators = np.flatnonzero(data == ord(separator))
        if len(separators) != len(ends) * (columns - 1):
            return None
        inner = [separators[column :: columns - 1] for column in range(columns - 1)]
        if not (np.all(inner[0] >= begins) and np.all(inner[-1] < ends)):
            return None
    bounds = list(zip([begins, *(cell + 1 for cell in inner)], [*inner, ends], strict=True))
    if b" " in chunk:
        bounds = [_trimmed(data, *bound) for bound in bounds]
    return [PlainCells(text, end, end - begin) for begin, end in bounds]


def _trimmed(data: Bytes, begins: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Return the begins and ends of the cells without the spaces around them."""
    while (spaces := (data[ends - 1] == SPACE) & (ends > begins)).any():
        ends = ends - spaces
    # The byte at the end of a cell is a separator or a line end. The text may end with the last cell.
    last = len(data) - 1
    while (spaces := (data[np.minimum(begins, last)] == SPACE) & (ends > begins)).any():
        begins = begins + spaces
    return begins, ends
