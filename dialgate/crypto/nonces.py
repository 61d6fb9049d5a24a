"""Nonces for ciphers with AES-GCM."""

import secrets
from collections.abc import Iterator
from itertools import count
from typing import Final

NONCE_BYTES: Final = 12
_NONCES: Final = 1 << 8 * NONCE_BYTES


def nonces() -> Iterator[bytes]:
    """Yield nonces for `dialgate.crypto.keys.MonthKeys.seal`. Create one iterator per process, after any fork.

    A repeated nonce under AES-GCM reveals the plaintexts. Each iterator counts from a random 96-bit start, so nonces
    repeat only if two starts are very close. With 2^12 starts of 2^32 nonces each under one key, the probability is
    about 2^-40. A plain counter would need state across restarts, and random nonces would be limited to 2^32 (NIST SP
    800-38D, 8.3).
    """
    for value in count(secrets.randbits(8 * NONCE_BYTES)):
        yield (value % _NONCES).to_bytes(NONCE_BYTES)
