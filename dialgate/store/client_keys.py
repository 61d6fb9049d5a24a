"""The keys of a client, as stored: new fields go last, with a default.

A change only adds: a key, the end of a key, a later day of use. So two versions of the keys can be merged in any order, and an
older copy of a store brings no disabled key back.
"""

from msgspec import Struct, structs

from dialgate.core.model import Instant


class ClientKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key of a client. `made_at` is 0 for a key of dialgate.yaml, which is stored once it is used or disabled."""

    sha256: str
    made_at: Instant = 0
    made_by: str = ""
    expires_at: Instant = 0  # 0: never
    disabled_at: Instant = 0
    disabled_by: str = ""
    used_day: int = 0  # days since 1970 in UTC

    def has_expired(self, now: Instant) -> bool:
        return 0 < self.expires_at <= now

    def is_valid(self, now: Instant) -> bool:
        return not self.disabled_at and not self.has_expired(now)


class ClientKeys(Struct, frozen=True, kw_only=True):
    """All keys that a client ever had, oldest first. `client` is its name."""

    client: str
    keys: tuple[ClientKey, ...] = ()

    def key(self, sha256: str) -> ClientKey | None:
        return next((key for key in self.keys if key.sha256 == sha256), None)

    def merged(self, other: "ClientKeys | None") -> "ClientKeys":
        """Return the keys of both versions."""
        keys = {key.sha256: key for key in self.keys}
        for key in other.keys if other else ():
            keys[key.sha256] = _merged(keys.get(key.sha256, key), key)
        ordered = sorted(keys.values(), key=lambda key: (key.made_at, key.sha256))
        return structs.replace(self, keys=tuple(ordered))


def _merged(one: ClientKey, other: ClientKey) -> ClientKey:
    made = max(one, other, key=lambda key: key.made_at)
    ends = [(key.disabled_at, key.disabled_by) for key in (one, other) if key.disabled_at]
    disabled_at, disabled_by = min(ends, default=(0, ""))
    return structs.replace(
        made, disabled_at=disabled_at, disabled_by=disabled_by, used_day=max(one.used_day, other.used_day)
    )
