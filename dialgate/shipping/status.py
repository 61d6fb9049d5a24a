"""Shipping progress of each log, as a metrics file for the node exporter."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge

from dialgate.core.faults import Unavailable
from dialgate.core.model import SECOND, Instant
from dialgate.runtime.metrics_textfile import write_textfile
from dialgate.shipping.target import StorageRefused, TargetFailed
from dialgate.store import StoreUnavailable

To: TypeAlias = Literal["segments", "stream"]
_log = structlog.get_logger(__name__)


class LogProgress(Struct):
    """The state of one log at one target.

    `last` is the sequence number of the last delivered entry. `behind` counts the entries waiting for delivery.
    `since` is the time of the oldest waiting entry or, for segments, the modification time of the oldest waiting file.
    `missed` counts the entries deleted before delivery. `problem` says why the last attempt failed, or is empty.
    `refused` is true if an operator has to act.
    """

    last: int = 0
    behind: int = 0
    since: Instant = 0
    missed: int = 0
    problem: str = ""
    refused: bool = False

    @contextmanager
    def attempt(self, to: To, number: int) -> Iterator[None]:
        """Record whether the block failed, and whether an operator has to act. A repeated problem is logged only once."""
        problem, refused = "", False
        try:
            yield
        except (StoreUnavailable, TargetFailed, OSError) as error:
            problem = str(error)
        except (StorageRefused, Unavailable) as error:
            problem, refused = str(error), True
        if problem not in {"", self.problem}:
            (_log.error if refused else _log.warning)(
                "not shipped", to=to, log_number=number, problem=problem
            )
        self.problem, self.refused = problem, refused


Standings: TypeAlias = Mapping[tuple[To, int], LogProgress]


def metrics_of(standings: Standings, now: Instant) -> CollectorRegistry:
    registry = CollectorRegistry()
    ran = "Time when the shipper last ran. Alert if it is old."
    Gauge("dialgate_shipping_run_timestamp_seconds", ran, registry=registry).set(now / SECOND)
    texts = {
        "records": "Sequence of the newest delivered record.",
        "behind_records": "Records not delivered yet. For segments, only those in closed segments.",
        "behind_seconds": "Age of the oldest record not delivered yet; 0 if none.",
        "failing": "1 if the last attempt failed.",
        "refused": "1 if a shipped segment or the local log was modified and an operator has to act. Alert on it.",
        "missed_records": "Records deleted from the log before delivery. Alert if above 0.",
    }
    # The label is older than the name `log number`. Dashboards select by it.
    gauges = {
        name: Gauge(f"dialgate_shipping_{name}", text, ("to", "worker"), registry=registry)
        for name, text in texts.items()
    }
    for (to, number), standing in standings.items():
        values = {
            "records": standing.last,
            "behind_records": standing.behind,
            "behind_seconds": max(now - standing.since, 0) / SECOND if standing.behind else 0,
            "failing": bool(standing.problem),
            "refused": standing.refused,
            "missed_records": standing.missed,
        }
        for name, value in values.items():
            gauges[name].labels(to, str(number)).set(value)
    return registry


def write_metrics(standings: Standings, now: Instant, textfile: Path) -> None:
    """Write the metrics file. Raises `OSError`."""
    write_textfile(metrics_of(standings, now), textfile)
