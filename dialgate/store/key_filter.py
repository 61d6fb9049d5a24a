"""A Bloom filter of the keys in the database, in memory only."""

from collections.abc import Iterable, Sequence

_BITS_PER_KEY = 32
_MIN_BITS = 1 << 23
_MAX_BITS = 1 << 32  # 512 MiB


class KeyFilter:
    """A Bloom filter: answers "not in the database" for most absent keys without a query.

    Keys that were added are never reported absent. With two bits per key and up to `keys` keys, about one in
    250 absent keys passes. Python's hash differs between processes, so a filter cannot be saved.
    """

    def __init__(self, keys: int = 0) -> None:
        wanted = 1 << (keys * _BITS_PER_KEY).bit_length()
        bits = min(max(wanted, _MIN_BITS), _MAX_BITS)
        self._field = bytearray(bits // 8)
        self._mask = len(self._field) - 1
        self._capacity = bits // _BITS_PER_KEY * 2
        self._keys = 0

    @property
    def is_full(self) -> bool:
        """Whether it has twice as many keys as planned: still correct, but ever more absent keys pass."""
        return self._keys > self._capacity

    def add(self, keys: Iterable[bytes]) -> None:
        field, mask = self._field, self._mask
        for key in keys:
            hashed = hash(key)
            field[hashed >> 3 & mask] |= 1 << (hashed & 7)
            field[hashed >> 35 & mask] |= 1 << (hashed >> 32 & 7)
            self._keys += 1

    def select(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that may be in the database, each once, in order."""
        field, mask = self._field, self._mask
        return [
            key
            for key in dict.fromkeys(keys)
            if field[(hashed := hash(key)) >> 3 & mask] >> (hashed & 7) & 1
            and field[hashed >> 35 & mask] >> (hashed >> 32 & 7) & 1
        ]
