"""The settings of `dialgate ship`, which copies decisions to other systems."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from dialgate.config.fields import Seconds, Strict

S3: Final = "s3://"


class StreamTo(Strict, frozen=True, kw_only=True):
    """The Redis Streams that receive every record, one stream for each log.

    Do not use the gate's own store, because a full Redis would stop the gate. For the permissions that the Redis
    user needs, see `docs/how-to/ship-decisions.md`.
    """

    url: str = ""
    """URL of the Redis, in the same form as `store.url`."""
    url_file: str = ""
    """File that contains the URL. Use it instead of `url` for a URL with a password."""
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")] = "dialgate"
    """Prefix of dialgate's keys in this Redis."""
    keep: Annotated[int, Meta(ge=1_000, le=1_000_000_000)] = 1_000_000
    """Approximate number of entries in each stream. Older ones are removed."""
    patience: Seconds = 5
    """Maximum seconds for one round trip."""


class Shipping(Strict, frozen=True, kw_only=True):
    """The targets of `dialgate ship` (`docs/how-to/ship-decisions.md`)."""

    to: str = ""
    """Target for closed log files: an existing folder, for example on a mounted share, or `s3://bucket/prefix`."""
    endpoint: str = ""
    """Address of the object storage, if it is not Amazon's."""
    region: str = ""
    """Region of the object storage."""
    credentials_file: str = ""
    """File in the format of `aws configure`, readable only by its owner. Default: the environment's `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the machine's role."""
    at_once: bool = False
    """Whether full files are shipped before they are packed. They then arrive earlier, but are six times as large."""
    stream: StreamTo | None = None
    """The Redis Streams that get every record."""
    textfile: str = ""
    """File with metrics for the Prometheus node exporter, for example `/var/lib/node_exporter/ship.prom`."""


def faults(shipping: Shipping | None, store_urls: tuple[str, str]) -> Iterator[str]:
    """Yield a message for each problem with the settings of `dialgate ship`.

    `store_urls` contains `url` and `url_file` of the gate's store. The stream must use a different Redis.
    """
    if shipping is None:
        return
    stream = shipping.stream
    if not shipping.to and stream is None:
        yield "shipping: set `to`, `stream`, or both"
    if shipping.to.startswith(S3) and not urlsplit(shipping.to).netloc:
        yield f"shipping: {shipping.to!r} has no bucket; write it as s3://bucket/prefix"
    if shipping.to and not shipping.to.startswith(S3) and "://" in shipping.to:
        yield f"shipping: {shipping.to!r} is neither a folder nor s3://bucket/prefix"
    if "@" in urlsplit(shipping.endpoint).netloc or "@" in urlsplit(shipping.to).netloc:
        yield "shipping: put credentials into `credentials_file` or into the environment, not into `to` or `endpoint`"
    if stream is None:
        return
    if bool(stream.url) == bool(stream.url_file):
        yield "shipping: stream: set either `url` or `url_file`"
    if any(
        own and own == other for own, other in zip((stream.url, stream.url_file), store_urls, strict=True)
    ):
        yield "shipping: stream: use a different Redis from the gate's store, because a full Redis would stop the gate"


def folder_of(shipping: Shipping, config: Path) -> Path:
    """Return the target folder. Paths are relative to `config`."""
    return config / shipping.to
