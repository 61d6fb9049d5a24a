"""Hourly counts of decisions for the pages of campaigns."""

from dialgate.core.model import DAY, HOUR, MINUTE
from dialgate.interfaces.console.campaign_day import HourlyDecisions
from tests.support.world import NOW


def test_decisions_are_counted_by_hour_campaign_and_verdict() -> None:
    counted, hour = HourlyDecisions(NOW), NOW // HOUR
    counted.add(NOW, {("allow", "", "spring"): 3, ("deny", "registry.listed", "spring"): 1})
    counted.add(NOW + MINUTE, {("deny", "list.unknown", "spring"): 2, ("allow", "", "autumn"): 1})
    counted.add(NOW + HOUR, {("allow", "", "spring"): 5})
    found = [
        (campaign, verdict, counted.count(at, campaign, verdict))
        for at in (hour, hour + 1)
        for campaign in ("spring", "autumn")
        for verdict in ("allow", "deny")
    ]
    assert found == [
        ("spring", "allow", 3), ("spring", "deny", 3), ("autumn", "allow", 1), ("autumn", "deny", 0),
        ("spring", "allow", 5), ("spring", "deny", 0), ("autumn", "allow", 0), ("autumn", "deny", 0),
    ]  # fmt: skip


def test_hours_are_kept_for_the_longest_day_and_then_dropped() -> None:
    counted, hour = HourlyDecisions(NOW), NOW // HOUR
    counted.add(NOW, {("allow", "", "spring"): 3})
    counted.add(NOW + DAY + HOUR, {("allow", "", "spring"): 1})
    assert counted.count(hour, "spring", "allow") == 3
    counted.add(NOW + DAY + 2 * HOUR, {})
    assert counted.count(hour, "spring", "allow") == 0
    assert counted.count(hour + 25, "spring", "allow") == 1
