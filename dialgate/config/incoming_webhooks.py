"""Webhooks that platforms and CRMs send to the gate: files in `config/webhooks/` with `direction: in`.

A file defines whose signature a message must have, where its values are, and what they mean. The places of a value are
searched in order; the first value found is used:

    body.a.b   in the body (JSON, form or XML)      event.a.b   in one event of a body with several (`events`)
    query.a    in the URL                           header.A    a header
    =text      a constant                           base64:PLACE   decoded from base64
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from dialgate.config import record_pulls, webhook_targets
from dialgate.config.fields import Name, Strict
from dialgate.config.record_pulls import RecordPull
from dialgate.core import local_time

Write: TypeAlias = Literal[
    "stop", "withdrawal", "consent", "confirmation", "request", "contract", "contract_end", "outcome",
]  # fmt: skip
Meaning: TypeAlias = Literal[
    "nothing", "stop", "withdrawal", "consent", "confirmation", "request", "contract", "contract_end",
    "not_dialled", "no_answer", "busy", "answered", "refused", "abandoned", "opt_out", "wrong_number",
]  # fmt: skip
Place: TypeAlias = Annotated[
    str, Meta(pattern=r"^((base64:)?(body|event|query|header)(\.[A-Za-z0-9_-]+)+|=.*)$")
]

# Of each operation, the fields that `write` may have, and with a star those that it must have: those of its request
# (`dialgate.ledger.schemas`).
FIELDS: Final[Mapping[str, str]] = {
    "stop": "number* at scope campaign",
    "withdrawal": "number* id* at",
    "consent": "number* id* collected_at* purposes* call_types* goods expires_at text_version artefact artefact_sha256 collection_channel profiling third_party double_opt_in form states renewed_at place certificate_url certificate_claim crm_reference attested_by attested_at proof",
    "confirmation": "number* id* at proof",
    "request": "number* id* requested_at* expires_at* goods own_interface begins appointment place proof",
    "contract": "number* id* starts* ends sector goods marketing last_purchase place proof",
    "contract_end": "number* id* ends* proof",
    "outcome": "decision_id*",
}
HOLE: Final = re.compile(r"\{([a-z]+(?:\.[A-Za-z0-9-]+)?)\}")
_PARTS: Final = frozenset({"method", "url", "body", "form", "timestamp"})
_KEY_BYTES, _LEAST_CHARACTERS = 32, 16
ENDS: Final[tuple[Write, ...]] = ("stop", "withdrawal")


class Signature(Strict, frozen=True, kw_only=True):
    """How the sender proves who it is."""

    digest: Literal["hmac-sha256", "hmac-sha1", "ed25519", "jwt-hs256", "key"]
    """`key` compares a value with the secret. `jwt-hs256` is a token whose claim `payload_hash` is the SHA-256 of the body. The others sign the text in `signed`."""
    place: Place
    """Where the signature is: `header.NAME`, or `body.PATH` for a key that the platform can send only there."""
    secret_file: str
    """File with the secret, or with the public key in base64 for `ed25519`. A secret that begins with `whsec_` is base64."""
    signed: str = ""
    """The text that is signed, with `{method}`, `{url}`, `{body}`, `{form}` (the sorted parameters of a form), `{timestamp}` and `{header.NAME}`."""
    pattern: str = r"^(?P<signature>\S+)$"
    """Regular expression that finds `signature`, and perhaps `timestamp`, in the value. It may match several times; one valid signature is enough."""
    encoding: Literal["base64", "hex"] = "base64"
    """Encoding of the signature."""
    timestamp: Place = "="
    """Where the time of sending is, if `pattern` does not find it: `header.NAME`. In seconds or milliseconds since 1970."""
    tolerance_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 300
    """Maximum difference between that time and the gate's clock."""
    expect: Mapping[Place, str] = {}
    """Values that a message must have besides, for example `{body.channel_id: "1000000068001"}`."""


class EventReading(Strict, frozen=True, kw_only=True):
    """A value and what it means. A message without the value has no such reading; one without any is kept as unreadable."""

    value: tuple[Place, ...]
    """Places of the value."""
    when: Mapping[Place, str] = {}
    """Values that the message must have for this reading, `"*"` for any."""
    means: Mapping[str, Meaning]
    """Meaning of each value, regardless of case. `"*"` is every other value. A value without a meaning is not guessed: the message is kept as unreadable."""


class IncomingWebhook(Strict, frozen=True, kw_only=True):
    """A webhook that a platform or CRM sends to `POST /v1/webhooks/in/{name}`."""

    id: Name
    """Name in the URL. Entries that it records have the actor `webhook.ID`."""
    direction: Literal["in"]
    """Always `in`. A file without it is the profile of a dialer."""
    about: str
    """How to configure the platform."""
    controller: str
    """The controller for which the webhook writes. It can write for no other."""
    signature: Signature
    """How the sender proves who it is. There is no webhook without it."""
    url: Annotated[str, Meta(pattern="^(https://[^?#]+)?$")] = ""
    """The URL that is configured at the platform, if `{url}` is signed."""
    events: Annotated[str, Meta(pattern=r"^(body(\.[A-Za-z0-9_-]+)*)?$")] = ""
    """Place of the list of events, if a message has several: `body` or `body.PATH`."""
    event_id: tuple[Place, ...] = ()
    """Places of the event's own id. A stop that is delivered again under its id is not recorded again."""
    zone: str = ""
    """Time zone of times without a UTC offset, for example `UTC`. Without it, such times are unreadable."""
    read: Annotated[tuple[EventReading, ...], Meta(min_length=1)]
    """The values that say what happened. Each is read."""
    write: Mapping[Write, Mapping[str, tuple[Place, ...]]]
    """Of each meaning, the places of the fields of its request."""
    reply: str = ""
    """The body of the response, if the platform requires one, with status 200."""
    reply_media: str = "text/xml"
    """The media type of `reply`."""
    pull: RecordPull | None = None
    """The query of `dialgate webhook pull`, which brings what the platform's messages lost. See below."""


class SignedWebhook(Struct, frozen=True):
    """An incoming webhook with the content of its `secret_file`."""

    settings: IncomingWebhook
    secret: bytes


def secret_of(text: str, digest: str) -> bytes:
    """Return the secret in the text of a `secret_file`. Raises `ValueError`."""
    secret = text.strip()
    if digest == "ed25519":
        key = base64.b64decode(secret)
        if len(key) != _KEY_BYTES:
            raise ValueError("the secret file must contain the platform's public key, 32 bytes in base64")
        return key
    if secret.startswith("whsec_"):
        return webhook_targets.secret_of(secret)
    if len(secret) < _LEAST_CHARACTERS:
        raise ValueError(f"the secret has fewer than {_LEAST_CHARACTERS} characters, so it can be guessed")
    return secret.encode()


def write_of(meaning: str) -> str:
    """Return the operation of a meaning. Those that are no operation are results of calls."""
    return meaning if meaning in FIELDS else "outcome"


def faults(webhook: IncomingWebhook) -> Iterator[str]:
    """Yield a message for each problem with a webhook."""
    yield from (f"signature: {fault}" for fault in _signature_faults(webhook))
    try:
        local_time.day_in(webhook.zone or "UTC", 0)
    except (KeyError, ValueError, OSError):
        yield f"zone: {webhook.zone!r} is no time zone; write for example UTC or Europe/Rome"
    meanings = {meaning for reading in webhook.read for meaning in reading.means.values()} - {"nothing"}
    for name in sorted({write_of(meaning) for meaning in meanings} - webhook.write.keys()):
        yield f"write: {name} is missing; give the places of its fields"
    for name, places in webhook.write.items():
        known = {field.rstrip("*"): field.endswith("*") for field in FIELDS[name].split()}
        missing = [field for field, is_required in known.items() if is_required and field not in places]
        yield from (f"write: {name} needs {field}" for field in missing)
        yield from (f"write: {name} has no field {field}" for field in places.keys() - known.keys())
        for field in places.keys() & {"number", "decision_id"}:
            if any(place.startswith("=") for place in places[field]):
                yield f"write: {name}: {field} cannot be a constant (=TEXT)"
    for place in _places(webhook):
        if fault := _place_fault(place.removeprefix("base64:"), webhook):
            yield f"{place}: {fault}"
    yield from (f"pull: {fault}" for fault in record_pulls.faults(webhook.pull))
    if webhook.pull is not None and any("at" not in webhook.write.get(name, ["at"]) for name in ENDS):
        yield "pull: write: stop and withdrawal need at; without a time, each pull would record them again"


def _places(webhook: IncomingWebhook) -> set[str]:
    """Return the places of all values that the webhook uses, without its signature."""
    lists: list[Iterable[str]] = [webhook.event_id, webhook.signature.expect]
    for reading in webhook.read:
        lists += [reading.value, reading.when]
    return set(chain(*lists, *(places for fields in webhook.write.values() for places in fields.values())))


def _place_fault(place: str, webhook: IncomingWebhook) -> str:
    signature = webhook.signature
    if place.startswith("event.") and not webhook.events:
        return "needs `events`, the place of the events"
    if signature.digest == "key" or not place.startswith(("query.", "header.")):
        return ""  # a key vouches for the whole request
    part = "{url}" if place.startswith("query.") else f"{{{place}}}"
    return "" if part in signature.signed else "is not signed; use a place in the body"


def _signature_faults(webhook: IncomingWebhook) -> Iterator[str]:
    signature = webhook.signature
    holes = set(HOLE.findall(signature.signed))
    try:
        groups = re.compile(signature.pattern).groupindex.keys()
    except re.error as error:
        yield f"pattern: is no regular expression: {error}"
        return
    is_text = signature.digest not in {"key", "jwt-hs256"}
    is_timed = signature.timestamp != "=" or "timestamp" in groups
    kind = signature.place.partition(".")[0]
    checks = (
        (kind != "header" and (kind, is_text) != ("body", False),
         "place: write header.NAME, or body.PATH for a key. A key in a URL is logged by every proxy"),
        ("signature" not in groups, "pattern: must have the group (?P<signature>…)"),
        (any(hole not in _PARTS and not hole.startswith("header.") for hole in holes),
         "signed: use {method}, {url}, {body}, {form}, {timestamp} and {header.NAME}"),
        ("url" in holes and not webhook.url, "signed: {url} needs `url`, the URL that is configured at the platform"),
        (bool(signature.signed) != is_text, f"signed: {'is missing' if is_text else 'leave it out'}"),
        ("form" in holes and "url" not in holes,
         "signed: {form} needs {url}, which has the hash of a body that is no form"),
        (is_text and not holes & {"body", "form"},
         "signed: must contain {body} or {form}; otherwise anyone could exchange the body"),
        (is_text and is_timed != ("timestamp" in holes), "timestamp: give its place and sign {timestamp}, or neither"),
        (is_text and not is_timed and signature.digest != "hmac-sha1",
         "timestamp: is missing; a message without a signed time could be sent again for ever"),
    )  # fmt: skip
    yield from (text for is_wrong, text in checks if is_wrong)
