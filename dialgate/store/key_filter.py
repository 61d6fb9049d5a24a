"""A Bloom filter of the keys in the database, in memory only."""

from collections.abc import Iterable, Sequence

_BITS_PER_KEY = 32
_FEWEST_BITS = 1 << 23
_MOST_BITS = 1 << 32  # 512 MiB


class KeyFilter:
    """Answers "not in the database" for most absent keys without a query. A key that was added is never reported absent.

    Two bits a key: with up to `keys` keys it lets one absent key in 250 pass. The hash is Python's own, which differs from
    process to process, so a filter cannot be saved.
    """

    def __init__(self, keys: int = 0) -> None:
        wanted = 1 << (keys * _BITS_PER_KEY).bit_length()
        bits = min(max(wanted, _FEWEST_BITS), _MOST_BITS)
        self._field = bytearray(bits // 8)
        self._mask = len(self._field) - 1
        self._room = bits // _BITS_PER_KEY * 2
        self._keys = 0

    @property
    def is_full(self) -> bool:
        """It holds twice as many keys as fit: still correct, but letting more and more absent keys pass."""
        return self._keys > self._room

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
