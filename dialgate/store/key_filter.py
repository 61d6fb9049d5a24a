"""A Bloom filter of the keys in the database, in memory only."""

from collections.abc import Sequence

from dialgate.native import add_keys, select_keys

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
        self._room = bits // _BITS_PER_KEY * 2
        self._keys = 0

    @property
    def is_full(self) -> bool:
        """It holds twice as many keys as fit: still correct, but letting more and more absent keys pass."""
        return self._keys > self._room

    def add(self, keys: Sequence[bytes]) -> None:
        add_keys(self._field, keys)
        self._keys += len(keys)

    def select(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that may be in the database, each once, in order."""
        selected = select_keys(self._field, keys)
        return list(dict.fromkeys(selected)) if selected else selected
