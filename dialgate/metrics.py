"""What a supervisor can watch, on a registry that is passed in. Every label has a bounded set of values: reason codes,
configured campaigns, interfaces and components; what a client invents is counted under `other`."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from dialgate.model import Instant

_LATENCIES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2.5)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=_LATENCIES)
        each_snapshot = ("registry", "controller")

        answered = (
            "Decisions recorded, by answer, first reason code (empty for an allow), campaign and interface."
        )
        self.decisions = counter(
            "dialgate_decisions", answered, ("decision", "code", "campaign", "interface")
        )
        self.faults = counter(
            "dialgate_faults", "Checks refused for a fault of ours, undecided.", ("component",)
        )
        self.repeats = counter(
            "dialgate_repeats", "Checks answered from an earlier decision on the same question."
        )
        self.latency = histogram(
            "dialgate_latency_seconds", "From a check's arrival to its answer.", ("interface",)
        )
        self.batch = Histogram(
            "dialgate_batch_calls", "Calls decided in one batch.", buckets=_BATCHES, registry=registry
        )
        self.stale = counter("dialgate_stale_batches", "Batches decided again: a number's state had changed.")
        self.sync = histogram("dialgate_log_sync_seconds", "Time to bring a batch of decisions to the disk.")
        self.log_records = gauge("dialgate_log_records", "Sequence of the newest record.")

        self.ledger = counter("dialgate_ledger_entries", "Entries written to the ledger, by kind.", ("kind",))
        effect = "From the arrival of a revocation to its binding every decision."
        self.revocation_seconds = histogram("dialgate_revocation_effect_seconds", effect)
        self.results = counter("dialgate_outcomes", "What became of allowed calls, as reported.", ("result",))

        self.ready = gauge(
            "dialgate_ready", "1 while the component works; the gate needs all.", ("component",)
        )
        age = "Age of the newest consultation, or of the version of a full list."
        self.snapshot_age = gauge("dialgate_snapshot_age_seconds", age, each_snapshot)
        left = "Time until the newest consultation no longer holds; negative once it has expired."
        self.snapshot_left = gauge("dialgate_snapshot_expiry_seconds", left, each_snapshot)
        numbers = "Numbers the registry has answered about."
        self.snapshot_numbers = gauge("dialgate_snapshot_numbers", numbers, each_snapshot)
        self.snapshot_rejected = counter("dialgate_snapshot_rejected", "Snapshots refused as damaged.")
        self.config_rejected = counter("dialgate_config_rejected", "Configurations refused on reload.")
        self.info = Info("dialgate", "Version, and the hashes of what is in force.", registry=registry)

        self._children: dict[tuple[str, str, str, str], Counter] = {}
        self._latencies: dict[str, Histogram] = {}

    def decided(self, decision: str, code: str, campaign: str, interface: str) -> None:
        key = (decision, code, campaign, interface)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self.decisions.labels(*key)
        child.inc()

    def took(self, interface: str, seconds: float) -> None:
        child = self._latencies.get(interface)
        if child is None:
            child = self._latencies[interface] = self.latency.labels(interface)
        child.observe(seconds)

    def snapshot(self, registry: str, controller: str, numbers: int, age: Instant, left: Instant) -> None:
        """`age` and `left` in milliseconds."""
        labels = (registry, controller or "everyone")
        self.snapshot_age.labels(*labels).set(age / 1000)
        self.snapshot_left.labels(*labels).set(left / 1000)
        self.snapshot_numbers.labels(*labels).set(numbers)
