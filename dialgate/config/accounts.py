"""The settings for people who sign in at the console."""

from typing import Annotated

from msgspec import Meta

from dialgate.config.fields import Strict, Url


class AccountSettings(Strict, frozen=True, kw_only=True):
    """How people sign in. Accounts themselves are made with `dialgate account add`."""

    url: Url | None = None
    """URL at which people reach the gate, such as `https://gate.example`. Invitation links begin with it."""
    session_hours: Annotated[int, Meta(ge=1, le=24)] = 12
    """Hours after which a session ends, whether it is used or not."""
    idle_minutes: Annotated[int, Meta(ge=5, le=720)] = 60
    """Minutes without use after which a session ends."""
