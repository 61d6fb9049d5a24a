"""The settings for people who sign in at the console."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from dialgate.config.fields import Strict, Url
from dialgate.config.webhook_targets import is_confidential

Role: TypeAlias = Literal["agent", "supervisor", "officer", "operator", "auditor"]


class OpenIdProvider(Strict, frozen=True, kw_only=True):
    """A provider of OpenID Connect at which people sign in. It needs `pip install 'dialgate[oidc]'`.

    Register the gate there with the redirect URI `URL/console/openid/callback`, where URL is `accounts.url`.
    """

    issuer: Annotated[str, Meta(pattern=r"^https?://[^?#@]+$")]
    """The provider's issuer, exactly as it names itself, such as `https://login.example/realms/sales`."""
    client_id: str
    """The name under which the gate is registered there."""
    client_secret_file: str = ""
    """File that contains the gate's secret there. Without it, the gate is a public client."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """Scopes to ask for."""
    name_claim: str = "preferred_username"
    """Claim with the person's name in records. What stands before an `@` is used."""
    role_claim: str = "roles"
    """Claim with the person's roles or groups. Dots lead into it, such as `realm_access.roles`."""
    roles: Mapping[str, Role]
    """The role for each value of `role_claim`, such as `{dialgate-officers: officer}`. The first that the person has counts; a person without any is refused."""
    controllers_claim: str = ""
    """Claim with the controllers for which the person acts. Default: `controllers` for everybody."""
    controllers: tuple[str, ...] = ("*",)
    """Controllers for which everybody acts who signs in there, without `controllers_claim`. `*`: all."""
    contact: str = ""
    """Whom to ask for a role, on the page for people without one."""


class AccountSettings(Strict, frozen=True, kw_only=True):
    """How people sign in. Accounts themselves are made with `dialgate account add`."""

    url: Url | None = None
    """URL at which people reach the gate, such as `https://gate.example`. Invitation links begin with it."""
    session_hours: Annotated[int, Meta(ge=1, le=24)] = 12
    """Hours after which a session ends, whether it is used or not."""
    idle_minutes: Annotated[int, Meta(ge=5, le=720)] = 60
    """Minutes without use after which a session ends."""
    openid: OpenIdProvider | None = None
    """The provider of OpenID Connect at which people sign in, beside those with a password here."""


def faults(settings: AccountSettings) -> Iterator[str]:
    """Yield a message for each setting that contradicts another."""
    provider = settings.openid
    if provider is None:
        return
    if settings.url is None:
        yield "accounts: openid needs `url`, because the provider sends people back to it"
    if not is_confidential(provider.issuer):
        yield "accounts: openid: issuer must use https, because whoever reads the answers can sign in"
