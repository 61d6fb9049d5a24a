"""The schema of dialgate.yaml, and the checks of its keys against each other."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from dialgate.config.clients import Client
from dialgate.config.fields import Name, Seconds, Strict, Url
from dialgate.config.listeners import FastAgi, Limits, Listen, Operations, Sip, Uploads, sip_faults
from dialgate.config.log_settings import ServiceLog, TracesTo
from dialgate.config.retention_terms import Retention
from dialgate.config.shipping import Shipping
from dialgate.config.storage_periods import Storage
from dialgate.config.webhook_targets import Webhook

ONE_PROCESS = "the embedded store counts attempts for one process; set `store` to a Redis, or `workers` to 1"


class SharedStore(Strict, frozen=True, kw_only=True):
    """The Redis that several gates share. `url_file`: a file with the URL, for a URL that holds a password. `replicas`: how many
    must have a ledger entry on disk before it is acknowledged. `patience`: seconds that one round trip may last."""

    url: str = ""
    url_file: str = ""
    name: Name = "dialgate"
    replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    patience: Seconds = 1


class Settings(Strict, frozen=True, kw_only=True):
    """The content of dialgate.yaml. Paths are relative to that file."""

    data: str = "../.data"
    countries: str = "countries"
    controllers: str = "controllers"
    webhooks: str = "webhooks"
    listen: Listen = Listen()
    limits: Limits = Limits()
    operations: Operations | None = None
    uploads: Uploads = Uploads()
    fastagi: FastAgi | None = None
    sip: Sip | None = None
    clients: tuple[Client, ...] = ()
    subscribers: tuple[Webhook, ...] = ()
    node: Name = "gate"
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    batch_calls: Annotated[int, Meta(ge=1, le=4096)] = 256
    answer_seconds: Seconds = 900
    permit_seconds: Annotated[int, Meta(ge=1, le=60)] = 10
    remember_hours: Annotated[int, Meta(ge=24, le=720)] = 24
    store: SharedStore | None = None
    peers: Mapping[Name, Url] = {}
    store_patience: Seconds = 0.1
    # Below the 10 s that a command waits for a gate's confirmation; a late gate denies until it has confirmed.
    upkeep_stale_seconds: Annotated[float, Meta(ge=2, le=8)] = 3
    log_segment_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    log_segment_hours: Annotated[int, Meta(ge=0, le=8784)] = 24
    storage: Storage = Storage()
    snapshot_key: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    snapshot_behind_minutes: Annotated[float, Meta(ge=0, le=100_000)] = 0
    checkpoint_seconds: Seconds = 60
    timestamp_url: str = ""
    timestamp_url_file: str = ""
    timestamp_roots: str = ""
    timestamp_seconds: Seconds = 3_600
    log_archive_hours: Annotated[float, Meta(ge=0, le=8784)] = 1
    retention: tuple[Retention, ...] = ()
    shipping: Shipping | None = None
    service_log: ServiceLog = ServiceLog()
    traces: TracesTo | None = None


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
