"""What a person must look at, and the numbers that a supervisor watches."""

from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile

from dialgate.core.model import SECOND, Instant

Kind: TypeAlias = Literal[
    "answer_overdue", "answer_faulty", "receipt_missing", "package_refused", "package_expired", "spending_limit",
    "expiring", "no_consultation", "enrolment_lapsing", "file_faulty", "version_old", "held", "source_failed", "refused",
]  # fmt: skip
JOB: Final = "registry_sync"


class Alarm(Struct, frozen=True, kw_only=True):
    registry: str
    controller: str
    kind: Kind
    text: str


class Summary(Struct, frozen=True, kw_only=True):
    """What became of one registry (and controller, or everybody) in one run. `foreign`: numbers
    on call lists that the registry is not about; `due`: those to be asked about before this run submitted any; `published` the version, where this run published one."""

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
    published: str = ""
    alarms: tuple[Alarm, ...] = ()


class Run(Struct, frozen=True, kw_only=True):
    at: Instant
    version: str
    dry: bool
    parts: tuple[Summary, ...]

    @property
    def alarms(self) -> list[Alarm]:
        return [alarm for part in self.parts for alarm in part.alarms]


def measured(run: Run) -> CollectorRegistry:
    """Every alarm of every part, so that one which is over goes back to 0."""
    registry = CollectorRegistry()
    labels = ("registry", "controller")

    def gauge(name: str, text: str, more: tuple[str, ...] = labels) -> Gauge:
        return Gauge(f"registry_sync_{name}", text, more, registry=registry)

    gauge("run_timestamp_seconds", "When the last run ended.", ()).set(run.at / SECOND)
    alarm = gauge("alarm", "1 while a person must look at it.", (*labels, "alarm"))
    consulted = gauge("consulted_timestamp_seconds", "Newest consultation, or oldest version of a full list.")
    numbers = gauge("numbers", "Numbers that are published.")
    due = gauge("due_numbers", "Numbers that are to be asked about.")
    waiting = gauge("waiting_packages", "Packages that the registry has not answered.")
    for part in run.parts:
        names = (part.registry, part.controller or "everyone")
        raised = {each.kind for each in part.alarms}
        for kind in get_args(Kind):
            alarm.labels(*names, kind).set(kind in raised)
        consulted.labels(*names).set(part.consulted_at / SECOND)
        numbers.labels(*names).set(part.numbers)
        due.labels(*names).set(part.due)
        waiting.labels(*names).set(part.waiting)
    return registry


def tell(run: Run, textfile: Path | None, pushgateway: str) -> None:
    """For the node exporter, whole at once, and to a Pushgateway. Raises OSError."""
    registry = measured(run)
    if textfile is not None:
        textfile.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(textfile), registry)
        textfile.chmod(0o644)  # the exporter runs as somebody else; there is no number in it
    if pushgateway:
        pushadd_to_gateway(pushgateway, job=JOB, registry=registry, timeout=10)
