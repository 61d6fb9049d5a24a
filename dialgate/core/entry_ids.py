"""The ids of ledger entries as clients of a shared gate see them.

A ledger sequence counts the entries of every controller. On a gate that several controllers share, clients see `2**52`
plus a keyed permutation of it instead: an integer below `2**53`, which every JSON parser keeps exact. All nodes of a store
have the key, so no state is needed to map it back. Plain sequences are accepted as well.

The permuted value holds a nonce beside the sequence. An entry's own id has nonce 0. The cursor of a stream has another one
each time, so that a client cannot see from it whether others wrote anything.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from itertools import count
from secrets import randbelow
from typing import Any

from msgspec import structs

_HALF_BITS = 26
_BASE = 1 << 2 * _HALF_BITS  # every id is at least this, every sequence below it
_HALF = (1 << _HALF_BITS) - 1
_NONCE_BITS = 16
_NONCES = (1 << _NONCE_BITS) - 1
_MOST = _BASE >> _NONCE_BITS  # sequences: 69 thousand million
_ROUNDS = 8  # as in FF3-1 (NIST SP 800-38G); four would show patterns to a client with some thousand entries
# The one reason whose text names an entry. No client can write such a text, and so have sequences translated.
_NAMING = "revocation.revoked"
_ENTRY = re.compile(r"(?<=\(entry )[0-9]{1,18}(?=\)$)")


def is_plain(given: int) -> bool:
    """Return whether a client sent a sequence of the ledger instead of an id."""
    return given < _BASE


class EntryIds:
    """`key`: 32 bytes."""

    def __init__(self, key: bytes) -> None:
        # Copied for each use: a keyed hash of its own would take twice as long.
        self._turns = [blake2b(bytes([turn]), key=key, digest_size=4) for turn in range(_ROUNDS)]
        self._nonces = count(randbelow(_NONCES))

    def outside(self, seq: int) -> int:
        """Return the id of an entry."""
        return self._permuted(seq, 0)

    def cursor(self, seq: int) -> int:
        """Return a fresh value for a position in the ledger."""
        return self._permuted(seq, 1 + next(self._nonces) % _NONCES)

    def inside(self, given: int) -> int:
        """Return the sequence of an entry; a plain one, and what is no entry's id, unchanged."""
        seq, nonce = self._opened(given)
        return given if nonce else seq

    def position(self, given: int) -> int:
        """Return the sequence behind an id or a cursor, and a plain one unchanged."""
        return self._opened(given)[0]

    def worded(self, reasons: Iterable[Any]) -> list[Any]:
        """Return reasons with ids in the place of sequences. They are structs with a `code` and a `text`."""
        return [
            structs.replace(reason, text=_ENTRY.sub(self._outside_text, reason.text))
            if reason.code == _NAMING
            else reason
            for reason in reasons
        ]

    def _outside_text(self, found: re.Match[str]) -> str:
        return str(self.outside(int(found[0])))

    def _permuted(self, seq: int, nonce: int) -> int:
        if not 0 <= seq < _MOST:
            raise ValueError(f"ledger sequence {seq} is out of range")
        left, right = divmod(seq << _NONCE_BITS | nonce, 1 << _HALF_BITS)
        for turn in range(_ROUNDS):
            left, right = right, left ^ self._mixed(turn, right)
        return _BASE + (left << _HALF_BITS | right)

    def _opened(self, given: int) -> tuple[int, int]:
        """Return the sequence and the nonce."""
        if not _BASE <= given < 2 * _BASE:
            return given, 0
        left, right = divmod(given - _BASE, 1 << _HALF_BITS)
        for turn in reversed(range(_ROUNDS)):
            left, right = right ^ self._mixed(turn, left), left
        return divmod(left << _HALF_BITS | right, 1 << _NONCE_BITS)

    def _mixed(self, turn: int, half: int) -> int:
        """Return 26 pseudo-random bits."""
        hashed = self._turns[turn].copy()
        hashed.update(half.to_bytes(4))
        return int.from_bytes(hashed.digest()) & _HALF
