"""How the operator sets where decisions are moved on to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from dialgate.config.fields import Seconds, Strict

S3: Final = "s3://"


class StreamTo(Strict, frozen=True, kw_only=True):
    """A Redis Stream for each log. Not the gate's own store: a full Redis would stop the gate. The user's rights: `docs/how-to/ship-decisions.md`."""

    url: str = ""
    """As for `store`."""
    url_file: str = ""
    """File that contains the URL, for a URL with a password."""
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")] = "dialgate"
    """Prefix of its keys."""
    keep: Annotated[int, Meta(ge=1_000, le=1_000_000_000)] = 1_000_000
    """Approximate number of entries that each stream holds. Older ones are removed."""
    patience: Seconds = 5
    """Seconds that one round trip may take."""


class Shipping(Strict, frozen=True, kw_only=True):
    """Where `dialgate ship` copies decisions (`docs/how-to/ship-decisions.md`)."""

    to: str = ""
    """Target for closed files of the log: an existing folder, as on a mounted share, or `s3://bucket/prefix`."""
    endpoint: str = ""
    """Address of an object storage that is not Amazon's."""
    region: str = ""
    """Region of the object storage."""
    credentials_file: str = ""
    """File as `aws configure` writes it, readable only by its owner. Without it: the environment's `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the machine's role."""
    at_once: bool = False
    """Ships a full file before it is packed: sooner, and six times the bytes."""
    stream: StreamTo | None = None
    """Stream of every record."""
    textfile: str = ""
    """File for the node exporter, as `/var/lib/node_exporter/ship.prom`."""


def faults(shipping: Shipping | None, store_urls: tuple[str, str]) -> Iterator[str]:
    """`store_urls`: `url` and `url_file` of the gate's store, which must not be the stream's: a full one closes the gate."""
    if shipping is None:
        return
    stream = shipping.stream
    if not shipping.to and stream is None:
        yield "shipping: give `to`, `stream`, or both"
    if shipping.to.startswith(S3) and not urlsplit(shipping.to).netloc:
        yield f"shipping: {shipping.to!r} names no bucket; write it as s3://bucket/prefix"
    if shipping.to and not shipping.to.startswith(S3) and "://" in shipping.to:
        yield f"shipping: {shipping.to!r} is neither a folder nor s3://bucket/prefix"
    if "@" in urlsplit(shipping.endpoint).netloc or "@" in urlsplit(shipping.to).netloc:
        yield "shipping: credentials stand in `credentials_file` or in the environment, not in an address"
    if stream is None:
        return
    if bool(stream.url) == bool(stream.url_file):
        yield "shipping: stream: give one of `url` and `url_file`"
    if any(
        own and own == other for own, other in zip((stream.url, stream.url_file), store_urls, strict=True)
    ):
        yield "shipping: stream: not the gate's store: a Redis that is full of it would close the gate"


def folder_of(shipping: Shipping, config: Path) -> Path:
    """`config`: the folder that paths are relative to."""
    return config / shipping.to
