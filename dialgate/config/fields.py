"""Field types that several configuration files share."""

import ipaddress
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
NodeName: TypeAlias = Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9_.-]{0,63}|\$\{[A-Z_][A-Z0-9_]*\})$")]
HostName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}$")]
Url: TypeAlias = Annotated[str, Meta(pattern=r"^https?://[^/?#@]+/?$")]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass
