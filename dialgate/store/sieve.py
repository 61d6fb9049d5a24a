"""Says of most keys that nothing is stored under them, without asking the database.

A key is 16 bytes of a keyed hash, so its bits are as good as drawn by lot: for every key that is there, two bits that it
names are set in a field of bits. One of them not set proves that a key is not there; both set prove nothing.
"""

from collections.abc import Iterable, Sequence

import numpy as np

KEY_BYTES = 16
BITS_A_KEY = 32
_LEAST_BITS = 1 << 23
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
        joined = b"".join(keys)
        if len(joined) != len(keys) * KEY_BYTES or any(len(key) != KEY_BYTES for key in keys):
            self.add(keys)
            return
        named = np.frombuffer(joined, "<u8").reshape(-1, KEY_BYTES // 8)[:, 0]
        field, mask = np.frombuffer(self._field, np.uint8), np.uint64(self._mask)
        for bits in (named & mask, named >> np.uint64(_HALF) & mask):
            ones = np.uint8(1) << (bits & np.uint64(7)).astype(np.uint8)
            np.bitwise_or.at(field, (bits >> np.uint64(3)).astype(np.intp), ones)
        self._keys += len(keys)

    def passes(self, keys: Iterable[bytes]) -> list[bytes]:
        """The keys that may be there, each once, in order."""
        field, mask = self._field, self._mask
        passed: dict[bytes, None] = {}
        for key in keys:
            named = int.from_bytes(key[:8], "little")
            bit = named & mask
            if field[bit >> 3] >> (bit & 7) & 1:
                bit = named >> _HALF & mask
                if field[bit >> 3] >> (bit & 7) & 1:
                    passed[key] = None
        return list(passed)
