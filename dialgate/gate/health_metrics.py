"""Metrics for alerts: the law in force, expiry of caller-ID proofs, open campaigns, free disk space."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from dialgate.core import periods
from dialgate.core.campaign_standing import standings
from dialgate.core.law import Law
from dialgate.core.model import RESULT_RANK, SECOND, Campaign, Instant
from dialgate.gate.facts import Gatherer
from dialgate.observability.metrics import Metrics

REPORTED = tuple(result for result in RESULT_RANK if result != "pending")


class HealthMetrics:
    def __init__(self, folder: Path, metrics: Metrics) -> None:
        self._folder, self._metrics = folder, metrics
        self._labels: tuple[object, ...] = ()

    def observe(self, gatherer: Gatherer, now: Instant) -> tuple[int, int]:
        """Update the metrics and remove the time series for entries that are no longer configured.

        Return the size of the disk and its free space, in bytes.
        """
        disk = self._disk()
        labels = (gatherer.config, gatherer.proofs, *_days(gatherer, now).values())
        if labels != self._labels:
            self._labels = labels
            self._configured(gatherer, now)
        self._pace(gatherer, now)
        return disk

    def _disk(self) -> tuple[int, int]:
        try:
            size, _, free = shutil.disk_usage(self._folder)
        except OSError:
            size, free = 1, 0  # an unreadable disk is reported as full
        self._metrics.disk_size.set(size)
        self._metrics.disk_free.set(free)
        return size, free

    def _pace(self, gatherer: Gatherer, now: Instant) -> None:
        """Set the metrics that show how much of its limits each campaign has used.

        The limits are those of the controller's country.
        """
        config, days = gatherer.config, _days(gatherer, now)
        for name, campaign in gatherer.counted.campaigns.items():
            line = config.lines[name]
            home = config.laws[line.home]
            used = [found.used for found in standings(campaign, line.controller, home, now, days[line.home])]
            if used:
                self._metrics.campaign_limit.labels(name).set(max(used))
                self._metrics.campaign_paused.labels(name).set(max(used) > 1)

    def _configured(self, gatherer: Gatherer, now: Instant) -> None:
        """Rebuild the time series for the configuration.

        Each counter is created with the value 0. Prometheus would not see an increase if it appeared with the value 1.
        """
        config, metrics, days = gatherer.config, self._metrics, _days(gatherer, now)
        for series in (
            metrics.laws,
            metrics.campaigns,
            metrics.campaign_limit,
            metrics.campaign_paused,
            metrics.caller_ids,
        ):
            series.clear()
        for country, digest in config.law_hash.items():
            metrics.laws.labels(country).info({"hash": digest})
        for name, line in config.lines.items():
            metrics.campaigns.labels(name).set(_is_open(line.campaign, days[line.home]))
            for result in REPORTED:
                metrics.results.labels(name, result)
        for client in config.settings.clients:
            metrics.unlisted.labels(client.name)
            metrics.throttled.labels(client.name)
            metrics.calls_refused.labels(client.name)
        for (controller, number), ends in _proof_ends(gatherer, days):
            metrics.caller_ids.labels(controller, number).set(ends / SECOND)


def _days(gatherer: Gatherer, now: Instant) -> dict[str, date]:
    return {country: gatherer.terms.today(law, now) for country, law in gatherer.config.laws.items()}


def _is_open(campaign: Campaign, today: date) -> bool:
    has_begun = campaign.starts is None or campaign.starts <= today
    return has_begun and not campaign.paused and (campaign.ends is None or today <= campaign.ends)


def _proof_ends(gatherer: Gatherer, days: dict[str, date]) -> Iterator[tuple[tuple[str, str], Instant]]:
    """Yield the expiry of each caller ID's call-back proof, or 0 without a proof. Skip caller IDs that need none."""
    for line in gatherer.config.lines.values():
        law = gatherer.config.laws[line.home]
        for number, caller_id in line.caller_ids.items():
            term = _proof_term(law, number, days[line.home]) if caller_id.form == "number" else 0
            if term:
                proof = gatherer.proofs.get((line.controller.id, number))
                yield (line.controller.id, number), proof.at + term if proof and proof.answered else 0


def _proof_term(law: Law, number: str, today: date) -> Instant:
    """Return for how many ms the law accepts a call-back proof of `number`. 0 means that it requires no proof."""
    terms = [
        periods.end(validity, 0)
        for section in law.caller_ids
        if section.is_in_force(today)
        if (validity := section.proof_for(number))
    ]
    return min(terms, default=0)
