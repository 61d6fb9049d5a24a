"""What people may do, by role."""

from collections.abc import Mapping
from typing import Final

from dialgate.config.accounts import Role
from dialgate.config.clients import Scope

# An operator runs the gate and its accounts; what is known of data subjects is the officer's. An auditor changes nothing.
ROLES: Final[Mapping[Role, tuple[Scope, ...]]] = {
    "agent": ("simulate", "revoke"),
    "supervisor": ("simulate", "revoke", "watch", "lists"),
    "officer": ("simulate", "revoke", "watch", "lists", "read", "subjects", "officer"),
    "operator": ("simulate", "watch", "lists", "metrics", "admin"),
    "auditor": ("watch", "read", "audit"),
}
ALL: Final = "*"  # in an account: every controller, also later ones
