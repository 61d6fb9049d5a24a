"""The rules about the campaign: it must exist and be active, and its sector must not be banned.

D.Lgs. 206/2005 (Codice del consumo) art. 51 c. 8-bis, in force from 2026-06-19: commercial solicitation of consumers by
telephone to conclude contracts for electricity or gas is forbidden, except (a) on the consumer's request made directly
to that professional through its own interfaces, (b) to own customers who gave specific consent. The burden of proof
lies with the professional.
"""

import math

from dialgate.core import legal_basis
from dialgate.core.law import Binding, SectorBan
from dialgate.core.model import Deny, Facts, Outcome, Pass, Skip


def campaign_known(facts: Facts, law: Binding) -> Outcome:
    campaign = facts.campaign
    if not campaign.known:
        return Deny("campaign.unknown", "no such campaign for this client", severity="gate")
    if campaign.paused:
        return Deny("campaign.inactive", "the campaign is paused", severity="gate")
    if campaign.starts is not None and facts.today < campaign.starts:
        return Deny("campaign.inactive", f"the campaign begins on {campaign.starts}", severity="gate")
    if campaign.ends is not None and facts.today > campaign.ends:
        return Deny("campaign.inactive", f"the campaign ended on {campaign.ends}", severity="gate")
    if not law.legal_basis:
        return Deny(
            "campaign.inactive",
            f"the law of {law.country} knows no basis for such calls today",
            severity="gate",
        )
    return Pass(campaign.purpose)


def sector_allowed(facts: Facts, law: Binding) -> Outcome:
    passes: list[Pass] = []
    for ban in law.sector_bans:
        outcome = _exception(ban, facts, law)
        if outcome is None:
            return _banned(ban, facts)
        passes.append(outcome)
    skip = Skip("no ban for this sector and purpose")
    return min(passes, key=lambda passed: passed.until or math.inf, default=skip)


def _exception(ban: SectorBan, facts: Facts, law: Binding) -> Pass | None:
    request = legal_basis.request(facts, law)
    if "own_request" in ban.exceptions and request is not None and request.own_interface:
        return Pass(f"request:{request.id}", legal_basis.request_ends(request, law))
    if "own_customer_consent" in ban.exceptions:
        return _own_customer(ban, facts, law)
    return None


def _own_customer(ban: SectorBan, facts: Facts, law: Binding) -> Pass | None:
    """Return a pass if a customer of the controller consented. A contract must be in force; `tail_days` do not count."""
    contracts = [
        contract
        for contract in legal_basis.contracts(facts)
        if contract.sector in ban.sectors
        and contract.starts <= facts.today
        and (contract.ends is None or facts.today <= contract.ends)
    ]
    if any(legal_basis.has_marketing_consent(contract, facts) for contract in contracts):
        return Pass("an own customer who consented")
    consent = legal_basis.consent(facts, law) if contracts else None
    if consent is None:
        return None
    return Pass("an own customer who consented", legal_basis.ends_at(consent, law))


def _banned(ban: SectorBan, facts: Facts) -> Deny:
    return Deny(
        "campaign.sector_banned",
        f"calls to {facts.campaign.callee}s for {facts.campaign.sector} are banned without the person's own request "
        "on the controller's interface or an own customer's consent",
        ban.source,
        ban.severity,
    )
