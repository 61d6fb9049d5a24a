"""Metrics for alerts: the law in force, expiry of caller-ID proofs, open campaigns, free disk space."""

import shutil
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import TypeAlias

from dialgate.config.configuration import Config
from dialgate.core import periods
from dialgate.core.campaign_standing import standings
from dialgate.core.law import Law
from dialgate.core.model import SECOND, Campaign, Instant
from dialgate.gate.facts import Gatherer
from dialgate.observability.metrics import Metrics
from dialgate.store import CallerIdProof

_Rows: TypeAlias = dict[tuple[str, ...], float]
_Terms: TypeAlias = dict[tuple[str, str], Instant]  # of controllers and caller IDs


class HealthMetrics:
    """The metrics that depend on the configuration.

    Those of campaigns and caller IDs are computed at a scrape, in its thread: 50,000 campaigns would delay calls. Values are
    computed again only where something changed.
    """

    def __init__(self, folder: Path, metrics: Metrics, read: Callable[[], tuple[Gatherer, Instant]]) -> None:
        """`read` returns the gatherer in use, and the instant of the last round of upkeep."""
        self._folder, self._metrics, self._read = folder, metrics, read
        self._config: Config | None = None
        self._terms: tuple[Config | None, dict[str, date], _Terms] = (None, {}, {})
        self._used: dict[str, tuple[Campaign, Config, date, float | None]] = {}
        metrics.campaigns.set_function(self._open_campaigns)
        metrics.caller_ids.set_function(self._proof_ends)
        metrics.shadow_ends.set_function(self._shadow_ends)
        metrics.campaign_limit.set_function(self._used_limits)
        metrics.campaign_paused.set_function(self._paused)

    def observe(self) -> tuple[int, int]:
        """Update the metrics. Return the size of the disk and its free space, in bytes."""
        config = self._read()[0].config
        if config is not self._config:
            self._config = config
            self._configured(config)
        return self._disk()

    def _disk(self) -> tuple[int, int]:
        try:
            size, _, free = shutil.disk_usage(self._folder)
        except OSError:
            size, free = 1, 0  # an unreadable disk is reported as full
        self._metrics.disk_size.set(size)
        self._metrics.disk_free.set(free)
        return size, free

    def _configured(self, config: Config) -> None:
        """Rebuild the time series of laws and clients.

        Each counter is created with the value 0. Prometheus would not see an increase if it appeared with the value 1.
        """
        metrics = self._metrics
        metrics.laws.clear()
        for country, digest in config.law_hash.items():
            metrics.laws.labels(country).info({"hash": digest})
        for client in config.settings.clients:
            metrics.unlisted.labels(client.name)
            metrics.throttled.labels(client.name)
            metrics.calls_refused.labels(client.name)
        for name in config.incoming:
            metrics.webhooks_received.labels(name, "refused")

    def _open_campaigns(self) -> _Rows:
        gatherer, now = self._read()
        days = _days(gatherer, now)
        return {
            (name,): float(_is_open(gatherer.counted.campaigns.get(name, line.campaign), days[line.home]))
            for name, line in gatherer.config.lines.items()
        }

    def _shadow_ends(self) -> _Rows:
        gatherer, now = self._read()
        scopes = gatherer.config.shadow.scopes
        return {(scope.kind, scope.name): scope.ends / SECOND for scope in scopes if scope.ends > now}

    def _used_limits(self) -> _Rows:
        """Return how much of its limits each campaign has used. The limits are those of the controller's country."""
        gatherer, now = self._read()
        config, days, earlier = gatherer.config, _days(gatherer, now), self._used
        self._used = {}
        for name, campaign in list(gatherer.counted.campaigns.items()):
            line = config.lines[name]
            day, known = days[line.home], earlier.get(name)
            if known is None or known[0] is not campaign or known[1] is not config or known[2] != day:
                found = standings(campaign, line.controller, config.laws[line.home], now, day)
                used = max((standing.used for standing in found), default=None)
                known = campaign, config, day, used
            self._used[name] = known
        return {(name,): used for name, (*_, used) in self._used.items() if used is not None}

    def _paused(self) -> _Rows:
        """Return which campaigns a supervisor or their abandoned calls paused, of those with counts or a pause."""
        campaigns, used = [*self._read()[0].counted.campaigns.items()], self._used_limits()
        return {
            (name,): float(campaign.paused_at > 0 or used.get((name,), 0) > 1) for name, campaign in campaigns
        }

    def _proof_ends(self) -> _Rows:
        """Return the expiry of each caller ID's call-back proof, or 0 without a proof. Skip caller IDs that need none."""
        gatherer, now = self._read()
        config, days, proofs = gatherer.config, _days(gatherer, now), gatherer.proofs
        known, known_days, terms = self._terms
        if known is not config or known_days != days:
            terms = _proof_terms(config, days)
            self._terms = (config, days, terms)
        return {labels: _end(proofs.get(labels), term) for labels, term in terms.items()}


def _days(gatherer: Gatherer, now: Instant) -> dict[str, date]:
    return {country: gatherer.terms.today(law, now) for country, law in gatherer.config.laws.items()}


def _is_open(campaign: Campaign, today: date) -> bool:
    has_begun = campaign.starts is None or campaign.starts <= today
    is_paused = campaign.paused or campaign.paused_at
    return has_begun and not is_paused and (campaign.ends is None or today <= campaign.ends)


def _end(proof: CallerIdProof | None, term: Instant) -> float:
    return (proof.at + term) / SECOND if proof and proof.answered else 0.0


def _proof_terms(config: Config, days: Mapping[str, date]) -> _Terms:
    """Return for how many ms the law accepts a proof, by controller and caller ID. Skip caller IDs that need none."""
    return {
        (line.controller.id, number): term
        for line in config.lines.values()
        for number, caller_id in line.caller_ids.items()
        if caller_id.form == "number"
        if (term := _proof_term(config.laws[line.home], number, days[line.home]))
    }


def _proof_term(law: Law, number: str, today: date) -> Instant:
    """Return for how many ms the law accepts a call-back proof of `number`. 0 means that it requires no proof."""
    terms = [
        periods.end(validity, 0)
        for section in law.caller_ids
        if section.is_in_force(today)
        if (validity := section.proof_for(number))
    ]
    return min(terms, default=0)
