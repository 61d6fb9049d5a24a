"""The publisher's signature on a snapshot: Ed25519 (RFC 8032) over the content of the manifest.

The private key is a PEM file (PKCS 8) from `openssl genpkey -algorithm ed25519`. Keep it private. The public key, which
each gate has in its settings, is written as 32 bytes in hexadecimal.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dialgate.core.faults import Unavailable


class SigningKeyUnusable(Unavailable):
    component = "signing_key"


class SnapshotSigner:
    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    @classmethod
    def open(cls, path: Path) -> "SnapshotSigner":
        """Open a private key file. Raises `SigningKeyUnusable`."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise SigningKeyUnusable(
                f"{path}: {error}. To create a key, run `openssl genpkey -algorithm ed25519`"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyUnusable(
                f"{path}: not an Ed25519 key. To create one, run `openssl genpkey -algorithm ed25519`"
            )
        return cls(key)

    def sign(self, text: bytes) -> bytes:
        return self._key.sign(text)


def is_signed(text: bytes, signature: str, public: str) -> bool:
    """Return whether the signature is valid. Signature and public key are in hexadecimal."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True
