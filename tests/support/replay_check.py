"""Replay of the decisions that test gates recorded. It runs at the end of a test run and applies the stored law."""

from pathlib import Path

from msgspec import Struct, field

from dialgate.audit import replay
from dialgate.config import content_store as kept
from dialgate.decision_log import LogUnavailable, chains, verify
from dialgate.decision_log.records import Reader


class Tally(Struct):
    """The result of the replay. `damaged` counts logs that a test broke on purpose; they are skipped."""

    logs: int = 0
    records: int = 0
    damaged: int = 0
    different: list[str] = field(default_factory=list)


def replay_all(base: Path) -> Tally:
    """Replay the logs of every data folder at or below `base`. A data folder has a `log` and a `kept` folder."""
    tally = Tally()
    for kept_folder in sorted(base.rglob("kept")):
        if (kept_folder.parent / "log").is_dir():
            _replay_one(kept_folder.parent, tally)
    return tally


def _replay_one(data: Path, tally: Tally) -> None:
    for log in chains.folders(data).values():
        _replay_log(data, log, tally)


def _replay_log(data: Path, log: Path, tally: Tally) -> None:
    if not _is_whole(log):
        tally.damaged += 1
        return
    entries = (entry for _, entry in Reader(log).entries())
    try:
        report = replay.replay(entries, replay.as_recorded(data / "kept"), replay.exact)
    except (kept.NotKept, LogUnavailable) as fault:
        tally.different.append(f"{log}: {fault}")
        return
    tally.logs += 1
    tally.records += report.records
    tally.different += [
        f"{log}: {example.decision}: {change}" for example in report.examples for change in example.changes
    ]


def _is_whole(log: Path) -> bool:
    try:
        return verify(log).ok
    except OSError:
        return False
