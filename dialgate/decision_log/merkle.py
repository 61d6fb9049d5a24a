"""The Merkle tree of RFC 6962 (2.1) over the bodies of entries. Entry 1 is leaf 0.

A `MerkleSpan` stores all leaves so far as their largest complete subtrees, which are only a few hashes and part of each
checkpoint. The next leaf can be appended without reading earlier leaves. So the cost of a checkpoint depends only on the new
entries. Processes can scan segments in parallel, and a proof needs no leaf before the last checkpoint.
"""

from collections.abc import Sequence
from hashlib import sha256


def leaf_hash(body: bytes) -> bytes:
    return sha256(b"\0" + body).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class MerkleSpan:
    """The first `end` leaves, stored as complete subtrees.

    `nodes` holds the level (0 for a leaf) and hash of each subtree, from left to right.
    """

    __slots__ = ("end", "nodes")

    def __init__(self, end: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Restore the tree of `end` leaves from its complete subtrees, one per set bit of `end`.

        Raises `ValueError` if the number of peaks is wrong.
        """
        levels = [level for level in reversed(range(end.bit_length())) if end >> level & 1]
        self.end, self.nodes = end, list(zip(levels, peaks, strict=True))

    @property
    def peaks(self) -> list[bytes]:
        return [digest for _, digest in self.nodes]

    def add(self, leaf: bytes, level: int = 0) -> None:
        """Append a leaf, or a complete subtree of the given level, by its hash. This is a hot path."""
        nodes, index = self.nodes, self.end >> level
        self.end += 1 << level
        while index & 1:
            leaf = sha256(b"\1" + nodes.pop()[1] + leaf).digest()
            index >>= 1
            level += 1
        nodes.append((level, leaf))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append many leaves. This is faster than one `add` per leaf."""
        at = 0
        while at < len(leaves):
            level = (len(leaves) - at).bit_length() - 1
            if self.end:
                level = min(level, (self.end & -self.end).bit_length() - 1)
            hashes = leaves[at : at + (1 << level)]
            at += 1 << level
            for _ in range(level):
                hashes = [_node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=True)]
            self.add(hashes[0], level)

    def root(self) -> bytes:
        if not self.nodes:
            return sha256(b"").digest()
        *others, (_, root) = self.nodes
        for _, digest in reversed(others):
            root = _node_hash(digest, root)
        return root


class Tree:
    """The part of a Merkle tree needed to prove the leaves that follow `base`."""

    def __init__(self, base: MerkleSpan) -> None:
        self._hashes: dict[tuple[int, int], bytes] = {}  # by first and last leaf, exclusive
        self.size = 0
        for level, digest in base.nodes:
            self._append(digest, 1 << level)

    def add(self, leaf: bytes) -> None:
        self._append(leaf, 1)

    def _append(self, digest: bytes, leaves: int) -> None:
        self._hashes[self.size, self.size + leaves] = digest
        self.size += leaves

    def root(self) -> bytes:
        return self._hash(0, self.size) if self.size else sha256(b"").digest()

    def path(self, leaf: int) -> list[bytes]:
        """Return the audit path (RFC 6962, 2.1.1) for leaf number `leaf`, which must not be part of `base`."""
        begin, end, digests = 0, self.size, []
        while end - begin > 1:
            middle = begin + _largest_power_of_two_below(end - begin)
            if leaf < middle:
                digests.append(self._hash(middle, end))
                end = middle
            else:
                digests.append(self._hash(begin, middle))
                begin = middle
        return digests[::-1]

    def _hash(self, begin: int, end: int) -> bytes:
        if (begin, end) not in self._hashes:
            middle = begin + _largest_power_of_two_below(end - begin)
            self._hashes[begin, end] = _node_hash(self._hash(begin, middle), self._hash(middle, end))
        return self._hashes[begin, end]


def _largest_power_of_two_below(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1
