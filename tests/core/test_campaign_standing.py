"""A campaign's abandoned calls, compared with each limit that applies to the campaign."""

from datetime import date
from typing import Any

from msgspec import structs

from dialgate.core.campaign_standing import Standing, standings
from dialgate.core.law import parse_law
from dialgate.core.model import Campaign, Controller, DayCount
from dialgate.tools.policy.case_facts import instant

NOW, TODAY = instant("2026-11-24T00:30:00+01:00"), date(2026, 11, 24)
RATIO: dict[str, Any] = {"from": "2020-01-01", "above": 3, "out_of": 100, "to": "answered", "per": "30d"}
LAW = parse_law(
    {
        "country": "IT",
        "name": "A made-up country",
        "zone": "Europe/Rome",
        "traits": ["bank"],
        "regions": ["IT", "SM"],
        "diallable": [{"source": "d", "from": "2020-01-01", "allows": ["fixed"]}],
        "legal_basis": [{"source": "b", "from": "2020-01-01", "accepts": ["consent"]}],
        "ratios": [
            {**RATIO, "source": "all calls"},
            {**RATIO, "source": "mobile, today", "from": "2026-11-24", "kinds": ["mobile"], "to": "answered_by_person"},
            {**RATIO, "source": "from tomorrow on", "from": "2026-11-25"},
            {**RATIO, "source": "banks", "traits": ["bank"]},
            {**RATIO, "source": "robots", "call_types": ["automated"]},
            {**RATIO, "source": "an agent waits", "unless": ["guaranteed_agent"]},
            {**RATIO, "source": "San Marino", "places": ["SM"]},
        ],
    }
)  # fmt: skip
COUNTS = (DayCount(date(2026, 11, 20), 100, 2), DayCount(date(2026, 11, 24), 98, 5))
CAMPAIGN = Campaign(id="fibre", call_type="agent", counts=COUNTS)
ACME = Controller(id="acme")


def sources(campaign: Campaign, controller: Controller = ACME) -> list[str]:
    found = standings(campaign, controller, LAW, NOW, TODAY)
    return [standing.section.source for standing in found]


def test_the_standing_is_that_of_the_calls_in_the_days_of_the_limit() -> None:
    ((all_calls, mobile, _)) = standings(CAMPAIGN, ACME, LAW, NOW, TODAY)
    assert all_calls == Standing(all_calls.section, 7, 198, 700 / 594, TODAY, date(2026, 12, 24))
    assert mobile == Standing(mobile.section, 7, 205, 700 / 615, TODAY, date(2026, 12, 24))
    assert all_calls.is_above


def test_a_campaign_at_its_limit_is_not_above_it() -> None:
    before = DayCount(date(2026, 11, 20), 100, 6)  # above the limit on that day
    at_limit = structs.replace(CAMPAIGN, counts=(before, DayCount(TODAY, 100, 0)))
    (standing, *_) = standings(at_limit, ACME, LAW, NOW, TODAY)
    assert standing[3:] == (1.0, TODAY, TODAY)
    assert not standing.is_above


def test_a_campaign_is_above_its_limit_since_the_last_day_on_which_it_was_within() -> None:
    at_limit, above = DayCount(date(2026, 11, 18), 100, 3), DayCount(date(2026, 11, 20), 0, 2)
    counts = (at_limit, above, DayCount(TODAY, 10, 0))
    (standing, *_) = standings(structs.replace(CAMPAIGN, counts=counts), ACME, LAW, NOW, TODAY)
    assert (standing.since, standing.clear) == (date(2026, 11, 20), date(2026, 12, 18))


def test_a_limit_binds_if_it_may_bind_a_call_of_the_campaign() -> None:
    usual = ["all calls", "mobile, today", "an agent waits"]
    assert sources(CAMPAIGN) == usual
    assert sources(CAMPAIGN, Controller(id="acme", traits=("bank",))) == [*usual[:2], "banks", usual[2]]
    robot = structs.replace(CAMPAIGN, call_type="automated")
    assert sources(robot) == [*usual[:2], "robots", usual[2]]
    assert sources(structs.replace(CAMPAIGN, dial_mode="preview")) == usual[:2], "lifted by `unless`"
