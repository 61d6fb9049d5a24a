"""What a supervisor can watch, on a registry that is passed in. Every label has a bounded set of values: reason codes,
configured campaigns, interfaces and components; what a client invents is counted under `other`.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from dialgate.core.model import Instant

_LATENCIES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2.5)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BOUNDS = (*map(floatToGoString, _LATENCIES), "+Inf")
_Labels: TypeAlias = tuple[str, str, str, str]
_Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]


class _Waits:
    """How long the answers of one interface took: by bucket, how many, and the newest decision with its seconds."""

    __slots__ = ("counts", "newest", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(_LATENCIES) + 1)
        self.newest = [("", 0.0)] * (len(_LATENCIES) + 1)
        self.seconds = 0.0


class Calls(Collector):
    """What is counted at every call: plain numbers, of one thread, a batch at a time. The library's own counters cost
    more than the decision's rules do. The newest decision of each count and bucket is its exemplar (OpenMetrics), by
    which a dashboard leads to the record.
    """

    BOUNDS = _LATENCIES

    def __init__(self) -> None:
        self._decisions: Tally[_Labels] = Tally()
        self._newest: dict[_Labels, str] = {}
        self._waits: dict[str, _Waits] = {}

    def decided(self, answers: Sequence[_Labels], decisions: Iterable[str]) -> None:
        """Of each: allow or deny, first reason code, campaign, interface; and the decision's id."""
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
        """A copy, for who compares two moments: the decisions, and how many answers took as long as each of `BOUNDS`
        allows, the last of them longer.
        """
        waits = [sum(some) for some in zip(*(each.counts for each in self._waits.values()), strict=True)]
        return self._decisions.copy(), waits or [0] * (len(self.BOUNDS) + 1)

    def describe(self) -> Iterator[Metric]:
        return iter((self._counter(), self._histogram()))

    def collect(self) -> Iterator[Metric]:
        decisions, latency = self._counter(), self._histogram()
        for labels, count in list(self._decisions.items()):
            decisions.add_metric(labels, count, exemplar=_exemplar(self._newest[labels], 1))
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
        text = "From a check's arrival to its answer."
        return HistogramMetricFamily("dialgate_latency_seconds", text, labels=("interface",))


def _exemplar(decision: str, value: float) -> Exemplar | None:
    """None where nothing was decided: there is no record to lead to."""
    return Exemplar({"decision_id": decision}, value) if decision else None


def _bucket(bound: str, count: float, exemplar: Exemplar | None) -> _Bucket:
    return (bound, count) if exemplar is None else (bound, count, exemplar)


class Neighbours:
    """Numbers that stand on no list, asked about one after the other: a hundred and its next. A list that is in order
    does not look so, since its numbers stand on it. Memory: one prefix a client.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last: dict[str, str] = {}

    def unlisted(self, client: str, number: str) -> None:
        """`number` in E.164. It is cut before it is kept, and never shown."""
        hundred = number[:-2]
        if self._last.get(client) == hundred:
            self._counter.labels(client).inc()
        self._last[client] = hundred


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=_LATENCIES)

        self.calls = Calls()
        registry.register(self.calls)
        self.faults = counter(
            "dialgate_faults",
            "Checks refused for a fault of ours, undecided. The service log has the reason.",
            ("component",),
        )
        self.repeats = counter(
            "dialgate_repeats", "Checks answered from an earlier decision on the same question."
        )
        self.batch = Histogram(
            "dialgate_batch_calls", "Calls decided in one batch.", buckets=_BATCHES, registry=registry
        )
        neighbours = "Checks of a number on no list, in the same hundred as the client's last such: numbers made up in a row."
        self.unlisted = counter("dialgate_unlisted_neighbours", neighbours, ("client",))
        self.neighbours = Neighbours(self.unlisted)
        self.stale = counter(
            "dialgate_stale_batches",
            "Batches decided again: a number's state had changed.",
        )
        closed = "HTTP connections closed for want of a place: `evicted` had sent no admitted request, `refused` was new."
        self.connections_closed = counter("dialgate_connections_closed", closed, ("why",))
        self.sync = histogram("dialgate_log_sync_seconds", "Time to bring a batch of decisions to the disk.")
        self.log_records = gauge("dialgate_log_records", "Sequence of the newest record.")
        covered = "Sequence of the newest record that a signed checkpoint covers."
        self.log_covered = gauge("dialgate_log_covered_records", covered)

        self.ledger = counter("dialgate_ledger_entries", "Entries written to the ledger, by kind.", ("kind",))
        effect = "From the arrival of a revocation to its binding every decision."
        self.revocation_seconds = histogram("dialgate_revocation_effect_seconds", effect)
        results = "Reports of what became of allowed calls, by campaign."
        self.results = counter("dialgate_outcomes", results, ("campaign", "result"))

        self.lookups = counter("dialgate_lookups", "Numbers looked up, by what was shown.", ("what",))
        throttled = "Look-ups refused to a client that has looked up too many numbers."
        self.throttled = counter("dialgate_lookups_throttled", throttled, ("client",))
        self.open_cases = gauge("dialgate_subject_requests_open", "Requests of people to answer.", ("kind",))
        due = "Time left to answer the most urgent request; negative once it is late."
        self.case_left = gauge("dialgate_subject_request_left_seconds", due)
        messages = "Messages posted to a webhook, by what came of it."
        self.webhook_messages = counter("dialgate_webhook_messages", messages, ("webhook", "result"))
        untold = "Ledger entries that a webhook has not been told of yet."
        self.webhook_behind = gauge("dialgate_webhook_behind", untold, ("webhook",))
        dead = "Messages to a webhook that were given up."
        self.webhook_dead = gauge("dialgate_webhook_dead_letters", dead, ("webhook",))

        self._retention(counter, gauge)
        self._state(counter, gauge)
        self._shared(counter, gauge)
        info = "Version, whether the hot path is compiled, and the hash of the configuration."
        self.info = Info("dialgate", info, registry=registry)
        law = "The law in force on this node, by the hash of each country's file."
        self.laws = Info("dialgate_law", law, ("country",), registry=registry)

    def _retention(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.retired = counter(
            "dialgate_retention_removed", "What was removed at the end of its time.", ("kind",)
        )
        age = "Time since what was past its time was last removed; 0 where it is not removed daily."
        self.retention_age = gauge("dialgate_retention_age_seconds", age)
        waits = "1 while retention destroys nothing because the clock jumped; see `dialgate clock confirm`."
        self.retention_unconfirmed = gauge("dialgate_retention_unconfirmed", waits)

    def _shared(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        """Of those who share the store."""
        self.nodes = gauge("dialgate_nodes", "Gates that share the store, this one among them.")
        outdated = "Gates that share the store and run an older configuration or version than another."
        self.nodes_outdated = gauge("dialgate_nodes_outdated", outdated)
        peers = "Questions that other gates on the store asked, by what they were about."
        self.peers = counter("dialgate_peer_questions", peers, ("kind",))
        unasked = "Replicas of the store that could become its master, beyond the setting `replicas`."
        self.replicas_unasked = gauge("dialgate_store_replicas_unasked", unasked)

    def _state(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        """What upkeep finds, once a second."""
        self.ready = gauge(
            "dialgate_ready", "1 while the component works; the gate needs all.", ("component",)
        )
        upkeep = "Time since upkeep last completed a round; the gate denies once it is over `upkeep_stale_seconds`."
        self.upkeep_age = gauge("dialgate_upkeep_age_seconds", upkeep)
        each_snapshot = ("registry", "controller")
        age = "Age of the newest consultation, or of the version of a full list."
        self.snapshot_age = gauge("dialgate_snapshot_age_seconds", age, each_snapshot)
        left = "Time until the newest consultation no longer holds; negative once it has expired."
        self.snapshot_left = gauge("dialgate_snapshot_expiry_seconds", left, each_snapshot)
        numbers = "Numbers the registry has answered about."
        self.snapshot_numbers = gauge("dialgate_snapshot_numbers", numbers, each_snapshot)
        self.snapshot_rejected = counter("dialgate_snapshot_rejected", "Snapshots refused as damaged.")
        ends = "When the TLS certificate expires, or the first of its chain; nothing where a listener speaks plain HTTP."
        self.certificates = gauge("dialgate_tls_certificate_expiry_timestamp_seconds", ends, ("listener",))
        self.config_rejected = counter("dialgate_config_rejected", "Configurations refused on reload.")
        proved = "When the proof that a caller ID is called back ends; 0: there is none. In a reserved class it needs none."
        self.caller_ids = gauge(
            "dialgate_caller_id_proof_end_timestamp_seconds", proved, ("controller", "caller_id")
        )
        self.campaigns = gauge(
            "dialgate_campaign_open",
            "1 while the campaign may call: begun, not over, not paused.",
            ("campaign",),
        )
        self.disk_free = gauge("dialgate_data_free_bytes", "Free on the disk of the data folder.")
        self.disk_size = gauge("dialgate_data_size_bytes", "Size of the disk of the data folder.")

    def snapshot(self, registry: str, controller: str, numbers: int, age: Instant, left: Instant) -> None:
        """`age` and `left` in milliseconds."""
        labels = (registry, controller or "everyone")
        self.snapshot_age.labels(*labels).set(age / 1000)
        self.snapshot_left.labels(*labels).set(left / 1000)
        self.snapshot_numbers.labels(*labels).set(numbers)
