"""Decisions use a campaign's new counts at once if the counts can change a decision, otherwise after ten minutes."""

from pathlib import Path
from typing import Any

import pytest

from dialgate.config import loader
from dialgate.core.model import DAY, HOUR, MINUTE, Campaign, DayCount
from dialgate.gate.counted_campaigns import CountedCampaigns
from dialgate.store import HourCount, PauseLift
from dialgate.store.sqlite import SqliteStore
from tests.support import world, yaml_files
from tests.support.world import NOW

NAME = "acme-fibre"
LAX = {"source": "lax", "from": "2014-02-20", "above": 100, "out_of": 100, "to": "answered", "per": "60d"}


def write_ratios(folder: Path, *more: dict[str, Any], keep: bool = True) -> None:
    """Change the limits on abandoned calls in the country file."""
    path = folder / "countries/it.yaml"
    law = yaml_files.read(path)
    law["ratios"] = [*(law["ratios"] if keep else ()), *more]
    yaml_files.write(path, law)


async def read(counted_campaigns: CountedCampaigns, folder: Path, *written: HourCount | PauseLift) -> None:
    """Write counts and lifts to the store, and read the store."""
    store = SqliteStore.open(folder / "store.db")
    for value in written:
        if isinstance(value, HourCount):
            await store.put_counts([value])
        else:
            await store.lift_pause(value)
    await counted_campaigns.stored.read(store)
    await store.close()


def count(answered: int = 0, abandoned: int = 0, days: int = 0, name: str = NAME) -> HourCount:
    """Return the count of one hour, `days` days from `NOW`."""
    return HourCount(NOW // HOUR + days * 24, name, answered, abandoned)


def sums(campaign: Campaign) -> tuple[int, int]:
    return sum(day.answered for day in campaign.counts), sum(day.abandoned for day in campaign.counts)


@pytest.fixture
def counted_campaigns(tmp_path: Path) -> CountedCampaigns:
    path = world.write_folder(tmp_path)
    write_ratios(tmp_path, LAX)
    return CountedCampaigns(loader.load(path))


async def test_counts_that_change_no_decision_are_used_after_ten_minutes(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    await read(counted_campaigns, tmp_path, count(abandoned=3))
    counted_campaigns.update(NOW)
    assert sums(counted_campaigns.lines[NAME].campaign) == (0, 3), "the first are used at once"
    await read(counted_campaigns, tmp_path, count(answered=50, abandoned=3))
    used = []
    for at in (NOW + 1, NOW + 10 * MINUTE - 1, NOW + 10 * MINUTE):
        counted_campaigns.update(at)
        assert sums(counted_campaigns.campaigns[NAME]) == (50, 3)
        used.append(sums(counted_campaigns.lines[NAME].campaign))
    assert used == [(0, 3), (0, 3), (50, 3)]
    await read(counted_campaigns, tmp_path, count(answered=51, abandoned=3))
    counted_campaigns.update(NOW + 20 * MINUTE - 1)
    assert sums(counted_campaigns.lines[NAME].campaign) == (50, 3), "ten minutes after the last use"
    assert counted_campaigns.stored.changed == {NAME}
    counted_campaigns.update(NOW + 20 * MINUTE)
    assert not counted_campaigns.stored.changed


@pytest.mark.parametrize("shift", [-1, 0, 1])
async def test_counts_are_used_at_once_if_they_matter_yesterday_today_or_tomorrow(
    counted_campaigns: CountedCampaigns, tmp_path: Path, shift: int
) -> None:
    """On day `shift` (0 is today), the 30-day window contains all four abandoned calls and no answered call. On other days it does not."""
    first = shift - 30
    await read(
        counted_campaigns,
        tmp_path,
        count(answered=200, days=first),
        count(abandoned=1, days=first + 1),
        count(abandoned=2),
    )
    counted_campaigns.update(NOW)
    await read(counted_campaigns, tmp_path, count(abandoned=3))
    counted_campaigns.update(NOW)
    assert sums(counted_campaigns.lines[NAME].campaign) == (200, 4)


async def test_a_lifted_pause_is_used_at_once(counted_campaigns: CountedCampaigns, tmp_path: Path) -> None:
    lift = PauseLift(campaign=NAME, at=NOW, ground="g", actor="a", abandoned=4)
    await read(counted_campaigns, tmp_path, count(abandoned=4))
    counted_campaigns.update(NOW)
    await read(counted_campaigns, tmp_path, lift)
    counted_campaigns.update(NOW)
    campaign = counted_campaigns.lines[NAME].campaign
    assert (sums(campaign), campaign.lifted_at) == ((0, 0), NOW)


async def test_a_lift_without_a_change_of_counts_is_used_at_once(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    await read(counted_campaigns, tmp_path, PauseLift(campaign=NAME, at=NOW, ground="g", actor="a"))
    counted_campaigns.update(NOW)
    await read(counted_campaigns, tmp_path, PauseLift(campaign=NAME, at=NOW + HOUR, ground="g", actor="a"))
    counted_campaigns.update(NOW)
    campaign = counted_campaigns.lines[NAME].campaign
    assert (campaign.counts, campaign.lifted_at) == ((), NOW + HOUR)


async def test_the_days_of_the_longest_limit_are_used(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    await read(counted_campaigns, tmp_path, *(count(answered=1, days=days) for days in (-61, -60, -59)))
    counted_campaigns.update(NOW)
    days = [day.day.isoformat() for day in counted_campaigns.lines[NAME].campaign.counts]
    assert days == ["2026-09-25", "2026-09-26"]


async def test_hours_are_forgotten_when_the_store_deletes_them(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    await read(counted_campaigns, tmp_path, count(answered=1, days=-62), count(answered=2))
    assert len(counted_campaigns.stored.hours(NAME, NOW + HOUR - 1)) == 2
    assert [*counted_campaigns.stored.hours(NAME, NOW + HOUR).values()] == [(2, 0)]
    assert counted_campaigns.stored.hours("no-such", NOW) == {}


async def test_a_campaign_whose_file_is_the_same_keeps_its_counts_and_another_uses_the_newest(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    config = loader.load(tmp_path / "dialgate.yaml")
    await read(counted_campaigns, tmp_path, count(abandoned=3))
    counted_campaigns.update(NOW)
    assert not counted_campaigns.stored.changed
    fresh = counted_campaigns.configured(config)
    assert sums(fresh.lines[NAME].campaign) == (0, 3)
    assert fresh.stored is counted_campaigns.stored
    await read(fresh, tmp_path, count(abandoned=3, answered=9))
    fresh.update(NOW + 1)
    assert sums(fresh.lines[NAME].campaign) == (0, 3)
    assert sums(fresh.configured(config).configured(config).lines[NAME].campaign) == (0, 3), "the same object"
    assert sums(fresh.configured(loader.load(config.path)).lines[NAME].campaign) == (9, 3)


async def test_counts_of_a_removed_campaign_are_not_used(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    await read(counted_campaigns, tmp_path, count(abandoned=4, name="removed"))
    counted_campaigns.update(NOW)
    assert (
        counted_campaigns.lines,
        counted_campaigns.stored.changed,
        set(counted_campaigns.stored.names),
    ) == ({}, set(), {"removed"})


async def test_without_a_limit_counts_are_not_used(tmp_path: Path) -> None:
    path = world.write_folder(tmp_path)
    write_ratios(tmp_path, keep=False)
    counted_campaigns = CountedCampaigns(loader.load(path))
    await read(counted_campaigns, tmp_path, count(abandoned=4))
    counted_campaigns.update(NOW)
    assert (counted_campaigns.lines, counted_campaigns.stored.changed) == ({}, set())


async def test_a_day_is_that_of_the_campaigns_country(
    counted_campaigns: CountedCampaigns, tmp_path: Path
) -> None:
    late = NOW - NOW % DAY - HOUR  # midnight in Rome
    await read(counted_campaigns, tmp_path, HourCount(late // HOUR, NAME, 1, 0))
    counted_campaigns.update(late)
    (day,) = counted_campaigns.lines[NAME].campaign.counts
    assert day == DayCount(day.day, 1, 0)
    assert day.day.isoformat() == "2026-11-24"
