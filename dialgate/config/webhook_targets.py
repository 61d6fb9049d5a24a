"""A subscriber: where a gate tells of revocations by itself, and how what it sends to a webhook is signed.

The signature is that of Standard Webhooks 1.0, for which there are libraries: over `ID.TIMESTAMP.BODY`, HMAC-SHA256 with
the secret, in base64. The secret is a file of `whsec_` and base64 of 24 to 64 bytes. A dialer's own list (`dialgate.ledger.dialer_dnc`) is
told as that dialer wants it; its secret is the password of `user`.
"""

import base64
import binascii
import hmac
from hashlib import sha256
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

_PREFIX: Final = "whsec_"
_LEAST, _MOST = 24, 64
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Webhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint that receives each revocation, and what lifts one."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    """Stable name. The position in the ledger is kept under it."""
    url: str
    """Where to post: https, or this machine."""
    controllers: tuple[str, ...]
    """Controllers whose revocations it receives. It also receives those that bind every controller."""
    secret_file: str
    """File with `whsec_` and base64 of 24 to 64 bytes, with which each message is signed. For a dialer: the user's password."""
    retry_seconds: Annotated[float, Meta(gt=0, le=300)] = 1
    """Seconds until a message is sent again. Doubles each time, up to five minutes."""
    give_up_hours: Annotated[float, Meta(gt=0, le=720)] = 72
    """Hours after which a message is given up and the next one is sent."""
    kind: Literal["webhook", "vicidial", "goautodial"] = "webhook"
    """`webhook`, or a dialer whose own do-not-call list is extended: `vicidial` (`…/non_agent_api.php`) or `goautodial` (goAPIv2)."""
    user: str = ""
    """For a dialer: the user who may add to its list. In VICIdial level 8."""
    cut: Annotated[str, Meta(pattern="^[0-9]{0,4}$")] = ""
    """For a dialer: leading digits that its leads do not have, as in `39`."""
    campaigns: dict[str, str] = {}
    """For a dialer: its names of your campaigns, as in `{acme-fibre: FIBRE}`. A stop for a campaign without a name goes on the list for all."""


class Hook(Struct, frozen=True):
    """A webhook with its secret."""

    settings: Webhook
    secret: bytes


def fault_of(webhook: Webhook) -> str:
    """What is wrong with it, or nothing. Numbers go out in clear: over TLS, or not beyond this machine."""
    parts = urlsplit(webhook.url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None:
        return "url is none; write https://HOST/PATH without a user"
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        return "url must be https: called numbers are sent there"
    if (webhook.kind == "webhook") == bool(webhook.user):
        return "a dialer needs its user, and a webhook has none"
    return ""


def secret_of(text: str, kind: str = "webhook") -> bytes:
    """Raises ValueError."""
    if kind != "webhook":
        if not text.strip():
            raise ValueError("the secret must be the user's password")
        return text.strip().encode()
    try:
        secret = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.strip().startswith(_PREFIX) or not _LEAST <= len(secret) <= _MOST:
        raise ValueError("the secret must be `whsec_` and base64 of 24 to 64 bytes")
    return secret


def headers(secret: bytes, name: str, at: int, body: bytes) -> dict[str, str]:
    """`name`: of the message, the same whenever it is sent again; `at`: seconds since 1970."""
    signed = hmac.digest(secret, b"%b.%d.%b" % (name.encode(), at, body), sha256)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
