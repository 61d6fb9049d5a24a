"""The schema of dialgate.yaml, and the checks of settings that depend on each other."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, ClassVar

from msgspec import Meta

from dialgate.config import accounts
from dialgate.config.accounts import AccountSettings
from dialgate.config.clients import Client
from dialgate.config.decision_retention import Retention
from dialgate.config.fields import HostName, Name, NodeName, Seconds, Strict, Url
from dialgate.config.listeners import FastAgi, Limits, Listen, Operations, Uploads
from dialgate.config.log_settings import ServiceLog, TracesTo
from dialgate.config.processing_texts import Provider
from dialgate.config.report_mail import ReportMail
from dialgate.config.shipping import Shipping
from dialgate.config.storage import Storage
from dialgate.config.webhook_targets import Subscriber


class SharedStore(Strict, frozen=True, kw_only=True):
    """The Redis or Valkey that several gates share. Each gate has its own data folder and log.

    To set it up, see `docs/how-to/several-nodes.md`.
    """

    url: str = ""
    """`redis://host:6379/0`, `unix:///path`, `redis+sentinel://host:26379,host:26379/service` or `redis+cluster://host:6379,host:6379/`; `rediss` for TLS, with `?ssl_ca_certs=FILE`. `USER:PASSWORD@` goes before the hosts."""
    url_file: str = ""
    """File that contains the URL. Use it instead of `url` for a URL with a password."""
    name: Name = "dialgate"
    """Prefix of dialgate's keys in Redis."""
    replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    """Number of replicas that must receive a write before it is acknowledged. A ledger entry must be on their disks, an attempt only in their memory."""
    patience: Seconds = 1
    """Maximum seconds for one round trip. If it takes longer, checks are denied. A ledger entry may take two seconds more, because Redis may sync only once a second."""


class Settings(Strict, frozen=True, kw_only=True):
    """The settings of a gate. Paths are relative to the folder that contains `dialgate.yaml`."""

    # The advice for each setting of an earlier version.
    removed: ClassVar[Mapping[str, str]] = {
        "permit_seconds": "delete it. There are no permits any more: Kamailio checks every call itself (deploy/kamailio)",
        "store_patience": "delete it. No other process locks the embedded store any more",
        "sip": "delete it, and redirect calls with Kamailio (deploy/sip-redirect)",
        "workers": (
            "delete it. A gate is one process: for several processes, run several gates, each with its own `data`, `node` and"
            " `operations.port`, on one `store` (docs/how-to/several-gates-on-one-machine.md)"
        ),
    }
    data: str = "../.data"
    """Folder for all persistent data, on a local disk. One gate per folder."""
    countries: str = "countries"
    """Folder with the laws, one file for each country."""
    accept_drafts: tuple[str, ...] = ()
    """Countries whose law may decide even if its file is a `draft`, for example `[GB]`. Calls under the law of any other draft are denied with `law.draft`."""
    controllers: str = "controllers"
    """Folder with the controllers, one file for each."""
    former_controllers: tuple[str, ...] = ()
    """Ids of controllers that make no more calls and whose file is removed. A gate rejects a configuration in which any other earlier controller is missing, because a controller with a new id has none of the revocations made under the old one."""
    webhooks: str = "webhooks"
    """Folder with the webhook profiles, one file for each. The folder need not exist."""
    listen: Listen = Listen()
    """The HTTP listener."""
    hosts: tuple[HostName, ...] = ()
    """Host names by which clients without a key and Prometheus reach this gate, for example `[gate-1.example]`. They can always use its IP address or `localhost`. A request without a key that names any other host is refused, because a web page may have sent it."""
    limits: Limits = Limits()
    """Limits on one client's requests to the HTTP server."""
    operations: Operations | None = None
    """The listener for operators and Prometheus. Without this section the defaults apply, and a port in use only causes a warning."""
    uploads: Uploads = Uploads()
    """Limits on call-list uploads."""
    fastagi: FastAgi | None = None
    """The listener for Asterisk. Default: none."""
    clients: tuple[Client, ...] = ()
    """The clients, with their keys and scopes."""
    subscribers: tuple[Subscriber, ...] = ()
    """Endpoints to which the gate posts revocations."""
    node: NodeName = "gate"
    """This gate's name in its records, or the environment variable that has it: `${POD_NAME}`. Commands and jobs that read this file need the variable, too."""
    batch_calls: Annotated[int, Meta(ge=1, le=4096)] = 256
    """Maximum number of calls decided in one batch, with one sync of the log."""
    answer_seconds: Seconds = 900
    """Maximum seconds for which an allow is valid."""
    remember_hours: Annotated[int, Meta(ge=24, le=720)] = 24
    """Hours for which a repeated request with the same `call_id` gets the same decision."""
    store: SharedStore | None = None
    """One Redis for several gates. Without it the gate has an embedded store."""
    peers: Mapping[Name, Url] = {}
    """URLs at which the gates that share the `store` reach each other: `{rome: "https://rome.example:8080", milan: …}`. Use the same value on every node."""
    # Less than the 10 s for which a command waits for a gate to confirm a write. A gate that has not confirmed by then denies calls.
    upkeep_stale_seconds: Annotated[float, Meta(ge=2, le=8)] = 3
    """Maximum age of the last complete upkeep round, in seconds. If it is older, every check is denied."""
    log_segment_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Size in MiB after which the decision log starts a new file."""
    log_segment_hours: Annotated[int, Meta(ge=0, le=8784)] = 24
    """Age of a log file, in hours, after which the next call starts a new one. `0`: only the size counts. Closed files are packed and shipped."""
    storage: Storage = Storage()
    """Storage period for each kind of data after its last use."""
    snapshot_key: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    """Ed25519 public key (64 hexadecimal digits). With it, the gate serves only snapshots signed by this key."""
    snapshot_behind_minutes: Annotated[float, Meta(ge=0, le=100_000)] = 0
    """Minutes for which a node stays ready without comparing its registry answers with the published ones (`registry-sync pull`). 0: no limit."""
    checkpoint_seconds: Seconds = 60
    """Seconds between two signed checkpoints of the log."""
    timestamp_url: str = ""
    """URL of the time-stamping authority (RFC 3161) that stamps the newest checkpoint."""
    timestamp_url_file: str = ""
    """File that contains the authority's URL. Use it instead of `timestamp_url` for a URL with a password."""
    timestamp_roots: str = ""
    """PEM file with the authority's root certificates. A time stamp that does not chain to one of them is discarded."""
    timestamp_seconds: Seconds = 3_600
    """Seconds between two time stamps."""
    log_archive_hours: Annotated[float, Meta(ge=0, le=8784)] = 1
    """Hours for which a full log file stays unpacked. By then nearly all outcomes have been reported, so the gate rarely has to unpack the file again."""
    retention: tuple[Retention, ...] = ()
    """Retention of the link between decisions and called numbers, for each country."""
    shipping: Shipping | None = None
    """The targets of `dialgate ship`."""
    service_log: ServiceLog = ServiceLog()
    """The gate's log on stderr."""
    traces: TracesTo | None = None
    """OpenTelemetry traces. Default: none."""
    shadow_until: date | None = None
    """Last day of shadow mode for the whole gate, in the time zone of the controller where it ends first: see `shadow_until` of a client. It does not apply to a client with `trunk: true`."""
    backup_days: Annotated[int, Meta(ge=0, le=366)] = 1
    """Days after which the board asks for the next `dialgate backup`. 0: something else copies the data folder."""
    verify_log_nightly: bool = True
    """Whether the gate verifies its decision logs each night, on one core. If not, run `dialgate log verify`: after two days, the board asks for it."""
    accounts: AccountSettings = AccountSettings()
    """How people sign in at the console."""
    processor: Provider | None = None
    """The company that runs the gate for the controllers (GDPR art. 28). Without it, they run it themselves."""
    mail: ReportMail | None = None
    """Reports by mail. Default: none."""


def faults(settings: Settings) -> Iterator[str]:
    """Yield a message for each contradiction between settings."""
    yield from accounts.faults(settings.accounts)
    if settings.listen.tls_key and not settings.listen.tls_certificate:
        yield "listen: tls_key is set without tls_certificate, so the gate would use plain HTTP; set both"
    if settings.peers and settings.store is None:
        yield "peers: only gates that share a `store` use peers; set `store`, or remove `peers`"
    if settings.timestamp_url and settings.timestamp_url_file:
        yield "timestamp_url: set either this or `timestamp_url_file`"
