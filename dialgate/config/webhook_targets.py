"""The subscribers to which a gate posts revocations: settings, checks and signatures.

The signature follows Standard Webhooks 1.0, for which libraries exist: HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64.
The secret file holds `whsec_` and 24 to 64 bytes in base64. For a dialer's do-not-call list, the file holds a
password instead, and requests have the dialer's format (`dialgate.ledger.dialer_dnc`).
"""

import base64
import binascii
import hmac
from hashlib import sha256
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

EventType: TypeAlias = Literal[
    "stop", "lift", "consent_withdrawn", "consent_expired", "wrong_number", "number_confirmed", "listed", "erased",
]  # fmt: skip
_PREFIX: Final = "whsec_"
_LEAST, _MOST = 24, 64
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Subscriber(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint that is notified of each revocation and of each lifted revocation, or of the changes in `events`."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    """Stable name. The gate stores its delivery position under this name."""
    url: str
    """URL to which messages are posted. It must use https or be on this machine."""
    controllers: tuple[str, ...]
    """Controllers whose revocations the endpoint receives. It always receives revocations that bind every controller."""
    secret_file: str
    """File with the secret that signs each message: `whsec_` and 24 to 64 bytes in base64. For a dialer: file with the user's password."""
    events: tuple[EventType, ...] = ()
    """Changes to post, as `{"events": […]}`. Without it, each revocation and each one that was lifted, as `{"revocations": […]}`."""
    retry_seconds: Annotated[float, Meta(gt=0, le=300)] = 1
    """Seconds until a failed message is sent again. The time doubles after each failure, up to five minutes."""
    give_up_hours: Annotated[float, Meta(gt=0, le=720)] = 72
    """Hours after which an undelivered message is skipped and the next one is sent."""
    kind: Literal["webhook", "vicidial", "goautodial"] = "webhook"
    """`webhook`, or the type of a dialer to whose do-not-call list the numbers are added: `vicidial` (`…/non_agent_api.php`) or `goautodial` (goAPIv2)."""
    user: str = ""
    """For a dialer: a user who may add numbers to its list. In VICIdial: level 8."""
    cut: Annotated[str, Meta(pattern="^[0-9]{0,4}$")] = ""
    """For a dialer: leading digits to remove because the dialer's leads do not have them, for example `39`."""
    campaigns: dict[str, str] = {}
    """For a dialer: its names for your campaigns, for example `{acme-fibre: FIBRE}`. A revocation for a campaign without a name is added to the list for all campaigns."""


class SubscriberAccess(Struct, frozen=True):
    """A subscriber's settings, with the content of its `secret_file`."""

    settings: Subscriber
    secret: bytes


def is_confidential(url: str) -> bool:
    """Return whether nobody on the network can read what is sent to `url`: it is https, or http on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)


def fault_of(subscriber: Subscriber) -> str:
    """Return what is wrong with a subscriber's settings, or "".

    The requests to a subscriber contain called numbers, so the URL must use HTTPS or a local address.
    """
    parts = urlsplit(subscriber.url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.username is not None:
        return "url is invalid; write https://HOST/PATH without a user name"
    if not is_confidential(subscriber.url):
        return "url must be https: called numbers are sent there"
    if (subscriber.kind == "webhook") == bool(subscriber.user):
        return "set `user` for a dialer, and remove it for a webhook"
    if subscriber.kind != "webhook" and subscriber.events:
        return "events: a dialer's list only takes revocations; remove it"
    return ""


def secret_of(text: str, kind: str = "webhook") -> bytes:
    """Return the secret in the text of a `secret_file`. Raises `ValueError`."""
    if kind != "webhook":
        if not text.strip():
            raise ValueError("the file with the user's password is empty; write the password to it")
        return text.strip().encode()
    try:
        secret = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.strip().startswith(_PREFIX) or not _LEAST <= len(secret) <= _MOST:
        raise ValueError("the secret must be `whsec_` followed by 24 to 64 bytes in base64")
    return secret


def headers(secret: bytes, name: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers for a message. Retries must have the same `name`. `at` is in Unix seconds."""
    signed = hmac.digest(secret, b"%b.%d.%b" % (name.encode(), at, body), sha256)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
