"""An in-memory Bloom filter for the keys in the database."""

from collections.abc import Sequence

from dialgate.native import add_keys, select_keys

_BITS_PER_KEY = 32
_MIN_BITS = 1 << 23
_MAX_BITS = 1 << 32  # 512 MiB


class KeyFilter:
    """A Bloom filter that recognises most absent keys without a database query.

    A key that was added is never reported absent. With four bits per key and up to `keys` keys, about one in
    5,000 absent keys is reported as possibly present. A filter cannot be saved, because Python's hash differs
    between processes.
    """

    def __init__(self, keys: int = 0) -> None:
        preferred = 1 << (keys * _BITS_PER_KEY).bit_length()
        bits = min(max(preferred, _MIN_BITS), _MAX_BITS)
        self._field = bytearray(bits // 8)
        self._capacity = bits // _BITS_PER_KEY * 2
        self._keys = 0

    @property
    def is_full(self) -> bool:
        """True if the filter holds more than twice the planned number of keys.

        A full filter is still correct, but its false-positive rate keeps rising.
        """
        return self._keys > self._capacity

    def add(self, keys: Sequence[bytes]) -> None:
        add_keys(self._field, keys)
        self._keys += len(keys)

    def select(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that may be in the database, in order and without duplicates."""
        selected = select_keys(self._field, keys)
        return list(dict.fromkeys(selected)) if selected else selected
