"""The person, role and controllers that the claims of an ID token name."""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from dialgate.config.accounts import OpenIdProvider, Role
from dialgate.core.refusal import Refused

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class OpenIdPerson(Struct, frozen=True, kw_only=True):
    """A person at an OpenID provider. `identity` is the issuer and the subject there, which never change."""

    identity: tuple[str, str]
    name: str
    role: Role
    controllers: tuple[str, ...]


def read_person(claims: Mapping[str, Any], provider: OpenIdProvider) -> OpenIdPerson:
    """Return the person whom verified claims name. Raises `Refused` without a usable name or role."""
    named = _values(claims, provider.name_claim) or _values(claims, "email")
    name = named[0].partition("@")[0].lower() if named else ""
    if not _NAME.fullmatch(name):
        raise Refused("console.no_name", "The provider sends no usable name.", status=403)
    held = _values(claims, provider.role_claim)
    role = next((role for value, role in provider.roles.items() if value in held), None)
    if role is None:
        raise Refused("console.no_role", "The person has none of the roles.", status=403)
    limited = provider.controllers_claim
    controllers = _values(claims, limited) if limited else provider.controllers
    return OpenIdPerson(
        identity=(provider.issuer, str(claims["sub"])), name=name, role=role, controllers=tuple(controllers)
    )


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return the texts at a path of claims, whether they are a list or one text."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text]
