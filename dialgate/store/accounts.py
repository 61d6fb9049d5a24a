"""The account of a person, as stored: new fields go last, with a default."""

from msgspec import Struct

from dialgate.core.model import Instant


class AccountSession(Struct, frozen=True, kw_only=True):
    """A session of a person at a browser. `id` is the SHA-256 of the session's name, which only the browser has."""

    id: str
    begun: Instant
    used_at: Instant
    address: str = ""
    browser: str = ""


class PersonAccount(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person's account: what they may do, how they sign in, and their sessions.

    - `controllers`: the controllers for which the person acts; `*` stands for all, also later ones
    - `password`: an Argon2id hash, empty before the invitation is accepted and for people who sign in elsewhere
    - `totp`: the encrypted secret of one-time codes; `totp_step` is the step of the newest code that was used
    - `recovery`: SHA-256 of the recovery codes that are left
    - `invitation`: SHA-256 of the invitation's code, empty once it is accepted
    - `identity`: issuer and subject of the person at an OpenID provider
    """

    name: str
    role: str
    controllers: tuple[str, ...]
    made_at: Instant
    made_by: str
    password: str = ""
    totp: bytes = b""
    totp_step: int = 0
    recovery: tuple[str, ...] = ()
    invitation: str = ""
    invited_until: Instant = 0
    disabled_at: Instant = 0
    signed_in_at: Instant = 0
    sessions: tuple[AccountSession, ...] = ()
    identity: tuple[str, ...] = ()
