"""What the operator sets of the doors besides HTTP's."""

from typing import Annotated

from msgspec import Meta, Struct


class FastAgi(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door for Asterisk, whose clients are known by their `sources`. `deadline_seconds`: from the connection to an
    answer, which is a deny if there is no better one; `connections`: at most so many at once, others are closed."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000
