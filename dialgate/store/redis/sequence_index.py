"""Indexes in Redis that map a decision's sequence number in its log to a hash of 16 bytes.

The index for attempts contains the hash of the decision's subject. The index for answers contains the key of the
decision's answer, which is also a hash. The code calls both hashes names. Hashes are stored in chunks, in the order of
sequence numbers. Zeros stand for a missing hash.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

BYTES: Final = 16
_AT_ONCE: Final = 128  # names in one chunk, which expires with its newest name
CHUNK_BYTES: Final = _AT_ONCE * BYTES


class SequenceRun(NamedTuple):
    """The hashes for consecutive decisions in one chunk.

    `chunk` is the key suffix of the chunk. `begins` is the byte offset of the first hash in the chunk.
    `names` contains the hashes, without separators.
    """

    chunk: bytes
    begins: int
    names: bytes


def chunk(seq: int) -> bytes:
    """Return the Redis key suffix of the chunk for sequence number `seq`."""
    return b"%d" % (seq // _AT_ONCE)


def place(seq: int) -> int:
    """Return the byte offset, in the chunk, of the hash for sequence number `seq`."""
    return seq % _AT_ONCE * BYTES


def chunks(seqs: Iterable[int]) -> dict[bytes, list[int]]:
    grouped: dict[bytes, list[int]] = {}
    for seq in seqs:
        grouped.setdefault(chunk(seq), []).append(seq)
    return grouped


def runs(named: Iterable[tuple[int, bytes]]) -> list[SequenceRun]:
    """Group pairs of sequence number and hash into runs of consecutive decisions.

    All decisions of a run are in one chunk. Raises `ValueError` if a hash is not 16 bytes long.
    """
    groups: list[tuple[int, list[bytes]]] = []
    follows = 0
    for seq, name in sorted(named):
        if len(name) != BYTES:
            raise ValueError(f"the hash of a subject or answer must be {BYTES} bytes long")
        if seq == follows and seq % _AT_ONCE:
            groups[-1][1].append(name)
        else:
            groups.append((seq, [name]))
        follows = seq + 1
    return [SequenceRun(chunk(seq), place(seq), b"".join(names)) for seq, names in groups]


def read(value: bytes | None, seqs: Iterable[int]) -> list[bytes]:
    """Return the hashes for these sequence numbers from the chunk `value`. Skip missing hashes."""
    found = [(value or b"")[place(seq) : place(seq) + BYTES] for seq in seqs]
    return [name for name in found if name.strip(b"\0")]
