"""The numbers that may be called soon: those on a controller's call lists, as far as the registry is about their calls."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dialgate.config.configuration import Config
from dialgate.config.controllers import CampaignFile
from dialgate.core.model import HOUR, SECOND, Instant
from dialgate.lists.number_set import DamagedFile, NumberSet, distinct
from dialgate.store import CallList
from registry_sync.formats import rpo
from registry_sync.formats.text import Numbers


class Wanted(NamedTuple):
    """`numbers` rise. `foreign`: how many the registry is not about. `damaged`: why a list was left out, as the gate
    leaves it out."""

    numbers: Numbers
    foreign: int
    damaged: tuple[str, ...]


def wanted(
    config: Config, registry: str, controller: str, lists: Iterable[CallList], span: tuple[Instant, Instant]
) -> Wanted:
    """`span`: from now until when the look-ahead ends. L. 5/2018 art. 1 c. 12: before every campaign begins."""
    campaigns = {
        campaign.id
        for campaign in config.controllers[controller].campaigns
        if _runs(campaign, span) and _concerns(config, registry, campaign)
    }
    parts, damaged = [np.empty(0, np.uint64)], []
    for each in lists:
        if each.controller == controller and not each.retired_at and campaigns & set(each.campaigns):
            try:
                parts.append(_numbers(config.data / "lists" / each.file))
            except (DamagedFile, OSError) as error:
                damaged.append(f"call list {each.id}: {error}")
    numbers = distinct(np.concatenate(parts))
    askable = rpo.askable(numbers)
    return Wanted(numbers[askable], int((~askable).sum()), tuple(damaged))


def _runs(campaign: CampaignFile, span: tuple[Instant, Instant]) -> bool:
    """A campaign's days are days where people are called; a day more on either side holds for every place."""
    first, last = (datetime.fromtimestamp(at // SECOND, UTC).date() for at in span)
    day = timedelta(days=1)
    return (
        not campaign.paused
        and (campaign.starts is None or campaign.starts <= last + day)
        and (campaign.ends is None or campaign.ends >= first - day)
    )


def _concerns(config: Config, registry: str, campaign: CampaignFile) -> bool:
    rules = [rule for law in config.laws.values() for rule in law.registries if rule.id == registry]
    return any(not rule.purposes or campaign.purpose in rule.purposes for rule in rules)


def _numbers(path: Path) -> Numbers:
    opened = NumberSet.open(path)
    try:
        opened.verify()
        return opened.arrays()[0]
    finally:
        opened.close()


def span(now: Instant, look_ahead_hours: float) -> tuple[Instant, Instant]:
    return now, now + int(look_ahead_hours * HOUR)
