"""The settings of the listeners: HTTP, operations, uploads, FastAGI."""

from typing import Annotated

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
    reuse_port: bool = False
    """Let other gates of the same user listen on this port too, if they also set it (SO_REUSEPORT). The kernel distributes new connections over them."""
    drain_seconds: Annotated[float, Meta(ge=0, le=20)] = 0  # the shipped units end a gate after 30
    """Seconds for which a gate that is to stop still answers, while `/readyz` is 503. Set it higher than a load balancer takes to notice that, so no request meets a closed port."""
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
    """Limits on uploads of call lists as files.

    Uploaded files are stored in the spool, a folder for temporary files. Separate processes read the files, as many at once
    as half the number of processors, and one per client. If a client disconnects, the process that reads its file is killed. The gate receives at most 32 files at once, 8 from one client, and
    none while less than 1 GiB, or a tenth of the disk, is free.

    If you do not control all clients, put `folder` on a different disk from the decision log, and add it to
    `ReadWritePaths` of the systemd unit. At startup, the gate removes files that a crash left in the spool.
    """

    folder: str = ""
    """Folder of the spool, relative to the data folder. Default: `spool` in the data folder."""
    file_mb: Annotated[int, Meta(ge=1, le=2_048)] = 1_024
    """Maximum size of one file, in MiB."""
    memory_mb: Annotated[int, Meta(ge=64, le=1 << 20)] = 1_024
    """Maximum memory for reading a file, in MiB. The default is enough for about eight million numbers."""


class FastAgi(Strict, frozen=True, kw_only=True):
    """The listener for Asterisk. Clients are identified by their `sources`.

    Bind the listener to a private network.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4573
    """Port. 0 picks a free one."""
    reuse_port: bool = False
    """Share the port with other gates, as under `listen`."""
    deadline_seconds: Annotated[float, Meta(ge=0.02, le=10)] = 0.25
    """Maximum seconds from the connection to the answer. If there is no decision by then, the answer is a denial."""
    connections: Annotated[int, Meta(ge=1, le=60_000)] = 12_000
    """Maximum number of simultaneous calls. Further connections are closed, which the dialplan treats as a denial."""
