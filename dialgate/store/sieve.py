"""Says of most keys that nothing is stored under them, without asking the database.

A key is 16 bytes of a keyed hash, so its bits are as good as drawn by lot: for every key that is there, two bits that it
names are set in a field of bits. One of them not set proves that a key is not there; both set prove nothing.
"""

from collections.abc import Sequence
from mmap import mmap

from dialgate.primitives import add, passes

BITS_A_KEY = 32
_LEAST_BITS = 1 << 23


def bytes_for(keys: int) -> int:
    return max(_LEAST_BITS, 1 << (max(keys, 1) * BITS_A_KEY - 1).bit_length()) // 8


class Sieve:
    """For about `keys` keys: then one question in 250 about an absent key is answered by *maybe*."""

    def __init__(self, keys: int, field: mmap | None = None) -> None:
        """`field`: where it is, as long as `bytes_for` says; memory that another process may have filled."""
        bits = 8 * bytes_for(keys)
        self._mask = bits - 1
        self.field = bytearray(bits // 8) if field is None else field
        self._room = bits // BITS_A_KEY * 2
        self.keys = 0

    @property
    def full(self) -> bool:
        """It holds twice what it was made for: still right, but less and less use."""
        return self.keys > self._room

    def add(self, keys: Sequence[bytes]) -> None:
        """Several thousand at a time where others are to go on meanwhile: in between, nobody has the interpreter."""
        add(self.field, self._mask, keys)
        self.keys += len(keys)

    def lay(self, piece: bytes, at: int) -> None:
        """What passed another sieve is to pass this one: of its field a piece, which stood `at`, from the first to the last. It may
        be longer: a bit then stands for all whose place differs in the highest bits only."""
        if at < len(self.field):
            self.field[at : at + len(piece)] = piece
            return
        import numpy as np  # noqa: PLC0415 - who fills one as long does without

        field = np.frombuffer(self.field, np.uint8)
        part = field[at % len(field) :][: len(piece)]
        part |= np.frombuffer(piece, np.uint8)

    def passes(self, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that may be there, each once, in order."""
        return passes(self.field, self._mask, keys)
