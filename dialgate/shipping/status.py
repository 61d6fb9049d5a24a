"""How far each log has been moved on, for who watches: a file for the node exporter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from dialgate.core.model import SECOND, Instant

To: TypeAlias = Literal["segments", "stream"]
_log = structlog.get_logger(__name__)


class Standing(Struct):
    """Of one log with one target. `last`: the last entry that is there; `behind`: entries that are not there yet and could
    be, the oldest of them from `since`; `problem`: why it did not go on last time; `refused`: and a person must look."""

    last: int = 0
    behind: int = 0
    since: Instant = 0
    missed: int = 0
    problem: str = ""
    refused: bool = False

    def goes_on(self) -> None:
        self.problem, self.refused = "", False

    def failed(self, to: To, worker: int, problem: str, *, refused: bool = False) -> None:
        """Said once for each problem, not at every try."""
        if problem != self.problem:
            (_log.error if refused else _log.warning)("not shipped", to=to, worker=worker, problem=problem)
        self.problem, self.refused = problem, refused


Standings: TypeAlias = Mapping[tuple[To, int], Standing]


def measured(standings: Standings, now: Instant) -> CollectorRegistry:
    registry = CollectorRegistry()
    ran = "When the shipper last looked. Alarm when it is long ago."
    Gauge("dialgate_shipping_run_timestamp_seconds", ran, registry=registry).set(now / SECOND)
    texts = {
        "records": "Sequence of the newest record that is there.",
        "behind_records": "Records that are not there yet: of closed files, or for the stream all.",
        "behind_seconds": "How long the oldest of them has waited; 0 while there are none.",
        "failing": "1 while the last attempt failed.",
        "refused": "1 while it waits for a person: what is there, or the log, is not what it was. Alarm on it.",
        "missed_records": "Records that were gone from the log before they were told. Alarm on any.",
    }
    gauges = {
        name: Gauge(f"dialgate_shipping_{name}", text, ("to", "worker"), registry=registry)
        for name, text in texts.items()
    }
    for (to, worker), each in standings.items():
        values = {
            "records": each.last,
            "behind_records": each.behind,
            "behind_seconds": max(now - each.since, 0) / SECOND if each.behind else 0,
            "failing": bool(each.problem),
            "refused": each.refused,
            "missed_records": each.missed,
        }
        for name, value in values.items():
            gauges[name].labels(to, str(worker)).set(value)
    return registry


def tell(standings: Standings, now: Instant, textfile: Path) -> None:
    """Raises `OSError`."""
    textfile.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(textfile), measured(standings, now))
    textfile.chmod(0o644)  # the exporter runs as somebody else; there is no number in it
