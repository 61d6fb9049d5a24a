"""The settings of the listeners: HTTP, operations, uploads, FastAGI, SIP."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta

from dialgate.config.fields import Seconds, Strict


class Listen(Strict, frozen=True, kw_only=True):
    """The listener for the HTTP API and the console."""

    host: str = "127.0.0.1"
    """Address to listen on. If other machines can reach it, use TLS, here or in a reverse proxy."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    """Port. 0 picks a free one."""
    tls_certificate: str = ""
    """PEM file with the certificate chain. With it, the gate speaks HTTPS only (TLS 1.2 or newer). After each renewal, send SIGHUP so that the gate reads the file again."""
    tls_key: str = ""
    """PEM file with the private key. Not needed if `tls_certificate` contains the key."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) of reverse proxies whose `X-Forwarded-For` is trusted as the client's address. The console limits failed logins by this address."""


class Limits(Strict, frozen=True, kw_only=True):
    """Limits on one client's requests to the HTTP server."""

    body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 1 << 20
    """Maximum size of a request body, in bytes. For call lists uploaded as files, see `uploads`."""
    header_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16 << 10
    """Maximum size of the request line and of each header, in bytes. All together may have twice as many."""
    batch_calls: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Maximum number of calls in one `POST /v1/checks`."""
    first_byte_seconds: Seconds = 5
    """Maximum seconds until the first byte of a new connection arrives, including the TLS handshake."""
    read_seconds: Seconds = 10
    """Maximum seconds until a request has arrived completely. A client that reads less than 16 KiB of waiting responses in this time is disconnected."""
    idle_seconds: Seconds = 90
    """Seconds for which an idle connection is kept open. Set it higher than the idle timeout of your dialer."""
    connections: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000
    """Maximum number of HTTP connections to one process. It is lower if the system allows fewer open files. One client can hold half of them."""
    streams: Annotated[int, Meta(ge=1, le=10_000)] = 32
    """Maximum number of check streams and batches in progress per client and process. The same limit applies separately to revocation streams."""
    lists: Annotated[int, Meta(ge=1, le=100_000)] = 500
    """Maximum number of call lists in force of one controller. Each check of a campaign searches all of its lists: 500 take about 1 ms, in which no other client is served."""
    lookups_an_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """Maximum number of different telephone numbers that a client may look up in an hour, in the ledger or by `simulate`."""


class Operations(Strict, frozen=True, kw_only=True):
    """The listener for operators and Prometheus.

    It serves `/metrics`, `/docs`, `/openapi.json`, and `/readyz` with details. None of them needs a key. The metrics
    and the details name the campaigns of every controller, so make the listener reachable only from the operators'
    network.
    """

    host: str = "127.0.0.1"
    """Address to listen on, in plain HTTP."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9464
    """Port. 0 picks a free one; the log event `ready` contains it."""


class Uploads(Strict, frozen=True, kw_only=True):
    """Limits on uploads of call lists as files. Changes need a restart.

    Uploaded files are stored in the spool, a folder for temporary files. Separate processes read the files. If a client
    disconnects, the process that reads its file is killed. The limits apply to each worker separately.

    If you do not control all clients, put `folder` on a different disk from the decision log, and add it to
    `ReadWritePaths` of the systemd unit. At startup, the gate removes files that a crash left in the spool.
    """

    folder: str = ""
    """Folder of the spool, relative to the data folder. Default: `spool` in the data folder."""
    processes: Annotated[int, Meta(ge=0, le=64)] = 0
    """Maximum number of files that are read simultaneously, at most one per client. 0: half the number of processors, at least one."""
    at_once: Annotated[int, Meta(ge=1, le=1_000)] = 32
    """Maximum number of simultaneous uploads from all clients, including waiting ones. Further ones get 503, `upload.full`."""
    client_at_once: Annotated[int, Meta(ge=1, le=1_000)] = 8
    """Maximum number of simultaneous uploads from one client. Further ones get 429, `upload.busy`."""
    file_mb: Annotated[int, Meta(ge=1, le=2_048)] = 1_024
    """Maximum size of one file, in MiB."""
    client_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 2_048
    """Maximum size of all uploads from one client together, in MiB."""
    total_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 4_096
    """Maximum size of all uploads together, in MiB."""
    free_mb: Annotated[int, Meta(ge=0, le=1 << 20)] = 1_024
    """MiB that must stay free on the spool's disk, or a tenth of the disk if that is less. Otherwise uploads get 507, `upload.no_space`."""
    bytes_per_second: Annotated[int, Meta(ge=1, le=1 << 30)] = 16_384
    """Minimum bytes per second, measured after the first `limits.read_seconds`. Slower uploads get 408."""
    receive_seconds: Seconds = 3_600
    """Maximum seconds until a file has arrived completely."""
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    """Maximum seconds for reading a file. The limit applies to processor time and to elapsed time."""
    memory_mb: Annotated[int, Meta(ge=64, le=1 << 20)] = 1_024
    """Maximum memory for reading a file, in MiB. The default is enough for about eight million numbers."""


class FastAgi(Strict, frozen=True, kw_only=True):
    """The listener for Asterisk. Clients are identified by their `sources`.

    Bind the listener to a private network. A change of address or port needs a restart.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    """Port. 0 picks a free one."""
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    """Maximum seconds from the connection to the answer. If there is no decision by then, the answer is a denial."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000
    """Maximum number of simultaneous calls. Further connections are closed, which the dialplan treats as a denial."""


_CONTACT: Final = re.compile(
    r"sips?:\{number\}@(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:;[A-Za-z0-9\-]+(?:=[A-Za-z0-9.\-]+)?)*"
)
_LINK: Final = re.compile(r"https://[^\s<>\"\\]+", re.ASCII)


class SipTrunk(Strict, frozen=True, kw_only=True):
    """The destination for one client's calls."""

    client: str
    """Name of one of the `clients`."""
    contacts: tuple[str, ...]
    """Destinations for the calls, tried in this order, for example `sip:{number}@trunk.example:5060;transport=udp`."""
    campaign: str = ""
    """Campaign for an INVITE without `X-Dialgate-Campaign`."""
    refusal: Literal[608, 603, 403] = 608
    """SIP status for a denial. Choose a status after which the dialer does not try the next trunk."""
    call_info: str = ""
    """https address of a signed jCard with a contact for complaints, sent with a denial (RFC 8688)."""


class Sip(Strict, frozen=True, kw_only=True):
    """The listener for session border controllers (`deploy/sip-redirect/`), which are identified by their `sources`.

    Bind the listener to a private network. Changes to any setting except `trunks` need a restart.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 5060
    """Port, the same for UDP and TCP. 0 picks a free one."""
    udp: bool = True
    """Listen on UDP."""
    tcp: bool = True
    """Listen on TCP."""
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.4
    """Maximum seconds from an INVITE to its answer. If there is no decision by then, the answer is a 500."""
    transactions: Annotated[int, Meta(ge=1, le=1_000_000)] = 60_000
    """Maximum number of simultaneous INVITEs. Each counts for at most 32 seconds. Further ones are refused."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    """Maximum number of TCP connections. Further ones are closed."""
    trunks: tuple[SipTrunk, ...] = ()
    """Destinations for each client's calls. A client without a trunk is refused."""


def sip_faults(sip: Sip | None, sources: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a message for each problem with the SIP trunks. `sources` are the networks of each client."""
    for trunk in sip.trunks if sip else ():
        place = f"sip: trunk of {trunk.client}"
        if not sources.get(trunk.client):
            yield f"{place}: no client with this name has `sources`; add them, because they identify SIP clients"
        if sip and [other.client for other in sip.trunks].count(trunk.client) > 1:
            yield f"{place} is defined twice; keep one"
        if not trunk.contacts:
            yield f"{place}: contacts is empty; add the destinations for its calls"
        for contact in trunk.contacts:
            if not _CONTACT.fullmatch(contact):
                yield f"{place}: contact {contact!r} is not of the form sip:{{number}}@trunk.example:5060;transport=udp"
        if trunk.call_info and not _LINK.fullmatch(trunk.call_info):
            yield f"{place}: call_info is not an https URL"
