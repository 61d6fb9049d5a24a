"""The report on a run: its summaries, its alarms, and its metrics for Prometheus."""

from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

from dialgate.core.model import SECOND, Instant
from dialgate.runtime.metrics_textfile import write_textfile

Kind: TypeAlias = Literal[
    "answer_overdue", "answer_faulty", "receipt_missing", "package_refused", "package_expired", "spending_limit", "band_short",
    "expiring", "no_consultation", "enrolment_lapsing", "file_faulty", "version_old", "held", "source_failed", "refused",
]  # fmt: skip
JOB: Final = "registry_sync"


class Alarm(Struct, frozen=True, kw_only=True):
    registry: str
    controller: str
    kind: Kind
    text: str


class Summary(Struct, frozen=True, kw_only=True):
    """The result of one run for one registry and controller. `controller` is empty for a full list.

    `foreign` counts call-list numbers that the registry does not cover. `due` counts the numbers that were
    due for a query before this run submitted any. `year_numbers` counts the distinct numbers submitted in this calendar year,
    `year_needed` those and the numbers on call lists, `year_limit` is the tariff's limit or 0, and `limit_reached_at` is when
    it will be reached, or 0. `published` is the version published by this run, or empty.
    """

    registry: str
    controller: str
    consulted_at: Instant = 0
    numbers: int = 0
    foreign: int = 0
    due: int = 0
    submitted: int = 0
    waiting: int = 0
    answered: int = 0
    refreshed: int = 0
    newly_listed: int = 0
    newly_clear: int = 0
    added: int = 0
    removed: int = 0
    voided: int = 0
    year_numbers: int = 0
    year_needed: int = 0
    year_limit: int = 0
    limit_reached_at: Instant = 0
    published: str = ""
    alarms: tuple[Alarm, ...] = ()

    def alarm(self, kind: Kind, text: str) -> Alarm:
        return Alarm(registry=self.registry, controller=self.controller, kind=kind, text=text)


class Run(Struct, frozen=True, kw_only=True):
    at: Instant
    version: str
    dry: bool
    parts: tuple[Summary, ...]

    @property
    def alarms(self) -> list[Alarm]:
        return [alarm for part in self.parts for alarm in part.alarms]


def build_metrics(run: Run) -> CollectorRegistry:
    """Build the metrics for a run. Alarms that are not active are reported as 0."""
    registry = CollectorRegistry()
    labels = ("registry", "controller")

    def gauge(name: str, text: str, more: tuple[str, ...] = labels) -> Gauge:
        return Gauge(f"registry_sync_{name}", text, more, registry=registry)

    gauge("run_timestamp_seconds", "End of the last run.", ()).set(run.at / SECOND)
    alarm_gauge = gauge("alarm", "1 while this alarm is active.", (*labels, "alarm"))
    consulted = gauge("consulted_timestamp_seconds", "Newest consultation, or oldest version of a full list.")
    numbers = gauge("numbers", "Published numbers.")
    due = gauge("due_numbers", "Numbers due for a query.")
    waiting = gauge("waiting_packages", "Packages without an answer.")
    year = {
        "year_numbers": gauge("year_numbers", "Distinct numbers submitted in this calendar year."),
        "year_needed": gauge("year_needed_numbers", "Distinct numbers of this year and of the call lists."),
        "year_limit": gauge(
            "year_limit_numbers", "Distinct numbers a year that the tariff permits; 0: no limit."
        ),
    }
    for part in run.parts:
        names = (part.registry, part.controller or "everyone")
        active = {alarm.kind for alarm in part.alarms}
        for kind in get_args(Kind):
            alarm_gauge.labels(*names, kind).set(kind in active)
        consulted.labels(*names).set(part.consulted_at / SECOND)
        numbers.labels(*names).set(part.numbers)
        due.labels(*names).set(part.due)
        waiting.labels(*names).set(part.waiting)
        for field, figure in year.items():
            figure.labels(*names).set(getattr(part, field))
    return registry


def export_metrics(run: Run, textfile: Path | None, pushgateway: str) -> None:
    """Write the metrics for the node exporter and push them to a Pushgateway, if configured.

    Raises OSError.
    """
    registry = build_metrics(run)
    if textfile is not None:
        write_textfile(registry, textfile)
    if pushgateway:
        pushadd_to_gateway(pushgateway, job=JOB, registry=registry, timeout=10)
