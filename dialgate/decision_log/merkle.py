"""The Merkle tree of RFC 6962 (2.1) over the entries' bodies: entry 1 is leaf 0.

A `Span` is the tree over leaves `begin` to `end` as its largest whole subtrees, a "compact range": a few hashes, to which
the next leaf, or the next span, is added without looking at what it stands for. So a checkpoint costs what is new, a
process that has seen one segment can hand on what it saw, and a proof needs no leaf before the last checkpoint.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from dialgate.native import paired


def leaf_hash(body: bytes) -> bytes:
    return sha256(b"\0" + body).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class Span:
    """`nodes`: level (0: a leaf) and hash of each subtree, from left to right."""

    __slots__ = ("begin", "end", "nodes")

    def __init__(
        self, begin: int = 0, end: int | None = None, nodes: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        self.begin, self.end, self.nodes = begin, begin if end is None else end, list(nodes)

    @classmethod
    def of_peaks(cls, size: int, peaks: Sequence[bytes]) -> "Span":
        """The tree of `size` leaves from its whole subtrees, of which there is one for each bit of `size`. Raises
        `ValueError` where their number is another."""
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        return cls(0, size, zip(levels, peaks, strict=True))

    @property
    def peaks(self) -> list[bytes]:
        return [digest for _, digest in self.nodes]

    def add(self, leaf: bytes, level: int = 0) -> None:
        """The subtree that comes next, by its hash. Hot."""
        nodes, index = self.nodes, self.end >> level
        self.end += 1 << level
        while index & 1 and nodes and nodes[-1][0] == level:
            leaf = sha256(b"\1" + nodes.pop()[1] + leaf).digest()
            index >>= 1
            level += 1
        nodes.append((level, leaf))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """As `add` of each, at a part of the cost: by the largest whole subtrees that fit."""
        at = 0
        while at < len(leaves):
            level = (len(leaves) - at).bit_length() - 1
            if self.end:
                level = min(level, (self.end & -self.end).bit_length() - 1)
            hashes = leaves[at : at + (1 << level)]
            at += 1 << level
            for _ in range(level):
                hashes = paired(hashes)
            self.add(hashes[0], level)

    def join(self, following: "Span") -> None:
        for level, digest in following.nodes:
            self.add(digest, level)

    def root(self) -> bytes:
        """Of a span that begins with leaf 0."""
        if not self.nodes:
            return sha256(b"").digest()
        *others, (_, root) = self.nodes
        for _, digest in reversed(others):
            root = _node_hash(digest, root)
        return root


class Tree:
    """As much of a tree of `base.end` and more leaves as it takes to prove that the ones added here are in it."""

    def __init__(self, base: Span) -> None:
        self._known: dict[tuple[int, int], bytes] = {}
        self.size = base.end
        start = 0
        for level, digest in base.nodes:
            self._known[level, start >> level] = digest
            start += 1 << level

    def add(self, leaf: bytes) -> None:
        index, level, cache = self.size, 0, self._known
        self.size += 1
        cache[0, index] = leaf
        while index & 1:
            cache[level + 1, index >> 1] = _node_hash(cache[level, index - 1], cache[level, index])
            index >>= 1
            level += 1

    def root(self) -> bytes:
        return self._hash(0, self.size) if self.size else sha256(b"").digest()

    def path(self, leaf: int) -> list[bytes]:
        """RFC 6962, 2.1.1: the hashes that lead from leaf number `leaf`, which was added here, to the root."""
        begin, end, digests = 0, self.size, []
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if leaf < middle:
                digests.append(self._hash(middle, end))
                end = middle
            else:
                digests.append(self._hash(begin, middle))
                begin = middle
        return digests[::-1]

    def _hash(self, begin: int, end: int) -> bytes:
        size = end - begin
        level = size.bit_length() - 1
        if size == 1 << level and (known := self._known.get((level, begin >> level))):
            return known
        middle = begin + _split(size)
        return _node_hash(self._hash(begin, middle), self._hash(middle, end))


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
