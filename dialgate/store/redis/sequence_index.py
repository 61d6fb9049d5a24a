"""An index in Redis that maps the sequence of a decision to a name.

The name is the decision's subject in one index, and the key of its answer in another. Each name is 16 bytes long. Names
are stored in chunks, in order of sequence. Zeros stand for a missing name.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

BYTES: Final = 16
_AT_ONCE: Final = 128  # names in one chunk, which expires with its newest name


class Run(NamedTuple):
    """The concatenated names for consecutive decisions in one chunk.

    `chunk` is the key suffix of the chunk. `begins` is the byte offset of the first name in it.
    """

    chunk: bytes
    begins: int
    names: bytes


def chunk(seq: int) -> bytes:
    """Return the Redis key suffix of the chunk for the sequence `seq`."""
    return b"%d" % (seq // _AT_ONCE)


def place(seq: int) -> int:
    """Return the byte offset of a sequence's name in its chunk."""
    return seq % _AT_ONCE * BYTES


def chunks(seqs: Iterable[int]) -> dict[bytes, list[int]]:
    grouped: dict[bytes, list[int]] = {}
    for seq in seqs:
        grouped.setdefault(chunk(seq), []).append(seq)
    return grouped


def runs(named: Iterable[tuple[int, bytes]]) -> list[Run]:
    """Group pairs of sequence and name into runs of consecutive decisions.

    Raises `ValueError` if a name is not 16 bytes long. The names of a run are stored side by side.
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
    return [Run(chunk(seq), place(seq), b"".join(names)) for seq, names in groups]


def read(value: bytes | None, seqs: Iterable[int]) -> list[bytes]:
    """Return the names for these sequences from the chunk `value`. Sequences without a name are skipped."""
    found = [(value or b"")[place(seq) : place(seq) + BYTES] for seq in seqs]
    return [name for name in found if name.strip(b"\0")]
