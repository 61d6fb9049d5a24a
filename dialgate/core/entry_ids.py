"""The ledger entry ids that clients see if several controllers share a gate.

A ledger sequence number would show how many entries all controllers write together. So clients get `2**52` plus a keyed
permutation of the sequence number and a nonce. The result is below `2**53`, so every JSON parser represents it exactly.
All nodes have the key, so the mapping needs no state. Clients can also send plain sequence numbers.

An entry id has nonce 0. A stream cursor has a new nonce each time, so that a client cannot see whether other
controllers wrote entries.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from itertools import count
from secrets import randbelow
from typing import Any

from msgspec import structs

_HALF_BITS = 26
_BASE = 1 << 2 * _HALF_BITS  # ids start here; sequences are smaller
_HALF = (1 << _HALF_BITS) - 1
_NONCE_BITS = 16
_NONCES = (1 << _NONCE_BITS) - 1
_MOST = _BASE >> _NONCE_BITS  # sequences: 69 billion
_ROUNDS = 8  # as in FF3-1 (NIST SP 800-38G); four rounds would show patterns to a client with a few thousand entries
# The only reason whose text contains a sequence. Clients cannot influence this text, so they cannot have a sequence of their
# choice converted to an id.
_CODE_WITH_SEQUENCE = "revocation.revoked"
_ENTRY = re.compile(r"(?<=\(entry )[0-9]{1,18}(?=\)$)")


def is_plain(entry_id: int) -> bool:
    """Return whether an entry id is a plain ledger sequence number."""
    return entry_id < _BASE


class EntryIds:
    """A converter between ledger sequence numbers, entry ids and cursors. `key` is 32 bytes long."""

    def __init__(self, key: bytes) -> None:
        # Copied for each use: creating a keyed hash takes twice as long.
        self._turns = [blake2b(bytes([turn]), key=key, digest_size=4) for turn in range(_ROUNDS)]
        self._nonces = count(randbelow(_NONCES))

    def outside(self, seq: int) -> int:
        """Return the entry id for the ledger sequence number `seq`."""
        return self._permute(seq, 0)

    def cursor(self, seq: int) -> int:
        """Return a new stream cursor for the ledger sequence number `seq`."""
        return self._permute(seq, 1 + next(self._nonces) % _NONCES)

    def inside(self, entry_id: int) -> int:
        """Return the ledger sequence number in an entry id. Sequence numbers and cursors are returned unchanged."""
        seq, nonce = self._decode(entry_id)
        return entry_id if nonce else seq

    def position(self, cursor: int) -> int:
        """Return the ledger sequence number in a cursor or an entry id. A sequence number is returned unchanged."""
        return self._decode(cursor)[0]

    def worded(self, reasons: Iterable[Any]) -> list[Any]:
        """Return the reasons, with each ledger sequence number in a reason's text replaced by the entry id.

        `reasons` are structs with `code` and `text`.
        """
        return [
            structs.replace(reason, text=_ENTRY.sub(self._outside_text, reason.text))
            if reason.code == _CODE_WITH_SEQUENCE
            else reason
            for reason in reasons
        ]

    def _outside_text(self, match: re.Match[str]) -> str:
        return str(self.outside(int(match[0])))

    def _permute(self, seq: int, nonce: int) -> int:
        if not 0 <= seq < _MOST:
            raise ValueError(f"ledger sequence number {seq} is out of range")
        left, right = divmod(seq << _NONCE_BITS | nonce, 1 << _HALF_BITS)
        for turn in range(_ROUNDS):
            left, right = right, left ^ self._round_bits(turn, right)
        return _BASE + (left << _HALF_BITS | right)

    def _decode(self, entry_id: int) -> tuple[int, int]:
        """Return the ledger sequence number and the nonce in an entry id or cursor."""
        if not _BASE <= entry_id < 2 * _BASE:
            return entry_id, 0
        left, right = divmod(entry_id - _BASE, 1 << _HALF_BITS)
        for turn in reversed(range(_ROUNDS)):
            left, right = right ^ self._round_bits(turn, left), left
        return divmod(left << _HALF_BITS | right, 1 << _NONCE_BITS)

    def _round_bits(self, turn: int, half: int) -> int:
        """Return the 26 pseudo-random bits of one round of the permutation."""
        hashed = self._turns[turn].copy()
        hashed.update(half.to_bytes(4))
        return int.from_bytes(hashed.digest()) & _HALF
