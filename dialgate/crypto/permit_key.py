"""The key that signs permits, stored with the other keys and used only for permits.

`permit.json` contains one JSON object. It has mode 0600 and is always replaced as a whole:

    {"format":1,"private":"<32 bytes, base64>","made_at":<ms>}

`private` is the private key of an ECDSA key pair on P-256. Gates that share a Kamailio need copies of the same file. Any
change needs a new `format`. To renew the key, remove the file, restart the gate, and distribute the new public key. No
overlap is needed, because permits are valid for seconds.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta, Struct

from dialgate.core.model import Instant
from dialgate.crypto.keys import KeysUnusable, locked, read_file
from dialgate.runtime.atomic_write import write_file

_BYTES = 32


class _PermitFile(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    private: Annotated[bytes, Meta(min_length=_BYTES, max_length=_BYTES)]
    made_at: Instant


class PermitKey:
    """The key for permits. `public` is the public key in PEM, for programs that verify permits."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public = public.decode()

    @classmethod
    def open(cls, path: Path, now: Instant) -> "PermitKey":
        """Open the key file, and create it if it is missing. Raises `KeysUnusable`."""
        with locked(path):
            if not path.exists():
                private = generate_private_key(SECP256R1()).private_numbers().private_value
                file = _PermitFile(format=1, private=private.to_bytes(_BYTES), made_at=now)
                write_file(path, msgspec.json.encode(file))
            file = read_file(path, _PermitFile)
        try:
            return cls(derive_private_key(int.from_bytes(file.private, "big"), SECP256R1()))
        except ValueError as error:
            raise KeysUnusable(
                f"{path}: `private` is not a P-256 key; restore the file from its backup"
            ) from error

    def sign(self, message: bytes) -> bytes:
        """Return a 64-byte signature (RFC 7518 section 3.4)."""
        r, s = decode_dss_signature(self._key.sign(message, ECDSA(SHA256())))
        return r.to_bytes(_BYTES, "big") + s.to_bytes(_BYTES, "big")
