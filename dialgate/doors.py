"""What the operator sets of the doors by which questions come in."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]


class Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Listen(Strict, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    tls_certificate: str = ""
    tls_key: str = ""


class Limits(Strict, frozen=True, kw_only=True):
    """What one client may ask of the HTTP server: bytes of a body and of the headers, calls in one batch, seconds to
    send a request, seconds an idle connection is kept (longer than any dialer keeps it), numbers to look up."""

    body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    header_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16 << 10
    batch_calls: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    read_seconds: Seconds = 10
    idle_seconds: Seconds = 90
    lookups_an_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 200


class FastAgi(Strict, frozen=True, kw_only=True):
    """The door for Asterisk, whose clients are known by their `sources`. `deadline_seconds`: from the connection to an
    answer, which is a deny if there is no better one; `connections`: at most so many at once, others are closed."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000
