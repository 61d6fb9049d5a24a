"""The state of a recorded consent for a look-up, by the same function by which the rules decide. Pure."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from dialgate.core import legal_basis
from dialgate.core.law import Finding, Law
from dialgate.core.local_time import day_in
from dialgate.core.model import (
    CallerId,
    Campaign,
    Consent,
    Controller,
    Facts,
    Instant,
    Known,
    Number,
    RegistryAnswer,
)
from dialgate.core.rules.consent import CODES

_OUTSIDE: frozenset[Finding | None] = frozenset({"scope", "profiling", None})


class ConsentState(Struct, frozen=True, kw_only=True):
    """`reason`: the code with which the rules refuse a call on the consent now; empty if it is in force. `refused_for`:
    the campaigns within its scope that are refused although it is in force, as after a stop to one campaign.
    """

    reason: str = ""
    refused_for: tuple[str, ...] = ()


class Situation(Struct, frozen=True, kw_only=True):
    """What the rules know of a number and a controller at one instant, without a call."""

    at: Instant
    law: Law
    controller: Controller
    known: Known
    registries: tuple[RegistryAnswer, ...]

    def finding(self, given: Consent, campaign: Campaign) -> Finding | None:
        """Return what keeps the consent from opening such a call, or None."""
        facts = Facts(
            at=self.at,
            today=day_in(self.law.zone, self.at),
            number=Number(kind="unknown"),
            controller=self.controller,
            campaign=campaign,
            call_type=campaign.call_type,
            caller_id=CallerId(number="", form="withheld"),
            known=self.known,
            registries=self.registries,
        )
        return legal_basis.objection(given, facts, self.law.binding(facts))


def state(given: Consent, situation: Situation, campaigns: Iterable[Campaign]) -> ConsentState:
    """`campaigns`: those of the controller."""
    findings = (situation.finding(given, campaign) for campaign in _within(given))
    finding = next((found for found in findings if found is not None), None)
    if finding is not None:
        return ConsentState(reason=CODES[finding])
    refused = (campaign.id for campaign in campaigns if situation.finding(given, campaign) not in _OUTSIDE)
    return ConsentState(refused_for=tuple(refused))


def _within(given: Consent) -> Iterator[Campaign]:
    """Yield a campaign of no name for each purpose and call type that the consent covers."""
    goods = given.goods[0] if given.goods else ""
    for purpose in given.purposes:
        for call_type in given.call_types:
            yield Campaign(id="", purpose=purpose, goods=goods, call_type=call_type)
