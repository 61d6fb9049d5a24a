"""The ids of decisions as clients of a shared gate know them.

A decision's name, `LOG-SEQ`, counts the decisions of every controller. On a gate that several controllers share, clients
see an AES block over log, sequence and owner instead, as 32 letters. All nodes of a store have the key. Decrypting the
block shows its owner, so a foreign id is refused without reading anything. Names are accepted as well.
"""

import re
from collections.abc import Collection, Iterable
from hashlib import blake2b

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_LOG_BYTES, _SEQ_BYTES, _OWNER_BYTES = 4, 8, 4
_BLOCK = _LOG_BYTES + _SEQ_BYTES + _OWNER_BYTES
# Letters alone, so that no part of an id can be taken for a telephone number, nor an id for a name.
_HEX, _LETTERS = "0123456789abcdef", "klmnopqrstuvwxyz"
_OUT, _IN = str.maketrans(_HEX, _LETTERS), str.maketrans(_LETTERS, _HEX)
PATTERN = "[0-9a-f]{8}-[0-9]{1,18}|[k-z]{32}"
_OUTSIDE = re.compile("[k-z]{32}")


def owner_of(controller: str, client: str) -> str:
    """Return the owner of a decision: its controller or, if the campaign is unknown, the client that asked."""
    return controller or f"client {client}"


class DecisionIds:
    """For one thread. `key`: 32 bytes."""

    def __init__(self, key: bytes) -> None:
        # Each block is a permutation of a value that occurs once: there is no pattern for ECB to show.
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        self._encrypt, self._decrypt = cipher.encryptor().update, cipher.decryptor().update
        self._owners: dict[str, bytes] = {}

    def outside(self, decisions: Iterable[tuple[str, str]]) -> list[str]:
        """Return the ids of decisions, each given by its name and its owner."""
        blocks = [self._block(name, owner) for name, owner in decisions]
        text = self._encrypt(b"".join(blocks)).hex().translate(_OUT)
        return [text[at : at + 2 * _BLOCK] for at in range(0, len(text), 2 * _BLOCK)]

    def inside(self, given: str, owners: Collection[str] | None = None) -> str:
        """Return the name behind an id, or "" if its owner is not among `owners`. A name is returned unchanged."""
        if not _OUTSIDE.fullmatch(given):
            return given
        block = self._decrypt(bytes.fromhex(given.translate(_IN)))
        if owners is not None and block[-_OWNER_BYTES:] not in {self._owner(each) for each in owners}:
            return ""
        seq = int.from_bytes(block[_LOG_BYTES : _LOG_BYTES + _SEQ_BYTES])
        return f"{block[:_LOG_BYTES].hex()}-{seq}"

    def _block(self, name: str, owner: str) -> bytes:
        log, _, seq = name.partition("-")
        return bytes.fromhex(log) + int(seq).to_bytes(_SEQ_BYTES) + self._owner(owner)

    def _owner(self, name: str) -> bytes:
        found = self._owners.get(name)
        if found is None:
            found = self._owners[name] = blake2b(name.encode(), digest_size=_OWNER_BYTES).digest()
        return found
