"""What a draft of the configuration would change in the decisions of the last days."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from dialgate.audit.draft_configuration import DraftConfiguration
from dialgate.audit.replay import ChangedCalls, Direction, Doubt, Verdict, in_reasons, read_kept_laws, replay
from dialgate.config import loader
from dialgate.config.configuration import Config, ConfigError
from dialgate.config.content_store import NotKept
from dialgate.core.local_time import rfc3339
from dialgate.core.model import DAY, Instant, OutcomeRecord
from dialgate.core.reasons import REASONS
from dialgate.core.refusal import Refused
from dialgate.core.text_formats import ReasonCode, Timestamp
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.span import LogSpan


class ReasonCount(Struct, frozen=True):
    code: ReasonCode
    calls: int


class ConfigurationChange(Struct, frozen=True, kw_only=True):
    """The calls of a campaign whose decision changes in the same way."""

    campaign: str
    was: Verdict
    becomes: Annotated[Verdict, Meta(description="`unknown` if the records do not tell; `doubt` says why.")]
    calls: int
    no_longer: tuple[ReasonCount, ...]
    now: tuple[ReasonCount, ...]
    examples: tuple[str, ...]
    doubt: Doubt = ""

    @property
    def directions(self) -> set[str]:
        """The values of `--fail-on` that this change meets. A call that cannot be judged counts as denied."""
        if self.was == "deny":
            return {"any", "allow"} if self.becomes == "allow" else {"any"}
        return {"any", "deny"}


class ConfigurationDiff(Struct, frozen=True, kw_only=True):
    """What a draft changes. `unjudged` is the number of decisions that it may change, but that the records do not settle."""

    since: Timestamp
    until: Timestamp
    decisions: int
    unjudged: int
    changes: tuple[ConfigurationChange, ...]


def compare(
    draft: Config,
    chains: Chains,
    entries: Iterable[Record | OutcomeRecord],
    within: LogSpan,
    campaign: str = "",
) -> ConfigurationDiff:
    """Decide the entries `within` a period again with a draft. Changes with the most calls come first.

    `campaign` selects decisions. Raises `NotKept` and `LogDamaged`.
    """
    folders = [home.folder / "kept" for home in chains.homes]
    retrial_of = DraftConfiguration(draft, read_kept_laws(*folders), *folders)
    report = replay(_decisions(entries, campaign), retrial_of, in_reasons)
    changes = [_change(direction, calls) for direction, calls in report.changed.items()]
    return ConfigurationDiff(
        since=rfc3339(within.since),
        until=rfc3339(within.until),
        decisions=report.records,
        unjudged=sum(change.calls for change in changes if change.doubt),
        changes=tuple(sorted(changes, key=lambda change: (-change.calls, change.campaign))),
    )


def last_days(chains: Chains, days: int) -> LogSpan:
    """Return the last days of the logs. They end with the newest entry, because a copied log is older than the clock."""
    newest = max(map(_newest, chains.readers.values()), default=0)
    return LogSpan(since=newest - days * DAY, until=newest + 1)


def _newest(reader: Reader) -> Instant:
    entries = (reader.find(seq) for seq in range(reader.segments.end() - 1, 0, -1))
    return next((entry.at for entry in entries if entry is not None), 0)


def compare_file(path: Path, chains: tuple[Path, Path | None], days: int, campaign: str) -> ConfigurationDiff:
    """Return what a gate would change if it loaded the configuration at `path`. `chains` are the arguments of `Chains`.

    Raises `Refused` if the configuration is invalid, and `LogDamaged`.
    """
    logs = Chains(*chains)
    within = last_days(logs, days)
    entries = (entry for log in logs.readers.values() for _, entry in span.within(log, within))
    try:
        return compare(loader.load(path), logs, entries, within, campaign)
    except (ConfigError, NotKept) as error:
        raise Refused("config.invalid", str(error), status=409) from None


def _decisions(entries: Iterable[Record | OutcomeRecord], campaign: str) -> Iterator[Record]:
    for entry in entries:
        if isinstance(entry, Record) and campaign in {"", entry.facts.campaign.id}:
            yield entry


def _change(direction: Direction, calls: ChangedCalls) -> ConfigurationChange:
    was, becomes = Counter[str](), Counter[str]()
    for change, count in calls.changes.items():
        was[change.was] += count
        becomes[change.becomes] += count
    return ConfigurationChange(
        **direction._asdict(),
        calls=calls.records,
        no_longer=_reasons(was),
        now=_reasons(becomes),
        examples=tuple(calls.examples),
    )


def _reasons(counts: Counter[str]) -> tuple[ReasonCount, ...]:
    return tuple(ReasonCount(code, count) for code, count in counts.most_common() if code in REASONS)
