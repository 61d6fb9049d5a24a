"""What decisions name, by their sequences: 16 bytes each, in their order, so many in one value; zeros where one names nothing."""

from collections.abc import Iterable
from typing import Final, NamedTuple

BYTES: Final = 16
_AT_ONCE: Final = 128  # in one piece, which lasts as long as the youngest in it


class Run(NamedTuple):
    """Names of decisions that follow one another. `begins`: at which byte of their piece."""

    piece: bytes
    begins: int
    names: bytes


def piece(seq: int) -> bytes:
    """How the key ends of the piece that a name lies in."""
    return b"%d" % (seq // _AT_ONCE)


def place(seq: int) -> int:
    """The byte of its piece at which a name begins."""
    return seq % _AT_ONCE * BYTES


def pieces(seqs: Iterable[int]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for seq in seqs:
        found.setdefault(piece(seq), []).append(seq)
    return found


def runs(named: Iterable[tuple[int, bytes]]) -> list[Run]:
    """Raises `ValueError` where a name is not as long as each must be: it would lie upon another's."""
    found: list[tuple[int, list[bytes]]] = []
    follows = 0
    for seq, name in sorted(named):
        if len(name) != BYTES:
            raise ValueError(f"a subject, or the key of a question, has {BYTES} bytes")
        if seq == follows and seq % _AT_ONCE:
            found[-1][1].append(name)
        else:
            found.append((seq, [name]))
        follows = seq + 1
    return [Run(piece(seq), place(seq), b"".join(names)) for seq, names in found]


def read(value: bytes | None, seqs: Iterable[int]) -> list[bytes]:
    """Of a piece, what these name; nothing for those that name nothing."""
    found = [(value or b"")[place(seq) : place(seq) + BYTES] for seq in seqs]
    return [name for name in found if name.strip(b"\0")]
