"""The Prometheus metrics of a gate.

Every label has a bounded set of values: reason codes, configured campaigns, interfaces, components. Unknown values from clients
are counted under `other`.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from dialgate.core.model import RESULT_RANK, Instant

_LATENCIES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2.5)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
REPORTED = tuple(result for result in RESULT_RANK if result != "pending")
_BOUNDS = (*map(floatToGoString, _LATENCIES), "+Inf")
_Labels: TypeAlias = tuple[str, str, str, str]
_Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]


class _Waits:
    """The latencies on one interface.

    `counts` and `newest` have one item per latency bucket. An item in `newest` is the id of the bucket's newest
    decision and its latency in seconds. `seconds` is the sum of all latencies.
    """

    __slots__ = ("counts", "newest", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(_LATENCIES) + 1)
        self.newest = [("", 0.0)] * (len(_LATENCIES) + 1)
        self.seconds = 0.0


class Calls(Collector):
    """The metrics of decided calls. A single thread updates them, one batch at a time.

    Updating prometheus_client counters would take longer than evaluating the rules. The newest decision for each
    counter and bucket is its exemplar (OpenMetrics), so that a dashboard can link to the record.
    """

    BOUNDS = _LATENCIES

    def __init__(self) -> None:
        self._decisions: Tally[_Labels] = Tally()
        self._newest: dict[_Labels, str] = {}
        self._waits: dict[str, _Waits] = {}

    def decided(self, answers: Sequence[_Labels], decisions: Iterable[str]) -> None:
        """Count a batch of decisions.

        Each item in `answers` is a tuple (verdict, first reason code, campaign, interface). `decisions` contains the
        decision ids in the same order.
        """
        self._decisions.update(answers)
        self._newest.update(zip(answers, decisions, strict=True))

    def took(self, interface: str, seconds: float, decision: str) -> None:
        waits = self._waits.get(interface)
        if waits is None:
            waits = self._waits[interface] = _Waits()
        bucket = bisect_left(_LATENCIES, seconds)
        waits.counts[bucket] += 1
        waits.seconds += seconds
        waits.newest[bucket] = (decision, seconds)

    def tally(self) -> tuple[Tally[tuple[str, str, str, str]], list[int]]:
        """Return a copy of the decision counts, and the number of answers in each latency bucket.

        The last bucket counts latencies above all `BOUNDS`.
        """
        waits = [sum(counts) for counts in zip(*(wait.counts for wait in self._waits.values()), strict=True)]
        return self._decisions.copy(), waits or [0] * (len(self.BOUNDS) + 1)

    def campaigns(self) -> set[str]:
        """Return the campaigns with decisions."""
        return {campaign for _, _, campaign, _ in list(self._decisions)}

    def describe(self) -> Iterator[Metric]:
        return iter((self._counter(), self._histogram()))

    def collect(self) -> Iterator[Metric]:
        decisions, latency = self._counter(), self._histogram()
        for labels, count in list(self._decisions.items()):
            decisions.add_metric(labels, count, exemplar=_exemplar(self._newest.get(labels, ""), 1))
        for interface, waits in list(self._waits.items()):
            buckets = [
                _bucket(bound, count, _exemplar(*newest))
                for bound, count, newest in zip(_BOUNDS, accumulate(waits.counts), waits.newest, strict=True)
            ]
            latency.add_metric([interface], buckets, waits.seconds)
        return iter((decisions, latency))

    def _counter(self) -> CounterMetricFamily:
        text = (
            "Decisions recorded, by answer, first reason code (empty for an allow), campaign and interface."
        )
        return CounterMetricFamily(
            "dialgate_decisions", text, labels=("decision", "code", "campaign", "interface")
        )

    def _histogram(self) -> HistogramMetricFamily:
        text = "Time from a check's arrival to its answer."
        return HistogramMetricFamily("dialgate_latency_seconds", text, labels=("interface",))


def _exemplar(decision: str, value: float) -> Exemplar | None:
    return Exemplar({"decision_id": decision}, value) if decision else None


def _bucket(bound: str, count: float, exemplar: Exemplar | None) -> _Bucket:
    return (bound, count) if exemplar is None else (bound, count, exemplar)


class OutcomeCounter(Collector):
    """The reported outcomes, by campaign and result.

    Each campaign with a decision has all series from the beginning: Prometheus would not see an increase from nothing to 1.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls, self._reported = calls, Tally[tuple[str, str]]()

    def reported(self, campaign: str, result: str) -> None:
        self._reported[campaign, result] += 1

    def describe(self) -> Iterator[CounterMetricFamily]:
        text = "Reported outcomes of allowed calls, by campaign."
        return iter((CounterMetricFamily("dialgate_outcomes", text, labels=("campaign", "result")),))

    def collect(self) -> Iterator[Metric]:
        (family,) = self.describe()
        called = dict.fromkeys(
            (campaign, result) for campaign in self._calls.campaigns() for result in REPORTED
        )
        for labels in called | self._reported:
            family.add_metric(labels, self._reported[labels])
        yield family


class ScrapedGauge(Collector):
    """A gauge whose series are all computed at each scrape, so it keeps none of a campaign that was removed."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._compute: Callable[[], Mapping[tuple[str, ...], float]] = dict
        registry.register(self)

    def set_function(self, compute: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Use `compute` for the values by their labels. It runs in a thread."""
        self._compute = compute

    def describe(self) -> Iterator[Metric]:
        return iter((GaugeMetricFamily(self._name, self._text, labels=self._labels),))

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._compute().items():
            family.add_metric(labels, value)
        yield family


class ShadowDenials:
    """The calls that shadow mode let through although the gate would refuse them: a counter, and each campaign's number today."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._today: dict[str, tuple[date, int]] = {}

    def let_through(self, campaign: str, code: str, today: date) -> None:
        self._counter.labels(campaign, code).inc()
        day, count = self._today.get(campaign, (today, 0))
        self._today[campaign] = today, count + 1 if day == today else 1

    def on(self, campaign: str, today: date) -> int:
        """Return how many of the campaign's calls were let through today, since this gate started."""
        day, count = self._today.get(campaign, (today, 0))
        return count if day == today else 0


class Neighbours:
    """A detector of clients that check generated numbers instead of numbers from a call list.

    The detector counts each unlisted number that differs from the client's previous unlisted number only in the last
    two digits. An unlisted number is on no call list. The detector stores only one prefix for each client.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last: dict[str, str] = {}

    def unlisted(self, client: str, number: str) -> None:
        """Remember an unlisted number (E.164) that a client checked.

        Count the check if the client's previous unlisted number differs only in the last two digits.
        """
        hundred = number[:-2]
        if self._last.get(client) == hundred:
            self._counter.labels(client).inc()
        self._last[client] = hundred


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=_LATENCIES)

        self.calls = Calls()
        registry.register(self.calls)
        self.faults = counter(
            "dialgate_faults",
            "Checks denied without a decision because of a fault in the gate. The service log has the reason.",
            ("component",),
        )
        self.repeats = counter("dialgate_repeats", "Repeated checks that got the earlier decision.")
        self.batch = Histogram(
            "dialgate_batch_calls", "Calls decided in one batch.", buckets=_BATCHES, registry=registry
        )
        neighbours = "Checks for an unlisted number that differs from the client's previous one only in the last two digits: probably generated."
        self.unlisted = counter("dialgate_unlisted_neighbours", neighbours, ("client",))
        self.neighbours = Neighbours(self.unlisted)
        self.stale = counter(
            "dialgate_stale_batches",
            "Batches decided again because the state of a number had changed, or was not as assumed.",
        )
        closed = "HTTP connections closed because of a limit: `evicted`, an open connection without an admitted request; `refused`, a new one; `unread`, one whose client did not read its responses."
        self.connections_closed = counter("dialgate_connections_closed", closed, ("why",))
        self.sync = histogram("dialgate_log_sync_seconds", "Time to write and sync a batch of decisions.")
        self.log_records = gauge("dialgate_log_records", "Sequence number of the newest record.")
        covered = "Sequence number of the newest record that a signed checkpoint covers."
        self.log_covered = gauge("dialgate_log_covered_records", covered)

        self.ledger = counter("dialgate_ledger_entries", "Entries written to the ledger, by kind.", ("kind",))
        effect = "Time from the arrival of a revocation until it applies to every decision."
        self.revocation_seconds = histogram("dialgate_revocation_effect_seconds", effect)
        self.results = OutcomeCounter(self.calls)
        registry.register(self.results)

        self.lookups = counter("dialgate_lookups", "Numbers looked up, by the kind of data shown.", ("what",))
        refused = "Calls refused because the client exceeded `calls_per_second`, or wrote most while the disk was nearly full."
        self.calls_refused = counter("dialgate_calls_refused", refused, ("client",))
        throttled = "Look-ups refused because the client has looked up too many numbers."
        self.throttled = counter("dialgate_lookups_throttled", throttled, ("client",))
        self.open_cases = gauge("dialgate_subject_requests_open", "Open data-subject requests.", ("kind",))
        due = "Time left to answer the most urgent data-subject request; negative if it is late."
        self.case_left = gauge("dialgate_subject_request_left_seconds", due)
        self._create_webhook_metrics(counter, gauge)
        self._create_retention_metrics(counter, gauge)
        self._create_upkeep_metrics(counter, gauge)
        self._create_shared_store_metrics(counter, gauge)
        self._create_shadow_metrics(counter)
        mails = "Reports sent by mail, by result: `sent`, or `failed` for each attempt that failed."
        self.report_mails = counter("dialgate_report_mails", mails, ("report", "result"))
        info = "Version, and the hash of the configuration."
        self.info = Info("dialgate", info, registry=registry)
        law = "The law in force on this node, by the hash of each country's file."
        self.laws = Info("dialgate_law", law, ("country",), registry=registry)

    def _create_webhook_metrics(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        messages = "Messages posted to a webhook, by result."
        self.webhook_messages = counter("dialgate_webhook_messages", messages, ("webhook", "result"))
        untold = "Ledger entries not delivered to a webhook yet."
        self.webhook_behind = gauge("dialgate_webhook_behind", untold, ("webhook",))
        dead = "Messages to a webhook that were not delivered and are no longer retried."
        self.webhook_dead = gauge("dialgate_webhook_dead_letters", dead, ("webhook",))
        received = "Messages from platforms and CRMs, by result: `recorded`, `nothing` to record, `kept` because it could not be applied, `refused` because it was not authentic."
        self.webhooks_received = counter("dialgate_webhooks_received", received, ("webhook", "result"))
        waiting = "Messages from platforms and CRMs that could not be applied and wait to be replayed."
        self.dead_letters = gauge("dialgate_dead_letters", waiting)

    def _create_retention_metrics(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.retired = counter(
            "dialgate_retention_removed", "Items removed at the end of their storage period.", ("kind",)
        )
        age = "Time since expired data was last removed; 0 if daily removal is off."
        self.retention_age = gauge("dialgate_retention_age_seconds", age)
        waits = "1 while retention destroys nothing because the clock jumped."
        self.retention_unconfirmed = gauge("dialgate_retention_unconfirmed", waits)

    def _create_shared_store_metrics(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.nodes = gauge("dialgate_nodes", "Gates that share the store, including this one.")
        outdated = "Gates that share the store and run an older configuration or version than another gate."
        self.nodes_outdated = gauge("dialgate_nodes_outdated", outdated)
        peers = "Requests from other gates that share the store, by kind."
        self.peers = counter("dialgate_peer_questions", peers, ("kind",))
        unasked = "Replicas that could become the store's master, minus the `replicas` setting."
        self.replicas_unasked = gauge("dialgate_store_replicas_unasked", unasked)

    def _create_shadow_metrics(self, counter: partial[Counter]) -> None:
        denials = "Calls that shadow mode let through although the gate would refuse them, by campaign and first reason."
        self.shadow_denials = counter("dialgate_shadow_denials", denials, ("campaign", "code"))
        self.shadow = ShadowDenials(self.shadow_denials)
        ends = "End of shadow mode, for the gate, each client and each campaign that is in it."
        self.shadow_ends = ScrapedGauge(
            "dialgate_shadow_end_timestamp_seconds", ends, ("scope", "name"), registry=self._registry
        )

    def _create_upkeep_metrics(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.ready = gauge(
            "dialgate_ready", "1 while the component works. The gate needs every component.", ("component",)
        )
        upkeep = "Time since the last complete upkeep round; above `upkeep_stale_seconds` the gate denies every call."
        self.upkeep_age = gauge("dialgate_upkeep_age_seconds", upkeep)
        each_snapshot = ("registry", "controller")
        age = "Age of the newest consultation, or of a full list's version."
        self.snapshot_age = gauge("dialgate_snapshot_age_seconds", age, each_snapshot)
        left = "Time until the newest consultation expires; negative if it has expired."
        self.snapshot_left = gauge("dialgate_snapshot_expiry_seconds", left, each_snapshot)
        numbers = "Numbers with a registry answer."
        self.snapshot_numbers = gauge("dialgate_snapshot_numbers", numbers, each_snapshot)
        self.snapshot_rejected = counter("dialgate_snapshot_rejected", "Snapshots rejected as damaged.")
        ends = "Expiry of the TLS certificate, or the earliest expiry in its chain; no series for a listener with plain HTTP."
        self.certificates = gauge("dialgate_tls_certificate_expiry_timestamp_seconds", ends, ("listener",))
        self.config_rejected = counter(
            "dialgate_config_rejected", "Invalid configurations rejected on reload."
        )
        proved = (
            "Expiry of a caller ID's call-back proof; 0: no proof. Caller IDs in a reserved class need none."
        )
        series = partial(ScrapedGauge, registry=self._registry)
        self.caller_ids = series(
            "dialgate_caller_id_proof_end_timestamp_seconds", proved, ("controller", "caller_id")
        )
        self.campaigns = series(
            "dialgate_campaign_open",
            "1 while the campaign may call: started, not ended, not paused.",
            ("campaign",),
        )
        used = "Used part of the strictest limit on abandoned calls, for campaigns with reported outcomes. Above 1 the campaign is paused."
        self.campaign_limit = series("dialgate_campaign_abandoned_limit_used", used, ("campaign",))
        paused = "1 while a supervisor has paused the campaign, or it is paused because it abandoned too many calls."
        self.campaign_paused = series("dialgate_campaign_paused", paused, ("campaign",))
        self.disk_free = gauge("dialgate_data_free_bytes", "Free space on the data folder's disk.")
        self.disk_size = gauge("dialgate_data_size_bytes", "Size of the data folder's disk.")

    def snapshot(self, registry: str, controller: str, numbers: int, age: Instant, left: Instant) -> None:
        """Set the metrics for a registry's snapshot.

        `age` is the age of the newest consultation, in milliseconds. `left` is the time until that consultation
        expires, in milliseconds. `left` is negative if the consultation has expired.
        """
        labels = (registry, controller or "everyone")
        self.snapshot_age.labels(*labels).set(age / 1000)
        self.snapshot_left.labels(*labels).set(left / 1000)
        self.snapshot_numbers.labels(*labels).set(numbers)
