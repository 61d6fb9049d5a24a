"""The account of a person, as stored: new fields go last, with a default."""

from msgspec import Struct

from dialgate.config.clients import LOCAL
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
    - `confirmed_by`: the clients who answer for the latest invitation: who sent it, and who confirmed it. None if none is recorded:
      for people who sign in elsewhere, and for invitations of older versions
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
    confirmed_by: tuple[str, ...] | None = None

    @property
    def is_confirmed(self) -> bool:
        """Return whether two people, or somebody on the gate's machine, answer for the invitation."""
        names = self.confirmed_by
        return names is None or len(names) > 1 or any(name.startswith(LOCAL) for name in names)
