"""What the operator sets of the doors by which questions come in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta

from dialgate.config.fields import Seconds, Strict


class Listen(Strict, frozen=True, kw_only=True):
    """The HTTP listener."""

    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine only with TLS, or behind a proxy that has it."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """Port. 0 picks a free one."""
    tls_certificate: str = ""
    """PEM file with the certificate chain. With it, the gate speaks HTTPS only (TLS 1.2 or newer). SIGHUP reads it again: send it after each renewal."""
    tls_key: str = ""
    """PEM file of the key, unless it is in the chain's file."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) of reverse proxies whose `X-Forwarded-For` names the client's address. The login's limit on wrong keys uses it."""


class Limits(Strict, frozen=True, kw_only=True):
    """Limits on what one client may ask of the HTTP server."""

    body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    """Bytes of a body. A call list that arrives as a file has limits of its own (`uploads`)."""
    header_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16 << 10
    """Bytes of the request line, and of each header."""
    batch_calls: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Calls in one `POST /v1/checks`."""
    first_byte_seconds: Seconds = 5
    """Seconds until the first byte of a new connection must arrive, TLS handshake included."""
    read_seconds: Seconds = 10
    """Seconds in which a request must have arrived."""
    idle_seconds: Seconds = 90
    """Seconds for which an idle connection is kept. Longer than your dialer keeps it."""
    connections: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000
    """HTTP connections of one process at once. Fewer where the system allows fewer open files."""
    streams: Annotated[int, Meta(ge=1, le=10_000)] = 32
    """Streams that one client may hold open at one process: of checks, and as many of revocations."""
    lookups_an_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """Different numbers that a client may look up in an hour, in the ledger or by `simulate`."""


class Operations(Strict, frozen=True, kw_only=True):
    """The listener for operators and Prometheus: `/metrics`, `/readyz` with its details, `/docs` and `/openapi.json` without a key. They name the campaigns of every tenant: keep it within the operators' network."""

    host: str = "127.0.0.1"
    """Address to listen on, in plain HTTP."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9464
    """Port. 0 picks a free one, which the log event `ready` names."""


class Uploads(Strict, frozen=True, kw_only=True):
    """Call lists that arrive as files. Read at start. They are received into a spool and read by separate processes, which are killed when the client disconnects. Each worker counts separately. Give `folder` a disk of its own, apart from the decision log's, where you do not control all clients; a systemd unit needs it in `ReadWritePaths`. Its files have no names; files left by a crash are removed at the start."""

    folder: str = ""
    """The spool, relative to the data folder. Without it: `spool` in the data folder."""
    processes: Annotated[int, Meta(ge=0, le=64)] = 0
    """Files that are read at once, each of another client. 0: half as many as processors, at least one."""
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 32
    """Uploads that are received or wait, of all clients. More: 503, `upload.full`."""
    client_at_once: Annotated[int, Meta(ge=1, le=1_000)] = 8
    """The same of one client. More: 429, `upload.busy`."""
    file_mb: Annotated[int, Meta(ge=1, le=2_048)] = 1_024
    """MiB of one file."""
    client_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 2_048
    """MiB of one client's uploads together."""
    total_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 4_096
    """MiB of all uploads together."""
    free_mb: Annotated[int, Meta(ge=0, le=1 << 20)] = 1_024
    """MiB that must stay free on the spool's disk, or a tenth of the disk if that is less. Otherwise: 507, `upload.no_space`."""
    bytes_per_second: Annotated[int, Meta(ge=1, le=1 << 30)] = 16_384
    """Minimum rate, counted from `limits.read_seconds` on. Slower: 408."""
    receive_seconds: Seconds = 3_600
    """Seconds in which a file must have arrived."""
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    """Seconds, of processor time and of elapsed time, that reading a file may take."""
    memory_mb: Annotated[int, Meta(ge=64, le=1 << 20)] = 1_024
    """MiB of memory that reading a file may take: enough for some eight million numbers."""


class FastAgi(Strict, frozen=True, kw_only=True):
    """The listener for Asterisk. Its clients are identified by their `sources`. Bind it to a private network. Another address or port needs a restart."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    """Port. 0 picks a free one."""
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    """Seconds from the connection to an answer. Without a decision by then, the answer is a denial."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000
    """Calls at once. Further ones are closed, which the dialplan takes for a denial."""


_CONTACT: Final = re.compile(
    r"sips?:\{number\}@(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:;[A-Za-z0-9\-]+(?:=[A-Za-z0-9.\-]+)?)*"
)
_LINK: Final = re.compile(r"https://[^\s<>\"\\]+", re.ASCII)


class SipTrunk(Strict, frozen=True, kw_only=True):
    """Where the calls of one client go."""

    client: str
    """Name of one of the `clients`."""
    contacts: tuple[str, ...]
    """Where its calls go, in order: `sip:{number}@trunk.example:5060;transport=udp`."""
    campaign: str = ""
    """Campaign of an INVITE without `X-Dialgate-Campaign`."""
    refusal: Literal[608, 603, 403] = 608
    """Status of a denial. Choose the one after which the dialer does not try the next trunk."""
    call_info: str = ""
    """https address of a signed jCard that says where to complain, sent with a denial (RFC 8688)."""


class Sip(Strict, frozen=True, kw_only=True):
    """The listener for session border controllers (`deploy/sip-redirect/`). Its clients are identified by their `sources`. Bind it to a private network. All but `trunks` needs a restart."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 5060
    """Port, the same for UDP and TCP. 0 picks a free one."""
    udp: bool = True
    """Listen on UDP."""
    tcp: bool = True
    """Listen on TCP."""
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.4
    """Seconds from an INVITE to its answer. Without a decision by then, the answer is a 500."""
    transactions: Annotated[int, Meta(ge=1, le=1_000_000)] = 60_000
    """INVITEs at once, for 32 seconds each at most. Further ones are refused."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    """TCP connections at once. Further ones are closed."""
    trunks: tuple[SipTrunk, ...] = ()
    """Where the calls of each client go. A client without one is refused."""


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
