"""Says of most keys that nothing is stored under them, without asking the database.

A key is 16 bytes of a keyed hash, so its bits are as good as drawn by lot: for every key that is there, two bits that it
names are set in a field of bits. One of them not set proves that a key is not there; both set prove nothing.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
BITS_A_KEY = 32
_LEAST_BITS = 1 << 23
_MANY = 48  # keys, from which on it is quicker to ask about all at once
_EIGHT, _SEVEN = np.uint64(3), np.uint64(7)  # to divide by eight, and what is left
_HALF = 32  # the bits of the key's first eight bytes that name each of the two


class Sieve:
    """For about `keys` keys: then one question in 250 about an absent key is answered by *maybe*."""

    def __init__(self, keys: int) -> None:
        bits = max(_LEAST_BITS, 1 << (max(keys, 1) * BITS_A_KEY - 1).bit_length())
        self._mask = bits - 1
        self._field = bytearray(bits // 8)
        self._room = bits // BITS_A_KEY * 2
        self._keys = 0

    @property
    def full(self) -> bool:
        """It holds twice what it was made for: still right, but less and less use."""
        return self._keys > self._room

    def add(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            named = int.from_bytes(key[:8], "little")
            for bit in (named & self._mask, named >> _HALF & self._mask):
                self._field[bit >> 3] |= 1 << (bit & 7)
            self._keys += 1

    def add_many(self, keys: Sequence[bytes]) -> None:
        """As `add`, quicker by far for thousands; keys of another length than `KEY_BYTES` are no slower than there."""
        named = _named(keys)
        if named is None:
            self.add(keys)
            return
        field = np.frombuffer(self._field, np.uint8)
        for bits in self._bits(named):
            ones = np.uint8(1) << (bits & _SEVEN).astype(np.uint8)
            np.bitwise_or.at(field, (bits >> _EIGHT).astype(np.intp), ones)
        self._keys += len(keys)

    def passes(self, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that may be there, each once, in order."""
        if len(keys) >= _MANY:
            named = _named(keys)
            if named is not None:
                passing = np.flatnonzero(self._holds(named)).tolist()
                return list(dict.fromkeys([keys[at] for at in passing]))
        field, mask = self._field, self._mask
        passed: dict[bytes, None] = {}
        for key in keys:
            name = int.from_bytes(key[:8], "little")
            bit = name & mask
            if field[bit >> 3] >> (bit & 7) & 1:
                bit = name >> _HALF & mask
                if field[bit >> 3] >> (bit & 7) & 1:
                    passed[key] = None
        return list(passed)

    def _holds(self, named: NDArray[np.uint64]) -> NDArray[np.bool_]:
        field = np.frombuffer(self._field, np.uint8)
        one, other = (
            field[(bits >> _EIGHT).astype(np.intp)] >> (bits & _SEVEN).astype(np.uint8)
            for bits in self._bits(named)
        )
        return (one & other & np.uint8(1)).astype(np.bool_)

    def _bits(self, named: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        mask = np.uint64(self._mask)
        return named & mask, named >> np.uint64(_HALF) & mask


def _named(keys: Sequence[bytes]) -> NDArray[np.uint64] | None:
    """The first eight bytes of each, or None where a key is of another length than `KEY_BYTES`."""
    joined = b"".join(keys)
    if len(joined) != len(keys) * KEY_BYTES or set(map(len, keys)) != {KEY_BYTES}:
        return None
    return np.frombuffer(joined, "<u8").reshape(-1, KEY_BYTES // 8)[:, 0]
