"""The candidates for a query: numbers on a controller's call lists that may be called soon.

Only the campaigns to which the registry applies are considered.
"""

from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dialgate.config.configuration import Config
from dialgate.config.controllers import CampaignFile
from dialgate.core import local_time
from dialgate.core.model import HOUR, Instant
from dialgate.lists.number_set import DamagedFile, NumberSet, distinct
from dialgate.store import CallList
from registry_sync.config import QueriedRegistry
from registry_sync.formats.table import TableFormat
from registry_sync.formats.text import Numbers


class Planned(NamedTuple):
    """The numbers on a call list, and when the first of its campaigns needs them."""

    due_at: Instant
    numbers: Numbers


class Candidates(NamedTuple):
    """The candidates for a query. `numbers` are sorted.

    `planned` also contains the lists of campaigns that begin later. `foreign` counts the numbers that the registry does not
    cover. `damaged` contains a message for each damaged list. Such lists are left out, and gates ignore them too.
    """

    numbers: Numbers
    planned: tuple[Planned, ...]
    foreign: int
    damaged: tuple[str, ...]


def select_candidates(
    config: Config, settings: QueriedRegistry, lists: Iterable[CallList], now: Instant
) -> Candidates:
    """Select the numbers for all campaigns that run within the next `look_ahead_hours`.

    L. 5/2018 art. 1 c. 12 requires a consultation before every campaign.
    """
    due_of = {
        campaign.id: _due_at(campaign, now, int(settings.look_ahead_hours * HOUR))
        for campaign in config.controllers[settings.controller].campaigns
        if _may_run(campaign, now) and _is_covered(config, settings.registry, campaign)
    }
    is_queryable, foreign = TableFormat(settings.used_layout).is_queryable, [np.empty(0, np.uint64)]
    planned, damaged = list[Planned](), list[str]()
    for call_list in lists:
        campaigns = due_of.keys() & set(call_list.campaigns)
        if call_list.controller == settings.controller and not call_list.retired_at and campaigns:
            due_at = min(due_of[campaign] for campaign in campaigns)
            try:
                numbers = _read_numbers(config.data / "lists" / call_list.file)
            except (DamagedFile, OSError) as error:
                damaged.append(f"call list {call_list.id}: {error}")
            else:
                covered = is_queryable(numbers)
                planned.append(Planned(due_at, numbers[covered]))
                if due_at <= now:
                    foreign.append(numbers[~covered])
    due = [np.empty(0, np.uint64), *(part.numbers for part in planned if part.due_at <= now)]
    return Candidates(
        numbers=distinct(np.concatenate(due)),
        planned=tuple(planned),
        foreign=len(distinct(np.concatenate(foreign))),
        damaged=tuple(damaged),
    )


def _may_run(campaign: CampaignFile, now: Instant) -> bool:
    """Return whether the campaign is neither paused nor over.

    Campaign dates are in the local time of the called people, so a day more covers every time zone.
    """
    today = local_time.day_in("UTC", now)
    return not campaign.paused and (campaign.ends is None or campaign.ends >= today - timedelta(days=1))


def _due_at(campaign: CampaignFile, now: Instant, look_ahead: Instant) -> Instant:
    """Return when the answers for a campaign are needed: `look_ahead` and a day before its first day, or now."""
    if campaign.starts is None:
        return now
    return max(now, local_time.midnight("UTC", campaign.starts - timedelta(days=1)) - look_ahead)


def _is_covered(config: Config, registry: str, campaign: CampaignFile) -> bool:
    rules = [rule for law in config.laws.values() for rule in law.registries if rule.id == registry]
    return any(not rule.purposes or campaign.purpose in rule.purposes for rule in rules)


def _read_numbers(path: Path) -> Numbers:
    with closing(NumberSet.open(path)) as opened:
        opened.verify()
        return opened.arrays()[0]
