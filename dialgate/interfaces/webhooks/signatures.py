"""Verification of the signatures of incoming webhooks. The schemes are data (`dialgate.config.incoming_webhooks`)."""

import base64
import hmac
import re
from hashlib import sha256
from typing import Any, Final

import msgspec

from dialgate.config.incoming_webhooks import HOLE, Signature, SignedWebhook
from dialgate.core.model import SECOND, Instant
from dialgate.core.refusal import Refused
from dialgate.crypto import publisher_signature
from dialgate.interfaces.webhooks.message import WebhookMessage

_MILLISECONDS: Final = 100_000_000_000  # as seconds, a time of sending after the year 5138
_BODY_HASH: Final = "bodySHA256"  # the parameter with which Twilio signs a body that is no form
_json: Final = msgspec.json.Decoder(dict[str, Any])


def verify(webhook: SignedWebhook, message: WebhookMessage, now: Instant) -> str:
    """Return why a message is not authentic, or ""."""
    signature = webhook.settings.signature
    try:
        found = re.finditer(signature.pattern, _value(signature.place, message))
        reasons = [_fault(webhook, message, match, now) for match in found]
        if not reasons or all(reasons):
            return reasons[0] if reasons else f"it has no signature at {signature.place}"
        wrong = (
            place for place, wanted in signature.expect.items() if not _equal(_value(place, message), wanted)
        )
        return next((f"{place} is not the expected one" for place in wrong), "")
    except Refused as error:
        return error.message.rstrip(".")


def _equal(one: str | bytes, other: str | bytes) -> bool:
    """Compare in constant time."""
    pair = (text.encode() if isinstance(text, str) else text for text in (one, other))
    return hmac.compare_digest(*pair)


def _value(place: str, message: WebhookMessage) -> str:
    found = message.value([place], message.content() if place.startswith("body.") else None)
    return "" if found is None else str(found)


def _fault(webhook: SignedWebhook, message: WebhookMessage, match: re.Match[str], now: Instant) -> str:
    signature, value = webhook.settings.signature, match["signature"]
    match signature.digest:
        case "key":
            return "" if _equal(value, webhook.secret) else "the key is wrong"
        case "jwt-hs256":
            return _token_fault(webhook, message, value, now)
    sent_at = match.groupdict().get("timestamp") or _value(signature.timestamp, message)
    if "{timestamp}" in signature.signed and (fault := _time_fault(sent_at, signature, now)):
        return fault
    is_valid = _is_signed(
        webhook, _signed_text(webhook, message, sent_at), _decode(value, signature.encoding)
    )
    return "" if is_valid else "the signature is wrong"


def _time_fault(sent_at: Any, signature: Signature, now: Instant) -> str:
    try:
        at = int(sent_at)
    except (TypeError, ValueError):
        return "it has no time of sending"
    at *= 1 if at > _MILLISECONDS else SECOND
    is_current = abs(now - at) <= signature.tolerance_seconds * SECOND
    return (
        ""
        if is_current
        else f"it was sent more than {signature.tolerance_seconds} s ago, or a clock is wrong"
    )


def _signed_text(webhook: SignedWebhook, message: WebhookMessage, sent_at: str) -> bytes:
    """Fill in the parts. Inserted text is not searched for placeholders."""

    def part(name: str) -> bytes:
        match name:
            case "body":
                return message.body
            case "form":
                return _form_text(message).encode()
            case "url":
                return (webhook.settings.url + (f"?{message.query}" if message.query else "")).encode()
            case "method":
                return b"POST"
            case "timestamp":
                return sent_at.encode()
        return message.headers.get(name.removeprefix("header.").lower(), "").encode()

    pieces = HOLE.split(webhook.settings.signature.signed)
    return b"".join(part(piece) if at % 2 else piece.encode() for at, piece in enumerate(pieces))


def _form_text(message: WebhookMessage) -> str:
    """Return each parameter's name and value, sorted. Of a body that is no form, the signed URL must have the hash."""
    parameters = message.form()
    if message.body and not parameters:
        wanted = message.parameters().get(_BODY_HASH, "")
        if not _equal(wanted, sha256(message.body).hexdigest()):
            text = f"The body is no form, and the URL lacks its hash ({_BODY_HASH})."
            raise Refused("webhook.unsigned", text, status=401)
    return "".join(name + value for name, value in sorted(set(parameters)))


def _is_signed(webhook: SignedWebhook, text: bytes, value: bytes) -> bool:
    digest = webhook.settings.signature.digest
    if digest != "ed25519":
        return _equal(hmac.digest(webhook.secret, text, digest.removeprefix("hmac-")), value)
    return publisher_signature.is_signed(text, value.hex(), webhook.secret.hex())


def _decode(value: str, encoding: str) -> bytes:
    try:
        return bytes.fromhex(value) if encoding == "hex" else base64.b64decode(value, validate=True)
    except ValueError:
        return b""


def _token_fault(webhook: SignedWebhook, message: WebhookMessage, token: str, now: Instant) -> str:
    claims = token_claims(token, webhook.secret)
    if claims is None:
        return "the token is wrong"
    if not _equal(str(claims.get("payload_hash", "")).lower(), sha256(message.body).hexdigest()):
        return "the token is for another body, or lacks payload_hash"
    return _time_fault(claims.get("iat", ""), webhook.settings.signature, now)


def token_claims(token: str, secret: bytes) -> dict[str, Any] | None:
    """Return the claims of a JSON Web Token (RFC 7519) that is signed with HS256, or None."""
    head, _, signature = token.rpartition(".")
    try:
        header, claims, value = (_decode_part(part) for part in (*head.split("."), signature))
        is_signed = _equal(hmac.digest(secret, head.encode(), "sha256"), value)
        return _json.decode(claims) if is_signed and _json.decode(header).get("alg") == "HS256" else None
    except ValueError:  # also msgspec's errors
        return None


def _decode_part(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
