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
from registry_sync.formats.text import Numbers
from registry_sync.query_formats import query_format


class Candidates(NamedTuple):
    """The candidates for a query. `numbers` are sorted.

    `foreign` counts the numbers that the registry does not cover. `damaged` contains a message for each
    damaged list. Such lists are left out, and gates ignore them too.
    """

    numbers: Numbers
    foreign: int
    damaged: tuple[str, ...]


def select_candidates(
    config: Config,
    settings: QueriedRegistry,
    lists: Iterable[CallList],
    now: Instant,
) -> Candidates:
    """Select the numbers for all campaigns that run within the next `look_ahead_hours`.

    L. 5/2018 art. 1 c. 12 requires a consultation before every campaign.
    """
    until = now + int(settings.look_ahead_hours * HOUR)
    campaigns = {
        campaign.id
        for campaign in config.controllers[settings.controller].campaigns
        if _is_running(campaign, now, until) and _is_covered(config, settings.registry, campaign)
    }
    parts, damaged = [np.empty(0, np.uint64)], []
    for call_list in lists:
        is_active = call_list.controller == settings.controller and not call_list.retired_at
        if is_active and campaigns & set(call_list.campaigns):
            try:
                parts.append(_read_numbers(config.data / "lists" / call_list.file))
            except (DamagedFile, OSError) as error:
                damaged.append(f"call list {call_list.id}: {error}")
    numbers = distinct(np.concatenate(parts))
    is_queryable = query_format(settings).is_queryable(numbers)
    return Candidates(numbers[is_queryable], int((~is_queryable).sum()), tuple(damaged))


def _is_running(campaign: CampaignFile, since: Instant, until: Instant) -> bool:
    """Return whether the campaign runs between two instants.

    Campaign dates are in the local time of the called people. The period is extended by a day on both sides to
    cover every time zone.
    """
    first, last = (local_time.day_in("UTC", at) for at in (since, until))
    day = timedelta(days=1)
    return (
        not campaign.paused
        and (campaign.starts is None or campaign.starts <= last + day)
        and (campaign.ends is None or campaign.ends >= first - day)
    )


def _is_covered(config: Config, registry: str, campaign: CampaignFile) -> bool:
    rules = [rule for law in config.laws.values() for rule in law.registries if rule.id == registry]
    return any(not rule.purposes or campaign.purpose in rule.purposes for rule in rules)


def _read_numbers(path: Path) -> Numbers:
    with closing(NumberSet.open(path)) as opened:
        opened.verify()
        return opened.arrays()[0]
