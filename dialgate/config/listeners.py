"""The settings of the listeners: HTTP, operations, uploads, FastAGI, SIP."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta

from dialgate.config.fields import Seconds, Strict


class Listen(Strict, frozen=True, kw_only=True):
    """The HTTP listener."""

    host: str = "127.0.0.1"
    """Address to listen on. Use an address that other machines reach only with TLS, or behind a proxy with TLS."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """Port. 0 picks a free one."""
    tls_certificate: str = ""
    """PEM file with the certificate chain. With it, the gate speaks HTTPS only (TLS 1.2 or newer). SIGHUP reads it again: send it after each renewal."""
    tls_key: str = ""
    """PEM file with the key, unless it is in the file of the chain."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) of reverse proxies whose `X-Forwarded-For` is trusted as the client's address. The login's limit on wrong keys uses it."""


class Limits(Strict, frozen=True, kw_only=True):
    """Limits on the requests of one client to the HTTP server."""

    body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    """Bytes of a body. For call lists uploaded as files, see `uploads`."""
    header_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16 << 10
    """Bytes of the request line, and of each header."""
    batch_calls: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Calls in one `POST /v1/checks`."""
    first_byte_seconds: Seconds = 5
    """Seconds until the first byte of a new connection must arrive, including the TLS handshake."""
    read_seconds: Seconds = 10
    """Seconds in which a request must have arrived completely."""
    idle_seconds: Seconds = 90
    """Seconds for which an idle connection is kept open. Set it longer than your dialer does."""
    connections: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000
    """Simultaneous HTTP connections of one process. Fewer if the system allows fewer open files."""
    streams: Annotated[int, Meta(ge=1, le=10_000)] = 32
    """Simultaneous streams of one client at one process: of checks, and as many of revocations."""
    lookups_an_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """Different numbers that a client may look up in an hour, in the ledger or by `simulate`."""


class Operations(Strict, frozen=True, kw_only=True):
    """The listener for operators and Prometheus: `/metrics`, `/readyz` with details, `/docs` and `/openapi.json` without a key. They show the campaigns of every controller: make it reachable only from the operators' network."""

    host: str = "127.0.0.1"
    """Address to listen on, in plain HTTP."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9464
    """Port. 0 picks a free one; the log event `ready` contains it."""


class Uploads(Strict, frozen=True, kw_only=True):
    """Uploads of call lists as files. Read at start. They are received into a spool and read by separate processes, which are killed when the client disconnects. Each worker counts separately. If you do not control all clients, put `folder` on another disk than the decision log; a systemd unit needs it in `ReadWritePaths`. Its files have no names; files left by a crash are removed at the start."""

    folder: str = ""
    """The spool, relative to the data folder. Without it: `spool` in the data folder."""
    processes: Annotated[int, Meta(ge=0, le=64)] = 0
    """Files that are read simultaneously, one per client. 0: half the number of processors, at least one."""
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 32
    """Simultaneous uploads of all clients, including waiting ones. More: 503, `upload.full`."""
    client_at_once: Annotated[int, Meta(ge=1, le=1_000)] = 8
    """Simultaneous uploads of one client. More: 429, `upload.busy`."""
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
    """Seconds in which a file must have arrived completely."""
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    """Maximum seconds, of processor time and of elapsed time, for reading a file."""
    memory_mb: Annotated[int, Meta(ge=64, le=1 << 20)] = 1_024
    """Maximum MiB of memory for reading a file: enough for about eight million numbers."""


class FastAgi(Strict, frozen=True, kw_only=True):
    """The listener for Asterisk. Its clients are identified by their `sources`. Bind it to a private network. Another address or port needs a restart."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    """Port. 0 picks a free one."""
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    """Seconds from the connection to the answer. Without a decision by then, the answer is a denial."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000
    """Simultaneous calls. Further connections are closed, which the dialplan treats as a denial."""


_CONTACT: Final = re.compile(
    r"sips?:\{number\}@(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:;[A-Za-z0-9\-]+(?:=[A-Za-z0-9.\-]+)?)*"
)
_LINK: Final = re.compile(r"https://[^\s<>\"\\]+", re.ASCII)


class SipTrunk(Strict, frozen=True, kw_only=True):
    """The destination of one client's calls."""

    client: str
    """Name of one of the `clients`."""
    contacts: tuple[str, ...]
    """Destinations of its calls, in order: `sip:{number}@trunk.example:5060;transport=udp`."""
    campaign: str = ""
    """Campaign of an INVITE without `X-Dialgate-Campaign`."""
    refusal: Literal[608, 603, 403] = 608
    """Status of a denial. Choose the one after which the dialer does not try the next trunk."""
    call_info: str = ""
    """https address of a signed jCard with a contact for complaints, sent with a denial (RFC 8688)."""


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
    """Simultaneous INVITEs, each for at most 32 seconds. Further ones are refused."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    """Simultaneous TCP connections. Further ones are closed."""
    trunks: tuple[SipTrunk, ...] = ()
    """Destinations of each client's calls. A client without a trunk is refused."""


def sip_faults(sip: Sip | None, sources: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a sentence for each fault in the SIP trunks. `sources` are the networks of each client."""
    for trunk in sip.trunks if sip else ():
        place = f"sip: trunk of {trunk.client}"
        if not sources.get(trunk.client):
            yield f"{place}: no client of this name has `sources`, which identify SIP clients"
        if sip and [other.client for other in sip.trunks].count(trunk.client) > 1:
            yield f"{place}: is defined twice; keep one"
        if not trunk.contacts:
            yield f"{place}: contacts is empty; name the destinations of its calls"
        for contact in trunk.contacts:
            if not _CONTACT.fullmatch(contact):
                yield f"{place}: contact {contact!r} is not of the form sip:{{number}}@trunk.example:5060;transport=udp"
        if trunk.call_info and not _LINK.fullmatch(trunk.call_info):
            yield f"{place}: call_info is not an https address"
