"""The decision ids that clients see if several controllers share a gate.

An internal decision id, `LOG-SEQ`, would show how many decisions the gate makes for all controllers. So clients get 32
letters: the log, the sequence number and the owner, encrypted with AES. All nodes have the key. Decryption yields the
owner, so the id of a decision that belongs to another controller is rejected without a look-up. Requests can also
contain the internal id.
"""

import re
from collections.abc import Collection, Iterable
from hashlib import blake2b

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_LOG_BYTES, _SEQ_BYTES, _OWNER_BYTES = 4, 8, 4
_BLOCK = _LOG_BYTES + _SEQ_BYTES + _OWNER_BYTES
# Only letters, so that no part of an id looks like a telephone number, and no id looks like a name.
_HEX, _LETTERS = "0123456789abcdef", "klmnopqrstuvwxyz"
_OUT, _IN = str.maketrans(_HEX, _LETTERS), str.maketrans(_LETTERS, _HEX)
PATTERN = "[0-9a-f]{8}-[0-9]{1,18}|[k-z]{32}"
_OUTSIDE = re.compile("[k-z]{32}")


def log_of(decision: str) -> str:
    """Return the name of the log in an internal decision id."""
    return decision.rpartition("-")[0]


def seq_of(decision: str) -> int:
    return int(decision.rpartition("-")[2])


def owner_of(controller: str, client: str) -> str:
    """Return the owner of a decision: its controller or, if the campaign is unknown, its client."""
    return controller or f"client {client}"


class DecisionIds:
    """A converter between internal decision ids (`LOG-SEQ`) and the decision ids that clients see. Not thread-safe.

    `key` is 32 bytes long.
    """

    def __init__(self, key: bytes) -> None:
        # ECB reveals repeated blocks, but every value here is unique.
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        self._encrypt, self._decrypt = cipher.encryptor().update, cipher.decryptor().update
        self._owners: dict[str, bytes] = {}

    def outside(self, decisions: Iterable[tuple[str, str]]) -> list[str]:
        """Return the ids that clients see for decisions. Each decision is given as a pair (internal id, owner)."""
        blocks = [self._block(name, owner) for name, owner in decisions]
        text = self._encrypt(b"".join(blocks)).hex().translate(_OUT)
        return [text[at : at + 2 * _BLOCK] for at in range(0, len(text), 2 * _BLOCK)]

    def inside(self, decision_id: str, owners: Collection[str] | None = None) -> str:
        """Return the internal id for a decision id that clients see.

        If `owners` is given, return "" for a decision that belongs to none of them. An internal id is returned
        unchanged, and its owner is not checked.
        """
        if not _OUTSIDE.fullmatch(decision_id):
            return decision_id
        block = self._decrypt(bytes.fromhex(decision_id.translate(_IN)))
        if owners is not None and block[-_OWNER_BYTES:] not in {self._owner(owner) for owner in owners}:
            return ""
        seq = int.from_bytes(block[_LOG_BYTES : _LOG_BYTES + _SEQ_BYTES])
        return f"{block[:_LOG_BYTES].hex()}-{seq}"

    def _block(self, name: str, owner: str) -> bytes:
        log, _, seq = name.partition("-")
        return bytes.fromhex(log) + int(seq).to_bytes(_SEQ_BYTES) + self._owner(owner)

    def _owner(self, name: str) -> bytes:
        digest = self._owners.get(name)
        if digest is None:
            digest = self._owners[name] = blake2b(name.encode(), digest_size=_OWNER_BYTES).digest()
        return digest
