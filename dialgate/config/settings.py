"""The schema of dialgate.yaml, and the checks of its keys against each other."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from dialgate.config.clients import Client
from dialgate.config.data_retention import Storage
from dialgate.config.decision_retention import Retention
from dialgate.config.fields import Name, Seconds, Strict, Url
from dialgate.config.listeners import FastAgi, Limits, Listen, Operations, Sip, Uploads, sip_faults
from dialgate.config.log_settings import ServiceLog, TracesTo
from dialgate.config.shipping import Shipping
from dialgate.config.webhook_targets import Webhook

ONE_PROCESS = "the embedded store counts attempts for one process; set `store` to a Redis, or `workers` to 1"


class SharedStore(Strict, frozen=True, kw_only=True):
    """The Redis or Valkey that several gates share, each with its own data folder and log. Setting it up: `docs/how-to/several-nodes.md`."""

    url: str = ""
    """`redis://host:6379/0`, `unix:///path`, `redis+sentinel://host:26379,host:26379/service` or `redis+cluster://host:6379,host:6379/`; `rediss` for TLS, with `?ssl_ca_certs=FILE`. `USER:PASSWORD@` goes before the hosts."""
    url_file: str = ""
    """File that contains the URL, for a URL with a password."""
    name: Name = "dialgate"
    """Prefix of its keys."""
    replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    """Number of replicas that must have a ledger entry on disk, and an attempt in memory, before it counts."""
    patience: Seconds = 1
    """Seconds that one round trip may take before a check is refused. A ledger entry may take two more, for a Redis that syncs every second."""


class Settings(Strict, frozen=True, kw_only=True):
    """The gate. Paths are relative to this file."""

    data: str = "../.data"
    """Folder of everything that must survive, on a local disk. One gate per folder."""
    countries: str = "countries"
    """Folder of the laws, one file each."""
    controllers: str = "controllers"
    """Folder of the controllers, one file each."""
    webhooks: str = "webhooks"
    """Folder of the webhook profiles, one file each. It may be absent."""
    listen: Listen = Listen()
    """The HTTP listener."""
    limits: Limits = Limits()
    """Limits on what one client may ask of the HTTP server."""
    operations: Operations | None = None
    """The listener for metrics. Without it the defaults apply, and a port in use is a warning."""
    uploads: Uploads = Uploads()
    """Limits on call lists that arrive as files."""
    fastagi: FastAgi | None = None
    """The listener for Asterisk. Without it there is none."""
    sip: Sip | None = None
    """The listener for session border controllers. Without it there is none."""
    clients: tuple[Client, ...] = ()
    """Who may ask."""
    subscribers: tuple[Webhook, ...] = ()
    """Endpoints to which the gate posts revocations."""
    node: Name = "gate"
    """This gate's name in its records."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processes that share the ports. More than one needs a `store`."""
    batch_calls: Annotated[int, Meta(ge=1, le=4096)] = 256
    """Maximum number of calls decided in one batch, with one sync of the log."""
    answer_seconds: Seconds = 900
    """Seconds for which an allow holds, unless something ends it sooner."""
    permit_seconds: Annotated[int, Meta(ge=1, le=60)] = 10
    """Seconds for which a permit holds."""
    remember_hours: Annotated[int, Meta(ge=24, le=720)] = 24
    """Hours in which the same question gets the same decision."""
    store: SharedStore | None = None
    """One Redis for several gates. Without it the gate has an embedded store."""
    peers: Mapping[Name, Url] = {}
    """Where the other gates on the `store` can ask each gate: `{rome: "https://rome.example:8080", milan: …}`. The same on every node."""
    store_patience: Seconds = 0.1
    """Seconds to wait for a locked embedded store before a check is refused."""
    # Below the 10 s that a command waits for a gate's confirmation; a late gate denies until it has confirmed.
    upkeep_stale_seconds: Annotated[float, Meta(ge=2, le=8)] = 3
    """Maximum age in seconds of the last complete round of upkeep. If it is older, every check is denied."""
    log_segment_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Size in MiB after which the decision log starts a new file."""
    log_segment_hours: Annotated[int, Meta(ge=0, le=8784)] = 24
    """Age in hours after which the next call starts a new file. `0`: by size alone. Closed files are packed and shipped."""
    storage: Storage = Storage()
    """How long each kind of data is stored after its use is over."""
    snapshot_key: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    """Ed25519 public key (64 hexadecimal digits). With it, the gate serves only snapshots signed by this key."""
    snapshot_behind_minutes: Annotated[float, Meta(ge=0, le=100_000)] = 0
    """Minutes after which a node that has not compared its copy (`registry-sync pull`) is not ready. 0: never."""
    checkpoint_seconds: Seconds = 60
    """Seconds between two signed checkpoints of the log. Read at start."""
    timestamp_url: str = ""
    """Time stamping authority (RFC 3161) that stamps the newest checkpoint. Read at start."""
    timestamp_url_file: str = ""
    """File that contains this URL, for a URL with a password."""
    timestamp_roots: str = ""
    """PEM file of its root certificates. A time stamp that leads to none of them is not kept."""
    timestamp_seconds: Seconds = 3_600
    """Seconds between two time stamps."""
    log_archive_hours: Annotated[float, Meta(ge=0, le=8784)] = 1
    """Hours for which a full file stays unpacked. By then nearly every outcome has been reported, and the gate seldom has to unpack it."""
    retention: tuple[Retention, ...] = ()
    """How long decisions stay linked to numbers, for each country."""
    shipping: Shipping | None = None
    """Where `dialgate ship` copies decisions."""
    service_log: ServiceLog = ServiceLog()
    """What the gate writes to stderr."""
    traces: TracesTo | None = None
    """OpenTelemetry traces. Without it there are none. Read at start."""


def faults(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each pair of keys that contradict each other."""
    if settings.listen.tls_key and not settings.listen.tls_certificate:
        yield "listen: tls_key without tls_certificate; the gate would speak plain HTTP"
    yield from sip_faults(settings.sip, {client.name: client.sources for client in settings.clients})
    if settings.workers > 1 and settings.store is None:
        yield f"workers: {ONE_PROCESS}"
    if settings.peers and settings.store is None:
        yield "peers: only gates that share a `store` ask each other; give one, or leave them out"
    if settings.timestamp_url and settings.timestamp_url_file:
        yield "timestamp_url: give either this or `timestamp_url_file`"
