"""The key that signs a log's checkpoints, stored with the other keys and separate from the log.

`signing.json` contains one JSON object. It has mode 0600 and is always replaced as a whole:

    {"format":1,"keys":[{"public":"<32 bytes, base64>","private":"<32 bytes, base64>","made_at":<ms>}]}

The last key is the newest and is used to sign. When a new key is created, the private halves of older keys are
replaced by empty strings. Their public halves are kept, to verify the signatures made with these keys. A key's name is
the first 16 hexadecimal digits of the SHA-256 of its public half. All keys are Ed25519 (RFC 8032). Any change needs a
new `format`.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from msgspec import Meta, Struct

from dialgate.core.model import Instant
from dialgate.crypto.keys import KeysUnusable, locked, read_file
from dialgate.runtime.atomic_write import write_file

_Half = Annotated[bytes, Meta(min_length=32, max_length=32)]


class _KeyPair(Struct, frozen=True, forbid_unknown_fields=True):
    public: _Half
    private: Annotated[bytes, Meta(max_length=32)]
    made_at: Instant


class _SigningFile(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    keys: Annotated[list[_KeyPair], Meta(min_length=1)]


def key_name(public: bytes) -> str:
    return sha256(public).hexdigest()[:16]


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Signer:
    """The signing key. `public` maps the names of all keys, including old ones, to their raw public keys."""

    def __init__(self, file: _SigningFile) -> None:
        newest = file.keys[-1]
        self.public: Mapping[str, bytes] = {key_name(pair.public): pair.public for pair in file.keys}
        self.name = key_name(newest.public)
        self._private = Ed25519PrivateKey.from_private_bytes(newest.private)

    @classmethod
    def open(cls, path: Path, now: Instant) -> "Signer":
        """Open the key file, and create it if it is missing. Raises `KeysUnusable`."""
        with locked(path):
            if not path.exists():
                write_file(path, msgspec.json.encode(_SigningFile(format=1, keys=[_new(now)])))
            return cls(_read(path))

    def sign(self, message: bytes) -> bytes:
        """Return a 64-byte signature."""
        return self._private.sign(message)


def public_keys(path: Path) -> Mapping[str, bytes]:
    """Return the public keys in the file by name, or {} if the file is missing. Raises `KeysUnusable`."""
    if not path.exists():
        return {}
    with locked(path):
        return Signer(_read(path)).public


def public_halves(folder: Path) -> Mapping[str, bytes]:
    """Return the public keys in a folder of `NAME.pem` files, by name. Raises `KeysUnusable`."""
    halves = {}
    for path in sorted(folder.glob("*.pem")):
        try:
            key = load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise KeysUnusable(f"{path} is not a public key: {error}") from error
        if not isinstance(key, Ed25519PublicKey) or key_name(key.public_bytes_raw()) != path.stem:
            raise KeysUnusable(
                f"{path} does not contain the Ed25519 public key that its name identifies; restore the original file"
            )
        halves[path.stem] = key.public_bytes_raw()
    return halves


def pem(public: bytes) -> bytes:
    """Return a public key as PEM, for `openssl pkey -pubin`."""
    return Ed25519PublicKey.from_public_bytes(public).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )


def renew(path: Path, now: Instant) -> Signer:
    """Create a new signing key and destroy the old private key. Raises `KeysUnusable`.

    The old public key is kept.
    """
    with locked(path):
        old = [_KeyPair(pair.public, b"", pair.made_at) for pair in _read(path).keys]
        file = _SigningFile(format=1, keys=[*old, _new(now)])
        write_file(path, msgspec.json.encode(file))
    return Signer(file)


def _new(now: Instant) -> _KeyPair:
    private = Ed25519PrivateKey.generate().private_bytes_raw()
    return _KeyPair(_public(private), private, now)


def _public(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _read(path: Path) -> _SigningFile:
    file = read_file(path, _SigningFile)
    newest = file.keys[-1]
    if len(newest.private) != len(newest.public) or _public(newest.private) != newest.public:
        raise KeysUnusable(
            f"{path}: the private and public parts of the last key do not match; restore the file from its backup"
        )
    return file
