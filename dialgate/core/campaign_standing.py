"""A campaign's abandoned calls, compared with the limits in a country's law."""

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from dialgate.core import exemptions
from dialgate.core.law import Law
from dialgate.core.law_sections import Ratio
from dialgate.core.model import CallerId, Campaign, Controller, Facts, Instant, Number
from dialgate.core.rules import pacing


class Standing(NamedTuple):
    """A campaign's abandoned calls, compared with the limit in one section of the law."""

    section: Ratio
    abandoned: int
    compared: int  # number of calls that abandoned calls are compared with
    used: float  # share of abandoned calls, divided by the permitted share
    since: date  # day since which the campaign has been above the limit; today if it is within the limit
    clear: date  # first day on which the campaign is within the limit

    @property
    def is_above(self) -> bool:
        return self.used > 1


def standings(
    campaign: Campaign, controller: Controller, law: Law, at: Instant, today: date
) -> Iterator[Standing]:
    """Yield the campaign's standing under each section of `law` that limits its abandoned calls."""
    facts = campaign_facts(campaign, controller, law, at, today)
    for section in exemptions.lift(facts, law.binding(facts)).ratios:
        abandoned, compared = pacing.totals(section, campaign.counts, today)
        used = pacing.used(section, abandoned, compared)
        since = pacing.first_day_above(section, campaign.counts, today) if used > 1 else today
        clear = pacing.first_day_within(section, campaign.counts, today)
        yield Standing(section, abandoned, compared, used, since, clear)


def campaign_facts(campaign: Campaign, controller: Controller, law: Law, at: Instant, today: date) -> Facts:
    """Return the facts of a call of the campaign about whose number nothing is known but the country."""
    return Facts(
        at=at,
        today=today,
        number=Number(kind="unknown", region=law.country),
        controller=controller,
        campaign=campaign,
        call_type=campaign.call_type,
        caller_id=CallerId(number="", form="invalid"),
    )
