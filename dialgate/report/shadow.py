"""The figures of a trial in shadow mode: the calls that the gate saw, those that it would have refused, and why.

They depend only on the records, and on what `dialgate reconcile` found in the trunk's.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from dialgate.config.configuration import Config
from dialgate.core import local_time
from dialgate.core.decision_ids import owner_of
from dialgate.core.model import MINUTE, Instant
from dialgate.core.text_formats import OptionalTimestamp
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains, homes, shipped_until
from dialgate.decision_log.entry_columns import EntryColumns, count_equal
from dialgate.decision_log.span import LogSpan
from dialgate.report.figures import Period, outside_ids

_COLUMNS = ("controller", "client", "campaign", "allow", "reasons", "shadow", "lists")
_QUARTER = 15 * MINUTE  # in every time zone an hour begins with one
_HOURS = [f"{hour:02}" for hour in range(24)]
_SAMPLES = 3
_Count = Annotated[int, Meta(ge=0)]


class TrunkCoverage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `dialgate reconcile --json` says of the trunk's calls.

    `calls` are those that left, `allowed` those that a decision allowed, and `shadow` those that were let through in shadow mode.
    `counts` has the calls that bypassed the gate, by kind.
    """

    calls: _Count
    allowed: _Count
    shadow: _Count = 0
    counts: dict[str, _Count] = {}
    since: OptionalTimestamp = ""
    until: OptionalTimestamp = ""

    @property
    def seen(self) -> int:
        return self.allowed + self.shadow


class ShadowReportOrder(Struct, frozen=True, kw_only=True):
    """What a report is about. Without `campaigns`, it covers all of the controllers."""

    controllers: tuple[str, ...]
    period: Period
    made_at: Instant
    campaigns: tuple[str, ...] = ()
    coverage: TrunkCoverage | None = None


class ShadowCount(Struct, frozen=True):
    """Calls that were checked in shadow mode, and those of them that would have been refused."""

    name: str
    checked: int
    refused: int


class ShadowReason(Struct, frozen=True):
    """A reason against calls. `alone` counts those without another reason, which go on if this one is removed.

    `samples` are ids of decisions.
    """

    code: str
    refused: int
    alone: int
    samples: tuple[str, ...]


class ShadowReport(Struct, frozen=True, kw_only=True):
    """All figures in a report. `enforced` counts the decisions outside shadow mode, with those about stops.

    A call with several reasons, or on several lists, counts under each of them.
    """

    controllers: tuple[str, ...]
    campaigns_asked: tuple[str, ...]
    period: Period
    made_at: str
    coverage: TrunkCoverage | None
    checked: int
    refused: int
    enforced: int
    reasons: tuple[ShadowReason, ...]
    campaigns: tuple[ShadowCount, ...]
    lists: tuple[ShadowCount, ...]
    hours: tuple[ShadowCount, ...]
    shipped: dict[str, str] = {}

    @property
    def refused_share(self) -> float:
        return self.refused / self.checked if self.checked else 0.0


class _ShadowTally:
    def __init__(self, order: ShadowReportOrder, clients: Collection[str]) -> None:
        self.calls: Counter[bool] = Counter()  # by whether they would have been allowed
        self.enforced = 0
        self.reasons: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[str, str]]] = defaultdict(list)  # decision id and owner
        self.campaigns: Counter[tuple[str, bool]] = Counter()
        self.lists: Counter[tuple[str, bool]] = Counter()
        self.hours: Counter[tuple[str, bool]] = Counter()
        self._order, self._clients = order, clients

    def add(self, decisions: EntryColumns) -> None:
        """Count decisions, all of one log."""
        decisions = self._of_order(decisions)
        in_shadow = decisions.column("shadow").where(bool)
        self.enforced += int((~in_shadow).sum())
        calls = decisions.select(in_shadow)
        hours = calls.unit(_QUARTER).map(lambda at: local_time.hour_in(self._order.period.zone, at)[1])
        names = [calls.column(name) for name in ("allow", "reasons", "campaign", "lists")]
        for (allow, reasons, campaign, lists, hour), number in count_equal([*names, hours]):
            self.calls[allow] += number
            self.campaigns[campaign, allow] += number
            self.hours[f"{hour:02}", allow] += number
            for name in lists.split() or [""]:
                self.lists[name, allow] += number
            codes = set(reasons.split())
            for code in codes:
                self.reasons[code] += number
                self.alone[code] += number * (len(codes) == 1)
        self._sample(calls.select(calls.column("allow").where(lambda allow: not allow)))

    def _of_order(self, decisions: EntryColumns) -> EntryColumns:
        controllers, campaigns = self._order.controllers, self._order.campaigns
        owners, clients = decisions.column("controller"), decisions.column("client")
        is_own = owners.where(controllers.__contains__)
        is_of_client = owners.where("".__eq__) & clients.where(self._clients.__contains__)
        is_asked = decisions.column("campaign").where(lambda name: not campaigns or name in campaigns)
        return decisions.select((is_own | is_of_client) & is_asked)

    def _sample(self, refused: EntryColumns) -> None:
        reasons = refused.column("reasons")
        for code in np.unique(reasons.codes).tolist():
            is_one = reasons.codes == code
            some = refused.select(is_one & (is_one.cumsum() <= _SAMPLES))
            owners = map(owner_of, some.column("controller"), some.column("client"))
            pairs = [
                (f"{some.log}-{seq}", owner) for seq, owner in zip(some.seqs.tolist(), owners, strict=True)
            ]
            for name in set(reasons.values[code].split()):
                self.samples[name] = (self.samples[name] + pairs)[:_SAMPLES]


def gather_shadow(config: Config, order: ShadowReportOrder) -> ShadowReport:
    """Collect the figures for a period. Raises `LogDamaged`, `KeysUnusable`."""
    clients = {
        client.name
        for client in config.settings.clients
        if not set(client.controllers) - set(order.controllers)
    }
    tally = _read_log(Chains(config.data, config.shipped), order, clients)
    return ShadowReport(
        controllers=order.controllers,
        campaigns_asked=order.campaigns,
        period=order.period,
        made_at=local_time.rfc3339(order.made_at),
        coverage=order.coverage,
        checked=tally.calls.total(),
        refused=tally.calls[False],
        enforced=tally.enforced,
        reasons=tuple(
            ShadowReason(code, refused, tally.alone[code], outside_ids(config, tally.samples[code]))
            for code, refused in sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0]))
        ),
        campaigns=tuple(sorted(_counts(tally.campaigns), key=_most_refused)),
        lists=tuple(sorted(_counts(tally.lists), key=_most_refused)),
        hours=tuple(_counts(tally.hours, _HOURS)),
        shipped=shipped_until(homes(config.data, config.shipped)),
    )


def _read_log(chains: Chains, order: ShadowReportOrder, clients: Collection[str]) -> _ShadowTally:
    """Count the decisions of the controllers. A call for an unknown campaign belongs to the client that asked."""
    tally = _ShadowTally(order, clients)
    within = LogSpan(since=order.period.since, until=order.period.until)
    for reader in chains.readers.values():
        for entries in span.columns_within(reader, within, _COLUMNS):
            decisions = entries.select(entries.is_decision)
            if len(decisions.seqs):
                tally.add(decisions)
    return tally


def _counts(counter: Counter[tuple[str, bool]], names: Collection[str] = ()) -> Iterable[ShadowCount]:
    for name in sorted({*names, *(name for name, _ in counter)}):
        yield ShadowCount(name, counter[name, True] + counter[name, False], counter[name, False])


def _most_refused(row: ShadowCount) -> tuple[int, str]:
    return -row.refused, row.name
