"""What the operator sets of the doors by which questions come in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta

from dialgate.config.fields import Seconds, Strict


class Listen(Strict, frozen=True, kw_only=True):
    """`trusted_proxies`: networks (CIDR) of the reverse proxies whose X-Forwarded-For names the client's address."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    tls_certificate: str = ""
    tls_key: str = ""
    trusted_proxies: tuple[str, ...] = ()


class Limits(Strict, frozen=True, kw_only=True):
    """What one client may ask of the HTTP server: bytes of a body and of the headers, calls in one batch, seconds until the first
    byte of a new connection, seconds to send a request, seconds an idle connection is kept (longer than any dialer keeps it),
    connections of one process, streams of one client and kind, numbers to look up."""

    body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    header_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16 << 10
    batch_calls: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    first_byte_seconds: Seconds = 5
    read_seconds: Seconds = 10
    idle_seconds: Seconds = 90
    connections: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000
    streams: Annotated[int, Meta(ge=1, le=10_000)] = 32
    lookups_an_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 200


class Operations(Strict, frozen=True, kw_only=True):
    """Where `/metrics`, the details of `/readyz` and the description of the API need no key. Plain HTTP."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9464


class Uploads(Strict, frozen=True, kw_only=True):
    """Files that clients send over HTTP. `folder`: where they lie while they are read; empty: `spool` in the data folder.
    `processes`: files that are read at once, each of another client; 0: half as many as processors, at least one. `at_once`, `client_at_once`: uploads that are received
    or wait, in all and of one client. Sizes are in MiB. `free_mb`: what must stay free on the disk of `folder`, or a tenth
    of it. `bytes_per_second`: the least pace. `seconds`, `memory_mb`: of the process that reads a file."""

    folder: str = ""
    processes: Annotated[int, Meta(ge=0, le=64)] = 0
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 32
    client_at_once: Annotated[int, Meta(ge=1, le=1_000)] = 8
    file_mb: Annotated[int, Meta(ge=1, le=2_048)] = 1_024
    client_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 2_048
    total_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 4_096
    free_mb: Annotated[int, Meta(ge=0, le=1 << 20)] = 1_024
    bytes_per_second: Annotated[int, Meta(ge=1, le=1 << 30)] = 16_384
    receive_seconds: Seconds = 3_600
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    memory_mb: Annotated[int, Meta(ge=64, le=1 << 20)] = 1_024


class FastAgi(Strict, frozen=True, kw_only=True):
    """The door for Asterisk, whose clients are known by their `sources`. `deadline_seconds`: from the connection to an
    answer, which is a deny if there is no better one; `connections`: at most so many at once, others are closed."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000


_CONTACT: Final = re.compile(
    r"sips?:\{number\}@(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:;[A-Za-z0-9\-]+(?:=[A-Za-z0-9.\-]+)?)*"
)
_LINK: Final = re.compile(r"https://[^\s<>\"\\]+", re.ASCII)


class SipTrunk(Strict, frozen=True, kw_only=True):
    """Where the calls of one client go, which is known by its `sources`. `contacts`: in their order, each with `{number}`.
    `campaign`: of a call that names none. `refusal`: the status of a denial. `call_info`: the address of a signed jCard
    (RFC 8688) that says where to complain."""

    client: str
    contacts: tuple[str, ...]
    campaign: str = ""
    refusal: Literal[608, 603, 403] = 608
    call_info: str = ""


class Sip(Strict, frozen=True, kw_only=True):
    """The door for session border controllers, which ask by INVITE and are redirected. `transactions`: at most so many at
    once, `connections` the same of TCP."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 5060
    udp: bool = True
    tcp: bool = True
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.4
    transactions: Annotated[int, Meta(ge=1, le=1_000_000)] = 60_000
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    trunks: tuple[SipTrunk, ...] = ()


def sip_faults(sip: Sip | None, sources: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """`sources`: of each client."""
    for trunk in sip.trunks if sip else ():
        named = f"sip: trunk of {trunk.client}"
        if not sources.get(trunk.client):
            yield f"{named}: no client of this name has `sources`, by which alone it can be known"
        if sip and [each.client for each in sip.trunks].count(trunk.client) > 1:
            yield f"{named}: stands twice"
        if not trunk.contacts:
            yield f"{named}: contacts is empty; say where its calls go"
        for contact in trunk.contacts:
            if not _CONTACT.fullmatch(contact):
                yield f"{named}: contact {contact!r} is not of the form sip:{{number}}@trunk.example:5060;transport=udp"
        if trunk.call_info and not _LINK.fullmatch(trunk.call_info):
            yield f"{named}: call_info is no https address"
