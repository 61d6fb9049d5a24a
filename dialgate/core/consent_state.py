"""The current state of a recorded consent, for look-ups.

The state is computed by the same functions that the rules use.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from dialgate.core import legal_basis
from dialgate.core.law import Law
from dialgate.core.law_sections import Finding
from dialgate.core.local_time import day_in, place
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
    """The state of a consent at a given time.

    `reason` is "" if the consent is in force. Otherwise it is the reason code for denying calls that rely on the
    consent. For a consent in force, `refused_for` lists the campaigns that the consent covers but that cannot rely on
    the consent, for example after a revocation for one campaign.
    """

    reason: str = ""
    refused_for: tuple[str, ...] = ()


class Situation(Struct, frozen=True, kw_only=True):
    """The facts about a number and a controller at a given time, independent of any call."""

    at: Instant
    law: Law
    controller: Controller
    known: Known
    registries: tuple[RegistryAnswer, ...]
    former_campaigns: tuple[str, ...] = ()

    def find_defect(self, consent: Consent, campaign: Campaign) -> Finding | None:
        """Return why a call in `campaign` cannot rely on the consent, or None if it can."""
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
            places=(place(self.law.zone, self.law.day_sets, self.at),),
            former_campaigns=self.former_campaigns,
        )
        return legal_basis.find_defect(consent, facts, self.law.binding(facts))


def state(consent: Consent, situation: Situation, campaigns: Iterable[Campaign]) -> ConsentState:
    """Return the state of a consent. `campaigns` are all of the controller's campaigns."""
    if consent.contradicted:
        return ConsentState(reason=CODES["scope"])
    findings = (situation.find_defect(consent, campaign) for campaign in _campaigns_in_scope(consent))
    defect = next((finding for finding in findings if finding is not None), None)
    if defect is not None:
        return ConsentState(reason=CODES[defect])
    refused = (
        campaign.id for campaign in campaigns if situation.find_defect(consent, campaign) not in _OUTSIDE
    )
    return ConsentState(refused_for=tuple(refused))


def _campaigns_in_scope(consent: Consent) -> Iterator[Campaign]:
    """Yield a hypothetical campaign for each purpose and call type that the consent covers."""
    goods = consent.goods[0] if consent.goods else ""
    for purpose in consent.purposes:
        for call_type in consent.call_types:
            yield Campaign(id="", purpose=purpose, goods=goods, call_type=call_type)
