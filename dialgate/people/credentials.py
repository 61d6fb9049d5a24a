"""Passwords, one-time codes (RFC 6238), recovery codes, and names of sessions."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from msgspec import structs

from dialgate.core.model import SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.runtime.thread_pool import ThreadPool
from dialgate.store.accounts import PersonAccount

RECOVERY_CODES: Final = 10
SHORTEST, _LONGEST = 12, 256  # NIST SP 800-63B, 3.1.1: at least 8 beside another factor
_STEP: Final = 30 * SECOND
_STEPS: Final = (0, -1, 1)  # the clock of a phone may differ by a step
_MOST_WAITING: Final = 20  # each takes up to a second
# The hash of an unknown password: a name without an account takes as long to refuse as a wrong password.
_NO_PASSWORD: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$U1EID/SnYyFUsIaRoaFLwg$4yl/CP6UowbqoMgVgSqKfATTnj92S1u+fzK+cqskNEo"  # noqa: S105
)
_hasher: Final = PasswordHasher()  # Argon2id with 64 MiB (RFC 9106, section 4)


class PasswordHashing:
    """Computes password hashes, one at a time, in a thread. Each takes up to a second and 64 MiB.

    Browsers that signed in before have a thread of their own, so that strangers cannot delay them. `hasher` computes new
    hashes only: a stored hash is verified with the parameters that it states.
    """

    def __init__(self) -> None:
        self.hasher = _hasher
        self._strangers, self._known = ThreadPool("passwords", 1), ThreadPool("known-passwords", 1)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        return await self._known.run(self.hasher.hash, password)

    async def is_right(self, account: PersonAccount | None, password: str, *, is_known: bool) -> bool:
        """Return whether the account has this password. Raises `Refused` if too many requests wait."""
        stored = account.password if account is not None else ""
        if is_known:
            return await self._known.run(_verify, stored, password)
        if self._waiting >= _MOST_WAITING:
            raise Refused(
                "console.busy", "Too many people sign in at once. Try again in a minute.", status=503
            )
        self._waiting += 1
        try:
            return await self._strangers.run(_verify, stored, password)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._strangers.close()
        self._known.close()


def _verify(stored: str, password: str) -> bool:
    try:
        _hasher.verify(stored or _NO_PASSWORD, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    return bool(stored)


def check_password(password: str, name: str) -> None:
    """Raise `Refused` for a password that is easy to guess."""
    if not SHORTEST <= len(password) <= _LONGEST or name in password.lower() or len(set(password)) < 5:  # noqa: PLR2004
        raise Refused(
            "console.weak_password",
            f"Choose a password of at least {SHORTEST} characters that is not your name or a repetition.",
            "password",
        )


def make_totp_secret() -> str:
    return pyotp.random_base32()


def totp_uri(secret: str, name: str, node: str) -> str:
    """Return the URI that an authenticator reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=f"dialgate {node}")


def used_step(secret: str, code: str, now: Instant) -> int:
    """Return the time step to which a one-time code belongs, or 0 if it is wrong or too old."""
    try:
        totp = pyotp.TOTP(secret)
        for offset in _STEPS:
            step = now // _STEP + offset
            if hmac.compare_digest(totp.generate_otp(step), code):
                return step
    except (ValueError, TypeError):  # a secret that is short or not base32, a code that is not ASCII
        return 0
    return 0


def without_code(account: PersonAccount, secret: str, code: str, now: Instant) -> PersonAccount | None:
    """Return the account after this one-time or recovery code was used, or None if the code is wrong or was used before."""
    code = code.replace(" ", "").lower()
    if code.isdigit():
        step = used_step(secret, code, now)
        return structs.replace(account, totp_step=step) if step > account.totp_step else None
    digest = digest_of(code.replace("-", ""))
    if digest not in account.recovery:
        return None
    return structs.replace(account, recovery=tuple(kept for kept in account.recovery if kept != digest))


def without_credentials(account: PersonAccount) -> PersonAccount:
    """Return an account with which nobody can sign in."""
    return structs.replace(account, password="", totp=b"", recovery=(), invitation="", sessions=())


def make_recovery_codes() -> list[str]:
    """Return recovery codes of 80 bits, in groups of four characters."""
    codes = (base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES))
    return ["-".join(code[at : at + 4] for at in range(0, 16, 4)) for code in codes]


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
